//! A map that runs again gives other outputs, after some have read the former ones: what the job writes is no mixture.

use std::fs;
use std::path::Path;

use gristmill_tests::{Cluster, ClusterOptions, file_uri};
use serde_json::Value;

/// Spark once made 931,532 of so many rows: it had scattered them in turn, and a worker was lost. Here chance scatters
/// them, because a turn that begins anew may by chance be the former one, one time in four.
const ROWS: u64 = 1_000_000;

fn stage(status: &Value, number: usize, what: &str) -> u64 {
    status["stages"][number][what].as_u64().expect("a number")
}

fn put_tokens(tokens: &Path, names: std::ops::Range<u32>) {
    for name in names {
        fs::write(tokens.join(name.to_string()), "").expect("a token");
    }
}

#[test]
fn rows_scattered_by_chance_are_all_there_once_though_a_worker_is_lost_between_two_reduces() {
    let mut cluster = Cluster::with(ClusterOptions {
        workers: 2,
        master_args: vec!["--replication=2"],
        ..ClusterOptions::default()
    });
    cluster.wait_for_all_slots();
    let tokens = cluster.path("tokens");
    fs::create_dir(&tokens).expect("a directory");
    let (rows, place) = (ROWS.to_string(), file_uri(&tokens));
    let args = ["--rows", &rows, "--tokens", &place, "--output", "dfs:///out", "--reducers", "4"];
    let job = cluster.submit("fickle", &args);

    // One reduce is done; the others have read, or will.
    job.until("maps to be done", |status| stage(status, 0, "done") == stage(status, 0, "tasks"));
    let workers: Vec<u64> = (0..2).map(|index| cluster.worker_number(index)).collect();
    let maps = job.tasks();
    let held = |worker: u64| {
        let of = |task: &&Value| task["stage"] == 0 && task["attempts"][0]["worker"] == worker;
        maps.iter().filter(of).count()
    };
    let victim = usize::from(held(workers[1]) > 0);
    assert!(held(workers[victim]) > 0, "whoever is lost takes map outputs along: {maps:?}");
    put_tokens(&tokens, 0..1);
    job.until("a reduce to be done", |status| stage(status, 1, "done") == 1);

    cluster.kill_worker(victim);
    job.until("map outputs to be lost", |status| stage(status, 0, "lost_attempts") > 0);
    job.until("them to be made again", |status| stage(status, 0, "done") == stage(status, 0, "tasks"));
    let status = job.status();
    assert_eq!(stage(&status, 1, "done"), 0, "the reduce that was done has read what is no more: {status}");
    put_tokens(&tokens, 1..100);
    let status = job.done();
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("not deterministic"), "{warnings}");

    let output = cluster.output("/out");
    let counts = output.counts();
    let mut found: Vec<u64> = counts
        .iter()
        .flatten()
        .map(|(row, count)| {
            assert_eq!(*count, 1, "{row:?} is there twice");
            std::str::from_utf8(row).expect("digits").parse().expect("a row")
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found.len() as u64, ROWS);
    assert!(found.into_iter().eq(0..ROWS), "every row is there once");
}
