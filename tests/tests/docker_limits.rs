//! Containers without the memory or the room that a program wants: what happened is said in one sentence, and the cluster
//! goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gristmill_tests::{Containers, corpus, docker};
use serde_json::Value;

/// For a container in which something takes all memory. A daemon in it takes a tenth of it.
const SMALL: &str = "96m";
/// As the engine says what was killed for want of memory, in a step or in an attempt.
const SENTENCE: &str = "was killed (signal 9), perhaps by the system for want of memory";

#[test]
fn a_program_that_its_containers_memory_does_not_hold_is_named_and_the_daemons_live_on() {
    let Some(place) = Containers::new("containers without memory") else { return };
    let cluster = place.create(&["--core", "1"]);
    for container in cluster.containers() {
        docker(&["update", "--memory", SMALL, "--memory-swap", SMALL, &container]);
    }
    let started = || {
        let format = "{{.State.StartedAt}} {{.RestartCount}}";
        cluster
            .containers()
            .iter()
            .map(|name| docker(&["inspect", "--format", format, name]))
            .collect::<Vec<_>>()
    };
    let before = started();

    // A step, beside the master.
    let hoard = place.path("hoard");
    fs::write(&hoard, "#!/bin/sh\nexec tail /dev/zero\n").expect("a file");
    fs::set_permissions(&hoard, fs::Permissions::from_mode(0o755)).expect("its mode");
    let add = cluster.gristmill().args(["cluster", "add-steps", "--json", "--wait"]).arg(&hoard).run();
    let step: Value = serde_json::from_str(add.stdout.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&step["state"], &step["reason"]), (&"FAILED".into(), &"SIGNALLED".into()), "{step}");
    assert!(step["message"].as_str().expect("a sentence").contains(SENTENCE), "{step}");

    // An attempt, beside a worker: within the share that it was promised.
    let job =
        cluster.submit("unruly", &["--fault", "hoard", "--output", "dfs:///hoard", "--max-attempts", "2"]);
    let reason = job.failed();
    let tasks = job.command("tasks").arg("--json").run().stdout;
    assert!(reason.contains(SENTENCE) && reason.contains("s0-t00000-a1"), "{reason}\n{tasks}");
    assert_eq!(started(), before, "neither daemon has ended");
    cluster.terminate();
    place.nothing_is_left();
}

#[test]
fn a_worker_whose_volume_is_full_is_named_and_the_others_do_its_work() {
    let Some(place) = Containers::new("containers without room") else { return };
    let cluster = place.create(&["--core", "2"]);
    // Not even a program has room there.
    cluster.prepare_small_volume("core-3", 4);
    place.command(&["scale", cluster.name(), "--core", "3"]).run().succeeded();
    let text = place.path("text");
    // More tasks than the others have done before it has its first.
    fs::write(&text, corpus(2_000_000, 3)).expect("a file");
    cluster.gristmill().args(["fs", "put"]).arg(&text).arg("/text").run().succeeded();
    let args = ["--input", "dfs:///text", "--output", "dfs:///out", "--split-size", "16KiB"];
    let job = cluster.submit("word_count", &args);
    job.done();
    let failed = job.command("tasks").args(["--failed", "--json"]).run().succeeded().stdout;
    assert!(failed.contains("/data/worker/") && failed.contains("No space left on device"), "{failed}");
    cluster.terminate();
    place.nothing_is_left();
}
