//! Task workers vanish in the maps of a job, as spot instances do: what it costs.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, ClusterOptions};
use crate::job::{Job, file_uri};
use crate::output::Output;
use crate::patience::patiently_for;
use crate::program::Program;
use crate::text::corpus;

/// A job may take so long: it means that it hangs.
const PATIENCE: Duration = Duration::from_secs(600);
/// One core worker, which outlives everything, and task workers with a slot each.
const TASK_WORKERS: usize = 4;
/// Forty maps: so one is 2.5 % of the phase.
const TEXT_BYTES: usize = 20 << 20;
const ARGS: [&str; 4] = ["--reducers", "2", "--split-size", "512KiB"];

/// How many task workers vanish, at which part of the map phase, and where map outputs are.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// `core` or `local`, as `--shuffle` has it.
    pub shuffle: &'static str,
    /// Task workers; 0: none.
    pub lost: usize,
    /// When so much of the maps is done.
    pub percent: u64,
}

impl Loss {
    /// Both places, none, one, half and all of the workers, four moments.
    pub fn all() -> Vec<Loss> {
        let mut all = Vec::new();
        for shuffle in ["core", "local"] {
            all.push(Loss { shuffle, lost: 0, percent: 0 });
            for lost in [1, TASK_WORKERS / 2, TASK_WORKERS] {
                all.extend([25, 50, 75, 95].map(|percent| Loss { shuffle, lost, percent }));
            }
        }
        all
    }
}

/// What a loss has cost.
#[derive(Clone, Debug)]
pub struct Cost {
    loss: Loss,
    wall: Duration,
    /// Maps that were done when the workers went, of how many.
    done: u64,
    maps: u64,
    /// Map attempts that were lost, while they ran or when they were done: each ran again. A worker that vanishes runs one.
    again: u64,
    /// Bytes of map outputs that were given to core workers.
    given_bytes: u64,
}

impl Cost {
    /// The head of the table.
    pub const HEAD: &'static str = "| map outputs | task workers lost | maps done then | maps run again | given to core workers | wall |\n|---|---|---|---|---|---|";
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost { loss, wall, done, maps, again, given_bytes } = self;
        let moment = match loss.lost {
            0 => "-".to_owned(),
            _ => format!("{done} of {maps} ({} %)", loss.percent),
        };
        let (lost, seconds, kib) = (loss.lost, wall.as_secs_f64(), given_bytes >> 10);
        write!(
            f,
            "| {} | {lost} of {TASK_WORKERS} | {moment} | {again} | {kib} KiB | {seconds:.1} s |",
            loss.shuffle
        )
    }
}

/// A cluster whose task workers vanish and come again.
pub struct Spot {
    cluster: Cluster,
    expected: Output,
    jobs: u32,
}

impl Spot {
    /// A core worker, task workers, and the output of the local run.
    pub fn begin(seed: u64) -> Spot {
        let options = ClusterOptions { workers: 1, task_workers: TASK_WORKERS, ..ClusterOptions::default() };
        let cluster = Cluster::with(options);
        cluster.wait_for_all_slots();
        let text = corpus(TEXT_BYTES, seed);
        cluster.put("/text", &text);
        let (input, local) = (cluster.path("text"), cluster.path("local"));
        fs::write(&input, &text).expect("a file");
        let here = Program::word_count().args(ARGS).args(["--local=2", "--input", &file_uri(&input)]);
        here.arg("--output").arg(&local).run().succeeded();
        let expected = Output::read(&local);
        Spot { cluster, expected, jobs: 0 }
    }

    /// Runs a job and has its task workers vanish.
    ///
    /// # Panics
    /// If its output is not that of the local run.
    pub fn run(&mut self, loss: Loss) -> Cost {
        self.jobs += 1;
        let (path, started) = (format!("/out-{}", self.jobs), Instant::now());
        let output = format!("dfs://{path}");
        let paths = ["--input", "dfs:///text", "--output", &output, "--shuffle", loss.shuffle];
        let job = self.cluster.submit("word_count", &[&ARGS[..], &paths[..]].concat());
        let done = if loss.lost == 0 { 0 } else { self.lose(&job, loss) };
        let ended = job.command("wait").start().end_within(PATIENCE);
        let wall = started.elapsed();
        assert!(ended.status.success(), "{loss:?}: {}", ended.stderr);
        let found = self.cluster.output(&path);
        assert!(found.parts == self.expected.parts, "{loss:?}: the output is not what one machine writes");
        (1..=loss.lost).for_each(|index| self.cluster.start_worker(index));
        self.cluster.wait_for_all_slots();
        self.cluster.client().delete(&path, true, true).expect("the output is ours");
        self.cost(&job, loss, wall, done)
    }

    /// Waits for the moment, and kills. Returns how many maps were done.
    fn lose(&mut self, job: &Job, loss: Loss) -> u64 {
        let mut done = 0;
        patiently_for(PATIENCE, "the moment", || {
            let stage = &job.status()["stages"][0];
            done = stage["done"].as_u64().expect("a number");
            done * 100 >= stage["tasks"].as_u64().expect("a number") * loss.percent
        });
        (1..=loss.lost).for_each(|index| self.cluster.kill_worker(index));
        done
    }

    fn cost(&self, job: &Job, loss: Loss, wall: Duration, done: u64) -> Cost {
        let status = job.status();
        let maps = status["stages"][0]["tasks"].as_u64().expect("a number");
        let tasks: Vec<Value> = job.tasks().into_iter().filter(|task| task["stage"] == 0).collect();
        let attempts = |task: &Value| task["attempts"].as_array().expect("a list").clone();
        let again = status["stages"][0]["lost_attempts"].as_u64().expect("a number");
        let core = self.cluster.worker_number(0);
        let elsewhere = tasks
            .iter()
            .map(attempts)
            .filter(|attempts| attempts.last().is_some_and(|winner| winner["worker"].as_u64() != Some(core)));
        let mean = status["report"]["shuffled_bytes"].as_u64().unwrap_or(0) / maps.max(1);
        let given_bytes = if loss.shuffle == "core" { elsewhere.count() as u64 * mean } else { 0 };
        Cost { loss, wall, done, maps, again, given_bytes }
    }
}
