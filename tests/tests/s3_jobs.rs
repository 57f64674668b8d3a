//! Jobs whose output is on `s3://`, against a local S3 server: in one process and on a cluster, on bad days too.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gristmill_tests::{Cluster, ClusterOptions, Ended, Home, Output, Program, S3, corpus, patiently};

const TEXT_BYTES: usize = 6 << 20;

/// The text on S3, the counts as a local run makes them, and a place for files.
struct Story {
    s3: S3,
    home: Home,
    expected: Vec<String>,
}

impl Story {
    fn begin() -> Story {
        let (s3, home) = (S3::start(), Home::new());
        let text = home.path("text");
        fs::write(&text, corpus(TEXT_BYTES, 6)).expect("a file");
        s3.put(&text, "text");
        let job = Program::word_count().args(["--input", &home.uri("text"), "--output", &home.uri("local")]);
        job.run().succeeded();
        let expected = Output::read(home.path("local")).sorted_lines();
        Story { s3, home, expected }
    }

    fn job(&self, output: &str) -> Program {
        let job =
            Program::word_count().args(["--input", &self.s3.uri("text"), "--output", &self.s3.uri(output)]);
        self.s3.with_keys(job)
    }

    /// The output has come to this machine: its lines.
    fn lines(&self, output: &str) -> Vec<String> {
        let to = self.home.path(&format!("got-{output}"));
        self.s3.fs().args(["-get", &self.s3.uri(output)]).arg(&to).run().succeeded();
        assert!(to.join("_SUCCESS").exists(), "it says that it is whole");
        Output::read(&to).sorted_lines()
    }

    /// Neither uploads nor claims are left.
    fn nothing_is_left(&self) {
        patiently("nothing to be left open", || self.leftovers().is_empty());
    }

    fn leftovers(&self) -> String {
        self.s3.fs().args(["uploads", &self.s3.uri("")]).run().succeeded().stdout
    }
}

/// A cluster whose daemons know the keys.
fn cluster(s3: &S3) -> Cluster {
    let env = s3.variables().into_iter().collect();
    Cluster::with(ClusterOptions { workers: 2, slots: 2, secret: true, env, ..ClusterOptions::default() })
}

/// The job on the cluster.
fn on(story: &Story, cluster: &Cluster, output: &str) -> Program {
    let job = story.job(output).env("GRISTMILL_MASTER", cluster.master());
    let job = job.env("GRISTMILL_SECRET_FILE", cluster.secret_file().expect("it has a secret"));
    job.args(["--split-size", "1MiB", "--reducers", "5"])
}

#[test]
fn a_job_in_one_process_writes_to_s3_once() {
    let story = Story::begin();
    story.job("out").run().succeeded();
    assert_eq!(story.lines("out"), story.expected);
    story.nothing_is_left();

    let again = story.job("out").run();
    assert!(again.stderr.contains("exists"), "{}", again.stderr);
    assert_eq!(again.status.code(), Some(1));
    story.nothing_is_left();
    // Fewer files than before: those of the first are gone.
    story.job("out").args(["--overwrite", "--reducers", "1"]).run().succeeded();
    let parts = story.s3.find("out").into_iter().filter(|name| name.contains("part-")).count();
    assert_eq!(parts, 1);
    story.nothing_is_left();
}

#[test]
fn a_job_that_was_killed_leaves_nothing_visible_and_can_be_swept() {
    let story = Story::begin();
    let mut job = story.job("out").args(["--split-size", "1MiB"]).start();
    job.runs_until("the job to claim its output", || story.leftovers().contains(" job "));
    job.signal(rustix::process::Signal::KILL);
    job.end();
    let visible = story.s3.fs().args(["-test", "-e", &story.s3.uri("out")]).run();
    assert_eq!(visible.status.code(), Some(1), "nothing appears before the commit");
    // It is not a day old: a sweep that is not told otherwise leaves it alone.
    story.s3.fs().args(["uploads", "--abort", &story.s3.uri("")]).run().succeeded();
    assert!(story.leftovers().contains(" job "));
    story.s3.fs().args(["uploads", "--abort", "--older-than", "0s", &story.s3.uri("")]).run().succeeded();
    assert_eq!(story.leftovers(), "");
    story.job("out").run().succeeded();
    assert_eq!(story.lines("out"), story.expected);
}

#[test]
fn a_job_takes_over_what_a_dead_one_of_this_machine_has_claimed_and_nothing_of_a_living_one() {
    let story = Story::begin();
    let mut job = story.job("out").args(["--split-size", "1MiB"]).start();
    job.runs_until("the job to claim its output", || story.leftovers().contains(" job "));
    // It can go no further, and is not dead.
    job.signal(rustix::process::Signal::STOP);
    let visible = story.s3.fs().args(["-test", "-e", &story.s3.uri("out")]).run();
    assert_eq!(visible.status.code(), Some(1), "it has not committed: the claim is what keeps others out");
    let refused = story.job("out").run();
    assert!(refused.stderr.contains("fs uploads --abort"), "{}", refused.stderr);
    job.signal(rustix::process::Signal::KILL);
    job.end();
    let again = story.job("out").run().succeeded();
    assert!(again.stderr.contains("died while it wrote"), "{}", again.stderr);
    assert_eq!(story.lines("out"), story.expected);
    story.nothing_is_left();
}

#[test]
fn a_cluster_writes_to_s3_once_and_tells_nobody_the_keys() {
    let story = Story::begin();
    let cluster = cluster(&story.s3);
    let first = on(&story, &cluster, "out").start();
    // Another job on the same output, at the same time or after: refused either way.
    let second = on(&story, &cluster, "out").run();
    let first = first.end();
    let done = |ended: &Ended| ended.status.success();
    assert!(done(&first) != done(&second), "one of them: {} / {}", first.stderr, second.stderr);
    assert_eq!(story.lines("out"), story.expected);
    story.nothing_is_left();
    let secret = story.s3.secret();
    for dir in ["master", "worker-0", "worker-1"] {
        let found = files_with(&cluster.path(dir), &[secret.as_bytes(), b"X-Amz-Signature="]);
        assert_eq!(found, Vec::<String>::new(), "keys and signatures are in no file of the cluster");
    }
    for ended in [first, second] {
        for said in [ended.stdout, ended.stderr] {
            assert!(!said.contains(&secret) && !said.contains("X-Amz-Signature="), "{said}");
        }
    }
}

#[test]
fn workers_and_masters_die_and_the_output_is_whole() {
    let story = Story::begin();
    let mut cluster = cluster(&story.s3);
    let mut job = on(&story, &cluster, "out").start();
    job.runs_until("the job to claim its output", || story.leftovers().contains(" job "));
    cluster.kill_worker(1);
    cluster.kill_master();
    cluster.start_master();
    cluster.start_worker(1);
    job.end().succeeded();
    assert_eq!(story.lines("out"), story.expected);
    story.nothing_is_left();
}

/// Files below `dir` that hold one of these.
fn files_with(dir: &Path, needles: &[&[u8]]) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    let mut sizes = BTreeMap::new();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            // A daemon removes files while this goes on.
            let Ok(bytes) = fs::read(&path) else { continue };
            let holds = |needle: &&[u8]| bytes.windows(needle.len()).any(|window| window == *needle);
            if needles.iter().any(holds) {
                found.push(path.display().to_string());
            }
            sizes.insert(path, bytes.len());
        }
    }
    assert!(sizes.values().sum::<usize>() > 0, "there was something to look through");
    found
}
