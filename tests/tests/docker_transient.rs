//! A whole piece of work in one command: a cluster of containers is made, runs its steps, and leaves nothing but what it
//! was made for.

use std::fs;

use gristmill_tests::{Containers, Output, Program, S3, corpus, docker, path_of};
use serde_json::Value;

/// The same without a cluster.
fn counted_here(place: &Containers, input: &std::path::Path) -> Vec<String> {
    let output = place.path("counted-here");
    Program::word_count().arg("--input").arg(input).arg("--output").arg(&output).run().succeeded();
    Output::read(&output).sorted_lines()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_transient_cluster_leaves_its_output_its_logs_and_its_record_in_a_bucket() {
    let Some(place) = Containers::new("a transient cluster of containers with S3") else { return };
    let s3 = S3::for_containers();
    let input = place.path("text");
    fs::write(&input, corpus(100_000, 5)).expect("a file");
    s3.put(&input, "text");
    let word_count = path_of("word_count").display().to_string();
    let step = format!("name=wc -- {word_count} --input {} --output {}", s3.uri("text"), s3.uri("counts"));
    let create = place.creation().args(["--name", "nightly", "--core", "1", "--task", "1"]);
    let create = create.args(["--transient", "--wait", "--step", &step, "--log-uri", &s3.uri("logs")]);
    let ran = s3.with_keys(create).run().succeeded();
    place.nothing_is_left();
    let ended = json(&ran.stdout);
    assert_eq!((&ended["state"], &ended["steps"][0]["state"]), (&"TERMINATED".into(), &"COMPLETED".into()));

    let output = place.path("counts");
    s3.fs().args(["-get", &s3.uri("counts")]).arg(&output).run().succeeded();
    assert_eq!(Output::read(&output).sorted_lines(), counted_here(&place, &input));

    // What outlives it. The master's log is whole: it tells of the cluster's end.
    let logs = format!("logs/{}", ended["cluster_id"].as_str().expect("an id"));
    let found = s3.find(&logs);
    for file in [
        "cluster.json",
        "steps/step-1/stderr",
        "daemons/master.log",
        "daemons/core-1.log",
        "daemons/task-1.log",
    ] {
        assert!(found.iter().any(|name| name.ends_with(file)), "{file} is not in {found:?}");
    }
    let log = s3.fs().args(["-cat", &s3.uri(&format!("{logs}/daemons/master.log"))]).run().succeeded().stdout;
    assert!(log.contains("the cluster has ended"), "{log}");
    let describe = place.command(&["describe", "--from", &s3.uri(&logs)]);
    let told = s3.with_keys(describe).run().succeeded().stdout;
    assert!(told.contains("The cluster nightly is TERMINATED"), "{told}");
}

#[test]
fn who_has_no_bucket_puts_files_in_and_takes_them_out() {
    let Some(place) = Containers::new("a transient cluster of containers without S3") else { return };
    let (input, output) = (place.path("text"), place.path("counts"));
    fs::write(&input, corpus(100_000, 6)).expect("a file");
    let word_count = path_of("word_count").display().to_string();
    let step = format!("{word_count} --input dfs:///text --output dfs:///counts");
    let (put, get) =
        (format!("{}=dfs:///text", input.display()), format!("dfs:///counts={}", output.display()));
    let create = place.creation().args(["--core", "2", "--transient", "--wait", "--step", &step]);
    let ran = create.args(["--put", &put, "--get", &get]).run().succeeded();
    place.nothing_is_left();
    assert_eq!(json(&ran.stdout)["steps"][0]["state"], "COMPLETED");
    assert_eq!(Output::read(&output).sorted_lines(), counted_here(&place, &input));
}

#[test]
fn a_step_that_fails_ends_its_cluster_with_errors_and_leaves_nothing() {
    let Some(place) = Containers::new("a failing transient cluster of containers") else { return };
    let word_count = path_of("word_count").display().to_string();
    let step = format!(
        "name=bad on-failure=terminate-cluster -- {word_count} --input dfs:///none --output dfs:///counts"
    );
    let ran = place.creation().args(["--transient", "--wait", "--step", &step]).run();
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    place.nothing_is_left();
    let ended = json(&ran.stdout);
    assert_eq!(
        (&ended["state"], &ended["reason"]),
        (&"TERMINATED_WITH_ERRORS".into(), &"STEP_FAILURE".into())
    );
    let message = ended["steps"][0]["message"].as_str().expect("a text");
    assert!(message.contains("/none: no such file"), "{message}");
}

#[test]
fn a_bootstrap_action_that_fails_on_any_node_is_shown_and_its_cluster_is_not_made() {
    let Some(place) = Containers::new("bootstrap actions of containers that fail") else { return };
    for condition in ["=", "!="] {
        let script = place.path("bootstrap");
        let text = format!(
            "#!/bin/sh\n[ $GRISTMILL_ROLE {condition} master ] || exit 0\necho 'no package foo'\nexit 4\n"
        );
        fs::write(&script, text).expect("a file");
        let refused = place.creation().args(["--core", "1", "--bootstrap"]).arg(&script).run();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(refused.stderr.contains("no package foo"), "role {condition} master: {}", refused.stderr);
        place.nothing_is_left();
    }
}

#[test]
fn the_keys_of_the_object_store_are_a_file_of_the_daemons_and_nowhere_else() {
    let Some(place) = Containers::new("keys of an object store in containers") else { return };
    let s3 = S3::for_containers();
    let made = s3.with_keys(place.creation().args(["--core", "1"])).run().succeeded();
    for member in json(&made.stdout)["containers"].as_array().expect("a list") {
        let container = member["container"].as_str().expect("a name");
        // What it has, so that this cannot pass because nothing has it.
        let keys = docker(&["exec", container, "cat", "/data/aws-credentials"]);
        assert!(keys.contains(&s3.secret()), "{container}");
        let inspected = docker(&["inspect", container]);
        assert!(inspected.contains(s3.address()), "{container}: it is told where the store is");
        assert!(!inspected.contains(&s3.secret()), "{container}: in its configuration or environment");
        let logs = Program::at("docker").args(["logs", container]).run().succeeded();
        assert!(!logs.stdout.contains(&s3.secret()) && !logs.stderr.contains(&s3.secret()), "{container}");
    }
    place.command(&["terminate", "cluster-1"]).run().succeeded();
    place.nothing_is_left();
}
