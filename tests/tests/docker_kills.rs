//! `docker kill` hits each role in each phase of a transient cluster's life: while workers join, in the maps, in the
//! shuffle, while the job commits, and when its step is over. It takes longer, and the output is that of one machine.
//!
//! That a kill hits its phase is no matter of luck: the cluster stands at a gate meanwhile.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use gristmill_tests::{
    ContainerCluster, Containers, Job, Output, Program, Running, S3, corpus, docker, gated_image,
    gated_script, path_of, stubborn_script,
};
use serde_json::Value;

/// As many splits as there are slots, at least: each worker has a map.
const ARGS: [&str; 4] = ["--split-size", "64KiB", "--reducers", "3"];
const TEXT_BYTES: usize = 250_000;
/// For all that is left of a run when its gates are open.
const PATIENCE: Duration = Duration::from_secs(120);
/// Two copies of each block: a core worker may be away.
const CLUSTER: [&str; 8] = ["--name", "killed", "--core", "2", "--task", "1", "--replication", "2"];

/// A cluster that is made, works and ends by one command, as far as its gates let it.
struct Run<'p> {
    place: &'p Containers,
    command: Running,
    cluster: ContainerCluster<'p>,
}

impl<'p> Run<'p> {
    /// `gates` are shut. At `join` all nodes stand before they join, at `over` the second of two steps.
    fn begin(place: &'p Containers, gates: &[&str], input: &str, output: &str, given: Given<'_>) -> Run<'p> {
        let script = |name: &str, gate: &str| script(place, name, &gated_script(gate));
        let words = path_of("word_count").display().to_string();
        let count = format!("name=count -- {words} --input {input} --output {output} {}", ARGS.join(" "));
        let command = place.creation_of(&gated_image(gates)).args(CLUSTER).args(["--transient", "--wait"]);
        let command = command.args(["--bootstrap", &script("bootstrap", "join"), "--step", &count]);
        let command = command.args(["--step", &format!("name=over -- {}", script("over", "over"))]);
        let mut command = given(command).start();
        let mut found = None;
        command.runs_until("the cluster to be known", || {
            found = place.find("killed");
            found.as_ref().is_some_and(|cluster| cluster.running() == 4)
        });
        Run { place, command, cluster: found.expect("it was found") }
    }

    /// Waits until an attempt of the role stands at the gate.
    fn comes_to(&mut self, role: &str, gate: &str) {
        let cluster = &self.cluster;
        self.command.runs_until(&format!("{role} to come to {gate}"), || cluster.stands(role, gate));
    }

    /// Waits until the job, of which there is one, is in the state.
    fn job_is(&mut self, state: &str) -> Job {
        let cluster = &self.cluster;
        let mut id = String::new();
        self.command.runs_until(&format!("the job to be {state}"), || {
            let listed = cluster.gristmill().args(["job", "list", "--json"]).run().stdout;
            let jobs = listed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            let jobs: Vec<Value> = jobs.collect();
            assert!(jobs.len() <= 1, "a step begun again finds its job: {jobs:?}");
            let found = jobs.iter().find(|job| job["state"] == state);
            id = found.and_then(|job| job["job"].as_str()).unwrap_or_default().to_owned();
            !id.is_empty()
        });
        Job::at(&id, self.cluster.master(), Some(self.cluster.secret_file()))
    }

    /// Waits until the first step is over, and the second one stands at its gate.
    fn counted(&mut self) {
        let cluster = &self.cluster;
        self.command.runs_until("the first step to be over", || {
            let listed = cluster.gristmill().args(["cluster", "list-steps", "--json"]).run().stdout;
            let states: Vec<Value> = listed
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["state"].take())
                .collect();
            states == ["COMPLETED", "RUNNING"]
        });
    }

    /// The whole run has done what it should, and nothing is left.
    #[track_caller]
    fn ends(self) {
        let ended = self.command.end_within(PATIENCE).succeeded();
        let record: Value = serde_json::from_str(ended.stdout.trim()).expect("JSON");
        assert_eq!(record["state"], "TERMINATED", "{record}");
        for step in record["steps"].as_array().expect("a list") {
            assert_eq!((&step["state"], &step["tries"]), (&"COMPLETED".into(), &1.into()), "{record}");
        }
        self.place.nothing_is_left();
    }
}

/// A program, by its path.
fn script(place: &Containers, name: &str, text: &str) -> String {
    let path = place.path(name);
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path.display().to_string()
}

/// What else the command is given.
type Given<'a> = &'a dyn Fn(Program) -> Program;

