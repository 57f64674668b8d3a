//! Steps of clusters that are made by the command, and how such clusters end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gristmill_tests::{Clusters, Output, Program, corpus, path_of, patiently};
use serde_json::Value;

/// A script that can be a step.
fn script(clusters: &Clusters, name: &str, text: &str) -> String {
    let path = clusters.path(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path.display().to_string()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// State and reason of each step.
fn shown(cluster: &Value) -> Vec<String> {
    let steps = cluster["steps"].as_array().expect("steps");
    let text = |step: &Value, key: &str| step[key].as_str().expect("a text").to_owned();
    steps
        .iter()
        .map(|step| format!("{} {}", text(step, "state"), text(step, "reason")).trim().to_owned())
        .collect()
}

#[test]
fn a_transient_cluster_runs_two_steps_and_leaves_nothing_but_what_was_asked_for() {
    let clusters = Clusters::default();
    let (input, output, logs) = (clusters.path("text"), clusters.path("counts"), clusters.path("logs"));
    let text = corpus(1024, 3);
    fs::write(&input, &text).expect("a file");
    let word_count = path_of("word_count").display().to_string();
    let steps = [
        format!("name=first -- {word_count} --input dfs:///text --output dfs:///first"),
        format!("name=second depends-on=first -- {word_count} --input dfs:///text --output dfs:///counts"),
    ];
    let put = format!("{}=dfs:///text", input.display());
    let get = format!("dfs:///counts={}", output.display());
    let log_uri = format!("file://{}", logs.display());
    let started = Instant::now();
    let ran = clusters
        .command(&["create", "--json", "--name", "nightly", "--transient", "--wait", "--log-uri", &log_uri])
        .args(["--step", &steps[0], "--step", &steps[1], "--put", &put, "--get", &get])
        .run()
        .succeeded();
    println!("a transient cluster with two steps took {} ms", started.elapsed().as_millis());
    clusters.is_empty(&[]);
    let ended = json(ran.stdout.trim());
    assert_eq!(shown(&ended), ["COMPLETED", "COMPLETED"]);
    assert_eq!(ended["state"], "TERMINATED");

    // The same as without a cluster.
    let local = clusters.path("local");
    let here = Program::word_count().arg("--input").arg(&input).arg("--output").arg(&local);
    here.run().succeeded();
    assert_eq!(Output::read(&output).sorted_lines(), Output::read(&local).sorted_lines());

    // What outlives it.
    let place = logs.join(ended["cluster_id"].as_str().expect("an id"));
    for file in [
        "cluster.json",
        "steps/step-1/stderr",
        "steps/step-2/stderr",
        "daemons/master.log",
        "daemons/core-1.log",
    ] {
        assert!(place.join(file).is_file(), "{file} is not in {}", place.display());
    }
    let told = clusters.command(&["describe", "--from", &place.display().to_string()]).run().succeeded();
    for part in ["first", "second", "COMPLETED", "The cluster nightly is TERMINATED"] {
        assert!(told.stdout.contains(part), "{part} is not in {}", told.stdout);
    }
}

#[test]
fn a_transient_cluster_that_nobody_waits_for_ends_all_the_same() {
    let clusters = Clusters::default();
    let mark = clusters.path("mark");
    let step = script(&clusters, "step", &format!("echo done > {}", mark.display()));
    let made = clusters.create(&["--transient", "--step", &step]);
    let master = made["master"].as_str().expect("an address").to_owned();
    patiently("the step to run", || mark.exists());
    let home = clusters.path("state/gristmill/clusters/cluster-1");
    patiently("the cluster to go", || !home.exists());
    patiently("its custodian to go", || gristmill_tests::processes_of(&clusters.path("state")).is_empty());
    clusters.is_empty(&[master]);
}

#[test]
fn a_failing_step_does_what_its_action_says() {
    for (action, transient, steps, state) in [
        ("continue", true, ["FAILED EXITED", "COMPLETED"], "TERMINATED"),
        ("cancel-and-wait", true, ["FAILED EXITED", "CANCELLED STEP_FAILURE"], "TERMINATED_WITH_ERRORS"),
        ("cancel-and-wait", false, ["FAILED EXITED", "CANCELLED STEP_FAILURE"], "WAITING"),
        ("terminate-cluster", false, ["FAILED EXITED", "CANCELLED STEP_FAILURE"], "TERMINATED_WITH_ERRORS"),
    ] {
        let clusters = Clusters::default();
        let bad = script(&clusters, "bad", "echo 'the disk is on fire' >&2; exit 3");
        let bad = format!("name=bad on-failure={action} -- {bad}");
        let good = script(&clusters, "good", "exit 0");
        let mut create = clusters.command(&["create", "--json", "--wait", "--step", &bad, "--step", &good]);
        if transient {
            create = create.arg("--transient");
        }
        let ended = create.run();
        assert_eq!(ended.status.code(), Some(1), "{action}: not all steps are COMPLETED: {ended:?}");
        let record = json(ended.stdout.trim());
        assert_eq!(
            (shown(&record), record["state"].as_str()),
            (steps.map(str::to_owned).to_vec(), Some(state)),
            "{action}"
        );
        let message = record["steps"][0]["message"].as_str().expect("a text");
        assert_eq!(message, "it ended with status 3: the disk is on fire");
        if state != "WAITING" {
            clusters.is_empty(&[]);
        }
    }
}

#[test]
fn an_idle_cluster_ends_and_a_protected_one_does_not() {
    let clusters = Clusters::default();
    clusters.create(&["--name", "kept", "--idle-timeout", "1s", "--termination-protected"]);
    clusters.create(&["--name", "idle", "--idle-timeout", "1s"]);
    let home = |name: &str| -> PathBuf { clusters.path("state/gristmill/clusters").join(name) };
    patiently("the idle cluster to go", || !home("idle").exists());
    assert!(home("kept").exists(), "it was idle for longer");
    let refused = clusters.command(&["terminate", "kept"]).run();
    assert!(refused.stderr.contains("protected against termination"), "{refused:?}");
    assert_eq!(refused.status.code(), Some(1));
    clusters.command(&["protect", "--cluster", "kept", "--off"]).run().succeeded();
    // It may end by itself before it is told to.
    clusters.command(&["terminate", "kept"]).run();
    patiently("the cluster to go", || !home("kept").exists());
}

#[test]
fn a_bootstrap_action_runs_on_every_node_or_the_cluster_is_not_made() {
    let clusters = Clusters::default();
    let marks = clusters.path("marks");
    fs::create_dir(&marks).expect("a directory");
    let good = script(&clusters, "good", &format!("echo $GRISTMILL_ROLE > {}/$$", marks.display()));
    clusters.create(&["--name", "good", "--core", "2", "--task", "1", "--bootstrap", &good]);
    let mut roles: Vec<String> = fs::read_dir(&marks)
        .expect("a directory")
        .map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("a text").trim().to_owned())
        .collect();
    roles.sort();
    assert_eq!(roles, ["core", "core", "master", "task"]);
    clusters.command(&["terminate", "good"]).run().succeeded();
    for (node, condition) in [("master", "="), ("core-1", "!=")] {
        let failing =
            format!("[ $GRISTMILL_ROLE {condition} master ] || exit 0; echo 'no package foo'; exit 4");
        let bad = script(&clusters, "bad", &failing);
        let refused = clusters.command(&["create", "--bootstrap", &bad]).run();
        assert_eq!(refused.status.code(), Some(1));
        assert!(refused.stderr.contains("no package foo"), "{node}: {}", refused.stderr);
        clusters.is_empty(&[]);
    }
}

#[test]
fn a_dry_run_makes_nothing_and_can_be_given_again() {
    let clusters = Clusters::default();
    let step = script(&clusters, "step", "exit 0");
    let printed = clusters
        .command(&["create", "--dry-run", "--transient", "--core", "2", "--step", &step])
        .run()
        .succeeded();
    clusters.is_empty(&[]);
    let file = clusters.path("cluster.toml");
    fs::write(&file, printed.stdout).expect("a file");
    let file = file.display().to_string();
    let ran =
        clusters.command(&["create", "--json", "--config", &file, "--wait", "--core", "1"]).run().succeeded();
    assert_eq!(shown(&json(ran.stdout.trim())), ["COMPLETED"]);
    fs::write(clusters.path("wrong.toml"), "version = 1\ncores = 3\n").expect("a file");
    let wrong = clusters.path("wrong.toml").display().to_string();
    let refused = clusters.command(&["create", "--config", &wrong]).run();
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("unknown field `cores`"), "{}", refused.stderr);
    clusters.is_empty(&[]);
}

