//! Jobs on real processes, each with one fault in one phase, and each with the output of the local run.
//!
//! A job is held where its fault is to happen (docs/operating.md: GRISTMILL_TEST_HOLD_ATTEMPTS, GRISTMILL_TEST_HOLD_PUBLISH):
//! so that a fault has fired in its phase is not a matter of luck, and is looked at.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, ClusterOptions};
use crate::job::{Job, file_uri, over_stages};
use crate::output::Output;
use crate::patience::patiently_for;
use crate::process::Process;
use crate::program::{Program, Running};
use crate::scenario::{Component, Fault, Phase, Scenario};
use crate::tally::Tally;
use crate::text::{Dice, distinct_words};

/// How long a job may take to come to a phase, or to its end: it means that it hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// Two core workers with all blocks each, and a task worker: whoever is killed takes no block along for good.
pub(crate) const CORE_WORKERS: usize = 2;
const TASK_WORKERS: usize = 1;
/// Different words, so that a task's combine table is full before the task has read all: with 24 MiB it takes less than
/// 120,000 of 16 letters, and a split of 2 MiB holds 123,000. There is a split for each slot.
const WORDS: u64 = 370_000;
pub(crate) const ARGS: [&str; 6] = ["--reducers", "2", "--split-size", "2MiB", "--memory", "24MiB"];
/// A fault's own failures must not fail the job: the bound on failures has stories of its own.
const ATTEMPTS_MAX: &str = "50";
/// For attempts that are paused: they are to be given up soon.
const NO_PROGRESS: &str = "4s";
/// How long a daemon is paused or starved where nothing says when it is enough: up to so long, as the dice fall. It is
/// more than a lease, and less.
const SPELL_MAX_MS: usize = 3_000;

/// A cluster on which faults are tried out.
pub struct Campaign {
    pub(crate) cluster: Cluster,
    gates: TempDir,
    seed: u64,
    pub(crate) expected: Output,
    pub(crate) tally: Tally,
}

/// A job that stands in the phase of its fault.
struct Held {
    driver: Running,
    job: Job,
    output: String,
    gate: PathBuf,
    /// The attempt that is held, where the phase has attempts.
    attempt: Option<Process>,
    /// Its mark: there for as long as it is held.
    mark: PathBuf,
    /// Number of the worker that the fault may meet.
    worker: usize,
}

impl Campaign {
    /// A cluster and the output of the local run. The same seed rolls the same faults.
    pub fn begin(seed: u64) -> Campaign {
        let gates = tempfile::tempdir().expect("a directory");
        let env = vec![
            ("GRISTMILL_TEST_HOLD_ATTEMPTS", file_uri(gates.path())),
            ("GRISTMILL_TEST_HOLD_PUBLISH", file_uri(gates.path())),
        ];
        let cluster = Cluster::with(ClusterOptions {
            workers: CORE_WORKERS,
            task_workers: TASK_WORKERS,
            master_args: vec!["--replication=2"],
            env,
            ..ClusterOptions::default()
        });
        cluster.wait_for_all_slots();
        let text = distinct_words(WORDS, seed);
        cluster.put("/words", &text);
        let (input, local) = (cluster.path("words"), cluster.path("local"));
        fs::write(&input, &text).expect("a file");
        let here = Program::word_count().args(ARGS).arg("--local=2");
        here.arg("--input").arg(&input).arg("--output").arg(&local).run().succeeded();
        let expected = Output::read(&local);
        Campaign { cluster, gates, seed, expected, tally: Tally::default() }
    }

    /// The sums so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The cluster, between two jobs.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The scenario of a number: all of them in turn.
    pub fn scenario(number: u64) -> Scenario {
        let all = Scenario::all();
        all[(number % all.len() as u64) as usize]
    }

