//! What can go wrong with a cluster.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::docker::DockerError;
use crate::provider::End;

/// Why a cluster was not made, found or ended.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// There is no place for clusters.
    #[error("cannot tell where clusters are kept: neither XDG_STATE_HOME nor HOME is set")]
    NoHome,
    /// A name that could not be a directory's, or would surprise in a script.
    #[error(
        "a cluster cannot be named {name:?}: a name has 1 to 40 letters, digits and -, and begins with a letter"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The name is taken.
    #[error("there is a cluster {name} already: `gristmill cluster terminate {name}` ends it")]
    Exists {
        /// The name.
        name: String,
    },
    /// No cluster has the name.
    #[error("there is no cluster {name} in {}", home.display())]
    Unknown {
        /// The name.
        name: String,
        /// Where clusters are kept.
        home: PathBuf,
    },
    /// A file or directory.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A record that says nothing.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A record of another time.
    #[error("{} has version {version}, this program knows {known}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// Ours.
        known: u32,
    },
    /// Workers were to be added to a cluster whose master never said where it listens.
    #[error("the cluster {name} has no master yet: terminate it and make it anew")]
    NoMaster {
        /// The cluster's.
        name: String,
    },
    /// A daemon cannot be started at all.
    #[error("cannot start the {role}")]
    Start {
        /// Which.
        role: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A daemon ended while its cluster was made.
    #[error("the {role} {end} while the cluster started: {said}")]
    Ended {
        /// Which.
        role: String,
        /// How.
        end: End,
        /// The last line of its log.
        said: String,
    },
    /// What a daemon has said is not where it was to be.
    #[error("cannot copy the log of the {role}")]
    CopyLog {
        /// Whose.
        role: String,
        /// Why the other end did not take it.
        source: io::Error,
    },
    /// It takes too long.
    #[error("the cluster was not ready after {waited_ms} ms: {missing}; it is removed again")]
    Slow {
        /// How long.
        waited_ms: u64,
        /// What did not come.
        missing: String,
    },
    /// The Docker engine.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// Somebody does not want it any more.
    #[error("interrupted: the cluster {name} is removed again")]
    Interrupted {
        /// Which.
        name: String,
    },
    /// A process cannot be told to end.
    #[error("cannot end process {pid} of the cluster {name}")]
    Signal {
        /// Whose.
        name: String,
        /// Which.
        pid: u32,
        /// The system's reason.
        source: io::Error,
    },
    /// Processes that even SIGKILL does not end, as of a disk that does not answer.
    #[error("processes of the cluster {name} do not end: {pids:?}; terminate it again when they have")]
    Survivors {
        /// Whose.
        name: String,
        /// Which.
        pids: Vec<u32>,
    },
    /// What was made of a cluster could not be removed either.
    #[error("{why}; and what was made of it is still there: {source}")]
    Undo {
        /// Why it was to be removed.
        why: Box<ClusterError>,
        /// Why it was not.
        source: Box<ClusterError>,
    },
}
