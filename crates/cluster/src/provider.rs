//! What every kind of cluster can do: make members, look at them, end them.

use std::fmt;
use std::io::Write;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::docker::Docker;
use crate::error::ClusterError;
use crate::processes::Processes;
use crate::record::Cluster;
use crate::spec::ProviderKind;

/// A cluster takes a second; a machine that takes longer is in trouble.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at what is waited for.
const POLL: Duration = Duration::from_millis(5);
/// The exit code of a container that SIGKILL has ended.
pub(crate) const KILLED: i64 = 137;

/// Out of what a cluster is made. Everything that it makes is in the record, or can be found by it, before it is there:
/// so `end` removes what any sudden death of this process has left.
pub(crate) trait Provider {
    /// Makes the master and the first workers, until the record says where the master is.
    fn make(&mut self, cluster: &mut Cluster, patience: &Patience<'_>) -> Result<(), ClusterError>;

    /// Makes the workers of these names.
    fn add(
        &mut self,
        cluster: &mut Cluster,
        names: &[String],
        patience: &Patience<'_>,
    ) -> Result<(), ClusterError>;

    /// How the members are, in the order of the record.
    fn look(&mut self, cluster: &Cluster) -> Result<Vec<Condition>, ClusterError>;

    /// Tells workers to end, ends those that do not, and removes what they kept. Attempts under way go to others.
    fn remove(&mut self, cluster: &mut Cluster, names: &[String]) -> Result<(), ClusterError>;

    /// Starts a member that has ended again, where members outlive their processes: containers do, with what they keep.
    fn revive(&mut self, cluster: &Cluster, name: &str) -> Result<(), ClusterError>;

    /// What the master has left behind for whoever asks how the cluster ended; `None` as long as it has not.
    fn end_report(&mut self, cluster: &Cluster) -> Result<Option<Vec<u8>>, ClusterError>;

    /// Ends all members in good order, and removes nothing.
    fn halt(&mut self, cluster: &Cluster) -> Result<(), ClusterError>;

    /// Copies all that a member has said, as far as it is kept.
    fn copy_log(&mut self, cluster: &Cluster, role: &str, to: &mut dyn Write) -> Result<(), ClusterError>;

    /// Ends and removes all that is not in the cluster's directory. Can be done again at any point.
    fn end(&mut self, cluster: &Cluster) -> Result<(), ClusterError>;
}

/// The provider of a cluster.
pub(crate) fn provider(kind: ProviderKind) -> Result<Box<dyn Provider>, ClusterError> {
    Ok(match kind {
        ProviderKind::Processes => Box::new(Processes::default()),
        ProviderKind::Docker => Box::new(Docker::connect()?),
    })
}

/// How a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It runs.
    Running,
    /// It has ended: how, and the last thing that it said, where that is known.
    Ended(End, Option<String>),
}

impl Condition {
    /// How it ended, and its last words, for people; none if it runs.
    pub fn how(&self) -> Option<String> {
        match self {
            Condition::Running => None,
            Condition::Ended(end, None) => Some(end.to_string()),
            Condition::Ended(end, Some(said)) => Some(format!("{end}: {said}")),
        }
    }

    /// Whether it is a container that somebody has killed: it did not end by itself, nor for want of memory.
    pub(crate) fn was_killed(&self) -> bool {
        matches!(self, Condition::Ended(End::Code(KILLED), _))
    }
}

/// How a member ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A process of ours.
    Status(ExitStatus),
    /// A container.
    Code(i64),
    /// It took more memory than its container has.
    OutOfMemory,
    /// It is not there any more.
    Gone,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Status(status) => write!(f, "ended with {status}"),
            End::Code(code) => write!(f, "ended with exit code {code}"),
            End::OutOfMemory => f.write_str("was killed because its container was out of memory"),
            End::Gone => f.write_str("has gone"),
        }
    }
}

/// How long something is waited for: until it is there, somebody interrupts, or the limit has passed.
pub(crate) struct Patience<'a> {
    cluster: String,
    interrupted: &'a AtomicBool,
    started: Instant,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(cluster: &str, interrupted: &'a AtomicBool) -> Patience<'a> {
        Patience { cluster: cluster.to_owned(), interrupted, started: Instant::now() }
    }

    /// Whether it makes sense to go on.
    pub(crate) fn check(&self) -> Result<(), ClusterError> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(ClusterError::Interrupted { name: self.cluster.clone() });
        }
        Ok(())
    }

    /// Looks again and again.
    pub(crate) fn until<T>(
        &self,
        mut look: impl FnMut() -> Result<Option<T>, ClusterError>,
        missing: impl Fn() -> String,
    ) -> Result<T, ClusterError> {
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            self.check()?;
            if self.started.elapsed() > READY_LIMIT {
                let waited_ms = self.started.elapsed().as_millis() as u64;
                return Err(ClusterError::Slow { waited_ms, missing: missing() });
            }
            thread::sleep(POLL);
        }
    }
}

/// That all members run; else the first that does not, with its last words.
pub(crate) fn all_run(cluster: &Cluster, conditions: Vec<Condition>) -> Result<(), ClusterError> {
    for (member, condition) in cluster.members.iter().zip(conditions) {
        if let Condition::Ended(end, said) = condition {
            let said = said.unwrap_or_else(|| "it left no log".to_owned());
            return Err(ClusterError::Ended { role: member.role.clone(), end, said });
        }
    }
    Ok(())
}
