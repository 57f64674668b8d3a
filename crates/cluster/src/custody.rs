//! The custodian: a process on this machine that keeps a cluster as its record says, and removes it when it is over.
//!
//! A cluster ends by itself when its master does, having left `cluster-end.json` in its data directory; the containers,
//! networks and volumes are this machine's to remove. An engine starts a container again that failed, but not one that
//! was killed or stopped through it, nor any that was up when the engine itself ended in good order: the custodian does.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gristmill_process::{sentence, spawn};

use crate::care::{Care, Order};
use crate::error::ClusterError;
use crate::processes::{NEW_SESSION_VARIABLE, ProcessId, kill};
use crate::provider::{Condition, Provider, provider};
use crate::record::Cluster;
use crate::registry::Registry;
use crate::remains::Farewell;
use crate::spec::ProviderKind;

/// Between two looks at the members. A transient cluster is gone so much after its end.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// So often the master's last word is looked for while it seems to run: an engine starts it again when it ended with
/// errors, and has done so before that is seen.
const LOOKS_PER_QUESTION: u64 = 8;
/// While the engine cannot be reached.
const UNREACHABLE_INTERVAL: Duration = Duration::from_secs(2);

/// How the keeping of a cluster came to its end.
#[derive(Debug)]
pub enum Kept {
    /// The cluster ended by itself, and nothing is left of it: what its master said last, the bytes of
    /// `cluster-end.json`.
    Over(Vec<u8>),
    /// Somebody has terminated it.
    Terminated,
    /// Whoever keeps it was told to stop; the cluster goes on.
    Interrupted,
}

impl Registry {
    /// Keeps a cluster until it is over, lets `farewell` take along what is to outlive it, then removes it. Only one
    /// process at a time should.
    pub fn keep(
        &self,
        name: &str,
        interrupted: &AtomicBool,
        farewell: Farewell<'_>,
    ) -> Result<Kept, ClusterError> {
        let (mut care, started, mut looks) = (Care::default(), Instant::now(), 0);
        let mut connected: Option<Box<dyn Provider>> = None;
        while !interrupted.load(Ordering::Relaxed) {
            let cluster = match self.find(name) {
                Ok(cluster) => cluster,
                Err(ClusterError::Unknown { .. }) => return Ok(Kept::Terminated),
                Err(error) => return Err(error),
            };
            let now_ms = started.elapsed().as_millis() as u64;
            looks += 1;
            let asks = looks % LOOKS_PER_QUESTION == 0;
            let looked = match connected.take() {
                Some(provider) => Ok(provider),
                None => provider(cluster.spec.provider),
            }
            .and_then(|mut provider| {
                let over =
                    self.look_after(provider.as_mut(), &cluster, (&mut care, now_ms), asks, farewell)?;
                connected = Some(provider);
                Ok(over)
            });
            let interval = match looked {
                Ok(Some(end)) => return Ok(Kept::Over(end)),
                Ok(None) => LOOK_INTERVAL,
                Err(error) => {
                    tracing::warn!(cluster = name, error = sentence(&error), "cannot look after the cluster");
                    UNREACHABLE_INTERVAL
                }
            };
            thread::sleep(interval);
        }
        Ok(Kept::Interrupted)
    }

    /// One look, and what follows from it. The end's report, if the cluster was over and is removed.
    fn look_after(
        &self,
        provider: &mut dyn Provider,
        cluster: &Cluster,
        (care, now_ms): (&mut Care, u64),
        asks: bool,
        farewell: Farewell<'_>,
    ) -> Result<Option<Vec<u8>>, ClusterError> {
        if !cluster.ready {
            return Ok(None);
        }
        // Whoever changes the members right now stops some of them.
        let Some((cluster, _lock)) = self.find_unlocked(&cluster.name)? else { return Ok(None) };
        let conditions = provider.look(&cluster)?;
        let end = match conditions.first() {
            Some(Condition::Running) if !asks => None,
            Some(_) => provider.end_report(&cluster)?,
            None => None,
        };
        let roles = cluster.members.iter().map(|member| member.role.clone());
        let members: Vec<(String, Condition)> = roles.zip(conditions).collect();
        let how =
            |role: &str| members.iter().find(|(name, _)| name == role).and_then(|(_, found)| found.how());
        for order in care.decide(&members, end.is_some(), now_ms) {
            match order {
                Order::Remove => drop(self.bury_locked(provider, &cluster, farewell)?),
                Order::Revive(role) => {
                    let how = how(&role).unwrap_or_default();
                    tracing::info!(cluster = cluster.name, role, how, "starts again what has ended");
                    if let Err(error) = provider.revive(&cluster, &role) {
                        tracing::warn!(role, error = sentence(&error), "cannot start it again");
                    }
                }
            }
        }
        Ok(end)
    }

    /// Starts the custodian of a cluster that needs one, as a process that outlives this one.
    pub fn leave_custodian(&self, name: &str) -> Result<(), ClusterError> {
        let (mut cluster, _lock) = self.find_locked(name)?;
        if !cluster.needs_custodian() || cluster.has_custodian() {
            return Ok(());
        }
        let failed = |source| ClusterError::Start { role: "custodian".to_owned(), source };
        let mut custodian = Command::new(&cluster.spec.program);
        custodian.args(["cluster", "custodian", name]).env(NEW_SESSION_VARIABLE, "1");
        custodian.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = spawn(&mut custodian).map_err(failed)?;
        cluster.custodian = ProcessId::of(child.id()).map_err(failed)?;
        cluster.write()
    }
}

impl Cluster {
    /// Whether it can end by itself, or has members that are to be started again.
    pub(crate) fn needs_custodian(&self) -> bool {
        self.spec.provider == ProviderKind::Docker || self.spec.cluster_file.is_some()
    }

    /// Whether its custodian runs.
    pub(crate) fn has_custodian(&self) -> bool {
        self.boot == crate::processes::boot_id() && self.custodian.is_some_and(ProcessId::is_alive)
    }

    /// Ends its custodian, unless that is who asks, and waits until it is gone.
    pub(crate) fn dismiss_custodian(&self) -> Result<(), ClusterError> {
        let other = self.custodian.filter(|custodian| custodian.pid != std::process::id());
        kill(self, || Ok(other.filter(|_| self.has_custodian()).into_iter().collect()))
    }
}
