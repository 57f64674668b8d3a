//! What is left of a cluster whose members have ended, before it is removed: the last moment to take something along.

use std::io::Write;

use crate::error::ClusterError;
use crate::provider::Provider;
use crate::record::Cluster;
use crate::registry::Registry;

/// Who takes along what is to outlive a cluster. Nothing that fails there holds up the end.
pub type Farewell<'f> = &'f mut dyn FnMut(&mut Remains<'_>);

/// A cluster of which nothing runs any more.
pub struct Remains<'r> {
    /// Its record.
    pub cluster: &'r Cluster,
    /// What its master said last, the bytes of `cluster-end.json`; none if it died without a word.
    pub end: Option<Vec<u8>>,
    provider: &'r mut dyn Provider,
}

impl Remains<'_> {
    /// Copies all that a member has said.
    pub fn copy_log(&mut self, role: &str, to: &mut dyn Write) -> Result<(), ClusterError> {
        self.provider.copy_log(self.cluster, role, to)
    }
}

impl Registry {
    /// Ends a cluster in good order, lets `farewell` take along what is to outlive it, and removes it. Whoever does so at
    /// the same time is waited for. What the master said last.
    pub fn bury(&self, cluster: &Cluster, farewell: Farewell<'_>) -> Result<Option<Vec<u8>>, ClusterError> {
        let buried = self.find_locked(&cluster.name).and_then(|(found, _lock)| {
            let mut provider = crate::provider::provider(found.spec.provider)?;
            self.bury_locked(provider.as_mut(), &found, farewell)
        });
        if matches!(buried, Ok(_) | Err(ClusterError::Unknown { .. })) {
            // It would end by itself, but only when it looks again.
            cluster.dismiss_custodian()?;
        }
        buried
    }

    /// The same, for who has the lock of the members already.
    pub(crate) fn bury_locked(
        &self,
        provider: &mut dyn Provider,
        cluster: &Cluster,
        farewell: Farewell<'_>,
    ) -> Result<Option<Vec<u8>>, ClusterError> {
        provider.halt(cluster)?;
        let end = provider.end_report(cluster)?;
        let mut remains = Remains { cluster, end, provider };
        farewell(&mut remains);
        let Remains { end, provider, .. } = remains;
        self.remove(provider, cluster)?;
        Ok(end)
    }
}
