//! Workers die at every moment of a job: it ends well all the same, and writes the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use gristmill_tests::{Cluster, ClusterOptions, Job, Output, Program, corpus, file_uri, over_stages};
use serde_json::Value;

/// Enough for a map task on each worker.
const ROWS: u64 = 100_000;

/// Two core workers, each with all blocks: whoever dies takes no block along.
fn two_copies(workers: usize, task_workers: usize) -> Cluster {
    with_two_copies(ClusterOptions { workers, task_workers, ..Default::default() })
}

fn with_two_copies(options: ClusterOptions) -> Cluster {
    let master_args = [&["--replication=2"][..], &options.master_args].concat();
    let cluster = Cluster::with(ClusterOptions { master_args, ..options });
    cluster.wait_for_all_slots();
    cluster
}

/// A job that waits in its maps, or in its reduces, until a gate opens.
struct Gated {
    job: Job,
    maps: PathBuf,
    reduces: PathBuf,
}

fn gated(cluster: &Cluster) -> Gated {
    let (maps, reduces) = (cluster.path("maps"), cluster.path("reduces"));
    let rows = ROWS.to_string();
    let args = ["--rows", &rows, "--stuck", "--gate", &file_uri(&maps), "--reduce-gate", &file_uri(&reduces)];
    let job = cluster.submit("gated", &[&args[..], &["--output", "dfs:///out", "--reducers", "2"]].concat());
    Gated { job, maps, reduces }
}

impl Gated {
    fn open(gate: &PathBuf) {
        fs::write(gate, "").expect("a gate");
    }

    /// The counts of the last digits, of which each number has one.
    #[track_caller]
    fn is_right(&self, cluster: &Cluster) -> Value {
        let status = self.job.done();
        let output = cluster.output("/out");
        let counts: Vec<(Vec<u8>, u64)> =
            output.counts().into_iter().flatten().map(|(key, count)| (key.to_vec(), count)).collect();
        let found: BTreeMap<Vec<u8>, u64> = counts.into_iter().collect();
        let expected = (0..10).map(|digit: u64| (digit.to_string().into_bytes(), ROWS / 10));
        assert_eq!(found, expected.collect());
        status
    }
}

fn stage(status: &Value, number: usize, what: &str) -> u64 {
    status["stages"][number][what].as_u64().expect("a number")
}

/// The number by which a story knows the worker that the master calls so.
fn index_of(cluster: &Cluster, worker: u64) -> usize {
    let numbers: Vec<u64> = (0..cluster.worker_count()).map(|index| cluster.worker_number(index)).collect();
    numbers.iter().position(|&number| number == worker).expect("a worker of this cluster")
}

#[test]
fn in_the_maps() {
    let mut cluster = two_copies(2, 0);
    let gated = gated(&cluster);
    gated.job.until("a map on each worker", |status| stage(status, 0, "running") == 2);
    cluster.kill_worker(0);
    gated.job.until("the loss to be noticed", |status| stage(status, 0, "lost_attempts") >= 1);
    Gated::open(&gated.maps);
    Gated::open(&gated.reduces);
    let status = gated.is_right(&cluster);
    assert_eq!(over_stages(&status, "failed_attempts"), 0, "who dies has not failed: {status}");
}

#[test]
fn with_map_outputs_that_reduces_still_need() {
    let mut cluster = two_copies(2, 0);
    let gated = gated(&cluster);
    gated.job.until("the maps to run", |status| stage(status, 0, "running") == 2);
    Gated::open(&gated.maps);
    let running = |status: &Value| stage(status, 0, "done") >= 2 && stage(status, 1, "running") >= 1;
    gated.job.until("a reduce to run", running);
    // The one without the reduce that waits: its map outputs are gone, and so, perhaps, is the other reduce.
    let reducing = gated.job.workers_running(1);
    let victim = index_of(&cluster, *reducing.last().expect("a reduce runs"));
    cluster.kill_worker(victim);
    gated.job.until("the loss to be noticed", |status| over_stages(status, "lost_attempts") >= 1);
    Gated::open(&gated.reduces);
    let status = gated.is_right(&cluster);
    assert_eq!(over_stages(&status, "failed_attempts"), 0, "{status}");
}

