//! What becomes of a cluster and of its steps. Pure: time and events come in, records and commands come out.
//!
//! ```text
//!   STARTING -> BOOTSTRAPPING -> WAITING <-> RUNNING -> TERMINATING -> TERMINATED | TERMINATED_WITH_ERRORS
//!
//!   PENDING -> RUNNING (a try, then perhaps another) -> COMPLETED | FAILED | CANCELLED
//! ```
//!
//! Invariants, which the simulation checks: an ended step or cluster never changes again; no more steps run than the
//! concurrency; a step runs only when all that it depends on are COMPLETED; a try is begun once in the life of a master,
//! and after a master's death begun again under the same job id; nothing runs once the cluster has ended.

mod add;
mod life;
mod run;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod stories;

use std::collections::{BTreeMap, BTreeSet};

use gristmill_proto::cluster::{Cluster, Step, StepSpec, cluster, step};
use gristmill_proto::ids::JobId;

/// Ended steps that are remembered; the oldest are forgotten first.
pub(crate) const STEPS_KEPT_MAX: usize = 10_000;

/// The time of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Of the monotonic clock: what decides.
    pub(crate) mono_ms: u64,
    /// Since 1970: for people.
    pub(crate) wall_ms: u64,
}

/// What the shell is to do, once the records are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Begin a try of a step.
    Start { number: u64, try_number: u32 },
    /// End a try: tell it, or kill it at once.
    Stop { number: u64, try_number: u32, kill: bool },
    /// A job that a former master's try began is not wanted any more.
    KillJob(JobId),
    /// The cluster has ended; so does the master.
    End,
}

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its program ended with 0.
    Completed,
    /// It did not: a code for programs, a text for people.
    Failed { reason: &'static str, message: String },
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It makes no sense.
    #[error("{0}")]
    Bad(String),
    /// There is no such step.
    #[error("there is no step {0}; `gristmill cluster list-steps` shows those that are known")]
    Unknown(String),
    /// Too much of it.
    #[error("{0}")]
    Full(String),
    /// Not now, and perhaps never.
    #[error("{0}")]
    State(String),
}

/// What is to be made durable before a command is done or an answer is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) cluster: Option<Cluster>,
    pub(crate) steps: Vec<Step>,
    pub(crate) forgotten: Vec<u64>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.cluster.is_none() && self.steps.is_empty() && self.forgotten.is_empty()
    }
}

/// A try that runs.
#[derive(Clone, Copy, Debug)]
struct Try {
    began_ms: u64,
    /// It was told to end because it took too long.
    late: bool,
}

/// A cluster and its steps.
pub(crate) struct Core {
    cluster: Cluster,
    steps: BTreeMap<u64, Step>,
    /// Tries that the shell was told to begin, and that have not ended.
    tries: BTreeMap<u64, Try>,
    next_number: u64,
    /// Enough workers have come in this life of the master.
    attended: bool,
    jobs_live: u32,
    idle_since_ms: Option<u64>,
    cluster_changed: bool,
    changed: BTreeSet<u64>,
    forgotten: Vec<u64>,
    commands: Vec<Command>,
}

impl Core {
    /// A cluster that begins, or goes on with what its store has.
    pub(crate) fn new(cluster: Cluster, steps: Vec<Step>, now: Now) -> Core {
        let steps: BTreeMap<u64, Step> = steps.into_iter().map(|step| (step.number, step)).collect();
        let mut core = Core {
            next_number: steps.keys().next_back().map_or(1, |last| last + 1),
            cluster,
            steps,
            tries: BTreeMap::new(),
            attended: false,
            jobs_live: 0,
            idle_since_ms: None,
            cluster_changed: false,
            changed: BTreeSet::new(),
            forgotten: Vec::new(),
            commands: Vec::new(),
        };
        if core.cluster.created_ms == 0 {
            core.cluster.created_ms = now.wall_ms;
            core.cluster.state = cluster::State::Starting.into();
            core.cluster_changed = true;
        }
        core.take_up(now);
        core
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.values()
    }

    pub(crate) fn step(&self, number: u64) -> Option<&Step> {
        self.steps.get(&number)
    }

    /// The step of an id, or the latest of a name.
    pub(crate) fn find(&self, text: &str) -> Result<u64, Refusal> {
        if let Some(step) =
            text.strip_prefix("step-").and_then(|number| self.steps.get(&number.parse().ok()?))
        {
            return Ok(step.number);
        }
        let named = self.steps.values().rev().find(|step| spec(step).name == text);
        named.map(|step| step.number).ok_or_else(|| Refusal::Unknown(text.to_owned()))
    }

    /// What has changed since the last time.
    pub(crate) fn take_changes(&mut self) -> Changes {
        let numbers = std::mem::take(&mut self.changed);
        let cluster = std::mem::take(&mut self.cluster_changed).then(|| self.cluster.clone());
        let steps = numbers.iter().filter_map(|number| self.steps.get(number).cloned()).collect();
        Changes { cluster, steps, forgotten: std::mem::take(&mut self.forgotten) }
    }

    /// What is to be done since the last time, in order.
    pub(crate) fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    fn state(&self) -> cluster::State {
        self.cluster.state()
    }

    /// Whether nothing changes any more.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state(), cluster::State::Terminated | cluster::State::TerminatedWithErrors)
    }

    fn set_state(&mut self, state: cluster::State) {
        if self.state() != state {
            self.cluster.state = state.into();
            self.cluster_changed = true;
        }
    }

    /// Changes a step that has not ended; it is a bug to change another.
    fn change(&mut self, number: u64, change: impl FnOnce(&mut Step)) {
        let step = self.steps.get_mut(&number).expect("a step that is changed is there");
        assert!(!has_ended(step), "an ended step does not change");
        change(step);
        self.changed.insert(number);
    }

    fn numbers(&self, state: step::State) -> Vec<u64> {
        self.steps.values().filter(|step| step.state() == state).map(|step| step.number).collect()
    }
}

/// Whether a step is what it will be for ever.
pub(crate) fn has_ended(step: &Step) -> bool {
    matches!(step.state(), step::State::Completed | step::State::Cancelled | step::State::Failed)
}

/// A step without a spec is one of which nothing is known but that it was.
pub(crate) fn spec(step: &Step) -> &StepSpec {
    static NOTHING: std::sync::LazyLock<StepSpec> = std::sync::LazyLock::new(StepSpec::default);
    step.spec.as_ref().unwrap_or(&NOTHING)
}

/// The id of the job of a try: the same in every life of the master, so that a try which is begun again finds the job
/// that it has submitted. The cluster's id is random, and differs in its first six bytes from all of these.
fn job_of(cluster_id: &[u8], number: u64, try_number: u32) -> JobId {
    let mut id = [0; 16];
    id.iter_mut().zip(cluster_id).for_each(|(to, from)| *to = *from);
    let step = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let one_try = u16::try_from(try_number).unwrap_or(u16::MAX).to_be_bytes();
    id.iter_mut().zip(step.into_iter().chain(one_try)).for_each(|(to, with)| *to ^= with);
    JobId(id)
}
