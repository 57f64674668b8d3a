//! Makes a cluster: all of it, or nothing.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::ClusterError;
use crate::provider::{Condition, Patience, Provider, all_run, provider};
use crate::record::{BOOTSTRAP, CLUSTER_FILE, Cluster, SECRET, STORE_KEYS};
use crate::registry::Registry;
use crate::spec::{ClusterSpec, ProviderKind};

/// Random bytes of a secret; its file has them in hexadecimal.
const SECRET_BYTES: usize = 32;
/// Of an id: enough for all clusters that an engine ever has.
const ID_BYTES: usize = 4;
/// How often members that were killed are started again while their cluster is made: more often is no accident.
const REVIVALS_MAX: u32 = 16;

impl Registry {
    /// Makes a cluster whose file system `user` owns. `registered` asks the master at the address how many workers with slots it has; the cluster is
    /// ready when all have come. What fails, or is interrupted, leaves nothing.
    pub fn create(
        &self,
        spec: &ClusterSpec,
        user: &str,
        registered: &mut dyn FnMut(&Cluster) -> usize,
        interrupted: &AtomicBool,
    ) -> Result<Cluster, ClusterError> {
        let mut provider = provider(spec.provider)?;
        let (name, home) = self.reserve(spec.name.as_deref())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let created_ms = now.map_or(0, |since| since.as_millis() as u64);
        let mut cluster = Cluster::new(&name, &home, spec.clone().divided(), created_ms)?;
        cluster.user = user.to_owned();
        let patience = Patience::new(&name, interrupted);
        let made = prepare(&mut cluster)
            .and_then(|()| provider.make(&mut cluster, &patience))
            .and_then(|()| attend(provider.as_mut(), &cluster, registered, &patience))
            .and_then(|()| {
                cluster.ready = true;
                cluster.write()
            });
        match made {
            Ok(()) => Ok(cluster),
            Err(why) => Err(self.undo(provider.as_mut(), &cluster, why)),
        }
    }

    /// Removes what was made, and says why.
    fn undo(&self, provider: &mut dyn Provider, cluster: &Cluster, why: ClusterError) -> ClusterError {
        match self.remove(provider, cluster) {
            Ok(()) => why,
            Err(source) => ClusterError::Undo { why: Box::new(why), source: Box::new(source) },
        }
    }
}

/// The record, the secret, and what members are given.
fn prepare(cluster: &mut Cluster) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::File { action: "number", path: cluster.home.clone(), source };
    cluster.id = random_hex(ID_BYTES).map_err(failed)?;
    cluster.write()?;
    if cluster.spec.secret || cluster.spec.provider == ProviderKind::Docker {
        let path = cluster.home.join(SECRET);
        write_secret(&path)?;
        cluster.secret_file = Some(path);
    }
    // Workers that come later are given the script as it is now.
    let spec = &cluster.spec;
    let given =
        [(&spec.cluster_file, CLUSTER_FILE), (&spec.bootstrap, BOOTSTRAP), (&spec.store_keys, STORE_KEYS)];
    for (file, name) in given {
        let Some(file) = file else { continue };
        let copied = fs::copy(file, cluster.home.join(name));
        copied.map_err(|source| ClusterError::File { action: "copy", path: file.clone(), source })?;
    }
    cluster.write()
}

/// Waits until all workers have registered. Who is killed meanwhile is started again, as later; who ends by itself has a
/// reason.
pub(crate) fn attend(
    provider: &mut dyn Provider,
    cluster: &Cluster,
    registered: &mut dyn FnMut(&Cluster) -> usize,
    patience: &Patience<'_>,
) -> Result<(), ClusterError> {
    let wanted = cluster.members.iter().filter(|member| member.role != "master").count();
    let (mut found, mut revivals) = (0, 0);
    let counted = || {
        found = registered(cluster);
        if found >= wanted {
            return Ok(Some(()));
        }
        let mut conditions = provider.look(cluster)?;
        for (member, condition) in cluster.members.iter().zip(&mut conditions) {
            if condition.was_killed() && revivals < REVIVALS_MAX {
                revivals += 1;
                provider.revive(cluster, &member.role)?;
                *condition = Condition::Running;
            }
        }
        all_run(cluster, conditions)?;
        Ok(None)
    };
    match patience.until(counted, String::new) {
        Err(ClusterError::Slow { waited_ms, .. }) => {
            let missing = format!("{found} of {wanted} workers have registered");
            Err(ClusterError::Slow { waited_ms, missing })
        }
        other => other,
    }
}

fn write_secret(path: &Path) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::File { action: "write", path: path.to_owned(), source };
    let text = random_hex(SECRET_BYTES).map_err(failed)?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(format!("{text}\n").as_bytes()).map_err(failed)
}

/// As many random bytes, in hexadecimal.
pub(crate) fn random_hex(bytes: usize) -> std::io::Result<String> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
