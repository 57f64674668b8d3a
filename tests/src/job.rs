//! Jobs on a cluster, as users run and watch them.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gristmill_dfs::client::CreateOptions;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::output::Output;
use crate::patience::{patiently, patiently_for};
use crate::program::{Ended, Program, path_of};

/// A job takes longer than a look at a cluster, on a machine that builds and tests at the same time.
const PATIENCE: Duration = Duration::from_secs(120);

impl Cluster {
    /// `gristmill` with this cluster's master and secret, to be given a command.
    pub fn gristmill(&self) -> Program {
        self.reached_by(Program::gristmill())
    }

    /// A job program as its own driver.
    pub fn drive(&self, job: &str) -> Program {
        self.reached_by(Program::job(job)).args(["--master", self.master()])
    }

    /// Any program, told of this cluster.
    pub fn reached_by(&self, program: Program) -> Program {
        let program = program.env("GRISTMILL_MASTER", self.master());
        match self.secret_file() {
            Some(file) => program.env("GRISTMILL_SECRET_FILE", file),
            None => program,
        }
    }

    /// Submits a job with the command for it, and leaves it to the cluster.
    #[track_caller]
    pub fn submit(&self, job: &str, args: &[&str]) -> Job {
        let command = self.gristmill().args(["job", "submit"]).arg(path_of(job)).arg("--").args(args);
        let said = command.run().succeeded().stdout;
        self.known_job(said.trim())
    }

    /// A job that was submitted before.
    pub fn known_job(&self, id: &str) -> Job {
        let (master, secret_file) = (self.master().to_owned(), self.secret_file());
        Job { id: id.to_owned(), master, secret_file }
    }

    /// What `gristmill cluster describe` says.
    #[track_caller]
    pub fn describe(&self) -> Value {
        json(&self.gristmill().args(["cluster", "describe", "--json"]).run().succeeded().stdout)
    }

    /// The master's number of a worker.
    #[track_caller]
    pub fn worker_number(&self, index: usize) -> u64 {
        let (pid, described) = (self.worker_id(index), self.describe());
        let workers = described["workers"].as_array().expect("a list");
        let worker = workers.iter().find(|worker| worker["pid"] == pid).expect("it is registered");
        worker["worker"].as_u64().expect("a number")
    }

    /// Waits until `count` workers offer slots.
    #[track_caller]
    pub fn wait_for_slots_of(&self, count: usize) {
        patiently(&format!("{count} workers with slots"), || {
            let described = self.describe();
            let workers = described["workers"].as_array().expect("a list");
            workers.iter().filter(|worker| worker["state"] == "live").count() == count
        });
    }

    /// Waits until all workers of the cluster offer slots.
    #[track_caller]
    pub fn wait_for_all_slots(&self) {
        self.wait_for_slots_of(self.worker_count());
    }

    /// Writes a file of dfs://.
    #[track_caller]
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let client = self.client();
        if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            client.make_directory(parent, true, 0o755).expect("a directory");
        }
        let mut writer = client.create(path, CreateOptions::default()).expect("a file");
        writer.write_all(bytes).expect("the bytes are taken");
        writer.finish().expect("the file is whole");
    }

    /// Reads a file of dfs://.
    #[track_caller]
    pub fn get(&self, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.client().open(path).expect("the file").read_to_end(&mut bytes).expect("its bytes");
        bytes
    }

    /// Reads a committed output of dfs://, by way of a directory of this story that does not exist yet.
    #[track_caller]
    pub fn output(&self, path: &str) -> Output {
        let copy = self.path(&format!("copy-of{}", path.replace('/', "-")));
        self.fs().args(["-get", path]).arg(&copy).run().succeeded();
        let output = Output::read(&copy);
        std::fs::remove_dir_all(&copy).expect("our own copy");
        output
    }

    /// The names in a directory of dfs://, sorted; nothing if there is none.
    pub fn names_in(&self, path: &str) -> Vec<String> {
        let listed = self.fs().args(["-ls", "--json", path]).run();
        let mut names: Vec<String> = listed
            .stdout
            .lines()
            .map(|line| json(line)["path"].as_str().expect("a path").to_owned())
            .collect();
        names.sort();
        names
    }
}

