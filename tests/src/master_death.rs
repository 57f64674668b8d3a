//! The master is killed in the middle of a job, over a namespace of many files: what is done again, and how soon there
//! is an answer.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use gristmill_dfs::client::CreateOptions;
use serde_json::Value;

use crate::mishap::{ARGS, Octet, PATIENCE};
use crate::patience::patiently_for;

/// Clients that make the files together: the master commits in groups.
const CLIENTS: usize = 16;
/// Files of a directory.
const FILES_OF_DIRECTORY: usize = 1_000;

/// What it cost. Times are from the moment of the kill; another master is started at once.
pub struct MasterDeath {
    /// In the namespace, beside the job's.
    pub files: usize,
    /// Tasks that were done.
    pub finished: usize,
    /// Those of them that ran again.
    pub run_again: usize,
    /// Until a client of the file system was answered.
    pub stat: Duration,
    /// Until somebody was told how the job stands.
    pub status: Duration,
}

impl MasterDeath {
    /// The head of a table.
    pub const HEAD: &str = "| files | tasks finished | of these run again | a `stat` answered after | the job's status after |\n\
                            |---|---|---|---|---|";
}

impl fmt::Display for MasterDeath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MasterDeath { files, finished, run_again, stat, status } = self;
        let (stat, status) = (stat.as_secs_f64(), status.as_secs_f64());
        write!(f, "| {files} | {finished} | {run_again} | {stat:.2} s | {status:.2} s |")
    }
}

impl Octet {
    /// Makes so many files, which are empty.
    pub fn fill(&self, files: usize) {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                scope.spawn(move || self.make_files((client..files).step_by(CLIENTS)));
            }
        });
    }

    fn make_files(&self, numbers: impl Iterator<Item = usize>) {
        let client = self.cluster.client();
        let options = CreateOptions { parents: true, ..CreateOptions::default() };
        for number in numbers {
            let path = format!("/many/{}/{number}", number / FILES_OF_DIRECTORY);
            let writer = client.create(&path, options).expect("a file");
            writer.finish().expect("an empty file is whole");
        }
    }

    /// Runs a job whose master is killed with half of the maps done.
    ///
    /// # Panics
    /// If its output is not that of the local run.
    pub fn kill_master(&mut self, files: usize) -> MasterDeath {
        let path = "/out-of-two-masters";
        let output = format!("dfs://{path}");
        let paths = ["--input", "dfs:///text", "--output", &output, "--split-size", &self.split_size];
        let job = self.cluster.submit("word_count", &[&ARGS[..], &paths[..]].concat());
        patiently_for(PATIENCE, "half of the maps", || {
            let maps = &job.status()["stages"][0];
            let count = |what: &str| maps[what].as_u64().expect("a number");
            count("done") * 2 >= count("tasks")
        });
        let client = self.cluster.client();
        let done: Vec<Value> = job.tasks().into_iter().filter(|task| task["state"] == "done").collect();
        self.cluster.kill_master();
        let killed = Instant::now();
        let (stat, status) = thread::scope(|scope| {
            let stat = scope.spawn(|| {
                patiently_for(PATIENCE, "the namespace to answer", || client.stat("/text").is_ok());
                killed.elapsed()
            });
            self.cluster.start_master();
            let answers = || job.command("status").arg("--json").run().status.success();
            patiently_for(PATIENCE, "the job's status", answers);
            let status = killed.elapsed();
            (stat.join().expect("a client does not panic"), status)
        });
        let ended = job.command("wait").start().end_within(PATIENCE);
        assert!(ended.status.success(), "{}", ended.stderr);
        let found = self.cluster.output(path);
        assert!(found.parts == self.expected.parts, "the output is not what one machine writes");
        let after = job.tasks();
        let attempts = |task: &Value| task["attempts"].as_array().map_or(0, Vec::len);
        let is_same =
            |one: &Value, other: &Value| ["stage", "task"].iter().all(|key| one[*key] == other[*key]);
        // A job that has ended keeps all tasks of more than one attempt, up to a hundred.
        let ran_again = |task: &&Value| {
            after.iter().any(|later| is_same(later, task) && attempts(later) > attempts(task))
        };
        let run_again = done.iter().filter(ran_again).count();
        self.cluster.client().delete(path, true, true).expect("the output is ours");
        MasterDeath { files, finished: done.len(), run_again, stat, status }
    }
}
