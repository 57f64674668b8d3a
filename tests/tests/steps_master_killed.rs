//! The master is killed in the middle of a step and started again: the step goes on, and its work is done once.

use std::fs;

use gristmill_tests::{Cluster, ClusterOptions, Program, file_uri, path_of, patiently, processes_of};
use serde_json::Value;

fn cluster() -> Cluster {
    let cluster = Cluster::with(ClusterOptions { workers: 1, ..Default::default() });
    cluster.wait_for_all_slots();
    cluster
}

fn clusters(cluster: &Cluster, args: &[&str]) -> Program {
    cluster.gristmill().arg("cluster").args(args)
}

fn step(cluster: &Cluster) -> Value {
    let shown = clusters(cluster, &["describe-step", "--json", "step-1"]).run().succeeded();
    serde_json::from_str(shown.stdout.trim()).expect("JSON")
}

fn jobs(cluster: &Cluster) -> Vec<Value> {
    let listed = cluster.gristmill().args(["job", "list", "--all", "--json"]).run().succeeded();
    listed.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_job_of_a_step_is_found_again() {
    let mut cluster = cluster();
    let gate = cluster.path("gate");
    let gated = path_of("gated").display().to_string();
    let line = format!("{gated} --rows 100 --stuck --gate {} --output dfs:///out", file_uri(&gate));
    clusters(&cluster, &["add-steps", &line]).run().succeeded();
    patiently("its job to run", || jobs(&cluster).iter().any(|job| job["state"] == "RUNNING"));
    let before = step(&cluster);
    cluster.kill_master();
    cluster.start_master();
    cluster.wait_for_all_slots();
    assert_eq!(step(&cluster)["state"], "RUNNING", "what was durable is there");
    fs::write(&gate, "").expect("a gate");
    patiently("the step to end", || step(&cluster)["ended_ms"].as_u64() > Some(0));
    let after = step(&cluster);
    assert_eq!((&after["state"], &after["tries"]), (&"COMPLETED".into(), &1.into()), "{after}");
    assert_eq!(before["job"], after["job"]);
    let jobs = jobs(&cluster);
    assert_eq!(jobs.len(), 1, "one job, whoever submitted it: {jobs:?}");
    assert_eq!((&jobs[0]["job"], &jobs[0]["state"]), (&after["job"], &"DONE".into()));
    assert_eq!(cluster.output("/out").sorted_lines().len(), 10);
}

#[test]
fn no_process_of_a_killed_masters_step_runs_beside_the_next_masters() {
    let mut cluster = cluster();
    let (lives, gate) = (cluster.path("lives"), cluster.path("gate"));
    let script = cluster.path("script");
    // Each life says so, and waits.
    let text =
        format!("echo $$ >> {}\nwhile [ ! -e {} ]; do sleep 0.02; done", lives.display(), gate.display());
    fs::write(&script, text).expect("a file");
    let line = format!("/bin/sh {}", script.display());
    clusters(&cluster, &["add-steps", &line]).run().succeeded();
    let count = || fs::read_to_string(&lives).map_or(0, |text| text.lines().count());
    patiently("its first life", || count() == 1);
    cluster.kill_master();
    let home = cluster.path("master/steps/step-1");
    assert!(!processes_of(&home).is_empty(), "it outlives its master");
    cluster.start_master();
    patiently("its second life", || count() == 2);
    let first = fs::read_to_string(&lives).expect("lives").lines().next().expect("the first").to_owned();
    // Whoever has to wait for it may not have done so yet: then it is a zombie.
    let state = fs::read_to_string(format!("/proc/{first}/stat")).unwrap_or_default();
    let runs = state.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"));
    assert!(!runs, "the first life is over before the second begins: {state}");
    fs::write(&gate, "").expect("a gate");
    patiently("the step to end", || step(&cluster)["state"] == "COMPLETED");
}

#[test]
fn a_cancelled_step_takes_its_job_with_it() {
    let cluster = cluster();
    let gate = file_uri(&cluster.path("no-gate"));
    let gated = path_of("gated").display().to_string();
    let line = format!("name=mine -- {gated} --rows 100 --stuck --gate {gate} --output dfs:///out");
    clusters(&cluster, &["add-steps", &line]).run().succeeded();
    patiently("its job to run", || jobs(&cluster).iter().any(|job| job["state"] == "RUNNING"));
    clusters(&cluster, &["cancel-steps", "mine"]).run().succeeded();
    patiently("the step to be cancelled", || step(&cluster)["state"] == "CANCELLED");
    patiently("its job to be killed", || jobs(&cluster)[0]["state"] == "KILLED");
}
