//! The security floor for jobs: every listener refuses who has no right, and a job's right is to itself.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use gristmill_tests::{Cluster, ClusterOptions, Program, file_uri, noise, patiently};

fn secret_cluster() -> Cluster {
    let options = ClusterOptions { workers: 1, task_workers: 1, secret: true, ..Default::default() };
    let cluster = Cluster::with(options);
    cluster.wait_for_all_slots();
    cluster
}

#[test]
fn jobs_are_for_those_who_know_the_secret() {
    let cluster = secret_cluster();
    cluster.put("/text", b"to be or not to be");
    let args = ["--input", "dfs:///text", "--output", "dfs:///out"];
    cluster.drive("word_count").args(args).run().succeeded();
    let gate = file_uri(&cluster.path("no-gate"));
    let job = cluster.submit("gated", &["--rows", "9", "--stuck", "--gate", &gate, "--output", "dfs:///no"]);

    let stranger =
        |args: &[&str]| Program::gristmill().args(args).env("GRISTMILL_MASTER", cluster.master()).run();
    for command in [
        &["job", "list"][..],
        &["job", "status", &job.id],
        &["job", "tasks", &job.id],
        &["job", "logs", &job.id, "--task", "0/0"],
        &["job", "kill", &job.id],
        &["job", "wait", &job.id],
        &["cluster", "describe"],
        &["cluster", "drain", "1"],
    ] {
        let ended = stranger(command);
        assert_eq!(ended.status.code(), Some(1), "{command:?}: {}", ended.stdout);
        assert!(ended.stderr.contains("token") || ended.stderr.contains("secret"), "{}", ended.stderr);
        assert_eq!(ended.stdout, "", "{command:?} tells nothing");
    }
    let submitted = Program::word_count().args(["--master", cluster.master()]).args(args).run();
    assert_eq!(submitted.status.code(), Some(1), "{}", submitted.stderr);
    assert_ne!(job.status()["state"], "KILLED");
}

#[test]
fn a_worker_without_the_secret_gets_no_task() {
    let cluster = secret_cluster();
    for role in ["core", "task"] {
        let home = cluster.path(&format!("stranger-{role}"));
        let worker = Program::gristmill().args(["worker", "--role", role, "--master", cluster.master()]);
        let mut worker = worker.env("GRISTMILL_LOG", "debug").arg("--data-dir").arg(&home).start();
        for _ in 0..20 {
            assert_eq!(cluster.describe()["workers"].as_array().map(Vec::len), Some(2));
        }
        if worker.is_running() {
            worker.signal(rustix::process::Signal::TERM);
        }
        worker.end();
    }
}

#[test]
fn a_job_can_only_be_killed_by_its_owner() {
    let cluster = Cluster::with(ClusterOptions { workers: 1, ..Default::default() });
    cluster.wait_for_all_slots();
    let gate = file_uri(&cluster.path("no-gate"));
    let job = cluster.submit("gated", &["--rows", "9", "--stuck", "--gate", &gate, "--output", "dfs:///no"]);
    let eve = job.command("kill").env("GRISTMILL_USER", "eve").run();
    assert_eq!(eve.status.code(), Some(1), "{}", eve.stdout);
    assert!(eve.stderr.contains("eve"), "{}", eve.stderr);
    let eve = cluster.gristmill().args(["cluster", "drain", "1"]).env("GRISTMILL_USER", "eve").run();
    assert_eq!(eve.status.code(), Some(1), "{}", eve.stdout);
    assert_ne!(job.status()["state"], "KILLED");
    job.command("kill").run().succeeded();
}

/// Addresses at which a process listens.
fn listening(pid: u32) -> Vec<String> {
    let sockets = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
    let own: Vec<String> = sockets
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let text = fs::read_to_string("/proc/net/tcp").expect("sockets");
    let mut addresses = Vec::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields[3] == "0A" && own.contains(&format!("socket:[{}]", fields[9])) {
            let (ip, port) = fields[1].split_once(':').expect("an address");
            assert_eq!(ip, "0100007F", "loopback only");
            addresses.push(format!("127.0.0.1:{}", u16::from_str_radix(port, 16).expect("a port")));
        }
    }
    addresses
}

#[test]
fn every_listener_refuses_who_has_no_right_and_survives_nonsense() {
    let cluster = secret_cluster();
    let mut addresses = listening(cluster.master_id());
    assert_eq!(addresses.len(), 2, "calls, and pages: {addresses:?}");
    for worker in [0, 1] {
        let of_worker = listening(cluster.worker_id(worker));
        assert!(!of_worker.is_empty(), "worker {worker} serves map outputs");
        addresses.extend(of_worker);
    }
    for address in &addresses {
        let mut frames = vec![
            b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 00\r\nConnection: close\r\n\r\n"
                .to_vec(),
            vec![0; 28],
            vec![0xFF; 4096],
        ];
        frames.extend((0..20).map(|seed| noise(1 + seed * 97, seed as u64)));
        for frame in frames {
            let mut stream = TcpStream::connect(address).expect("the port is open");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
            // The daemon may close before all is sent, which is as good.
            if stream.write_all(&frame).is_ok() && stream.shutdown(std::net::Shutdown::Write).is_ok() {
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).ok();
                let text = String::from_utf8_lossy(&answer);
                assert!(!text.contains("HTTP/1.1 200"), "{address} tells a stranger: {text}");
                assert!(answer.len() < 10_000, "{} bytes of answer to nonsense", answer.len());
            }
        }
    }
    // All of them go on.
    cluster.put("/text", b"to be or not to be");
    cluster.drive("word_count").args(["--input", "dfs:///text", "--output", "dfs:///out"]).run().succeeded();
    patiently("all workers to be there", || {
        cluster.describe()["workers"].as_array().is_some_and(|workers| {
            workers.len() == 2 && workers.iter().all(|worker| worker["state"] == "live")
        })
    });
}
