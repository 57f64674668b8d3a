//! A job is held exactly in its commit, and the master, a worker or the driver is killed right there: the output appears
//! once and whole, or not at all and the job says why.
//!
//! What holds it is GRISTMILL_TEST_HOLD_PUBLISH of the master (docs/operating.md): while the file `before` is there, the
//! decision is durable and nothing is visible; while `after` is there, all is visible and nobody knows.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use gristmill_tests::{Cluster, ClusterOptions, Job, Output, Program, Running, corpus, file_uri, patiently};
use rustix::process::Signal;
use tempfile::TempDir;

const ARGS: [&str; 6] = ["--input", "dfs:///text", "--reducers", "2", "--split-size", "64KiB"];

/// A cluster whose commits can be held, and what its job writes.
struct Story {
    cluster: Cluster,
    hold: TempDir,
    expected: BTreeMap<String, Vec<u8>>,
}

impl Story {
    fn begin() -> Story {
        let hold = tempfile::tempdir().expect("a directory");
        let env = vec![("GRISTMILL_TEST_HOLD_PUBLISH", file_uri(hold.path()))];
        let cluster = Cluster::with(ClusterOptions { workers: 2, env, ..Default::default() });
        cluster.wait_for_all_slots();
        let text = corpus(200_000, 3);
        cluster.put("/text", &text);
        let (input, local) = (cluster.path("text"), cluster.path("local"));
        fs::write(&input, &text).expect("a file");
        let here =
            Program::word_count().args(&ARGS[2..]).arg("--input").arg(&input).arg("--output").arg(&local);
        here.run().succeeded();
        let expected = Output::read(&local).parts;
        Story { cluster, hold, expected }
    }

    fn hold(&self, moment: &str) -> PathBuf {
        let file = self.hold.path().join(moment);
        fs::write(&file, "").expect("a file");
        file
    }

    /// A job with its driver, held in its commit.
    fn committing(&self, output: &str) -> (Running, Job) {
        let mut driver = self.cluster.drive("word_count").args(ARGS).args(["--output", output]).start();
        let mut id = String::new();
        driver.runs_until("the job to commit", || {
            let listed = self.cluster.gristmill().args(["job", "list", "--json"]).run().stdout;
            let jobs =
                listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
            let held = jobs.filter(|job| job["state"] == "COMMITTING").map(|job| job["job"].clone()).next();
            id = held.as_ref().and_then(|id| id.as_str()).unwrap_or_default().to_owned();
            !id.is_empty()
        });
        (driver, self.cluster.known_job(&id))
    }

    /// Whether a file of the output can be seen.
    fn is_visible(&self, output: &str) -> bool {
        match output.strip_prefix("dfs://") {
            Some(path) => !self.cluster.names_in(path).is_empty(),
            None => PathBuf::from(output).exists(),
        }
    }

    /// The output is there, whole, and nothing beside it.
    fn has_appeared(&self, output: &str, job: &Job) {
        let found = match output.strip_prefix("dfs://") {
            Some(path) => self.cluster.output(path),
            None => Output::read(output),
        };
        assert!(found.parts == self.expected, "{output} is not byte for byte what one machine writes");
        assert_eq!(found.manifest["job_id"], job.id.as_str(), "{output} is of this job");
        self.nothing_is_left(job);
    }

    fn nothing_is_left(&self, job: &Job) {
        patiently("what was staged, and the job's files, to go", || {
            let below = [self.cluster.names_in("/"), self.cluster.names_in("/.gristmill/jobs")].concat();
            let here = fs::read_dir(self.cluster.path("")).expect("our directory");
            let here = here.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
            !below.into_iter().chain(here).any(|name| name.contains(&job.id))
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Master,
    Worker,
    Driver,
}

#[test]
fn whoever_is_killed_in_a_commit_the_output_appears_once_and_whole() {
    let mut story = Story::begin();
    for (number, moment) in ["before", "after"].into_iter().enumerate() {
        for victim in [Victim::Master, Victim::Worker, Victim::Driver] {
            let here = file_uri(&story.cluster.path(&format!("out-{number}-{victim:?}")));
            for output in [format!("dfs:///out-{number}-{victim:?}"), here] {
                let what = format!("{victim:?} killed {moment} publishing {output}");
                let file = story.hold(moment);
                let (driver, job) = story.committing(&output);
                patiently(&what, || story.is_visible(&output) == (moment == "after"));
                let killed = match victim {
                    Victim::Master => {
                        story.cluster.kill_master();
                        story.cluster.start_master();
                        // The file is still there: the new master stands where the old one stood.
                        job.until("the job to commit again", |status| status["state"] == "COMMITTING");
                        Some(driver)
                    }
                    Victim::Worker => {
                        story.cluster.kill_worker(0);
                        Some(driver)
                    }
                    Victim::Driver => {
                        driver.signal(Signal::KILL);
                        driver.end();
                        None
                    }
                };
                assert_eq!(job.status()["state"], "COMMITTING", "{what}: it was held until now");
                fs::remove_file(&file).expect("our own file");
                job.done();
                // A driver that lives hears of the end, over whatever happened.
                killed.into_iter().for_each(|driver| drop(driver.end().succeeded()));
                if victim == Victim::Worker {
                    // It may have the only copy of a block.
                    story.cluster.start_worker(0);
                    story.cluster.wait_for_all_slots();
                    story.cluster.wait_for_workers(2);
                }
                story.has_appeared(&output, &job);
            }
        }
    }
}

#[test]
fn an_output_that_cannot_appear_any_more_does_not_and_the_job_says_why() {
    let mut story = Story::begin();
    let file = story.hold("before");
    let (driver, job) = story.committing("dfs:///taken");
    story.cluster.kill_master();
    story.cluster.start_master();
    // While nobody was the master's eyes, somebody else has taken the name.
    story.cluster.put("/taken/own", b"not the job's");
    fs::remove_file(&file).expect("our own file");
    let reason = job.failed();
    assert!(reason.contains("/taken") && reason.contains("exists"), "{reason}");
    assert!(driver.end().sentence().contains(&reason));
    assert_eq!(story.cluster.names_in("/taken").len(), 1, "nothing of the job has appeared");
    assert_eq!(story.cluster.get("/taken/own"), b"not the job's");
    story.nothing_is_left(&job);
}

#[test]
fn a_job_that_commits_cannot_be_killed_and_whoever_tries_is_told() {
    let story = Story::begin();
    let file = story.hold("before");
    let (driver, job) = story.committing("dfs:///out");
    let told = job.command("kill").run();
    assert!(
        told.stdout.contains("is being published") || told.stderr.contains("is being published"),
        "{told:?}"
    );
    fs::remove_file(&file).expect("our own file");
    job.done();
    driver.end().succeeded();
    story.has_appeared("dfs:///out", &job);
}
