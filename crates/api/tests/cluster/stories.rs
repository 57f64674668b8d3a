//! The stories.

use crate::attempt::Worker;
use crate::cluster::{Cluster, program};
use gristmill_proto::attempt::from_attempt::Message as Said;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::job_status;
use gristmill_proto::task::AttemptFailure;
use gristmill_proto::task::attempt_failure::Kind;
use std::collections::BTreeMap;
use std::path::Path;

/// All of them, by name.
pub(crate) const ALL: [(&str, fn()); 12] = [
    ("a_job_on_a_cluster_writes_what_it_writes_in_one_process", same_bytes),
    ("a_total_order_is_cut_after_the_maps", total_order),
    ("a_job_reads_and_writes_dfs_by_its_short_name", short_names),
    ("attempts_see_what_the_driver_broadcast", broadcasts),
    ("a_plan_that_follows_from_chance_is_refused_with_a_diff", another_plan),
    ("a_panic_is_told_with_its_text_and_place", panics),
    ("an_attempt_ends_with_its_worker", worker_dies),
    ("an_attempt_stops_when_it_is_told_to", stopped),
    ("the_program_is_sent_once_and_a_lost_answer_is_asked_again", sent_once),
    ("a_driver_outlives_a_lost_master_and_tells_why_the_job_failed", lost_master),
    ("an_interrupted_driver_leaves_the_job_or_kills_it", interrupted),
    ("a_job_is_refused_before_it_is_submitted", refused),
];

fn text() -> String {
    let line = |number: u32| format!("w{} and w{} the end\n", number * 7919 % 501, number % 13);
    (0..20_000).map(line).collect()
}

/// The part files of an output.
fn parts(directory: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(directory).expect("an output").map(|entry| entry.expect("an entry"));
    let parts = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("part-"));
    parts
        .map(|entry| {
            let content = std::fs::read_to_string(entry.path()).expect("read");
            (entry.file_name().to_string_lossy().into_owned(), content)
        })
        .collect()
}

