//! Programs that do what they should not: each fails for a reason of its own, and the worker lives on.

use std::fs;
use std::path::Path;

use gristmill_tests::{Cluster, ClusterOptions, Job, path_of, patiently, processes_of, submit_raw};

fn cluster() -> Cluster {
    cluster_with(vec![])
}

fn cluster_with(worker_args: Vec<&'static str>) -> Cluster {
    let cluster = Cluster::with(ClusterOptions { workers: 1, slots: 2, worker_args, ..Default::default() });
    cluster.wait_for_all_slots();
    cluster
}

fn unruly(cluster: &Cluster, fault: &str) -> Job {
    let output = format!("dfs:///{fault}");
    cluster.submit("unruly", &["--fault", fault, "--output", &output, "--max-attempts", "2"])
}

/// The worker is the same process, and does the next job.
#[track_caller]
fn lives_on(cluster: &Cluster, worker: u32) {
    assert_eq!(cluster.worker_id(0), worker);
    let output = format!("dfs:///after-{}", cluster.names_in("/").len());
    let gate = cluster.path("open");
    fs::write(&gate, "").expect("a gate");
    let gate = gate.to_str().expect("plain");
    cluster.submit("gated", &["--rows", "10", "--gate", gate, "--output", &output]).done();
}

#[track_caller]
fn has(reason: &str, parts: &[&str]) {
    for part in parts {
        assert!(reason.contains(part), "{part:?} is not in {reason:?}");
    }
}

#[test]
fn what_goes_wrong_within_a_task_is_named_with_task_and_cause() {
    let cluster = cluster();
    let worker = cluster.worker_id(0);
    for (fault, parts) in [
        ("panic", &["the map is out of order"][..]),
        ("abort", &["signal 6"]),
        ("exit-zero", &["status 0"]),
        ("close-descriptors", &["closed its connection to the worker"]),
    ] {
        let job = unruly(&cluster, fault);
        let reason = job.failed();
        has(&reason, parts);
        has(&reason, &["s0-t00000"]);
        let failed = job.status()["stages"][0]["failed_attempts"].as_u64();
        assert_eq!(failed, Some(2), "as often as it may: {reason}");
        assert!(cluster.names_in(&format!("/{fault}")).is_empty(), "{fault} leaves no output");
    }
    lives_on(&cluster, worker);
}

#[test]
fn a_task_that_hangs_can_be_killed_and_then_its_job() {
    let cluster = cluster();
    let job = unruly(&cluster, "hang");
    let runs = |status: &serde_json::Value| status["stages"][0]["running"].as_u64() >= Some(1);
    job.until("it to hang", runs);
    job.command("kill").args(["--task", "0/0", "--attempt", "0"]).run().succeeded();
    let status = job
        .until("the attempt to be killed", |status| status["stages"][0]["lost_attempts"].as_u64() == Some(1));
    assert_eq!(status["stages"][0]["failed_attempts"], 0, "one attempt killed by hand has not failed");
    job.until("another attempt to hang", runs);
    for _ in 0..2 {
        patiently("an attempt to kill", || {
            job.command("kill").args(["--task", "0/0"]).run().status.success()
        });
    }
    has(&job.failed(), &["s0-t00000"]);
    lives_on(&cluster, cluster.worker_id(0));
}

#[test]
fn a_task_that_hangs_is_killed_for_want_of_progress() {
    let cluster = cluster();
    let limits = ["--max-attempts", "2", "--no-progress-timeout", "4s"];
    let job =
        cluster.submit("unruly", &[&["--fault", "hang", "--output", "dfs:///hang"][..], &limits].concat());
    let reason = job.failed();
    has(&reason, &["s0-t00000", "made no progress", "of at most 4 s (--no-progress-timeout)"]);
    let status = job.status();
    assert_eq!(status["stages"][0]["failed_attempts"], 2, "as often as it may: {status}");
    let task = job.tasks().into_iter().find(|task| (&task["stage"], &task["task"]) == (&0.into(), &0.into()));
    let attempts = task.expect("the task that hung")["attempts"].clone();
    for attempt in attempts.as_array().expect("a list") {
        has(attempt["reason"].as_str().expect("a sentence"), &["made no progress"]);
    }
    let scratch = cluster.worker_dir(0).join("scratch/attempts");
    patiently("what hung to be gone", || processes_of(&scratch).is_empty());
    lives_on(&cluster, cluster.worker_id(0));
}

#[test]
fn what_a_program_leaves_running_ends_with_its_attempt() {
    let cluster = cluster();
    unruly(&cluster, "fork").done();
    let scratch = cluster.worker_dir(0);
    patiently("the child in another session to be ended", || {
        !processes_of(&scratch).iter().any(|command| command.contains("sleep 600"))
    });
    lives_on(&cluster, cluster.worker_id(0));
}

#[test]
fn gigabytes_of_output_cost_a_bounded_file() {
    let cluster = cluster();
    let job = unruly(&cluster, "print");
    job.done();
    let kept = bytes_below(&cluster.worker_dir(0).join("scratch/logs"));
    assert!((1..4 << 20).contains(&kept), "300 MiB were printed, {kept} bytes are kept");
    let log = job.command("logs").args(["--task", "0/0", "--stdout"]).run().succeeded().stdout;
    assert!(log.starts_with("xxx") && log.contains("bytes are not kept"), "{} bytes", log.len());
    assert!(log.len() < 4 << 20, "{} bytes", log.len());
    let log = job.command("logs").args(["--task", "0/0", "--stderr"]).run().succeeded().stdout;
    assert_eq!(log, "that was all\n");
}

