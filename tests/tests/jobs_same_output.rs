//! Every job program writes on a cluster what it writes on one machine: with one, two and five workers, with and without
//! task workers, while two other jobs run.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use gristmill_tests::{Cluster, ClusterOptions, Dice, Job, Output, Program, corpus, over_stages};

/// One run of a job program: its name for outputs, the program, its arguments, and whether its part files, one after the
/// other, are in order (else they are compared as multisets).
struct Run {
    program: &'static str,
    args: &'static [&'static str],
    ordered: bool,
}

const RUNS: [Run; 13] = [
    Run { program: "word_count", args: &["--input", "dfs:///in/text"], ordered: false },
    Run { program: "grep", args: &["--pattern", "w1[0-9]", "--input", "dfs:///in/text"], ordered: false },
    Run { program: "inverted_index", args: &["--input", "dfs:///in/text", "dfs:///in/log"], ordered: false },
    Run { program: "sessions", args: &["--input", "dfs:///in/log"], ordered: false },
    Run { program: "top_words", args: &["--input", "dfs:///in/text"], ordered: true },
    Run { program: "top_words", args: &["--top", "20", "--input", "dfs:///in/text"], ordered: true },
    Run {
        program: "zip_join",
        args: &["--outer", "--left", "dfs:///in/left", "--right", "dfs:///in/right"],
        ordered: false,
    },
    Run { program: "tera_gen", args: &["--rows", "20000"], ordered: true },
    Run { program: "tera_sort", args: &["--input", "dfs:///in/records"], ordered: true },
    Run {
        program: "csv_to_parquet",
        args: &["--split-at-lines", "--columns", "city,fare:int", "--input", "dfs:///in/table"],
        ordered: true,
    },
    Run {
        program: "parquet_aggregate",
        args: &["--group-by", "city", "--sum", "fare", "--input", "dfs:///out/9"],
        ordered: false,
    },
    Run { program: "word_count", args: &["--input", "dfs:///in/compressed"], ordered: false },
    Run {
        program: "grep",
        args: &["--pattern", "w1[0-9]", "--input", "dfs:///in/compressed"],
        ordered: false,
    },
];

#[test]
fn no_job_is_left_out() {
    let bins = concat!(env!("CARGO_MANIFEST_DIR"), "/../jobs/src/bin");
    let mut seen = 0;
    for entry in std::fs::read_dir(bins).expect("the jobs") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        // It has no output to compare, but a line.
        let is_run = name == "tera_validate" || RUNS.iter().any(|run| run.program == name);
        assert!(is_run, "{name} is not compared");
        seen += 1;
    }
    assert!(seen >= 9, "{seen} jobs were seen");
}

#[test]
fn on_one_worker() {
    every_job_writes_what_it_writes_locally(ClusterOptions { workers: 1, slots: 4, ..Default::default() });
}

#[test]
fn on_two_workers() {
    every_job_writes_what_it_writes_locally(ClusterOptions { workers: 2, slots: 2, ..Default::default() });
}

#[test]
fn on_five_workers() {
    every_job_writes_what_it_writes_locally(ClusterOptions { workers: 5, slots: 1, ..Default::default() });
}

#[test]
fn on_one_core_worker_and_two_task_workers() {
    let options = ClusterOptions { workers: 1, task_workers: 2, slots: 2, ..Default::default() };
    every_job_writes_what_it_writes_locally(options);
}

#[test]
fn on_two_core_workers_and_three_task_workers() {
    let options = ClusterOptions { workers: 2, task_workers: 3, slots: 1, ..Default::default() };
    every_job_writes_what_it_writes_locally(options);
}

fn every_job_writes_what_it_writes_locally(options: ClusterOptions) {
    let cluster = Cluster::with(options);
    cluster.wait_for_all_slots();
    put_inputs(&cluster);
    let others = [Company::keep(&cluster, 0), Company::keep(&cluster, 1)];
    for (number, run) in RUNS.iter().enumerate() {
        let name = format!("{} ({number})", run.program);
        // Splits of 64 KiB: every job has several tasks.
        let common =
            |program: Program| program.args(run.args).args(["--reducers", "3", "--split-size", "64KiB"]);
        let (local, remote) = (cluster.path(&format!("local-{number}")), format!("/out/{number}"));
        let here = common(cluster.reached_by(Program::job(run.program))).arg("--local=2");
        here.arg("--output").arg(&local).run().succeeded();
        let there =
            common(cluster.drive(run.program)).args(["--output", &format!("dfs://{remote}"), "--json"]);
        let report = there.run().report();
        assert!(report["job_id"].is_string(), "{name} ran on the cluster: {report}");
        let (expected, found) = (Output::read(&local), cluster.output(&remote));
        if run.ordered {
            let whole = |output: &Output| output.parts.values().flatten().copied().collect::<Vec<u8>>();
            assert!(whole(&expected) == whole(&found), "{name} differs");
        } else {
            assert!(!expected.sorted_lines().is_empty(), "{name} writes something");
            assert!(expected.sorted_lines() == found.sorted_lines(), "{name} differs");
        }
    }
    validate(&cluster);
    let company: u64 = others.map(Company::end).iter().sum();
    assert!(company >= 2, "other jobs ran meanwhile");
}

