//! What a campaign has done: faults by phase, and the rare paths that they led to.

use std::collections::BTreeMap;
use std::fmt;

use crate::program::Ended;
use crate::scenario::{Phase, Scenario};

/// Paths that a cluster takes seldom, each with what a daemon says when it takes it.
const RARE_PATHS: [(&str, &str); 20] = [
    ("jobs restored by a new master", "jobs are restored"),
    ("a worker out of its lease starts anew", "given up by the master; starts anew"),
    ("a notice for an earlier master dropped", "a notice for another master is dropped"),
    ("a worker refused", "a worker is refused"),
    ("a worker waits for a master", "no master for jobs; trying again"),
    ("a worker's stream broke", "a worker's stream broke"),
    ("an attempt failed of itself", "attempt failed"),
    ("an attempt ended by order", "ends an attempt"),
    ("processes that outlived their attempt", "ended processes that outlived their attempt"),
    ("processes left by an earlier worker", "ended processes that an earlier life left"),
    ("a fetch failed and was reported", "cannot fetch"),
    ("a map output kept by nobody", "does not keep it"),
    ("a publication left to the next master", "outputs are left to the next master"),
    ("a publication asked for again", "a file system does not answer: it is asked again"),
    ("a write to a replica failed", "a write has failed"),
    ("a writer's lease recovered", "a file whose writer is gone is being closed"),
    ("a block recovered", "block recovered"),
    ("a replica swept after a crash", "was left by a crash and is removed"),
    ("a stale or unknown request refused", "refused a request"),
    ("no descriptor for a connection", "cannot accept a connection"),
];

/// No daemon says it: the job does.
pub(crate) const ANOTHER_OUTPUT: &str = "a map that ran again gave another output";
/// What no fault from outside leads to for certain (docs/reliability.md says why).
const BY_CHANCE: &str = "a notice for an earlier master dropped";

/// The sums of a campaign.
#[derive(Debug, Default)]
pub struct Tally {
    fired: BTreeMap<Scenario, u64>,
    rare: BTreeMap<&'static str, u64>,
    /// Attempts that were lost with a process, over all jobs.
    pub lost_attempts: u64,
    /// Attempts that failed of themselves, over all jobs.
    pub failed_attempts: u64,
    /// Daemons that ended by themselves, and were started again.
    pub ended_daemons: u64,
}

impl Tally {
    /// A fault has fired, in its phase.
    pub fn fired(&mut self, scenario: Scenario) {
        *self.fired.entry(scenario).or_default() += 1;
    }

    /// Reads what a daemon has said in its life.
    pub fn hear(&mut self, daemon: &Ended) {
        for line in daemon.stderr.lines() {
            for (path, phrase) in RARE_PATHS {
                if line.contains(phrase) {
                    *self.rare.entry(path).or_default() += 1;
                }
            }
        }
    }

    /// A rare path was taken that no daemon speaks of.
    pub(crate) fn note(&mut self, path: &'static str) {
        *self.rare.entry(path).or_default() += 1;
    }

    fn paths() -> impl Iterator<Item = &'static str> {
        RARE_PATHS.into_iter().map(|(path, _)| path).chain([ANOTHER_OUTPUT])
    }

    /// Rare paths that were not taken, and should have been.
    pub fn missing(&self) -> Vec<&'static str> {
        Tally::paths().filter(|path| *path != BY_CHANCE && !self.rare.contains_key(path)).collect()
    }

    /// All faults together.
    pub fn faults(&self) -> u64 {
        self.fired.values().sum()
    }

    fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = Vec::new();
        for scenario in Scenario::all() {
            if !columns.contains(&scenario.column()) {
                columns.push(scenario.column());
            }
        }
        columns
    }
}

impl fmt::Display for Tally {
    /// As tables of Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.columns();
        writeln!(f, "| phase | {} | all |", columns.join(" | "))?;
        writeln!(f, "|---|{}---|", "---|".repeat(columns.len()))?;
        for phase in Phase::ALL {
            let of = |column: &String| {
                let here = self
                    .fired
                    .iter()
                    .filter(|(scenario, _)| scenario.phase == phase && scenario.column() == *column);
                here.map(|(_, count)| count).sum::<u64>()
            };
            let counts: Vec<u64> = columns.iter().map(of).collect();
            let cells: Vec<String> = counts.iter().map(u64::to_string).collect();
            writeln!(f, "| {phase} | {} | {} |", cells.join(" | "), counts.iter().sum::<u64>())?;
        }
        writeln!(
            f,
            "\n{} faults; attempts lost with a process: {}; attempts failed: {}; daemons that ended by themselves: {}\n",
            self.faults(),
            self.lost_attempts,
            self.failed_attempts,
            self.ended_daemons
        )?;
        writeln!(f, "| rare path | times |\n|---|---|")?;
        for path in Tally::paths() {
            writeln!(f, "| {path} | {} |", self.rare.get(path).copied().unwrap_or(0))?;
        }
        Ok(())
    }
}
