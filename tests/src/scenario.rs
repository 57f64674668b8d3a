//! What a campaign does to a job: which fault, whom it meets, and in which phase of the job.

use std::fmt;

/// Where the job is held while the fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// A map has read records, and not all.
    Map,
    /// A spill is half written.
    Spill,
    /// The spills of a map are half merged.
    Merge,
    /// A reduce has some of its map outputs, and not all.
    Shuffle,
    /// A reduce has all of its input, and merges it.
    ReduceMerge,
    /// A reduce has written something, and not all.
    Reduce,
    /// A task has written all, and nobody knows.
    Commit,
    /// The job's commit is decided, and nothing is visible.
    Publish,
    /// The job's output is visible, and nobody knows.
    Published,
}

impl Phase {
    /// All of them, in the order in which a job comes to them.
    pub const ALL: [Phase; 9] = [
        Phase::Map,
        Phase::Spill,
        Phase::Merge,
        Phase::Shuffle,
        Phase::ReduceMerge,
        Phase::Reduce,
        Phase::Commit,
        Phase::Publish,
        Phase::Published,
    ];

    /// The file that holds attempts (GRISTMILL_TEST_HOLD_ATTEMPTS), or the master (GRISTMILL_TEST_HOLD_PUBLISH), there.
    pub fn gate(self) -> &'static str {
        match self {
            Phase::Map => "map",
            Phase::Spill => "spill",
            Phase::Merge => "merge",
            Phase::Shuffle => "shuffle",
            Phase::ReduceMerge => "reduce-merge",
            Phase::Reduce => "reduce",
            Phase::Commit => "commit",
            Phase::Publish => "before",
            Phase::Published => "after",
        }
    }

    /// Attempts run in it, one of which is held.
    pub fn has_attempts(self) -> bool {
        self < Phase::Publish
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Commit => "commit of a task",
            Phase::Publish => "commit of the job, nothing visible",
            Phase::Published => "commit of the job, all visible",
            held => held.gate(),
        })
    }
}

/// Whom the fault meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The process of the attempt that is held.
    Attempt,
    /// The worker of the attempt that is held; any, where none is.
    Worker,
    /// The master.
    Master,
    /// The program that submitted the job and waits for it.
    Driver,
}

impl Component {
    const ALL: [Component; 4] = [Component::Attempt, Component::Worker, Component::Master, Component::Driver];
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL; a daemon is started again.
    Kill,
    /// SIGSTOP, longer than a lease for workers, and SIGCONT.
    Pause,
    /// It can open no more files or connections for a while: an attempt for the rest of its life.
    Starve,
}

impl Fault {
    const ALL: [Fault; 3] = [Fault::Kill, Fault::Pause, Fault::Starve];
}

/// A fault, whom it meets, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scenario {
    /// Where the job is held.
    pub phase: Phase,
    /// Whom the fault meets.
    pub component: Component,
    /// What happens to it.
    pub fault: Fault,
}

impl Scenario {
    /// All that there are.
    pub fn all() -> Vec<Scenario> {
        let mut all = Vec::new();
        for component in Component::ALL {
            for fault in Fault::ALL {
                for phase in Phase::ALL {
                    if component != Component::Attempt || phase.has_attempts() {
                        all.push(Scenario { phase, component, fault });
                    }
                }
            }
        }
        all
    }

    /// Its column in a table: who and what.
    pub fn column(&self) -> String {
        format!("{:?} {:?}", self.component, self.fault).to_lowercase()
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.column(), self.phase)
    }
}