    /// Runs a job with this fault, and looks at what it has written.
    ///
    /// # Panics
    /// If the fault did not fire, or the output is another one.
    pub fn run(&mut self, number: u64, scenario: Scenario) {
        let mut dice = Dice::new(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut held = self.hold(&mut dice, scenario);
        match scenario.component {
            Component::Attempt => self.meet_attempt(scenario, &held),
            Component::Worker => self.meet_worker(&mut dice, scenario, &held),
            Component::Master => self.meet_master(&mut dice, scenario, &held),
            Component::Driver => self.meet_driver(&mut dice, scenario, &mut held),
        }
        self.tally.fired(scenario);
        held.open();
        self.tally.ended_daemons += self.cluster.revive();
        self.is_right(scenario, held);
        self.hear_the_dead();
    }

    /// Reads what daemons have said that ended meanwhile.
    pub(crate) fn hear_the_dead(&mut self) {
        for ended in self.cluster.take_ended() {
            self.tally.hear(&ended);
        }
    }

    /// Hears what the daemons have said until now: they end.
    pub fn end(mut self) -> Tally {
        for index in 0..self.cluster.worker_count() {
            let ended = self.cluster.stop_worker(index);
            self.tally.hear(&ended);
        }
        let ended = self.cluster.stop_master();
        self.tally.hear(&ended);
        self.tally
    }

    /// A job that has come to the phase, and goes no further.
    fn hold(&mut self, dice: &mut Dice, scenario: Scenario) -> Held {
        let gate = self.shut(scenario.phase.gate());
        let id = id_of(dice);
        let output = format!("/out-{id}");
        let uri = format!("dfs://{output}");
        let driver = self.cluster.drive("word_count").args(ARGS).args(["--input", "dfs:///words"]);
        let mut driver = driver.args(["--output", &uri, "--job-id", &id, "--max-attempts", ATTEMPTS_MAX]);
        if scenario.component == Component::Attempt && scenario.fault == Fault::Pause {
            driver = driver.args(["--no-progress-timeout", NO_PROGRESS]);
        }
        let driver = driver.start();
        let job = self.cluster.known_job(&id);
        let mut held = Held { driver, job, output, gate, attempt: None, mark: PathBuf::new(), worker: 0 };
        if scenario.phase.has_attempts() {
            self.wait_for_an_attempt(&mut held, scenario.phase);
        } else {
            self.wait_for_the_commit(&mut held, scenario.phase);
            held.worker = dice.below(self.cluster.worker_count());
        }
        held
    }

    /// Shuts a gate, the only one. Returns its file.
    pub(crate) fn shut(&self, gate: &str) -> PathBuf {
        for entry in fs::read_dir(self.gates.path()).expect("our directory") {
            remove(&entry.expect("an entry").path());
        }
        let gate = self.gates.path().join(gate);
        fs::write(&gate, "").expect("a gate");
        gate
    }

    /// Attempts that say by their marks that they stand before this gate, and the workers that they are children of.
    pub(crate) fn held_attempts(&self, gate: &str) -> Vec<(usize, Process)> {
        let prefix = format!("{gate}.");
        let entries = fs::read_dir(self.gates.path()).expect("our directory");
        let marks = entries.map(|entry| entry.expect("an entry").file_name());
        let pids = marks.filter_map(|name| name.to_str()?.strip_prefix(&prefix)?.parse::<u32>().ok());
        let of_ours = |attempt: Process| {
            let parent = attempt.parent()?;
            let mut workers = 0..self.cluster.worker_count();
            Some((workers.find(|index| self.cluster.worker_id(*index) == parent)?, attempt))
        };
        pids.map(Process::of).filter_map(of_ours).collect()
    }

    fn wait_for_an_attempt(&self, held: &mut Held, phase: Phase) {
        patiently_for(PATIENCE, &format!("an attempt to be held in {phase}"), || {
            held.is_driven();
            let Some((worker, attempt)) = self.held_attempts(phase.gate()).into_iter().next() else {
                return false;
            };
            held.mark = self.gates.path().join(format!("{}.{}", phase.gate(), attempt.id()));
            (held.attempt, held.worker) = (Some(attempt), worker);
            true
        });
    }

    /// The decision is made, and the output is visible or not, as the phase says.
    fn wait_for_the_commit(&self, held: &mut Held, phase: Phase) {
        patiently_for(PATIENCE, &format!("the job to be held in the {phase}"), || {
            held.is_driven();
            let status = held.job.command("status").arg("--json").run().stdout;
            let committing = status.contains("\"COMMITTING\"");
            committing && self.cluster.names_in(&held.output).is_empty() == (phase == Phase::Publish)
        });
    }

    fn meet_attempt(&self, scenario: Scenario, held: &Held) {
        let attempt = held.attempt.as_ref().expect("the phase has attempts");
        match scenario.fault {
            Fault::Kill => {
                attempt.signal(Signal::KILL);
                patiently_for(PATIENCE, "the attempt to be gone", || attempt.is_gone());
                held.is_held(scenario);
            }
            Fault::Pause => {
                attempt.pause();
                held.is_held(scenario);
                // What is held goes on, but for this one: it is given up for want of progress.
                held.open();
                patiently_for(PATIENCE, "the attempt to be given up", || attempt.is_gone());
            }
            Fault::Starve => {
                attempt.starve();
                held.is_held(scenario);
            }
        }
    }

    fn meet_worker(&mut self, dice: &mut Dice, scenario: Scenario, held: &Held) {
        let process = Process::of(self.cluster.worker_id(held.worker));
        match scenario.fault {
            Fault::Kill => {
                held.is_held(scenario);
                self.cluster.kill_worker(held.worker);
                held.is_held(scenario);
                if dice.below(2) == 0 {
                    // It is missed before it comes again; else it comes with its old name before it is missed.
                    self.wait_until_missed();
                    held.open();
                }
                self.cluster.start_worker(held.worker);
            }
            Fault::Pause => {
                process.pause();
                held.is_held(scenario);
                held.open();
                self.wait_until_missed();
                process.signal(Signal::CONT);
            }
            Fault::Starve => self.starve(dice, scenario, held, &process),
        }
    }

    fn meet_master(&mut self, dice: &mut Dice, scenario: Scenario, held: &Held) {
        let process = Process::of(self.cluster.master_id());
        match scenario.fault {
            Fault::Kill => {
                held.is_held(scenario);
                self.cluster.kill_master();
                held.is_held(scenario);
                if dice.below(2) == 0 {
                    // Attempts go on, and have nobody to tell.
                    held.open();
                    spell(dice);
                }
                self.cluster.start_master();
            }
            Fault::Pause => {
                process.pause();
                held.is_held(scenario);
                held.open();
                spell(dice);
                process.signal(Signal::CONT);
            }
            Fault::Starve => self.starve(dice, scenario, held, &process),
        }
    }

    fn meet_driver(&mut self, dice: &mut Dice, scenario: Scenario, held: &mut Held) {
        let process = Process::of(held.driver.id());
        match scenario.fault {
            Fault::Kill => {
                held.driver.signal(Signal::KILL);
                held.is_held(scenario);
            }
            Fault::Pause => {
                process.pause();
                held.is_held(scenario);
                held.open();
                spell(dice);
                process.signal(Signal::CONT);
            }
            Fault::Starve => {
                process.starve();
                held.is_held(scenario);
            }
        }
    }

    /// For a while, a daemon can open nothing.
    fn starve(&self, dice: &mut Dice, scenario: Scenario, held: &Held, daemon: &Process) {
        let before = daemon.starve();
        held.is_held(scenario);
        held.open();
        spell(dice);
        daemon.feed(before);
    }

    fn wait_until_missed(&self) {
        patiently_for(PATIENCE, "the worker to be missed", || {
            let described = self.cluster.gristmill().args(["cluster", "describe", "--json"]).run().stdout;
            let Ok(described) = serde_json::from_str::<Value>(&described) else { return false };
            let workers = described["workers"].as_array().expect("a list");
            workers.iter().filter(|worker| worker["state"] == "live").count() < self.cluster.worker_count()
        });
    }

    /// The job ends well, with the output and the counts of the local run, and nothing is left of it.
    fn is_right(&mut self, scenario: Scenario, held: Held) {
        let Held { driver, job, output, .. } = held;
        let ended = job.command("wait").start().end_within(PATIENCE);
        assert!(ended.status.success(), "{scenario}: {}\n{}", ended.stderr, job.status());
        let driven = driver.end_within(PATIENCE);
        let may_fail = scenario.component == Component::Driver && scenario.fault != Fault::Pause;
        assert!(may_fail || driven.status.success(), "{scenario}: the driver says {}", driven.stderr);
        let found = self.cluster.output(&output);
        assert!(found.parts == self.expected.parts, "{scenario}: {output} is not what one machine writes");
        assert_eq!(counts(&found), counts(&self.expected), "{scenario}: counts are of winners alone");
        let status = job.status();
        self.tally.lost_attempts += over_stages(&status, "lost_attempts");
        self.tally.failed_attempts += over_stages(&status, "failed_attempts");
        self.cluster.client().delete(&output, true, true).expect("the output is ours");
        patiently_for(PATIENCE, "what was staged, and the job's files, to go", || {
            let left = [self.cluster.names_in("/"), self.cluster.names_in("/.gristmill/jobs")].concat();
            !left.iter().any(|name| name.contains(&job.id))
        });
        self.cluster.wait_for_all_slots();
        self.cluster.wait_for_workers(CORE_WORKERS);
    }
}

impl Held {
    /// Lets everything that is held go on.
    fn open(&self) {
        remove(&self.gate);
    }

