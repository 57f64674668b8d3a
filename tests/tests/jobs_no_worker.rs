//! Clusters without workers, and with fewer than there were: jobs wait, and say for what.

use std::fs;
use std::time::{Duration, Instant};

use gristmill_tests::{Cluster, ClusterOptions, Job, file_uri, path_of};

fn reason(status: &serde_json::Value) -> &str {
    status["reason"].as_str().expect("a sentence")
}

#[test]
fn a_job_waits_for_the_first_worker_and_says_so() {
    let mut cluster = Cluster::with(ClusterOptions { workers: 1, ..Default::default() });
    cluster.wait_for_all_slots();
    cluster.put("/text", b"to be or not to be");
    let gate = cluster.path("gate");
    let args = ["--rows", "10", "--stuck", "--gate", &file_uri(&gate), "--output", "dfs:///out"];
    let job = cluster.submit("gated", &args);
    job.until("it to run", |status| status["stages"][0]["running"].as_u64() >= Some(1));
    cluster.kill_worker(0);
    let status = job.until("it to say what it waits for", |status| reason(status).contains("worker"));
    assert_eq!(status["state"], "RUNNING", "{status}");
    fs::write(&gate, "").expect("a gate");
    cluster.start_worker(0);
    job.done();
}

#[test]
fn a_job_finishes_on_workers_that_came_later() {
    let mut cluster = Cluster::with(ClusterOptions { workers: 2, task_workers: 1, ..Default::default() });
    cluster.wait_for_all_slots();
    let gate = cluster.path("gate");
    let args = ["--rows", "100000", "--stuck", "--gate", &file_uri(&gate), "--output", "dfs:///out"];
    let job = cluster.submit("gated", &[&args[..], &["--reducers", "2"]].concat());
    job.until("maps on all workers", |status| status["stages"][0]["running"].as_u64() >= Some(2));
    // All who began it go, one after the other; each comes back as another.
    for index in [2, 1, 0] {
        cluster.kill_worker(index);
        cluster.start_worker(index);
        cluster.wait_for_all_slots();
    }
    fs::write(&gate, "").expect("a gate");
    let status = job.done();
    assert_eq!(gristmill_tests::over_stages(&status, "failed_attempts"), 0, "{status}");
    assert_eq!(cluster.output("/out").sorted_lines().len(), 10);
}

/// A job whose maps wait for a gate, and that waits so long for workers.
fn patient(cluster: &Cluster, patience: &str, output: &str) -> Job {
    let submit = ["job", "submit", "--no-worker-timeout", patience];
    let submitted = cluster.gristmill().args(submit).arg(path_of("gated"));
    let gate = file_uri(&cluster.path("gate"));
    let args = ["--", "--rows", "10", "--stuck", "--gate", &gate, "--output", output];
    let job = cluster.known_job(submitted.args(args).run().succeeded().stdout.trim());
    job.until("it to run", |status| status["stages"][0]["running"].as_u64() >= Some(1));
    job
}

#[test]
fn a_job_whose_workers_are_all_gone_fails_after_the_time_that_it_was_given() {
    let mut cluster = Cluster::with(ClusterOptions { workers: 2, task_workers: 1, ..Default::default() });
    cluster.wait_for_all_slots();
    let job = patient(&cluster, "6s", "dfs:///out");
    let killed = Instant::now();
    (0..3).for_each(|index| cluster.kill_worker(index));
    let waits =
        job.until("it to say what it waits for", |status| reason(status).contains("waits for a worker"));
    assert!(reason(&waits).contains("it fails after 6 s without one"), "{waits}");
    let sentence = job.failed();
    assert!(
        sentence.contains("no worker was there to run its tasks for 6 s (--no-worker-timeout)"),
        "{sentence}"
    );
    let took = killed.elapsed();
    assert!(took >= Duration::from_secs(6), "it failed after {took:?}, before its time");
    assert_eq!(cluster.names_in("/out"), [""; 0]);
    // The cluster is not the worse for it.
    cluster.start_worker(0);
    fs::write(cluster.path("gate"), "").expect("a gate");
    let gate = file_uri(&cluster.path("gate"));
    cluster.submit("gated", &["--rows", "10", "--gate", &gate, "--output", "dfs:///next"]).done();
}

#[test]
fn a_worker_that_comes_back_within_the_time_lets_the_job_end_well() {
    let mut cluster = Cluster::with(ClusterOptions { workers: 1, ..Default::default() });
    cluster.wait_for_all_slots();
    let job = patient(&cluster, "10m", "dfs:///out");
    cluster.kill_worker(0);
    job.until("it to say for how long it waits", |status| reason(status).contains("after 600 s without one"));
    fs::write(cluster.path("gate"), "").expect("a gate");
    cluster.start_worker(0);
    let status = job.done();
    assert_eq!(reason(&status), "", "it waits for nothing any more");
    assert_eq!(gristmill_tests::over_stages(&status, "failed_attempts"), 0, "{status}");
}

#[test]
fn a_time_that_makes_no_sense_is_refused_before_anything_is_submitted() {
    let cluster = Cluster::with(ClusterOptions { workers: 1, ..Default::default() });
    for (flag, wrong) in [("--no-worker-timeout", "soon"), ("--no-progress-timeout", "10")] {
        let submit = ["job", "submit", flag, wrong];
        let refused = cluster.gristmill().args(submit).arg(path_of("gated"));
        let refused = refused.args(["--", "--rows", "1", "--gate", "g", "--output", "dfs:///out"]).run();
        assert!(
            !refused.status.success() && refused.stderr.contains("as in 90s or 10m"),
            "{}",
            refused.stderr
        );
    }
    let listed = cluster.gristmill().args(["job", "list", "--all", "--json"]).run().succeeded();
    assert_eq!(listed.stdout, "");
}
