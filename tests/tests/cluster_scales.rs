//! Task workers come when tasks wait, go when they are idle, and get their notice when they are to vanish.

use std::fs;

use gristmill_tests::{Clusters, Job, Program, path_of, patiently};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A cluster of the story's own, and what it is asked.
struct Story {
    clusters: Clusters,
    made: Value,
}

impl Story {
    fn new(args: &[&str]) -> Story {
        let clusters = Clusters::default();
        let made = clusters.create(&[&["--name", "one", "--core", "1", "--slots", "1"], args].concat());
        Story { clusters, made }
    }

    fn master(&self) -> &str {
        self.made["master"].as_str().expect("an address")
    }

    /// A job of seven map tasks, none of which gets anywhere before the gate is there.
    fn submit(&self, gate: &str) -> Job {
        let gate = self.clusters.path(gate).display().to_string();
        let command = Program::gristmill().env("GRISTMILL_MASTER", self.master());
        let command = command.args(["job", "submit"]).arg(path_of("gated")).arg("--");
        let command = command.args(["--rows", ROWS, "--stuck", "--gate", &gate, "--output", "dfs:///out"]);
        Job::at(command.run().succeeded().stdout.trim(), self.master(), None)
    }

    fn open(&self, gate: &str) {
        fs::write(self.clusters.path(gate), "").expect("a gate");
    }

    /// The states of the task workers, as the master sees them.
    fn task_workers(&self) -> Vec<Value> {
        let described = self.clusters.command(&["describe", "--json", "one"]).run().succeeded().stdout;
        let described: Value = serde_json::from_str(described.trim()).expect("JSON");
        let workers = described["workers"].as_array().expect("a list").iter();
        workers.filter(|worker| worker["role"] == "task").cloned().collect()
    }

    fn live_task_workers(&self) -> usize {
        self.task_workers().iter().filter(|worker| worker["state"] == "live").count()
    }

    /// The members of the record that are task workers.
    fn task_members(&self) -> usize {
        let listed = self.clusters.command(&["list", "--json"]).run().succeeded().stdout;
        let listed: Value = serde_json::from_str(listed.trim()).expect("JSON");
        let members = listed["processes"].as_array().expect("a list").iter();
        members.filter(|member| member["role"].as_str().is_some_and(|role| role.starts_with("task-"))).count()
    }

    fn end(&self) {
        self.clusters.command(&["terminate", "one"]).run().succeeded();
        patiently("the custodian to go", || {
            gristmill_tests::processes_of(&self.clusters.path("state")).is_empty()
        });
        self.clusters.is_empty(&[self.master().to_owned()]);
    }
}

/// Seven splits: a map task has 640 Ki numbers at most.
const ROWS: &str = "4000000";

#[test]
fn task_workers_come_when_tasks_wait_and_go_when_they_are_idle() {
    let story = Story::new(&["--max-task", "2", "--task-idle-timeout", "1s"]);
    assert_eq!(story.task_members(), 0);
    let job = story.submit("gate");
    // The core worker's one slot is taken by a task that waits for its gate: so the others wait for a slot.
    patiently("both task workers to come", || story.live_task_workers() == 2);
    assert_eq!(job.workers_running(0).len(), 3, "all three workers run one");
    story.open("gate");
    job.done();
    patiently("both task workers to go", || story.task_members() == 0);
    story.end();
}

#[test]
fn a_worker_that_is_to_vanish_finishes_what_it_has_and_takes_nothing_new() {
    let story = Story::new(&["--task", "1", "--notice-ms", "240000"]);
    let job = story.submit("gate");
    patiently("both workers to run a task", || job.workers_running(0).len() == 2);
    let worker = story.task_workers()[0].clone();
    let pid = Pid::from_raw(worker["pid"].as_i64().expect("a number") as i32).expect("a process");
    kill_process(pid, Signal::TERM).expect("it is there");
    patiently("the master to hear of it", || story.task_workers()[0]["state"] == "draining");
    assert_eq!(job.workers_running(0).len(), 2, "its task goes on");
    story.open("gate");
    job.done();
    patiently("its process to end", || rustix::process::test_kill_process(pid).is_err());
    let stage = &job.status()["stages"][0];
    assert_eq!(
        (&stage["failed_attempts"], &stage["lost_attempts"]),
        (&0.into(), &0.into()),
        "nothing was lost"
    );
    // Of seven tasks it has done the one that it had.
    let mut its_tasks = 0;
    for task in job.tasks().iter().filter(|task| task["stage"] == 0) {
        let attempts = task["attempts"].as_array().expect("a list").iter();
        its_tasks += attempts.filter(|attempt| attempt["worker"] == worker["worker"]).count();
    }
    assert_eq!(its_tasks, 1);
    story.end();
}

#[test]
fn a_worker_is_gone_when_its_notice_is_over() {
    let story = Story::new(&["--task", "1", "--notice-ms", "500"]);
    let job = story.submit("gate");
    patiently("both workers to run a task", || job.workers_running(0).len() == 2);
    let pid = story.task_workers()[0]["pid"].as_i64().expect("a number") as i32;
    let pid = Pid::from_raw(pid).expect("a process");
    kill_process(pid, Signal::TERM).expect("it is there");
    // The gate is closed: no task ends by itself.
    patiently("its process to end", || rustix::process::test_kill_process(pid).is_err());
    story.open("gate");
    let status = job.done();
    assert_eq!(status["stages"][0]["failed_attempts"], 0, "it is not the task's fault");
    story.end();
}
