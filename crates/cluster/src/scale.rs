//! More workers, or fewer.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::AtomicBool;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::create::attend;
use crate::error::ClusterError;
use crate::provider::{Patience, provider};
use crate::record::Cluster;
use crate::registry::Registry;
use crate::spec::WorkerRole;

/// In the cluster's directory: who has it changes the members. It goes with its holder, however that ends.
const LOCK: &str = "members.lock";

impl Cluster {
    /// The names of its workers of a role, the oldest first.
    pub fn workers(&self, role: WorkerRole) -> Vec<String> {
        let mut numbers: Vec<u32> =
            self.members.iter().filter_map(|member| number(&member.role, role)).collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| format!("{}-{number}", role.name())).collect()
    }
}

impl Registry {
    /// Adds `count` workers, and returns their names when all of the cluster's workers have registered.
    pub fn grow(
        &self,
        name: &str,
        role: WorkerRole,
        count: u32,
        registered: &mut dyn FnMut(&Cluster) -> usize,
        interrupted: &AtomicBool,
    ) -> Result<Vec<String>, ClusterError> {
        let (mut cluster, _lock) = self.find_locked(name)?;
        let mut provider = provider(cluster.spec.provider)?;
        // A number is not used again while others are free behind it: what is said of a worker stays true.
        let used = cluster.members.iter().filter_map(|member| number(&member.role, role)).max();
        let first = used.unwrap_or(0) + 1;
        let names: Vec<String> =
            (first..first.saturating_add(count)).map(|number| format!("{}-{number}", role.name())).collect();
        let patience = Patience::new(name, interrupted);
        let grown = provider
            .add(&mut cluster, &names, &patience)
            .and_then(|()| attend(provider.as_mut(), &cluster, registered, &patience));
        match grown {
            Ok(()) => Ok(names),
            // All of them, or none.
            Err(why) => match provider.remove(&mut cluster, &names) {
                Ok(()) => Err(why),
                Err(source) => Err(ClusterError::Undo { why: Box::new(why), source: Box::new(source) }),
            },
        }
    }

    /// Tells workers to leave, and returns when they have left. Whoever calls has seen to the blocks of core workers.
    pub fn shrink(&self, name: &str, workers: &[String]) -> Result<(), ClusterError> {
        let (mut cluster, _lock) = self.find_locked(name)?;
        provider(cluster.spec.provider)?.remove(&mut cluster, workers)
    }

    /// A cluster whose members nobody else changes meanwhile.
    pub(crate) fn find_locked(&self, name: &str) -> Result<(Cluster, File), ClusterError> {
        let lock = self.open_lock(name)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| self.lock_failed(name, errno.into()))?;
        // As it is now: whoever had the lock has written it anew.
        Ok((self.find(name)?, lock))
    }

    /// The same; `None` if somebody changes them right now.
    pub(crate) fn find_unlocked(&self, name: &str) -> Result<Option<(Cluster, File)>, ClusterError> {
        let lock = self.open_lock(name)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some((self.find(name)?, lock))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(self.lock_failed(name, errno.into())),
        }
    }

    fn open_lock(&self, name: &str) -> Result<File, ClusterError> {
        let path = self.find(name)?.home.join(LOCK);
        let mut options = OpenOptions::new();
        let opened = options.create(true).truncate(false).write(true).mode(0o600).open(&path);
        opened.map_err(|source| self.lock_failed(name, source))
    }

    fn lock_failed(&self, name: &str, source: std::io::Error) -> ClusterError {
        ClusterError::File { action: "lock", path: self.home().join(name).join(LOCK), source }
    }
}

/// The number of a worker of this role.
fn number(name: &str, role: WorkerRole) -> Option<u32> {
    name.strip_prefix(role.name())?.strip_prefix('-')?.parse().ok()
}
