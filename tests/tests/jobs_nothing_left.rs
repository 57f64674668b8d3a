//! Nothing is left of a job, and nothing of a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gristmill_tests::{
    Cluster, ClusterOptions, Clusters, Program, corpus, file_uri, patiently, processes_of,
};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn of_jobs_that_end_well_badly_and_by_hand() {
    let cluster = Cluster::with(ClusterOptions { workers: 2, task_workers: 1, ..Default::default() });
    cluster.wait_for_all_slots();
    cluster.put("/text", &corpus(300_000, 2));
    let done = cluster.submit(
        "word_count",
        &["--input", "dfs:///text", "--output", "dfs:///done", "--split-size", "64KiB", "--reducers", "2"],
    );
    let failed =
        cluster.submit("unruly", &["--fault", "panic", "--output", "dfs:///failed", "--max-attempts", "2"]);
    let gate = file_uri(&cluster.path("no-gate"));
    let killed =
        cluster.submit("gated", &["--rows", "100", "--stuck", "--gate", &gate, "--output", "dfs:///killed"]);
    killed.until("it to run", |status| status["stages"][0]["running"].as_u64() >= Some(1));
    killed.command("kill").run().succeeded();
    done.done();
    failed.failed();

    for index in 0..3 {
        let dir = cluster.worker_dir(index);
        patiently("attempts to end", || {
            processes_of(&dir).iter().all(|command| command.contains("gristmill worker"))
        });
        for job in [&done, &failed, &killed] {
            patiently("a job's files to go", || mentions(&dir, &job.id).is_empty());
        }
    }
    patiently("the jobs' files to go", || cluster.names_in("/.gristmill/jobs").is_empty());
    let mut left = cluster.names_in("/");
    left.retain(|path| {
        !path.ends_with("/.gristmill") && !path.ends_with("/text") && !path.ends_with("/.trash")
    });
    assert_eq!(left.len(), 1, "only the output that was published: {left:?}");
    let fsck = cluster.fs().args(["fsck", "/", "-openforwrite"]).run().succeeded();
    assert!(fsck.stdout.contains("HEALTHY") && !fsck.stdout.contains("OPENFORWRITE"), "{}", fsck.stdout);
}

/// Whatever has a job's id in its name, but for its logs: people look at them when it has ended.
fn mentions(dir: &Path, id: &str) -> Vec<PathBuf> {
    let logs = dir.join("scratch/logs");
    let found = below(dir).into_iter().filter(|path| !path.starts_with(&logs));
    found.filter(|path| path.to_string_lossy().contains(id)).collect()
}

fn below(dir: &Path) -> Vec<PathBuf> {
    // What vanishes while it is listed is gone, as it should be.
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
    }
    found
}

/// Every address at which a process of the cluster listens.
fn listeners(made: &Value) -> Vec<String> {
    let mut addresses = Vec::new();
    for process in made["processes"].as_array().expect("a list") {
        let (pid, text) = (&process["pid"], fs::read_to_string("/proc/net/tcp").expect("sockets"));
        let own: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("descriptors")
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .map(|link| link.to_string_lossy().into_owned())
            .collect();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // State 0A listens; the tenth field is the number of the socket.
            if fields[3] == "0A" && own.contains(&format!("socket:[{}]", fields[9])) {
                let port = fields[1].rsplit(':').next().expect("a port");
                let port = u16::from_str_radix(port, 16).expect("a port");
                addresses.push(format!("127.0.0.1:{port}"));
            }
        }
    }
    addresses
}

#[test]
fn of_a_cluster_that_is_terminated() {
    let clusters = Clusters::default();
    let made = clusters.create(&["--name", "one", "--core", "2", "--task", "1"]);
    let master = made["master"].as_str().expect("an address").to_owned();
    let addresses = listeners(&made);
    assert!(addresses.len() >= 5 && addresses.contains(&master), "{addresses:?}");
    // In the middle of a job: its attempts go, too.
    let gate = clusters.path("no-gate");
    let job = Program::job("gated").args(["--master", &master, "--rows", "100", "--stuck", "--detach"]);
    let job = job.arg("--gate").arg(&gate).args(["--output", "dfs:///out"]).run().succeeded();
    patiently("attempts to run", || {
        let shown =
            Program::gristmill().args(["job", "--master", &master, "status", "--json", job.stdout.trim()]);
        let status: Value = serde_json::from_str(&shown.run().succeeded().stdout).expect("JSON");
        status["stages"][0]["running"].as_u64() >= Some(1)
    });
    clusters.command(&["terminate", "one"]).run().succeeded();
    clusters.is_empty(&addresses);
}

#[test]
fn of_a_cluster_whose_making_is_interrupted_at_any_moment() {
    let clusters = Clusters::default();
    // From before the first process to after the last.
    for delay_ms in (0..400).step_by(40) {
        let started = Instant::now();
        let mut making = clusters.command(&["create", "--core", "2", "--task", "1"]).start();
        patiently("the moment", || started.elapsed() >= Duration::from_millis(delay_ms));
        if making.is_running() {
            making.signal(Signal::INT);
        }
        let ended = making.end();
        if ended.status.success() {
            // It was ready before it heard.
            clusters.command(&["terminate", "cluster-1"]).run().succeeded();
        }
        clusters.is_empty(&[]);
    }
}

#[test]
fn of_a_cluster_whose_maker_was_killed_and_of_one_that_is_half_dead() {
    let clusters = Clusters::default();
    let making = clusters.command(&["create", "--name", "one", "--core", "2"]).start();
    let home = clusters.path("state/gristmill/clusters/one");
    patiently("the master to be there", || home.join("master/address").exists());
    making.signal(Signal::KILL);
    making.end();
    clusters.command(&["terminate", "one"]).run().succeeded();
    clusters.is_empty(&[]);

    let made = clusters.create(&["--name", "two", "--core", "2"]);
    for process in made["processes"].as_array().expect("a list").iter().take(2) {
        let pid = i32::try_from(process["pid"].as_u64().expect("a number")).expect("a number");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process");
        rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
    }
    patiently("the loss to show", || {
        let listed = clusters.command(&["list", "--json"]).run().succeeded().stdout;
        listed.contains(r#""state":"BROKEN""#)
    });
    clusters.command(&["terminate", "two"]).run().succeeded();
    clusters.is_empty(&[]);
}