    /// The driver must not be over before the job is held.
    fn is_driven(&mut self) {
        assert!(self.driver.is_running(), "the driver ended before its job was held");
    }

    /// Proof that the fault has fired in its phase: the gate is shut, and the attempt stands before it.
    #[track_caller]
    fn is_held(&self, scenario: Scenario) {
        assert!(self.gate.exists(), "{scenario}: the gate is shut");
        let marked = self.attempt.is_none() || self.mark.exists();
        assert!(marked, "{scenario}: the attempt is where it is to be");
    }
}

/// Removes a gate, or the mark of an attempt, which may do that itself.
fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{}: {error}", path.display()),
        _ => {}
    }
}

/// The length of a fault.
fn spell(dice: &mut Dice) {
    let (begun, length) = (Instant::now(), Duration::from_millis(dice.below(SPELL_MAX_MS) as u64));
    patiently_for(PATIENCE, "the fault to be over", || begun.elapsed() >= length);
}

/// A UUID, as job ids are.
fn id_of(dice: &mut Dice) -> String {
    let (high, low) = (dice.roll(), dice.roll());
    let (version, variant) = (0x4000 | (high & 0xfff), 0x8000 | ((low >> 48) & 0x3fff));
    let (first, second) = (high >> 32, (high >> 16) & 0xffff);
    format!("{first:08x}-{second:04x}-{version:04x}-{variant:04x}-{:012x}", low & 0xffff_ffff_ffff)
}

/// What a report counts of each stage and that does not depend on how the input was cut.
fn counts(output: &Output) -> Vec<[u64; 3]> {
    let stages = output.manifest["stages"].as_array().expect("stages");
    let of = |stage: &Value| {
        ["records_collected", "groups", "records_out"].map(|name| stage[name].as_u64().expect("a number"))
    };
    stages.iter().map(of).collect()
}
