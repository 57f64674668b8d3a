//! A worker is far slower than the others: its attempt gets a twin, and the job does not wait for it.

use std::fs;

use gristmill_tests::{Cluster, ClusterOptions, children_of, file_uri, patiently, state_of};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Enough for a map task on each worker.
const ROWS: u64 = 100_000;

fn stage(status: &Value, number: usize, what: &str) -> u64 {
    status["stages"][number][what].as_u64().expect("a number")
}

#[test]
fn the_twin_of_an_attempt_that_stands_still_wins() {
    let cluster = Cluster::with(ClusterOptions {
        workers: 3,
        // Half a second behind is enough here: what stands still would be behind any number.
        master_args: vec!["--replication=2", "--straggler-behind-ms=500"],
        ..ClusterOptions::default()
    });
    cluster.wait_for_all_slots();
    let (gate, rows) = (cluster.path("gate"), ROWS.to_string());
    let place = file_uri(&gate);
    let args = ["--rows", &rows, "--stuck", "--gate", &place, "--output", "dfs:///out", "--reducers", "2"];
    let job = cluster.submit("gated", &args);
    job.until("a map on each worker", |status| stage(status, 0, "running") == 3);

    // The worker lives and beats; what it runs stands still.
    let slow = cluster.worker_number(0);
    let mut attempts = Vec::new();
    patiently("the attempt to be a process", || {
        attempts = children_of(cluster.worker_id(0));
        attempts.len() == 1
    });
    let attempt = Pid::from_raw(attempts[0] as i32).expect("a process has a number");
    kill_process(attempt, Signal::STOP).expect("it is ours");
    patiently("it to stand still", || state_of(attempts[0]) == Some('T'));
    fs::write(&gate, "").expect("a gate");

    let status = job.done();
    assert!(stage(&status, 0, "twins_won") >= 1, "{status}");
    assert_eq!(stage(&status, 0, "failed_attempts") + stage(&status, 0, "lost_attempts"), 0, "{status}");
    let tasks = job.tasks();
    let all = || tasks.iter().flat_map(|task| task["attempts"].as_array().expect("a list"));
    let overtaken = all().find(|attempt| attempt["state"] == "killed").expect("one was stopped");
    assert_eq!(overtaken["worker"], slow, "the one that stood still: {tasks:?}");
    assert_eq!(overtaken["reason"], "another attempt has done the task");
    let twin = all().find(|attempt| attempt["twin"] == true).expect("a twin");
    assert!(twin["state"] == "done" && twin["worker"] != slow, "{tasks:?}");

    let output = cluster.output("/out");
    let counts = output.counts();
    let mut found: Vec<(&[u8], u64)> = counts.into_iter().flatten().collect();
    found.sort_unstable();
    let digits: Vec<String> = (0..10).map(|digit: u64| digit.to_string()).collect();
    let expected: Vec<(&[u8], u64)> = digits.iter().map(|digit| (digit.as_bytes(), ROWS / 10)).collect();
    assert_eq!(found, expected, "each row is counted once");
    patiently("what stood still to be gone", || state_of(attempts[0]).is_none_or(|state| state != 'T'));
    let described = cluster.describe();
    let workers = described["workers"].as_array().expect("a list");
    let worker = workers.iter().find(|worker| worker["worker"] == slow).expect("it lives");
    assert!(worker["slow_attempts"].as_u64() >= Some(1), "it is known to be slow: {described}");
}