#[test]
fn a_program_that_fills_the_disk_is_ended_at_the_share_of_its_job() {
    let cluster = cluster_with(vec!["--job-disk-mib=64"]);
    let worker = cluster.worker_id(0);
    let reason = unruly(&cluster, "flood").failed();
    has(&reason, &["s0-t00000", "scratch", "its limit is 64 MiB", "--job-disk-mib"]);
    let left = bytes_below(&cluster.worker_dir(0).join("scratch/attempts"));
    assert_eq!(left, 0, "what it wrote is gone");
    lives_on(&cluster, worker);
}

#[test]
fn a_program_that_takes_all_memory_is_ended_at_its_limit_and_gets_more_once() {
    let cluster = cluster_with(vec!["--memory=256MiB"]);
    let worker = cluster.worker_id(0);
    let job =
        cluster.submit("unruly", &["--fault", "hoard", "--output", "dfs:///hoard", "--max-attempts", "9"]);
    let reason = job.failed();
    // The slot's share is 128 MiB, a quarter of it and 64 MiB are slack; then twice the share.
    has(&reason, &["s0-t00000-a1", "its limit is 384 MiB (its share of 256 MiB", "--memory"]);
    let tasks = job.command("tasks").args(["--failed", "--json"]).run().succeeded().stdout;
    has(&tasks, &["its limit is 224 MiB (its share of 128 MiB"]);
    assert_eq!(job.status()["stages"][0]["failed_attempts"], 2, "it is tried again once: {reason}");
    assert!(cluster.names_in("/hoard").is_empty());
    lives_on(&cluster, worker);
}

#[test]
fn a_program_that_multiplies_is_ended_and_so_is_all_that_came_of_it() {
    let cluster = cluster();
    let worker = cluster.worker_id(0);
    let reason = unruly(&cluster, "crowd").failed();
    has(&reason, &["processes and threads, the limit is 1024", "s0-t00000"]);
    let scratch = cluster.worker_dir(0);
    patiently("its processes to be gone", || {
        !processes_of(&scratch).iter().any(|command| command.contains("unruly"))
    });
    lives_on(&cluster, worker);
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a directory");
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        // Removed meanwhile.
        Err(_) => 0,
    };
    entries.map(|entry| of(entry.expect("an entry"))).sum()
}

#[test]
fn what_is_no_job_program_is_not_tried_twice() {
    let cluster = cluster();
    let worker = cluster.worker_id(0);
    let mut foreign = fs::read(path_of("gated")).expect("a program");
    // The machine of an ELF file is at 18; this one is nobody's.
    foreign[18..20].copy_from_slice(&[0xFE, 0xCA]);
    let programs: [(&str, Vec<u8>); 4] = [
        ("foreign", foreign),
        ("true", fs::read("/bin/true").expect("a program")),
        ("text", b"#!/no/such/interpreter\n".to_vec()),
        ("noise", gristmill_tests::noise(5000, 1)),
    ];
    let mut reasons = Vec::new();
    for (name, program) in programs {
        let job = submit_raw(&cluster, name, &program);
        let reason = job.failed();
        assert_eq!(job.status()["stages"][0]["failed_attempts"], 1, "{name} is not tried twice: {reason}");
        reasons.push(reason);
    }
    has(&reasons[0], &["machine"]);
    has(&reasons[1], &["job program"]);
    has(&reasons[2], &["its interpreter or loader is not here"]);
    has(&reasons[3], &["it is no executable file"]);
    lives_on(&cluster, worker);
}

#[test]
fn a_plan_that_depends_on_the_moment_is_caught_and_shown() {
    let cluster = cluster();
    for mood in ["clock", "chance", "environment"] {
        let output = format!("dfs:///{mood}");
        let job = cluster.submit("moody", &["--mood", mood, "--output", &output]);
        let reason = job.failed();
        has(&reason, &["plan", "rows in the mood"]);
        assert_eq!(job.status()["stages"][0]["failed_attempts"], 1, "it is not tried twice: {reason}");
        assert!(cluster.names_in(&format!("/{mood}")).is_empty(), "nothing of it was run");
    }
}

#[test]
fn an_attempt_sees_nothing_of_its_worker() {
    let cluster = Cluster::with(ClusterOptions { workers: 1, secret: true, ..Default::default() });
    cluster.wait_for_all_slots();
    let job = unruly(&cluster, "look-around");
    job.done();
    let log = job.command("logs").args(["--task", "0/0", "--stdout"]).run().succeeded().stdout;
    let allowed = ["PATH", "LANG", "TMPDIR", "HOME", "GRISTMILL_ATTEMPT", "RUST_BACKTRACE"];
    for line in log.lines().filter_map(|line| line.strip_prefix("variable ")) {
        let name = line.split('=').next().expect("a name");
        assert!(allowed.contains(&name), "an attempt gets {line}");
    }
    assert!(!log.contains("SECRET"), "{log}");
    let open: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("descriptor ")).collect();
    assert!(open.len() >= 4, "{open:?}");
    let files: Vec<&&str> = open.iter().filter(|line| line.contains("namespace.redb")).collect();
    assert!(files.is_empty(), "{files:?}");
    let worker = cluster.worker_dir(0);
    let place = log.lines().find_map(|line| line.strip_prefix("place ")).expect("it says where it is");
    assert!(Path::new(place).starts_with(worker.canonicalize().expect("a directory")), "{place}");
}
