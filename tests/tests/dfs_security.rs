//! The security floor: every listener refuses who has no right, and no nonsense brings a daemon down.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use gristmill_dfs::client::{ClientOptions, CreateOptions, DfsClient};
use gristmill_tests::{Cluster, ClusterOptions, Dice, Program, noise, patiently};

#[test]
fn without_a_secret_only_loopback_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    for daemon in ["master", "worker"] {
        let mut program = Program::gristmill().arg(daemon).args(["--listen", "0.0.0.0:0"]);
        program = program.arg("--data-dir").arg(dir.path().join(daemon));
        if daemon == "worker" {
            program = program.args(["--master", "127.0.0.1:1"]);
        }
        let ended = program.run();
        assert_eq!(ended.status.code(), Some(1), "{daemon}: {}", ended.stderr);
        assert!(ended.stderr.contains("--secret-file"), "{daemon} says what to do: {}", ended.stderr);
    }
}

#[test]
fn a_secret_is_asked_of_clients_and_workers() {
    let cluster = Cluster::with(ClusterOptions { workers: 1, secret: true, ..ClusterOptions::default() });
    let client = cluster.client();
    let mut writer = client.create("/file", CreateOptions::default()).expect("a file");
    writer.write_all(&noise(200_000, 1)).expect("bytes");
    writer.finish().expect("the file");
    cluster.fs().args(["-cat", "/file"]).run().succeeded();

    let stranger = ClientOptions { secret: None, ..cluster.client_options() };
    let refused = DfsClient::connect(stranger).map(drop).expect_err("no secret, no file system");
    assert!(sentence(&refused).contains("secret"), "{}", sentence(&refused));

    // A worker goes on trying: its master may only have been started with the wrong secret.
    let home = cluster.path("stranger");
    let worker = Program::gristmill().args(["worker", "--role", "core", "--master", cluster.master()]);
    let worker = worker.env("GRISTMILL_LOG", "debug").arg("--data-dir").arg(&home).start();
    patiently("the stranger to be up", || home.join("address").exists());
    let heard = |client: &DfsClient| client.report().expect("a report").workers.len();
    for file in 0..5 {
        client.make_directory(&format!("/{file}"), false, 0o755).expect("the cluster goes on");
        assert_eq!(heard(&client), 1, "the stranger is not counted");
    }
    patiently("it to hear why", || worker.said().contains("secret"));
    assert_eq!(heard(&client), 1, "the stranger is not counted");
    worker.signal(rustix::process::Signal::TERM);
    worker.end();
}

fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn two_masters_never_share_a_directory() {
    let cluster = Cluster::start(0);
    let second = Program::gristmill().args(["master", "--listen", "127.0.0.1:0"]).arg("--data-dir");
    let ended = second.arg(cluster.path("master")).run();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("another master"), "{}", ended.stderr);
    cluster.client().make_directory("/still-here", false, 0o755).expect("the first goes on");
}

#[test]
fn a_worker_of_another_cluster_is_refused() {
    let mut cluster = Cluster::start(1);
    let other = Cluster::start(0);
    cluster.kill_worker(0);
    let worker = Program::gristmill().args(["worker", "--role", "core", "--master", other.master()]);
    let ended = worker.arg("--data-dir").arg(cluster.worker_dir(0)).run();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("another cluster"), "{}", ended.stderr);
    assert!(other.client().report().expect("a report").workers.is_empty());
}

#[test]
fn nonsense_on_every_port_changes_nothing() {
    let cluster = Cluster::start(1);
    let client = cluster.client();
    let bulk = client.report().expect("a report").workers[0].address.clone();
    let mut dice = Dice::new(3);
    for address in [cluster.master().to_owned(), bulk] {
        let mut frames = vec![vec![0; 28], vec![0xFF; 4096], b"GET / HTTP/1.1\r\n\r\n".to_vec()];
        // A frame whose lengths are as large as can be written.
        let mut huge = b"GMB\x01\x01\0\0\0".to_vec();
        huge.extend_from_slice(&[0xFF; 8]);
        huge.extend_from_slice(&[0; 12]);
        frames.push(huge);
        frames.extend((0..40).map(|_| noise(1 + dice.below(5000), dice.roll())));
        for frame in frames {
            let mut stream = TcpStream::connect(&address).expect("the port is open");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
            // The daemon may close before all is sent, which is as good.
            if stream.write_all(&frame).is_ok() && stream.shutdown(std::net::Shutdown::Write).is_ok() {
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).ok();
                assert!(answer.len() < 100_000, "{} bytes of answer to nonsense", answer.len());
            }
        }
    }
    let mut writer = client.create("/after", CreateOptions::default()).expect("the master lives");
    writer.write_all(&noise(100_000, 2)).expect("the worker lives");
    writer.finish().expect("all is well");
    let resident = |id: u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the process lives");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak").to_owned();
        line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number")
    };
    for id in [cluster.master_id(), cluster.worker_id(0)] {
        assert!(resident(id) < 300 * 1024, "process {id} took {} KiB", resident(id));
    }
}

#[test]
fn hostile_names_are_refused_by_the_name_of_what_is_wrong() {
    let cluster = Cluster::start(0);
    let client = cluster.client();
    let long = format!("/{}", "x".repeat(64 * 1024));
    let deep = "/d".repeat(3000);
    for path in ["/a/../b", "/.", "/..", "/a//b", "relative", "", "/nul\0name", "/a/./b", &long, &deep] {
        let refused = client.make_directory(path, true, 0o755).map(drop).expect_err("a hostile name");
        assert!(refused.kind().is_some(), "{}", sentence(&refused));
    }
    let entries = client.list("/").expect("a listing").map(|entry| entry.expect("an entry").path);
    // The master's own directory may be there already, or not yet.
    let made: Vec<String> = entries.filter(|path| path != "/.gristmill").collect();
    assert_eq!(made, Vec::<String>::new(), "nothing was made");
    assert!(!cluster.path("b").exists(), "no path of a user is a path of the machine");
}

#[test]
fn permissions_hold_between_users() {
    let cluster = Cluster::start(0);
    let (root, eve) = (cluster.client(), cluster.client_as("eve"));
    root.make_directory("/private", false, 0o700).expect("a directory");
    root.make_directory("/private/inner", false, 0o777).expect("a directory");
    for refused in [
        eve.stat("/private/inner").map(drop),
        eve.make_directory("/private/mine", false, 0o755).map(drop),
        eve.delete("/private", true, true).map(drop),
        eve.set_mode("/private", 0o777).map(drop),
        eve.set_owner("/private", "eve", "").map(drop),
        eve.set_safe_mode(true),
        eve.make_directory("/top", false, 0o755).map(drop),
    ] {
        let kind = refused.expect_err("eve has no right").kind();
        assert_eq!(kind, Some(gristmill_proto::namespace::failure::Kind::PermissionDenied));
    }
    patiently("nothing to have happened", || root.stat("/private/inner").is_ok());
}
