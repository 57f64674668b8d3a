//! Ends a cluster: its members, then its directory. Can be done again at any point.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::error::ClusterError;
use crate::processes::signal;
use crate::provider::{Provider, provider};
use crate::record::{Cluster, RECORD};
use crate::registry::Registry;

/// For whoever makes the cluster right now to take it back.
const CREATOR_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at processes.
const POLL: Duration = Duration::from_millis(5);

impl Registry {
    /// Ends a cluster without trace: members, files, ports.
    pub fn terminate(&self, name: &str) -> Result<(), ClusterError> {
        let cluster = self.find(name)?;
        if cluster.is_being_made() {
            // It takes back what it has made. Should it take too long over that, we do.
            signal(&cluster, [cluster.creator], Signal::TERM)?;
            wait(CREATOR_LIMIT, || !cluster.creator.is_alive());
        }
        match self.find(name) {
            Ok(cluster) => {
                // Whoever cannot end it leaves it its custodian, which else would start again what is ended here.
                let mut provider = provider(cluster.spec.provider)?;
                cluster.dismiss_custodian()?;
                self.remove(provider.as_mut(), &cluster)
            }
            Err(ClusterError::Unknown { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes what there is of a cluster.
    pub(crate) fn remove(&self, provider: &mut dyn Provider, cluster: &Cluster) -> Result<(), ClusterError> {
        provider.end(cluster)?;
        remove_home(cluster)
    }
}

/// Waits until something is so, or `limit` has passed.
pub(crate) fn wait(limit: Duration, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() && started.elapsed() < limit {
        thread::sleep(POLL);
    }
}

/// The record goes last: as long as anything is left, the cluster can be found and terminated again.
fn remove_home(cluster: &Cluster) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::File { action: "list", path: cluster.home.clone(), source };
    let entries = match fs::read_dir(&cluster.home) {
        Ok(entries) => entries,
        // Somebody else has terminated it, too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name() != RECORD {
            remove(&entry.path())?;
        }
    }
    remove(&cluster.home)
}

/// Removes a file or a directory with all that is in it; what is not there needs no removal.
pub(crate) fn remove(path: &Path) -> Result<(), ClusterError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ClusterError::File { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