/// A job that was submitted. It outlives whoever looks at it.
#[derive(Clone, Debug)]
pub struct Job {
    /// As it is displayed.
    pub id: String,
    master: String,
    secret_file: Option<PathBuf>,
}

impl Job {
    /// The job of this id at this master.
    pub fn at(id: &str, master: &str, secret_file: Option<PathBuf>) -> Job {
        Job { id: id.to_owned(), master: master.to_owned(), secret_file }
    }

    /// `gristmill job COMMAND` with the id of this job, to be given more arguments.
    pub fn command(&self, command: &str) -> Program {
        let program = Program::gristmill().args(["job", command, &self.id]);
        let program = program.env("GRISTMILL_MASTER", &self.master);
        match &self.secret_file {
            Some(file) => program.env("GRISTMILL_SECRET_FILE", file),
            None => program,
        }
    }

    /// What `status --json` says.
    #[track_caller]
    pub fn status(&self) -> Value {
        json(&self.command("status").arg("--json").run().succeeded().stdout)
    }

    /// What `tasks --json` says: tasks of all stages.
    #[track_caller]
    pub fn tasks(&self) -> Vec<Value> {
        self.command("tasks").arg("--json").run().succeeded().stdout.lines().map(json).collect()
    }

    /// Workers on which attempts at a stage are running.
    #[track_caller]
    pub fn workers_running(&self, stage: u64) -> Vec<u64> {
        let mut workers = Vec::new();
        for task in self.tasks().iter().filter(|task| task["stage"] == stage) {
            let attempts = task["attempts"].as_array().expect("a list");
            let running = attempts.iter().filter(|attempt| attempt["state"] == "running");
            workers.extend(running.map(|attempt| attempt["worker"].as_u64().expect("a number")));
        }
        workers
    }

    /// Waits until the status is so.
    #[track_caller]
    pub fn until(&self, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let mut status = Value::Null;
        patiently_for(PATIENCE, what, || {
            status = self.status();
            let ended = ["DONE", "FAILED", "KILLED"].iter().any(|end| status["state"] == *end);
            let holds = holds(&status);
            assert!(holds || !ended, "the job ended before {what}: {status}");
            holds
        });
        status
    }

    /// Waits for the end, as `gristmill job wait` does.
    pub fn wait(&self) -> Ended {
        self.command("wait").start().end_within(PATIENCE)
    }

    /// Waits for the end, which must be good. Returns the status.
    #[track_caller]
    pub fn done(&self) -> Value {
        let ended = self.wait();
        assert!(ended.status.success(), "{}\n{}", ended.stderr, self.status());
        let status = self.status();
        assert_eq!(status["state"], "DONE", "{status}");
        status
    }

    /// Waits for the end, which must not be good. Returns the reason.
    #[track_caller]
    pub fn failed(&self) -> String {
        let ended = self.wait();
        assert_eq!(ended.status.code(), Some(1), "{}\n{}", ended.stdout, self.status());
        let status = self.status();
        assert_eq!(status["state"], "FAILED", "{status}");
        let reason = status["reason"].as_str().expect("a sentence").to_owned();
        assert!(ended.stderr.contains(&reason), "{reason:?} is what `wait` says, too: {}", ended.stderr);
        reason
    }
}

/// Sum of a number over the stages of a job's status.
pub fn over_stages(status: &Value, number: &str) -> u64 {
    let stages = status["stages"].as_array().expect("a list").iter();
    stages.map(|stage| stage[number].as_u64().expect("a number")).sum()
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// A place of this machine as a job program takes it.
pub fn file_uri(path: &Path) -> String {
    path.to_str().expect("temporary directories have plain names").to_owned()
}
