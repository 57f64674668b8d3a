//! `gristmill job` and `gristmill cluster` as a user types them.

use std::fs;

use gristmill_tests::{Cluster, ClusterOptions, Program, file_uri, patiently};
use serde_json::Value;

fn cluster() -> Cluster {
    let cluster = Cluster::with(ClusterOptions { workers: 2, task_workers: 1, ..Default::default() });
    cluster.wait_for_all_slots();
    cluster
}

fn said(cluster: &Cluster, args: &[&str]) -> String {
    cluster.gristmill().args(args).run().succeeded().stdout
}

#[test]
fn a_job_is_submitted_watched_and_remembered() {
    let cluster = cluster();
    let gate = cluster.path("gate");
    let job = cluster.submit(
        "gated",
        &["--rows", "100", "--stuck", "--gate", &file_uri(&gate), "--output", "dfs:///out", "--name", "mine"],
    );
    job.until("it to run", |status| status["stages"][0]["running"].as_u64() >= Some(1));
    let prefix = &job.id[..8];
    let status = said(&cluster, &["job", "status", prefix]);
    for part in [&job.id, "mine", "RUNNING", "map 1", "reduce 1", "queue default"] {
        assert!(status.contains(part), "{part} is not in\n{status}");
    }
    let list = said(&cluster, &["job", "list"]);
    assert!(list.contains(&job.id) && list.contains("RUNNING"), "{list}");
    assert!(!said(&cluster, &["job", "history"]).contains(&job.id), "it has not ended");
    assert!(said(&cluster, &["job", "tasks", prefix, "--stage", "0"]).contains("running on worker-"));

    fs::write(&gate, "").expect("a gate");
    let waited = job.wait().succeeded();
    assert!(waited.stdout.contains("mine is done after"), "{}", waited.stdout);
    assert!(!said(&cluster, &["job", "list"]).contains(&job.id), "it has ended");
    let history = said(&cluster, &["job", "history", "--json"]);
    let status: Value = serde_json::from_str(history.lines().next().expect("a job")).expect("JSON");
    assert_eq!((&status["job"], &status["state"]), (&Value::from(job.id.as_str()), &Value::from("DONE")));
    assert_eq!(status["report"]["job_id"], job.id.as_str());
    let status = said(&cluster, &["job", "status", prefix]);
    assert!(status.contains("Outputs:") && status.contains("dfs://"), "{status}");
}