#[test]
fn steps_are_tried_again_given_up_and_cancelled() {
    let clusters = Clusters::default();
    let made = clusters.create(&["--name", "one"]);
    let master = made["master"].as_str().expect("an address").to_owned();
    let mark = clusters.path("mark");
    let flaky =
        script(&clusters, "flaky", &format!("[ -e {0} ] || {{ touch {0}; exit 1; }}", mark.display()));
    // What a step starts and leaves, in a session of its own, is no longer there when the step is over.
    let slow = script(&clusters, "slow", "setsid sleep 1000 & sleep 1000");
    let steps = [
        format!("name=flaky retries=1 -- {flaky}"),
        format!("name=late timeout=300ms -- {slow}"),
        format!("name=after depends-on=late -- {flaky}"),
    ];
    let added = clusters.command(&["add-steps", "--master", &master, "--wait", "--json"]).args(&steps).run();
    assert_eq!(added.status.code(), Some(1), "not all are COMPLETED");
    let records: Vec<Value> = added.stdout.lines().skip(steps.len()).map(json).collect();
    let states: Vec<&str> = records.iter().map(|record| record["state"].as_str().expect("a text")).collect();
    assert_eq!(states, ["COMPLETED", "FAILED", "CANCELLED"]);
    assert_eq!(records[0]["tries"], 2);
    assert_eq!((&records[1]["reason"], &records[2]["reason"]), (&"TIMEOUT".into(), &"DEPENDENCY".into()));

    let forever = format!("name=forever -- {slow}");
    clusters.command(&["add-steps", "--master", &master, &forever]).run().succeeded();
    let home = clusters.path("state/gristmill/clusters/one/master/steps/step-4");
    let sleeping =
        || gristmill_tests::processes_of(&home).iter().filter(|line| line.contains("sleep 1000")).count();
    patiently("the step to run", || sleeping() == 2);
    clusters.command(&["cancel-steps", "--master", &master, "forever"]).run().succeeded();
    let describe = || {
        json(
            clusters
                .command(&["describe-step", "--master", &master, "--json", "step-4"])
                .run()
                .succeeded()
                .stdout
                .trim(),
        )
    };
    patiently("the step to be cancelled", || describe()["state"] == "CANCELLED");
    assert_eq!(sleeping(), 0, "nothing of it is left");
    clusters.command(&["terminate", "one"]).run().succeeded();
    clusters.is_empty(&[master]);
}

#[test]
fn a_small_transient_run_is_quick() {
    let clusters = Clusters::default();
    let step = script(&clusters, "step", "exit 0");
    let run = clusters.command(&["create", "--transient", "--wait", "--step", &step]).start();
    // A second where nothing else runs; this only keeps it from becoming minutes.
    run.end_within(Duration::from_secs(120)).succeeded();
}
