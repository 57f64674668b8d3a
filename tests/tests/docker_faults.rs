//! Containers are killed and cut off in the middle of a job: it takes longer, and writes the same.

use std::collections::BTreeMap;
use std::fs;

use gristmill_tests::{
    ContainerCluster, Containers, Job, Output, corpus, over_stages, patiently, word_counts,
};
use serde_json::Value;

/// Enough for a job of some seconds: a split is a task.
const TEXT_BYTES: usize = 2_000_000;
const SPLIT: &str = "32KiB";

struct Counting<'c> {
    place: &'c Containers,
    cluster: ContainerCluster<'c>,
    text: Vec<u8>,
    jobs: u32,
}

impl<'c> Counting<'c> {
    /// Every block has two copies: one worker may be away.
    fn new(place: &'c Containers) -> Counting<'c> {
        let cluster = place.create(&["--core", "2", "--task", "1", "--replication", "2"]);
        let text = corpus(TEXT_BYTES, 11);
        let file = place.path("text");
        fs::write(&file, &text).expect("a file");
        cluster.gristmill().args(["fs", "put"]).arg(&file).arg("/text").run().succeeded();
        Counting { place, cluster, text, jobs: 0 }
    }

    fn begin(&mut self) -> (Job, String) {
        self.jobs += 1;
        let output = format!("/out-{}", self.jobs);
        let uri = format!("dfs://{output}");
        let args = ["--input", "dfs:///text", "--output", &uri, "--split-size", SPLIT, "--reducers", "3"];
        (self.cluster.submit("word_count", &args), output)
    }

    #[track_caller]
    fn is_right(&self, job: &Job, output: &str) {
        job.done();
        let copy = self.place.path(&output[1..]);
        self.cluster.gristmill().args(["fs", "get", output]).arg(&copy).run().succeeded();
        let output = Output::read(&copy);
        let counted = output.counts().into_iter().flatten().map(|(word, count)| (word.to_vec(), count));
        assert_eq!(counted.collect::<BTreeMap<_, _>>(), word_counts(&self.text));
    }

    /// Waits until all members run again: killed ones are started again on their volumes.
    #[track_caller]
    fn heals(&self) {
        let wanted = self.cluster.containers().len();
        patiently("all members to run", || self.cluster.running() == wanted);
        patiently("all workers to attend", || {
            let described = self.cluster.gristmill().args(["cluster", "describe", "--json"]).run();
            let Ok(described) = serde_json::from_str::<Value>(&described.stdout) else { return false };
            let workers = described["workers"].as_array().expect("a list").iter();
            workers.filter(|worker| worker["state"] == "live").count() >= wanted - 1
        });
    }
}

/// So many tasks are done: the job is in the middle.
fn is_under_way(status: &Value) -> bool {
    (5..50).contains(&over_stages(status, "done"))
}

#[test]
fn a_job_survives_the_killing_of_each_role() {
    let Some(place) = Containers::new("killed containers") else { return };
    let mut counting = Counting::new(&place);
    for role in ["task-1", "core-1", "master"] {
        let (job, output) = counting.begin();
        job.until("the middle of the job", is_under_way);
        counting.cluster.kill(role);
        counting.is_right(&job, &output);
        counting.heals();
    }
    counting.cluster.terminate();
    assert_eq!(place.objects(), Vec::<String>::new());
}

#[test]
fn a_job_survives_that_a_worker_is_cut_off_and_comes_back() {
    let Some(place) = Containers::new("workers cut off from their networks") else { return };
    let mut counting = Counting::new(&place);
    for role in ["core-2", "task-1"] {
        let (job, output) = counting.begin();
        job.until("the middle of the job", is_under_way);
        counting.cluster.cut_off(role);
        counting.is_right(&job, &output);
        counting.cluster.connect(role);
        counting.heals();
    }
    let (job, output) = counting.begin();
    counting.is_right(&job, &output);
    counting.cluster.terminate();
    assert_eq!(place.objects(), Vec::<String>::new());
}

#[test]
fn a_job_survives_that_its_master_is_cut_off_until_all_workers_are_lost_and_comes_back() {
    let Some(place) = Containers::new("masters cut off from their networks") else { return };
    let mut counting = Counting::new(&place);
    let (job, output) = counting.begin();
    job.until("the middle of the job", is_under_way);
    counting.cluster.cut_off("master");
    let outside = counting.cluster.gristmill().args(["fs", "ls", "/"]).run();
    assert!(!outside.status.success(), "nobody reaches it: {}", outside.stdout);
    // It talks to itself only.
    let describe = ["gristmill", "cluster", "describe", "--json", "--master", "127.0.0.1:7070"];
    patiently("all workers to be lost", || {
        let described = counting.cluster.within("master", &describe);
        let Ok(described) = serde_json::from_str::<Value>(&described) else { return false };
        described["workers"].as_array().expect("a list").iter().all(|worker| worker["state"] == "lost")
    });
    counting.cluster.connect("master");
    counting.heals();
    counting.is_right(&job, &output);
    counting.cluster.terminate();
    assert_eq!(place.objects(), Vec::<String>::new());
}

#[test]
fn workers_come_and_go_while_files_stay() {
    let Some(place) = Containers::new("scaled clusters of containers") else { return };
    let mut counting = Counting::new(&place);
    let scaled = |args: &[&str]| {
        let name = counting.cluster.name().to_owned();
        place.command(&["scale", &name]).args(args).run()
    };
    let grown = scaled(&["--task", "2", "--core", "3"]).succeeded().stdout;
    assert!(grown.contains("core-3 has come") && grown.contains("task-2 has come"), "{grown}");
    let refused = scaled(&["--core", "1"]).sentence();
    assert!(refused.starts_with("blocks have 2 copies: with 1 core workers"), "{refused}");
    // It gives its blocks away first: with them two copies remain of each.
    let shrunk = scaled(&["--core", "2", "--task", "0"]).succeeded().stdout;
    assert!(shrunk.contains("core-3 has gone") && shrunk.contains("task-1 has gone"), "{shrunk}");
    let fsck = counting.cluster.gristmill().args(["fs", "fsck", "/"]).run().succeeded().stdout;
    assert!(fsck.contains("HEALTHY"), "{fsck}");
    let gone: Vec<String> = place.objects().into_iter().filter(|name| name.contains("task-")).collect();
    assert_eq!(gone, Vec::<String>::new());
    let (job, output) = counting.begin();
    counting.is_right(&job, &output);
    counting.cluster.terminate();
    assert_eq!(place.objects(), Vec::<String>::new());
}