#[test]
fn submit_waits_if_it_is_told_to_and_ends_as_the_job_does() {
    let cluster = cluster();
    cluster.put("/text", b"to be or not to be");
    let program = gristmill_tests::path_of("word_count");
    let submit = |args: &[&str]| {
        let command = cluster.gristmill().args(["job", "submit", "--wait"]).arg(&program).arg("--");
        command.args(args).run()
    };
    let ended = submit(&["--input", "dfs:///text", "--output", "dfs:///out"]).succeeded();
    let id = ended.stdout.lines().next().expect("its id").to_owned();
    assert!(ended.stdout.contains(&format!("{id} word_count is done after")), "{}", ended.stdout);
    let refused = submit(&["--input", "dfs:///text", "--output", "dfs:///out"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("/out") && refused.stderr.contains("exists"), "{}", refused.stderr);
    // The driver's own words, before there is a job.
    let refused = submit(&["--input", "dfs:///none", "--output", "dfs:///other"]);
    assert_eq!((refused.status.code(), refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("/none"), "{}", refused.stderr);
    assert_eq!(submit(&["--no-such-flag"]).status.code(), Some(2), "a wrong usage is one here, too");
    let none = cluster.gristmill().args(["job", "submit", "/bin/true"]).run();
    assert!(none.stderr.contains("not a job program"), "{}", none.stderr);
}

#[test]
fn a_failed_job_says_why_and_shows_its_logs() {
    let cluster = cluster();
    let job =
        cluster.submit("unruly", &["--fault", "panic", "--output", "dfs:///out", "--max-attempts", "2"]);
    let reason = job.failed();
    assert!(reason.contains("the map is out of order") && reason.contains("s0-t00000"), "{reason}");
    let logs = job.command("logs").run().succeeded().stdout;
    assert_eq!(logs.matches("==> stderr of s0-t00000-a").count(), 2, "{logs}");
    assert!(logs.contains("the map is out of order"), "{logs}");
    let one = job.command("logs").args(["--task", "0/0", "--attempt", "0"]).run().succeeded().stdout;
    assert!(!one.contains("==>") && one.contains("the map is out of order"), "{one}");
    let missing = job.command("logs").args(["--task", "7/7"]).run();
    assert!(missing.stderr.contains("knows no task 7/7"), "{}", missing.stderr);
    let failed = job.command("tasks").args(["--failed", "--json"]).run().succeeded().stdout;
    assert_eq!(failed.lines().count(), 1, "{failed}");
}

#[test]
fn a_job_is_killed_once_and_stays_killed() {
    let cluster = cluster();
    let gate = file_uri(&cluster.path("no-gate"));
    let job =
        cluster.submit("gated", &["--rows", "10", "--stuck", "--gate", &gate, "--output", "dfs:///out"]);
    let killed = job.command("kill").args(["--reason", "too\u{1b}[31m slow"]).run().succeeded();
    assert!(killed.stdout.contains(&job.id), "{}", killed.stdout);
    let waited = job.wait();
    assert_eq!(waited.status.code(), Some(1));
    assert!(waited.stderr.contains("was killed") && waited.stderr.contains("slow"), "{}", waited.stderr);
    assert!(!waited.stderr.contains('\u{1b}'), "a terminal gets no orders");
    assert_eq!(job.status()["state"], "KILLED");
    assert!(cluster.names_in("/out").is_empty());
    let unknown = cluster.gristmill().args(["job", "status", "no-such-job"]).run();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(unknown.stderr.contains("no job is named no-such-job"), "{}", unknown.stderr);
}

#[test]
fn counters_are_of_what_was_done() {
    let cluster = cluster();
    cluster.put("/text", b"one two\nthree\nfour one\n");
    let job =
        cluster.submit("grep", &["--pattern", "one", "--input", "dfs:///text", "--output", "dfs:///out"]);
    job.done();
    let counters = job.command("counters").arg("--json").run().succeeded().stdout;
    let counters: Value = serde_json::from_str(&counters).expect("JSON");
    let values: Vec<u64> = counters["counters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|counter| counter["value"].as_u64().expect("a number"))
        .collect();
    assert!(values.contains(&2), "two lines match: {counters}");
    let text = job.command("counters").run().succeeded().stdout;
    assert!(text.lines().all(|line| line.split_once('\t').is_some()), "{text}");
}

#[test]
fn a_cluster_shows_its_workers_and_its_pages() {
    let cluster = cluster();
    let described = said(&cluster, &["cluster", "describe"]);
    assert!(described.contains("Slots:     3 of 3 free"), "{described}");
    assert_eq!(described.matches(" live ").count(), 3, "{described}");
    let page = |path: &str| {
        use std::io::{Read, Write};
        let address = fs::read_to_string(cluster.path("master/http-address")).expect("an address");
        let mut stream = std::net::TcpStream::connect(address.trim()).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(page("/metrics").contains("gristmill_"), "{}", page("/metrics"));
    let status = page("/status");
    let (head, body) = status.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(body.contains('{'), "{body}");
    assert!(page("/no-such-page").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_drained_worker_gets_nothing_until_it_is_taken_back() {
    let cluster = cluster();
    let worker_number = cluster.worker_number(2);
    let number = worker_number.to_string();
    said(&cluster, &["cluster", "drain", &number, "--wait"]);
    let state = |cluster: &Cluster| {
        let described = cluster.describe();
        let workers = described["workers"].as_array().expect("a list").clone();
        let found = workers.into_iter().find(|worker| worker["worker"] == worker_number);
        found.map(|worker| worker["state"].as_str().expect("a word").to_owned())
    };
    assert_eq!(state(&cluster).as_deref(), Some("drained"));
    said(&cluster, &["cluster", "drain", &number, "--undo"]);
    patiently("the worker to be back", || state(&cluster).as_deref() == Some("live"));
    let unknown = cluster.gristmill().args(["cluster", "drain", "99"]).run();
    assert!(unknown.stderr.contains("no worker is named 99"), "{}", unknown.stderr);
}

#[test]
fn without_a_master_commands_say_what_to_do() {
    let ended = Program::gristmill().args(["job", "list"]).run();
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("GRISTMILL_MASTER"), "{}", ended.stderr);
}

#[test]
fn one_process_is_a_whole_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let data_dir = dir.path().join("data");
    let start = || {
        let master = Program::gristmill().args(["master", "--listen", "127.0.0.1:0", "--http", "off"]);
        master.arg("--data-dir").arg(&data_dir).start()
    };
    let (address, text) = (data_dir.join("address"), dir.path().join("text"));
    fs::write(&text, "to be or not to be").expect("a file");
    for round in 0..2 {
        let mut master = start();
        master.runs_until("the master to listen", || address.exists());
        let at = fs::read_to_string(&address).expect("an address").trim().to_owned();
        master.runs_until("a worker in the same process", || {
            let described =
                Program::gristmill().args(["cluster", "describe", "--json", "--master", &at]).run();
            described.stdout.contains(r#""role":"core""#)
        });
        let output = format!("dfs:///out-{round}");
        let job =
            Program::word_count().args(["--master", &at, "--output", &output]).arg("--input").arg(&text);
        job.run().succeeded();
        master.signal(rustix::process::Signal::TERM);
        master.end().succeeded();
    }
}