/// What has no output but a line.
fn validate(cluster: &Cluster) {
    let sorted = ["--input", "dfs:///out/8"];
    let here =
        cluster.reached_by(Program::job("tera_validate")).args(sorted).arg("--local=2").run().succeeded();
    let there = cluster.drive("tera_validate").args(sorted).run().succeeded();
    assert!(here.stdout.starts_with("rows 20000 checksum "), "{}", here.stdout);
    assert_eq!(here.stdout, there.stdout);
}

fn put_inputs(cluster: &Cluster) {
    let mut dice = Dice::new(4);
    for file in 0..3 {
        cluster.put(&format!("/in/text/{file}"), &corpus(150_000, file));
    }
    put_tables(cluster, &mut dice);
    let mut log = String::new();
    for line in 0..3000 {
        let (client, minute, second) = (dice.below(50), line / 60 % 60, line % 60);
        let hour = 10 + line / 3600;
        log.push_str(&format!(
            "10.0.0.{client} - - [17/May/2015:{hour}:{minute:02}:{second:02} +0000] \"GET / HTTP/1.1\" 200 7\n"
        ));
    }
    cluster.put("/in/log/0", log.as_bytes());
    for side in ["left", "right"] {
        let place = |_| {
            let zip = 10_000 + dice.below(3000);
            let (latitude, longitude) = (dice.below(90), dice.below(180));
            format!("{zip},{latitude}.5,-{longitude}.25,City{zip},ST,County,STANDARD\n")
        };
        let list: String = (0..2000).map(place).collect();
        cluster.put(&format!("/in/{side}/0"), list.as_bytes());
    }
    let output = cluster.path("records");
    Program::job("tera_gen").args(["--rows", "20000", "--output"]).arg(&output).run().succeeded();
    for (name, records) in Output::read(&output).parts {
        cluster.put(&format!("/in/records/{name}"), &records);
    }
}

/// A table, and compressed text.
fn put_tables(cluster: &Cluster, dice: &mut Dice) {
    let mut table = String::from("city,fare\n");
    for _ in 0..20_000 {
        table.push_str(&format!("\"City, {}\",{}\n", dice.below(40), dice.below(1000)));
    }
    cluster.put("/in/table/0.csv", table.as_bytes());
    let text = corpus(150_000, 7);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).expect("gzip");
    cluster.put("/in/compressed/0.gz", &gzip.finish().expect("gzip"));
    // Several frames, so that it is split.
    let frames = corpus(600_000, 8)
        .chunks(100_000)
        .map(|part| zstd::encode_all(part, 1).expect("zstd"))
        .collect::<Vec<_>>();
    cluster.put("/in/compressed/1.zst", &frames.concat());
}

/// Another user of the cluster: one small job after the other.
struct Company {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Company {
    fn keep(cluster: &Cluster, number: usize) -> Company {
        let enough = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&enough);
        let gate = cluster.path(&format!("no-such-gate-{number}"));
        let master = cluster.master().to_owned();
        let thread = thread::spawn(move || {
            let mut jobs = 0;
            while !told.load(Ordering::Relaxed) {
                let job =
                    Program::job("gated").args(["--master", &master, "--queue", "company", "--rows", "800"]);
                let output = format!("dfs:///company/{number}-{jobs}");
                job.arg("--gate").arg(&gate).args(["--output", &output]).run().succeeded();
                jobs += 1;
            }
            jobs
        });
        Company { enough, thread }
    }

    /// Returns how many jobs it ran.
    fn end(self) -> u64 {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().expect("its jobs are good")
    }
}

#[test]
fn a_submitted_job_is_the_same_as_a_driven_one() {
    let cluster = Cluster::with(ClusterOptions { workers: 2, ..Default::default() });
    cluster.wait_for_all_slots();
    cluster.put("/in/text", &corpus(300_000, 9));
    let args = ["--input", "dfs:///in/text", "--reducers", "2", "--split-size", "64KiB"];
    cluster.drive("word_count").args(args).args(["--output", "dfs:///driven"]).run().succeeded();
    let job: Job = cluster.submit("word_count", &[&args[..], &["--output", "dfs:///submitted"]].concat());
    let status = job.done();
    assert!(over_stages(&status, "done") >= 7, "5 splits and 2 partitions: {status}");
    let (driven, submitted) = (cluster.output("/driven"), cluster.output("/submitted"));
    assert!(driven.parts == submitted.parts, "byte for byte, file by file");
    assert_eq!(submitted.manifest["job_id"], job.id.as_str(), "the manifest names the job");
}