/// Runs the program in its own process.
fn run_locally(arguments: &[&str]) {
    let ended = program().arg("--local=2").args(arguments).output().expect("it runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

fn failure(word: Said) -> AttemptFailure {
    match word {
        Said::Failed(failure) => failure,
        other => panic!("it said {other:?}"),
    }
}

fn same_bytes() {
    let cluster = Cluster::start();
    std::fs::write(cluster.path("in"), text()).expect("written");
    let (input, here, there) = (cluster.uri("in"), cluster.uri("here"), cluster.uri("there"));
    run_locally(&["--input", &input, "--output", &here, "--reducers", "3"]);

    let more = ["--reducers", "3", "--split-size", "100KiB", "--priority", "-2", "--queue", "night"];
    let driver = cluster.drive(&[&["--input", &input, "--output", &there][..], &more].concat());
    let submitted = cluster.jobs.submitted(0);
    let spec = &submitted.spec;
    assert_eq!((spec.queue.as_str(), spec.priority, spec.stages[1].tasks), ("night", -2, 3));
    assert!(spec.stages[0].tasks > 2, "{spec:?}");
    assert_eq!(submitted.hints[0].hints.len(), spec.stages[0].tasks as usize);
    Worker::new(&cluster, &submitted).run_job();

    let ended = driver.end();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    let job = JobId::from_wire(&spec.job).expect("an id").to_string();
    assert!(said.contains(&job) && said.contains("lines: 20,000"), "{said}");
    assert_eq!(parts(&cluster.path("here")), parts(&cluster.path("there")));
    assert_eq!(parts(&cluster.path("there")).len(), 3);
}

fn total_order() {
    let cluster = Cluster::start();
    std::fs::write(cluster.path("in"), text()).expect("written");
    let (input, here, there) = (cluster.uri("in"), cluster.uri("here"), cluster.uri("there"));
    let how = ["--sorted", "--reducers", "3", "--input", &input, "--output"];
    run_locally(&[&how[..], &[&here]].concat());
    let driver = cluster.drive(&[&how[..], &[&there, "--split-size", "100KiB", "--json"]].concat());
    Worker::new(&cluster, &cluster.jobs.submitted(0)).run_job();
    let ended = driver.end();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let report: gristmill::Report = serde_json::from_slice(&ended.stdout).expect("--json prints JSON");
    assert_eq!(report.counter("lines"), 20_000);
    let whole = |name: &str| parts(&cluster.path(name)).into_values().collect::<String>();
    assert_eq!(whole("here"), whole("there"));
    assert!(parts(&cluster.path("there")).values().filter(|part| !part.is_empty()).count() > 1);
}

fn short_names() {
    let cluster = Cluster::start();
    cluster.put("/in/words", b"to be or not to be\n");
    let driver = cluster.drive(&["--input", "dfs:///in", "--output", "dfs:///out"]);
    let submitted = cluster.jobs.submitted(0);
    assert_eq!(submitted.spec.outputs[0].uri, format!("dfs://{}/out", cluster.master));
    assert_eq!(
        submitted.spec.stages.iter().map(|stage| stage.tasks).collect::<Vec<_>>(),
        [1, 1],
        "no ceremony"
    );
    assert_eq!(submitted.hints[0].hints[0].workers.len(), 1, "the one core worker holds it");
    Worker::new(&cluster, &submitted).run_job();
    let ended = driver.end();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(cluster.get("/out/part-r-00000"), b"be\t2\nnot\t1\nor\t1\nto\t2\n");
}

fn broadcasts() {
    let cluster = Cluster::start();
    std::fs::write(cluster.path("in"), "one line\n").expect("written");
    let (input, output) = (cluster.uri("in"), cluster.uri("out"));
    let driver = cluster.drive(&["--mischief", "driver's", "--input", &input, "--output", &output]);
    let id = driver.id();
    Worker::new(&cluster, &cluster.jobs.submitted(0)).run_job();
    assert!(driver.end().status.success());
    let counts: String = parts(&cluster.path("out")).into_values().collect();
    assert!(counts.lines().any(|line| line == format!("{id}\t1")), "{counts}");
}

/// What becomes of the first attempt of a program that does this.
fn first_attempt(mischief: &str, story: impl FnOnce(Worker<'_>)) {
    let cluster = Cluster::start();
    std::fs::write(cluster.path("in"), "one line\n").expect("written");
    let (input, output) = (cluster.uri("in"), cluster.uri("out"));
    let driver = cluster.drive(&["--detach", "--mischief", mischief, "--input", &input, "--output", &output]);
    let submitted = cluster.jobs.submitted(0);
    let printed = driver.end().stdout;
    let job = JobId::from_wire(&submitted.spec.job).expect("an id");
    assert_eq!(String::from_utf8_lossy(&printed), format!("{job}\n"), "the id and nothing else");
    story(Worker::new(&cluster, &submitted));
}

fn another_plan() {
    first_attempt("another plan", |mut worker| {
        let mut attempt = worker.start(0, 0);
        assert_ne!(attempt.greeted(), worker.spec.fingerprint);
        let failure = failure(attempt.last_word());
        assert_eq!(failure.kind(), Kind::Plan);
        let lines: Vec<&str> = failure.message.lines().collect();
        assert_eq!(lines.len(), 3, "{}", failure.message);
        assert!(lines[0].contains("builds another plan in an attempt than at the driver"), "{}", lines[0]);
        assert!(lines[1].starts_with("  driver:  counters: [\"lines of process "), "{}", lines[1]);
        assert!(lines[2].starts_with("  attempt: counters: [\"lines of process "), "{}", lines[2]);
    });
}

fn panics() {
    first_attempt("panic", |mut worker| {
        let failure = failure(worker.start(0, 0).last_word());
        assert_eq!(failure.kind(), Kind::Panic);
        let said = &failure.message;
        assert!(said.contains("this line is too much") && said.contains("program.rs:"), "{said}");
        assert!(said.contains("offset 0 of "), "{said}");
    });
}

fn worker_dies() {
    first_attempt("hang", |mut worker| {
        let mut attempt = worker.start(0, 0);
        assert_eq!(attempt.greeted(), worker.spec.fingerprint);
        assert_eq!(attempt.abandon().code(), Some(1));
    });
}

fn stopped() {
    // A reduce whose map outputs never come waits, and hears that it need not.
    first_attempt("", |mut worker| {
        let mut attempt = worker.start(1, 0);
        attempt.greeted();
        attempt.stop("the job was killed");
        let failure = failure(attempt.last_word());
        assert_eq!((failure.kind(), failure.message.as_str()), (Kind::Killed, "the job was killed"));
    });
}

fn sent_once() {
    let cluster = Cluster::start();
    std::fs::write(cluster.path("in"), "one line\n").expect("written");
    let (input, output) = (cluster.uri("in"), cluster.uri("out"));
    let submit = |more: &[&str]| {
        let arguments = [&["--detach", "--input", &input, "--output", &output][..], more].concat();
        let ended = cluster.drive(&arguments).end();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).expect("an id").trim_end().to_owned()
    };
    cluster.jobs.lose_answers(2);
    let first = submit(&[]);
    assert_eq!(cluster.jobs.count(), 1, "the same job came three times");
    let program = |number| cluster.jobs.submitted(number).spec.program.expect("a program").path;
    let modified = || {
        let uri = cluster.dfs(&program(0));
        uri.file_system().expect("the cluster's").stat(&uri).expect("it is there").modified_ms
    };
    let sent = modified();
    let own = std::fs::read(std::env::current_exe().expect("this file")).expect("read");
    assert!(cluster.get(&program(0)) == own, "the whole program is there");
    let second = submit(&[]);
    assert_ne!(first, second);
    assert_eq!((program(1), modified()), (program(0), sent));

    assert_eq!(submit(&["--job-id", &second]), second);
    assert_eq!(cluster.jobs.count(), 2, "it was known");
    let other = cluster.drive(&["--input", &input, "--output", &output, "--name", "x", "--job-id", &second]);
    let ended = other.end();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(1) && said.contains("not this one"), "{said}");
}

/// A driver that watches its job.
fn watching(cluster: &Cluster, more: &[&str]) -> (crate::cluster::Driver, JobId) {
    std::fs::write(cluster.path("in"), "one line\n").expect("written");
    let (input, output) = (cluster.uri("in"), cluster.uri("out"));
    let (count, watches) = (cluster.jobs.count(), cluster.jobs.watches());
    let driver = cluster.drive(&[&["--input", &input, "--output", &output][..], more].concat());
    let job = JobId::from_wire(&cluster.jobs.submitted(count).spec.job).expect("an id");
    cluster.jobs.wait_for_watches(watches + 1);
    (driver, job)
}

fn lost_master() {
    let cluster = Cluster::start();
    let (driver, job) = watching(&cluster, &[]);
    cluster.jobs.break_watches(job);
    cluster.jobs.wait_for_watches(2);
    cluster.jobs.show(job, |status| {
        status.warnings = vec!["no core worker took a map output".to_owned()];
        status.state = job_status::State::Failed.into();
        status.reason = "map 1 task 1 failed: disk full".to_owned();
    });
    let ended = driver.end();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!((ended.status.code(), said.lines().count()), (Some(1), 2), "{said}");
    assert!(said.starts_with("warning: no core worker took a map output\n"), "{said}");
    assert!(said.ends_with(&format!(": job {job} failed: map 1 task 1 failed: disk full\n")), "{said}");
}

fn interrupted() {
    let cluster = Cluster::start();
    let (driver, job) = watching(&cluster, &[]);
    driver.interrupt();
    let ended = driver.end();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(1) && said.contains("goes on"), "{said}");
    assert!(said.contains(&format!("gristmill job wait --master {} {job}", cluster.master)), "{said}");

    let (driver, job) = watching(&cluster, &["--kill-on-exit"]);
    driver.interrupt();
    cluster.jobs.wait_for_kill(job);
    cluster.jobs.show(job, |status| {
        status.state = job_status::State::Killed.into();
        status.reason = "its driver was interrupted".to_owned();
    });
    let ended = driver.end();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(1) && said.contains("was killed"), "{said}");
}

fn refused() {
    let cluster = Cluster::start();
    std::fs::write(cluster.path("in"), "one line\n").expect("written");
    let (input, output, home) = (cluster.uri("in"), cluster.uri("out"), cluster.uri(""));
    let said = |arguments: &[&str]| {
        let ended = cluster.drive(arguments).end();
        assert_eq!(ended.status.code(), Some(1));
        let said = String::from_utf8(ended.stderr).expect("a sentence");
        assert_eq!(said.lines().count(), 1, "one sentence, not {said:?}");
        said
    };
    assert!(said(&["--input", "/no/such/file", "--output", &output]).contains("/no/such/file"));
    assert!(said(&["--input", &input, "--output", "memory://m/out"]).contains("within one process"));
    let sentence = said(&["--input", &input, "--output", &home, "--overwrite"]);
    assert!(sentence.contains("which the job would replace"), "{sentence}");
    assert_eq!(cluster.jobs.count(), 0);
}
