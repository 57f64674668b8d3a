//! A worker from its start to its end, without a master: it waits for one, and serves what it can.
#![forbid(unsafe_code)]

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use gristmill_worker::{ADDRESS_FILE, CgroupUse, Role, WorkerError, WorkerOptions, run};
use rustix::process::{Signal, getpid, kill_process};

const PATIENCE: Duration = Duration::from_secs(30);

fn options(directory: &Path) -> WorkerOptions {
    WorkerOptions {
        master: "127.0.0.1:1".to_owned(),
        data_dirs: vec![directory.join("a"), directory.join("b")],
        listen: "127.0.0.1:0".parse().expect("an address"),
        host: None,
        rack: "/r".to_owned(),
        bootstrap: None,
        secret_file: None,
        reserve_mib: 0,
        scrub_mib_per_s: 1,
        lease_ms: 12_000,
        transfers: 16,
        copy_mib_per_s: 0,
        ack_timeout_ms: 10_000,
        notice_ms: 0,
        goodbye_ms: 1_000,
        role: Role::Core,
        shuffle_listen: None,
        slots: Some(1),
        memory: None,
        scratch_dirs: Vec::new(),
        program_cache_mib: 16,
        job_disk_mib: 0,
        cgroups: CgroupUse::Auto,
    }
}

/// In one process the threads of a worker that has ended let go of its disks a moment after it.
fn run_on_free_disks(options: &WorkerOptions) -> Result<(), WorkerError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match run(options.clone()) {
            Err(WorkerError::Store(_)) if Instant::now() < deadline => std::thread::yield_now(),
            ended => return ended,
        }
    }
}

// One test: signals are for the whole process.
#[test]
fn a_worker_says_where_it_listens_until_it_is_told_to_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a").join(ADDRESS_FILE);
    for signal in [Signal::TERM, Signal::INT] {
        let worker = std::thread::spawn({
            let options = options(directory.path());
            move || run_on_free_disks(&options)
        });
        let deadline = Instant::now() + PATIENCE;
        let address: SocketAddr = loop {
            assert!(Instant::now() < deadline, "no address appears");
            if worker.is_finished() {
                panic!("the worker ended: {:?}", worker.join());
            }
            if let Ok(text) = fs::read_to_string(&file) {
                break text.trim_end().parse().expect("an address");
            }
            std::thread::yield_now();
        };
        let _guest = TcpStream::connect(address).expect("it listens");
        assert!(directory.path().join("a/short-circuit").exists());

        // The disks are its own.
        let second = run(options(directory.path())).expect_err("the disks are in use");
        assert!(matches!(second, WorkerError::Store(_)), "{second}");
        assert!(file.exists(), "the second has not touched the file of the first");

        kill_process(getpid(), signal).expect("a signal");
        worker.join().expect("no panic").expect("it ends well");
        assert!(!file.exists() && !directory.path().join("a/short-circuit").exists());
    }

    let open =
        WorkerOptions { listen: "0.0.0.0:0".parse().expect("an address"), ..options(directory.path()) };
    let refused = run(open).expect_err("open to strangers");
    assert!(matches!(refused, WorkerError::Bind(_)), "{refused}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address");
    let refused = run_on_free_disks(&WorkerOptions { listen, ..options(directory.path()) });
    let refused = refused.expect_err("the port is taken");
    assert!(matches!(refused, WorkerError::Listen { .. }), "{refused}");
}