/// A text, and what one machine counts in it.
fn text_and_counts(place: &Containers) -> (std::path::PathBuf, Output) {
    let (text, counts) = (place.path("text"), place.path("counted-here"));
    fs::write(&text, corpus(TEXT_BYTES, 21)).expect("a file");
    Program::word_count().args(ARGS).arg("--input").arg(&text).arg("--output").arg(&counts).run().succeeded();
    (text, Output::read(&counts))
}

/// A worker is killed at these gates, in a cluster whose files are put in and taken out by the command.
fn a_worker_is_killed(place: &Containers, role: &str) {
    let (text, expected) = text_and_counts(place);
    let counts = place.path("counts");
    let put = format!("{}=dfs:///text", text.display());
    let get = format!("dfs:///counts={}", counts.display());
    let given = |command: Program| command.args(["--put", &put, "--get", &get]);
    let gates = ["join", "map", "shuffle", "before", "over"];
    let mut run = Run::begin(place, &gates, "dfs:///text", "dfs:///counts", &given);
    run.cluster.kill(role);
    run.cluster.open("join");
    for gate in ["map", "shuffle"] {
        run.comes_to(role, gate);
        run.cluster.kill(role);
        run.cluster.open(gate);
    }
    run.job_is("COMMITTING");
    run.cluster.kill(role);
    run.job_is("COMMITTING");
    run.cluster.open("before");
    run.counted();
    run.cluster.kill(role);
    run.cluster.open_at("master", "over");
    run.ends();
    assert!(Output::read(&counts).parts == expected.parts, "not byte for byte what one machine writes");
}

#[test]
fn a_core_worker_is_killed_in_each_phase_of_a_transient_run() {
    let Some(place) = Containers::new("core workers of transient clusters, killed") else { return };
    a_worker_is_killed(&place, "core-1");
}

#[test]
fn a_task_worker_is_killed_in_each_phase_of_a_transient_run() {
    let Some(place) = Containers::new("task workers of transient clusters, killed") else { return };
    a_worker_is_killed(&place, "task-1");
}

#[test]
fn the_master_is_killed_in_each_phase_of_a_transient_run_whose_output_is_in_a_bucket() {
    let Some(place) = Containers::new("masters of transient clusters, killed") else { return };
    let (text, expected) = text_and_counts(&place);
    let s3 = S3::for_containers();
    s3.put(&text, "text");
    let logs = s3.uri("logs");
    let given = |command: Program| s3.with_keys(command.args(["--log-uri", &logs]));
    let gates = ["join", "map", "shuffle", "before", "after", "over"];
    let mut run = Run::begin(&place, &gates, &s3.uri("text"), &s3.uri("counts"), &given);
    run.cluster.kill("master");
    run.cluster.open("join");
    for gate in ["map", "shuffle"] {
        run.comes_to("core-1", gate);
        run.cluster.kill("master");
        // It has taken the job up again.
        run.job_is("RUNNING");
        run.cluster.open(gate);
    }
    for (gate, visible) in [("before", false), ("after", true)] {
        run.job_is("COMMITTING");
        let is_visible = || s3.find("").iter().any(|name| name.ends_with("counts/_SUCCESS"));
        run.command.runs_until(gate, || is_visible() == visible);
        run.cluster.kill("master");
        run.job_is("COMMITTING");
        run.cluster.open(gate);
    }
    run.counted();
    run.cluster.kill("master");
    run.counted();
    run.cluster.open_at("master", "over");
    run.ends();
    let counts = place.path("counts");
    s3.fs().args(["-get", &s3.uri("counts")]).arg(&counts).run().succeeded();
    assert!(Output::read(&counts).parts == expected.parts, "not byte for byte what one machine writes");
    let known = ["text", "counts", "logs"].map(|name| s3.uri(name));
    let is_known = |name: &str| known.iter().any(|known| name.starts_with(known));
    // Of a job, its decision and that it is carried out stay for a while: docs/commit.md.
    let left = s3.find("").into_iter().filter(|name| !is_known(name) && !name.contains("/.gristmill"));
    assert_eq!(left.collect::<Vec<_>>(), [s3.uri("")]);
    assert_eq!(s3.fs().args(["uploads", &s3.uri("")]).run().succeeded().stdout, "", "uploads are left");
}

