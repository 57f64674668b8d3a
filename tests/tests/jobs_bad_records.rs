//! Records that end every attempt which comes to them: they are found, and skipped where the author allows it.

use gristmill_tests::{Cluster, ClusterOptions, Job, over_stages};

/// Lines of the input: two of them, in different places, end the process of whoever maps them.
const LINES: usize = 10_000;
const DEADLY: [usize; 2] = [1_234, 7_000];

fn cluster() -> Cluster {
    let cluster = Cluster::with(ClusterOptions { workers: 2, ..ClusterOptions::default() });
    cluster.wait_for_all_slots();
    let line =
        |number: usize| if DEADLY.contains(&number) { format!("bad {number}") } else { format!("{number}") };
    let text: Vec<String> = (0..LINES).map(line).collect();
    cluster.put("/lines", text.join("\n").as_bytes());
    cluster
}

fn submit(cluster: &Cluster, output: &str, skip: &[&str]) -> Job {
    let args = ["--fault", "abort", "--input", "dfs:///lines", "--output", output, "--reducers", "2"];
    cluster.submit("faulty", &[&args[..], skip].concat())
}

#[test]
fn they_are_skipped_and_kept_aside_and_the_rest_is_as_it_should_be() {
    let cluster = cluster();
    let job = submit(&cluster, "dfs:///out", &["--skip", "2"]);
    let status = job.done();
    // One attempt that was not careful, two that proved each record; the sixth is told of both and goes through.
    assert_eq!(status["stages"][0]["failed_attempts"], 5, "{status}");

    let parts = ["/out/part-r-00000", "/out/part-r-00001"].map(|part| cluster.get(part));
    let text = String::from_utf8(parts.concat()).expect("text");
    let mut numbers: Vec<usize> = text
        .lines()
        .map(|line| line.strip_suffix("\t1").expect("each line occurs once").parse().expect("a number"))
        .collect();
    numbers.sort_unstable();
    let expected: Vec<usize> = (0..LINES).filter(|number| !DEADLY.contains(number)).collect();
    assert!(numbers == expected, "all lines but two: {} of {LINES}", numbers.len());

    let manifest: serde_json::Value = serde_json::from_slice(&cluster.get("/out/_SUCCESS")).expect("JSON");
    assert_eq!(manifest["bad_records"], 2, "{manifest}");
    let aside = cluster.names_in("/out/_skipped");
    let [aside] = &aside[..] else { panic!("one task has skipped something: {aside:?}") };
    let aside = aside.find("/out/").map(|at| &aside[at..]).expect("a path");
    let kept = String::from_utf8(cluster.get(aside)).expect("text");
    let kept: Vec<&str> =
        kept.lines().map(|line| line.split_once('\t').expect("place, TAB, record").1).collect();
    assert_eq!(kept, DEADLY.map(|number| format!("bad {number}")));
}

#[test]
fn one_more_than_is_allowed_fails_the_job_and_names_its_place() {
    let cluster = cluster();
    let reason = submit(&cluster, "dfs:///out", &["--skip", "1"]).failed();
    assert!(reason.contains("more than 1 bad records") && reason.contains("/lines"), "{reason}");
    assert!(cluster.names_in("/out").is_empty());
}

#[test]
fn where_none_may_be_skipped_the_record_is_named_and_four_attempts_are_all() {
    let cluster = cluster();
    let job = submit(&cluster, "dfs:///out", &[]);
    let reason = job.failed();
    // The first line is record 1.
    assert!(reason.contains("at record 1235 of the task's input"), "{reason}");
    assert_eq!(over_stages(&job.status(), "failed_attempts"), 4, "{reason}");
}
