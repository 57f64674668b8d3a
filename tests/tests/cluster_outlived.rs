//! What jobs of a cluster did, and what their attempts printed, is there when the cluster is not.

use std::fs;

use gristmill_tests::{Clusters, path_of};
use serde_json::Value;

#[test]
fn what_jobs_did_and_what_attempts_printed_outlives_their_cluster() {
    let clusters = Clusters::default();
    let (logs, text) = (clusters.path("logs"), clusters.path("text"));
    fs::write(&text, "to be or not to be\n").expect("a file");
    let unruly = path_of("unruly").display().to_string();
    let word_count = path_of("word_count").display().to_string();
    let steps = [
        format!("{unruly} --fault panic --output dfs:///out --max-attempts 2"),
        format!("{word_count} --input dfs:///text --output dfs:///counts"),
    ];
    let put = format!("{}=dfs:///text", text.display());
    let log_uri = format!("file://{}", logs.display());
    let ran = clusters
        .command(&["create", "--json", "--transient", "--wait", "--log-uri", &log_uri, "--put", &put])
        .args(["--step", &steps[0], "--step", &steps[1]])
        .run();
    assert_eq!(ran.status.code(), Some(1), "the first step fails, and the second does not: {ran:?}");
    clusters.is_empty(&[]);
    let ended: Value = serde_json::from_str(ran.stdout.trim()).expect("JSON");
    let states = [0, 1].map(|step: usize| ended["steps"][step]["state"].as_str().expect("a text"));
    assert_eq!(states, ["FAILED", "COMPLETED"]);

    // Nobody is asked but the files.
    let place = format!("{log_uri}/{}", ended["cluster_id"].as_str().expect("an id"));
    let history = |args: &[&str]| {
        let history = gristmill_tests::Program::gristmill().args(["job", "history", "--from", &place]);
        history.args(args).run().succeeded().stdout
    };
    let listed = history(&[]);
    assert!(listed.contains("FAILED") && listed.contains("DONE"), "{listed}");
    let job = ended["steps"][0]["job"].as_str().expect("an id");
    let told = history(&[job]);
    for part in ["s0-t00000-a0 failed", "s0-t00000-a1 failed", "the map is out of order"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let below = logs.join(ended["cluster_id"].as_str().expect("an id")).join("jobs").join(job);
    for attempt in 0..2 {
        let log = fs::read_to_string(below.join(format!("s0-t00000-a{attempt}.stderr"))).expect("a log");
        assert!(log.contains("the map is out of order"), "{log}");
    }
    let done = ended["steps"][1]["job"].as_str().expect("an id");
    let files = fs::read_dir(below.with_file_name(done)).expect("a directory");
    let names: Vec<_> = files.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["job.json"], "who prints nothing has no log");
}