#[test]
fn all_are_killed_while_the_cluster_ends_and_it_ends_as_it_would_have() {
    let Some(place) = Containers::new("clusters of containers, killed while they end") else { return };
    let stays = format!("name=stays -- {}", script(&place, "stays", &stubborn_script("stays")));
    let fails = gated_script("fails") + "exit 1\n";
    let fails = format!("name=fails on-failure=terminate-cluster -- {}", script(&place, "fails", &fails));
    let command = place.creation_of(&gated_image(&["stays", "fails"])).args(CLUSTER);
    let command = command.args(["--transient", "--wait", "--step-concurrency", "2"]);
    let mut command = command.args(["--step", &stays, "--step", &fails]).start();
    let mut found = None;
    command.runs_until("a step to stand where it is not to be moved", || {
        found = place.find("killed");
        found.as_ref().is_some_and(|cluster| cluster.running() == 4 && cluster.stands("master", "stays"))
    });
    let cluster = found.expect("it was found");
    let told = || {
        let said = place.command(&["describe", "killed", "--json"]).run().stdout;
        serde_json::from_str::<Value>(said.trim()).unwrap_or_default()
    };

    cluster.open_at("master", "fails");
    // It has ten seconds to move.
    command.runs_until("the cluster to be ending", || told()["life"]["state"] == "TERMINATING");
    let members: Vec<String> = ["core-1", "task-1", "master"].map(|role| cluster.container(role)).into();
    // The engine kills what runs only: none had ended.
    docker(&[&["kill"], &members.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());

    let ended = command.end_within(PATIENCE);
    assert!(!ended.status.success(), "a step has failed: {ended:?}");
    let record: Value = serde_json::from_str(ended.stdout.trim()).expect("JSON");
    assert_eq!(
        (&record["state"], &record["reason"]),
        (&"TERMINATED_WITH_ERRORS".into(), &"STEP_FAILURE".into())
    );
    let steps: Vec<&Value> =
        record["steps"].as_array().expect("a list").iter().map(|step| &step["state"]).collect();
    assert_eq!(steps, ["CANCELLED", "FAILED"], "{record}");
    place.nothing_is_left();
}

#[test]
fn what_a_cluster_that_died_as_a_whole_in_its_commit_left_is_freed_and_the_next_writes_it_once() {
    let Some(place) = Containers::new("whole clusters of containers, killed in a commit") else { return };
    let (text, expected) = text_and_counts(&place);
    let s3 = S3::for_containers();
    s3.put(&text, "text");
    for gate in ["before", "after"] {
        let (input, output) = (s3.uri("text"), s3.uri(gate));
        let mut run = Run::begin(&place, &[gate], &input, &output, &|command| s3.with_keys(command));
        run.job_is("COMMITTING");
        let is_visible = || s3.find("").iter().any(|name| name.ends_with("_SUCCESS") && name.contains(gate));
        run.command.runs_until(gate, || is_visible() == (gate == "after"));
        // Its volumes go with it: nobody is left who knows of the job.
        let containers = run.cluster.containers();
        let containers: Vec<&str> = containers.iter().map(String::as_str).collect();
        docker(&[&["rm", "--force", "--volumes"], &containers[..]].concat());
        place.command(&["terminate", "--force", "killed"]).run().succeeded();
        let ended = run.command.end_within(PATIENCE);
        assert!(ended.stderr.contains("somebody has terminated the cluster killed"), "{ended:?}");
        place.nothing_is_left();

        let step = format!(
            "{} --input {input} --output {output} {}",
            path_of("word_count").display(),
            ARGS.join(" ")
        );
        let again = |more: &str| {
            let step = format!("{step} {more}");
            let command = place.creation().args(["--core", "1", "--transient", "--wait", "--step", &step]);
            let ended = s3.with_keys(command).run();
            let record: Value = serde_json::from_str(ended.stdout.trim()).expect("JSON");
            record["steps"][0]["message"].as_str().expect("a text").to_owned()
        };
        if gate == "before" {
            // The claim may be a living cluster's: nobody takes it over, and who knows better is told how to.
            let refused = again("");
            assert!(refused.contains("gristmill fs uploads --abort"), "{refused}");
            s3.fs().args(["uploads", "--abort", "--older-than", "0s", &output]).run().succeeded();
            assert_eq!(again(""), "", "the step is COMPLETED");
        } else {
            let refused = again("");
            assert!(refused.contains("it exists and is not an empty directory"), "{refused}");
            assert_eq!(again("--overwrite"), "", "the step is COMPLETED");
        }
        let counts = place.path(gate);
        s3.fs().args(["-get", &output]).arg(&counts).run().succeeded();
        assert!(Output::read(&counts).parts == expected.parts, "not byte for byte what one machine writes");
        assert_eq!(s3.fs().args(["uploads", &s3.uri("")]).run().succeeded().stdout, "", "uploads are left");
    }
}
