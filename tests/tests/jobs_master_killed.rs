//! The master is killed and started again, at every moment of a job: the job goes on where it was.

use std::fs;

use gristmill_tests::{
    Cluster, ClusterOptions, Job, Output, Program, corpus, file_uri, over_stages, patiently,
};

fn cluster(workers: usize) -> Cluster {
    let cluster = Cluster::with(ClusterOptions { workers, ..Default::default() });
    cluster.wait_for_all_slots();
    cluster
}

#[test]
fn at_any_moment_of_a_job() {
    let mut cluster = cluster(2);
    let text = corpus(400_000, 5);
    cluster.put("/text", &text);
    let (input, local) = (cluster.path("text"), cluster.path("local"));
    fs::write(&input, &text).expect("a file");
    let args = ["--reducers", "3", "--split-size", "64KiB"];
    let here = Program::word_count().args(args).arg("--input").arg(&input).arg("--output").arg(&local);
    here.run().succeeded();
    let expected = Output::read(&local).sorted_lines();

    // Seven maps and three reduces, then the commit.
    for moment in 0..=10_u64 {
        let output = format!("dfs:///out-{moment}");
        let paths = ["--input", "dfs:///text", "--output", &output];
        let job = cluster.submit("word_count", &[&args[..], &paths[..]].concat());
        let mut done = 0;
        patiently("the moment", || {
            let status = job.status();
            done = over_stages(&status, "done");
            done >= moment || status["state"] == "DONE"
        });
        cluster.kill_master();
        cluster.start_master();
        let status = job.done();
        let attempts: usize =
            job.tasks().iter().map(|task| task["attempts"].as_array().expect("a list").len()).sum();
        assert!(attempts <= 20, "a finished task is not done again: {attempts} attempts");
        assert_eq!(over_stages(&status, "failed_attempts"), 0, "nobody has failed: {status}");
        let found = cluster.output(&format!("/out-{moment}")).sorted_lines();
        assert!(found == expected, "killed when {done} tasks were done (wanted {moment})");
    }
}

#[test]
fn a_driver_sees_the_job_through_and_attempts_go_on() {
    let mut cluster = cluster(2);
    let gate = cluster.path("gate");
    let job = cluster.drive("gated").args(["--rows", "100000", "--stuck", "--output", "dfs:///out"]);
    let job = job.arg("--gate").arg(&gate);
    let mut driver = job.start();
    let mut id = String::new();
    driver.runs_until("the job to run", || {
        let listed = cluster.gristmill().args(["job", "list", "--json"]).run().stdout;
        let Some(status) = listed.lines().next().and_then(|line| serde_json::from_str(line).ok()) else {
            return false;
        };
        let status: serde_json::Value = status;
        id = status["job"].as_str().expect("an id").to_owned();
        status["stages"][0]["running"].as_u64() == Some(2)
    });
    let job = cluster.known_job(&id);
    cluster.kill_master();
    cluster.start_master();
    cluster.wait_for_all_slots();
    fs::write(&gate, "").expect("a gate");
    driver.end().succeeded();
    let status = job.done();
    assert_eq!(over_stages(&status, "lost_attempts"), 0, "the attempts were not taken for dead: {status}");
    assert_eq!(cluster.output("/out").sorted_lines().len(), 10);
}

#[test]
fn the_same_job_submitted_again_is_one_job() {
    let mut cluster = cluster(1);
    let gate = file_uri(&cluster.path("gate"));
    let id = "01234567-89ab-4def-8123-456789abcdef";
    let args = ["--rows", "10", "--stuck", "--gate", &gate, "--output", "dfs:///out", "--job-id", id];
    let job = cluster.submit("gated", &args);
    assert_eq!(job.id, id);
    job.until("it to run", |status| over_stages(status, "running") >= 1);
    assert_eq!(cluster.submit("gated", &args).id, id);
    cluster.kill_master();
    cluster.start_master();
    assert_eq!(cluster.submit("gated", &args).id, id);
    fs::write(&gate, "").expect("a gate");
    job.done();
    // After its end, too: its output is not in its own way.
    assert_eq!(cluster.submit("gated", &args).id, id);
    let listed = cluster.gristmill().args(["job", "list", "--all", "--json"]).run().succeeded();
    assert_eq!(listed.stdout.lines().count(), 1, "{}", listed.stdout);
}

#[test]
fn history_outlives_the_master() {
    let mut cluster = cluster(1);
    cluster.put("/text", b"to be or not to be");
    let done = cluster.submit("word_count", &["--input", "dfs:///text", "--output", "dfs:///out"]);
    done.done();
    let failed =
        cluster.submit("unruly", &["--fault", "panic", "--max-attempts", "2", "--output", "dfs:///failed"]);
    failed.failed();
    let gate = file_uri(&cluster.path("no-gate"));
    let killed =
        cluster.submit("gated", &["--rows", "9", "--stuck", "--gate", &gate, "--output", "dfs:///no"]);
    killed.until("it to run", |status| over_stages(status, "running") >= 1);
    killed.command("kill").args(["--reason", "not needed"]).run().succeeded();
    let jobs = [&done, &failed, &killed];
    let before = jobs.map(seen);
    cluster.kill_master();
    cluster.start_master();
    cluster.wait_for_all_slots();
    let after = jobs.map(seen);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after, "status, tasks, counters, timeline and logs are what they were");
    }
    let reason = |at: usize| after[at].status["reason"].as_str().expect("a sentence").to_owned();
    assert!(reason(2).contains("not needed"), "{}", reason(2));
    // It is not that there is nothing to see.
    assert!(after[0].tasks.contains("\"done\""), "{}", after[0].tasks);
    assert!(after[1].logs.contains("the map is out of order"), "{}", after[1].logs);
    for moment in ["submitted by", "map 1 begins", "failed on worker-", "FAILED"] {
        assert!(after[1].timeline.contains(moment), "{moment} is not in {}", after[1].timeline);
    }
    for moment in ["reduce 1 is done: 4 records", "committing", "DONE"] {
        assert!(after[0].timeline.contains(moment), "{moment} is not in {}", after[0].timeline);
    }
}

/// All that can be asked of a job that has ended.
#[derive(Debug, PartialEq)]
struct Seen {
    status: serde_json::Value,
    tasks: String,
    counters: String,
    timeline: String,
    logs: String,
}

fn seen(job: &Job) -> Seen {
    let said = |command: &str| job.command(command).arg("--json").run().succeeded().stdout;
    let (status, tasks, counters) = (job.status(), said("tasks"), said("counters"));
    Seen { status, tasks, counters, timeline: said("history"), logs: said("logs") }
}
