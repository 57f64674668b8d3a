//! One of eight workers is killed, or is ten times slower than the others: what it costs.
//!
//! Each worker has one slot, and all of them share the processors of this machine: so there are as many for a job without
//! one of them as with it, and the price of a loss is what is done again, and what is waited for.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cluster::{Cluster, ClusterOptions};
use crate::job::file_uri;
use crate::output::Output;
use crate::patience::patiently_for;
use crate::process::Process;
use crate::processes::children_of;
use crate::program::Program;
use crate::text::corpus;

const WORKERS: usize = 8;
/// A job may take so long: it means that it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1200);
pub(crate) const ARGS: [&str; 2] = ["--reducers", "8"];
/// Maps for each worker.
const WAVES: usize = 5;
/// The slow worker's part of its fair share of the processors, in percent.
const SLOW_PERCENT: u32 = 10;
/// The system counts processor time in these.
const TICK: Duration = Duration::from_millis(10);
/// Between looks at the job, or for new attempts: each takes processor time that the job should have.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What happens to one of eight workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing.
    None,
    /// Half of the maps are done when it is killed. It does not come back.
    Killed,
    /// Its attempts get a tenth of their share of the processors, from the first to the last.
    Slow,
    /// The same, and no attempt gets a twin.
    SlowWithoutTwins,
}

impl Mishap {
    /// All, to be compared with the first.
    pub const ALL: [Mishap; 4] = [Mishap::None, Mishap::Killed, Mishap::Slow, Mishap::SlowWithoutTwins];
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mishap::None => "nothing",
            Mishap::Killed => "one of eight workers killed with half of the maps done",
            Mishap::Slow => "one of eight workers ten times slower",
            Mishap::SlowWithoutTwins => "the same with --speculation off",
        })
    }
}

/// A cluster of eight workers with a slot each, and a text.
pub struct Octet {
    pub(crate) cluster: Cluster,
    pub(crate) expected: Output,
    pub(crate) split_size: String,
    jobs: u32,
}

impl Octet {
    /// Puts a text of so many MiB, and counts its words here.
    pub fn begin(mib: usize, seed: u64) -> Octet {
        // Who lags behind is noticed as soon as where nothing else is said.
        let master_args = vec!["--replication=2", "--block-mib=4", "--straggler-behind-ms=5000"];
        let options = ClusterOptions { workers: WORKERS, master_args, ..ClusterOptions::default() };
        let cluster = Cluster::with(options);
        cluster.wait_for_all_slots();
        let text = corpus(mib << 20, seed);
        cluster.put("/text", &text);
        let (input, local) = (cluster.path("text"), cluster.path("local"));
        fs::write(&input, &text).expect("a file");
        let split_size = text.len().div_ceil(WORKERS * WAVES).to_string();
        let here =
            Program::word_count().args(ARGS).args(["--split-size", &split_size, "--local=2", "--input"]);
        here.arg(file_uri(&input)).arg("--output").arg(&local).run().succeeded();
        Octet { cluster, expected: Output::read(&local), split_size, jobs: 0 }
    }

    /// Runs a job that has the mishap; returns how long it took.
    ///
    /// # Panics
    /// If its output is not that of the local run, or the mishap has not happened.
    pub fn run(&mut self, mishap: Mishap) -> Duration {
        self.jobs += 1;
        let (path, started) = (format!("/out-{}", self.jobs), Instant::now());
        let output = format!("dfs://{path}");
        let paths = ["--input", "dfs:///text", "--output", &output, "--split-size", &self.split_size];
        let twins = if mishap == Mishap::SlowWithoutTwins { "off" } else { "on" };
        let job =
            self.cluster.submit("word_count", &[&ARGS[..], &paths[..], &["--speculation", twins]].concat());
        let wait = || job.command("wait").start().end_within(PATIENCE);
        let ended = match mishap {
            Mishap::None => wait(),
            Mishap::Killed => {
                patiently_for(PATIENCE, "half of the maps", || {
                    thread::sleep(LOOK_INTERVAL);
                    let maps = &job.status()["stages"][0];
                    let count = |what: &str| maps[what].as_u64().expect("a number");
                    count("done") * 2 >= count("tasks")
                });
                self.cluster.kill_worker(0);
                wait()
            }
            Mishap::Slow | Mishap::SlowWithoutTwins => slowed(self.cluster.worker_id(0), wait),
        };
        let wall = started.elapsed();
        assert!(ended.status.success(), "{mishap:?}: {}", ended.stderr);
        let found = self.cluster.output(&path);
        assert!(found.parts == self.expected.parts, "{mishap:?}: the output is not what one machine writes");
        if mishap == Mishap::Killed {
            self.cluster.start_worker(0);
            self.cluster.wait_for_all_slots();
        }
        self.cluster.client().delete(&path, true, true).expect("the output is ours");
        wall
    }
}

/// Does something while the attempts of a worker are slow.
fn slowed<T>(worker: u32, work: impl FnOnce() -> T) -> T {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let slowing = scope.spawn(|| slow_down(worker, &is_done));
        let result = work();
        is_done.store(true, Ordering::Relaxed);
        let stops = slowing.join().expect("slowing does not panic");
        assert!(stops > 0, "no attempt was ever too fast");
        result
    })
}

/// Stops each attempt of a worker whenever it has had more than its part. Returns how often it did.
fn slow_down(worker: u32, is_done: &AtomicBool) -> u32 {
    let cores = thread::available_parallelism().expect("Linux tells").get() as u32;
    let mut stops = 0;
    let mut known: Vec<(Process, Instant)> = Vec::new();
    let mut looked: Option<Instant> = None;
    while !is_done.load(Ordering::Relaxed) {
        if looked.is_none_or(|looked| looked.elapsed() >= LOOK_INTERVAL) {
            let attempts = children_of(worker);
            known.retain(|(process, _)| attempts.contains(&process.id()));
            for id in attempts {
                if known.iter().all(|(process, _)| process.id() != id) {
                    known.push((Process::of(id), Instant::now()));
                }
            }
            looked = Some(Instant::now());
        }
        for (process, seen) in &known {
            let share = seen.elapsed() * cores / WORKERS as u32;
            let is_ahead = process.processor_time() > share * SLOW_PERCENT / 100;
            process.signal(if is_ahead { Signal::STOP } else { Signal::CONT });
            stops += u32::from(is_ahead);
        }
        thread::sleep(TICK);
    }
    known.iter().for_each(|(process, _)| process.signal(Signal::CONT));
    stops
}
