//! Who a task worker is: what the master gave it, in a file of its data directory. (A core worker's disks know.)

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use gristmill_proto::ids::{ClusterId, WorkerId};
use thiserror::Error;

/// Its name in the data directory. Two lines: the cluster, and the number of the worker.
const FILE: &str = "task-worker";

/// A worker of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) worker: WorkerId,
}

/// Why a task worker does not know who it is.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The disk.
    #[error("cannot {action} {}", path.display())]
    Disk {
        /// As "read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file was changed.
    #[error("{}: it does not say who this task worker is; remove it to have the master give out a new name", path.display())]
    Nonsense {
        /// The file.
        path: PathBuf,
    },
}

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct IdentityFile {
    path: PathBuf,
}

impl IdentityFile {
    pub(crate) fn new(directory: &Path) -> IdentityFile {
        IdentityFile { path: directory.join(FILE) }
    }

    /// What it says, if it is there.
    pub(crate) fn read(&self) -> Result<Option<Identity>, IdentityError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.disk("read", source)),
        };
        let mut lines = text.lines();
        let cluster = lines.next().and_then(ClusterId::from_text);
        let worker = lines.next().and_then(|line| line.parse().ok()).map(WorkerId);
        match (cluster, worker, lines.next()) {
            (Some(cluster), Some(worker), None) => Ok(Some(Identity { cluster, worker })),
            _ => Err(IdentityError::Nonsense { path: self.path.clone() }),
        }
    }

    /// Notes it, all at once.
    pub(crate) fn write(&self, identity: Identity) -> Result<(), IdentityError> {
        let draft = self.path.with_extension("draft");
        let text = format!("{}\n{}\n", identity.cluster, identity.worker.0);
        fs::write(&draft, text).map_err(|source| self.disk("write", source))?;
        fs::rename(&draft, &self.path).map_err(|source| self.disk("write", source))
    }

    fn disk(&self, action: &'static str, source: io::Error) -> IdentityError {
        IdentityError::Disk { action, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_worker_knows_itself_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = IdentityFile::new(directory.path());
        assert_eq!(file.read().expect("read"), None);
        let identity = Identity { cluster: ClusterId([5; 16]), worker: WorkerId(1_000_001) };
        file.write(identity).expect("written");
        assert_eq!(file.read().expect("read"), Some(identity));
        fs::write(directory.path().join(FILE), "who\n").expect("written");
        assert!(matches!(file.read(), Err(IdentityError::Nonsense { .. })));
    }
}