#[test]
fn a_task_worker_takes_only_what_it_was_running() {
    let mut cluster = two_copies(1, 2);
    let gated = gated(&cluster);
    gated.job.until("maps on all workers", |status| stage(status, 0, "running") >= 2);
    Gated::open(&gated.maps);
    let maps = stage(&gated.job.status(), 0, "tasks");
    gated.job.until("all maps to be done", |status| stage(status, 0, "done") == maps);
    for index in [1, 2] {
        cluster.kill_worker(index);
    }
    cluster.wait_for_slots_of(1);
    Gated::open(&gated.reduces);
    let status = gated.is_right(&cluster);
    assert_eq!(stage(&status, 0, "lost_attempts"), 0, "every map output was on the core worker: {status}");
}

#[test]
fn a_paused_worker_is_a_lost_one_and_what_it_says_later_counts_for_nothing() {
    let cluster = two_copies(2, 0);
    let gated = gated(&cluster);
    gated.job.until("a map on each worker", |status| stage(status, 0, "running") == 2);
    cluster.pause_worker(0);
    gated.job.until("the loss to be noticed", |status| stage(status, 0, "lost_attempts") >= 1);
    Gated::open(&gated.maps);
    gated.job.until("all maps to be done", |status| stage(status, 0, "done") == stage(status, 0, "tasks"));
    cluster.resume_worker(0);
    cluster.wait_for_slots_of(2);
    Gated::open(&gated.reduces);
    gated.is_right(&cluster);
}

#[test]
fn at_any_moment_of_a_job() {
    // Whoever else is given up too early changes nothing here, and there are eleven losses to be noticed.
    let master_args = vec!["--worker-lost-ms=2000"];
    let worker_args = vec!["--lease-ms=2000"];
    let options = ClusterOptions { workers: 3, master_args, worker_args, ..Default::default() };
    let mut cluster = with_two_copies(options);
    let text = corpus(400_000, 3);
    cluster.put("/text", &text);
    let input = cluster.path("text");
    fs::write(&input, &text).expect("a file");
    let local = cluster.path("local");
    let args = ["--reducers", "3", "--split-size", "64KiB"];
    let here = Program::word_count().args(args).arg("--input").arg(&input).arg("--output").arg(&local);
    here.run().succeeded();
    let expected = Output::read(&local).sorted_lines();

    // Seven maps and three reduces: from before the first to after the last, which is the commit.
    for moment in 0..=10 {
        let output = format!("dfs:///out-{moment}");
        let paths = ["--input", "dfs:///text", "--output", &output];
        let job = cluster.submit("word_count", &[&args[..], &paths[..]].concat());
        let victim = moment % 3;
        let mut reached = 0;
        // It may be over before anybody has looked: that is a moment, too.
        gristmill_tests::patiently("the moment", || {
            let status = job.status();
            reached = over_stages(&status, "done");
            reached >= moment as u64 || status["state"] == "DONE"
        });
        cluster.kill_worker(victim);
        job.done();
        cluster.start_worker(victim);
        cluster.wait_for_all_slots();
        cluster.wait_for_workers(3);
        let found = cluster.output(&format!("/out-{moment}")).sorted_lines();
        assert!(found == expected, "killed when {reached} tasks were done (wanted {moment})");
    }
}

#[test]
fn a_worker_that_is_drained_loses_nothing() {
    let mut cluster = two_copies(2, 0);
    let gated = gated(&cluster);
    gated.job.until("a map on each worker", |status| stage(status, 0, "running") == 2);
    let number = cluster.worker_number(0).to_string();
    let drain = cluster.gristmill().args(["cluster", "drain", &number, "--wait"]).start();
    let draining = |value: &Value| value["state"] == "draining" || value["state"] == "drained";
    gristmill_tests::patiently("the worker to be draining", || {
        cluster.describe()["workers"].as_array().expect("a list").iter().any(draining)
    });
    Gated::open(&gated.maps);
    Gated::open(&gated.reduces);
    let status = gated.is_right(&cluster);
    let ended = drain.end().succeeded();
    assert!(ended.stdout.contains("is drained"), "{}", ended.stdout);
    assert_eq!(
        over_stages(&status, "lost_attempts") + over_stages(&status, "failed_attempts"),
        0,
        "{status}"
    );
    cluster.kill_worker(0);
}
