use crate::cluster::{
    JOB, Reader, Records, Worker, attempt, hash, noise, outputs, records, run, token, token_of,
};
use crate::liar::{Client, frame};
use gristmill_dataflow::shuffle::{KeepError, OutputStore, keep};
use gristmill_proto::bulk::FrameKind;
use gristmill_proto::ids::JobId;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{KeepOutput, Reply, RunBytes};
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A map output that a task worker has.
fn map_output(dir: &tempfile::TempDir, records: &Records) -> PathBuf {
    let (run, _dir) = run(&hash(), records, 0);
    let path = dir.path().join("output.run");
    run.detach(&path).expect("it is moved");
    path
}

/// What is on the disk of a worker, for one job.
fn files(worker: &Worker) -> usize {
    let dir = &worker.store.job_dirs(JOB)[0];
    fs::read_dir(dir).map_or(0, Iterator::count)
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < TIMEOUT, "not in time: {what}");
        std::thread::yield_now();
    }
}

#[track_caller]
fn refusal(kept: Result<(), KeepError>) -> Kind {
    match kept {
        Err(KeepError::Refused { failure, .. }) => failure.kind(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_map_output_that_was_given_away_is_served_there_and_found_after_a_restart() {
    let dir = tempfile::tempdir().expect("tempdir");
    let large: Records = vec![(b"large".to_vec(), noise(400_000)), (b"small".to_vec(), b"s".to_vec())];
    let file = map_output(&dir, &large);
    assert!(fs::metadata(&file).expect("a file").len() > 1 << 20, "it takes several frames");
    let worker = Worker::start(1);
    // The second is answered from what is there.
    for _ in 0..2 {
        keep(&worker.address(), &token(), attempt(0, 0), &file, TIMEOUT).expect("it is kept");
    }
    assert_eq!(files(&worker), 1);
    assert!(fs::read(&file).expect("a file") == fs::read(worker.file(attempt(0, 0))).expect("a file"));

    let reader = Reader::elsewhere(0);
    let entry = worker.map(&hash(), attempt(0, 1), &large);
    let kept = gristmill_proto::task::OutputEntry { number: 0, ..entry };
    reader.sources.learn(&outputs(&[&worker], vec![kept], 1));
    let found: Records = (0..3).flat_map(|partition| reader.read(&hash(), partition)).collect();
    assert_eq!(found.len(), 2);

    let again = OutputStore::open(&[worker.dir.path().to_owned()]).expect("a store");
    assert_eq!(again.list(), [attempt(0, 0), attempt(0, 1)]);
}

#[test]
fn a_damaged_one_is_refused_and_nothing_of_it_is_left() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = map_output(&dir, &records(0, 50));
    let whole = fs::read(&file).expect("a file");
    let worker = Worker::start(1);
    for at in (0..whole.len()).step_by(5) {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        fs::write(&file, &damaged).expect("it is damaged");
        let kept = keep(&worker.address(), &token(), attempt(0, 0), &file, TIMEOUT);
        assert_eq!(refusal(kept), Kind::Corrupt, "byte {at}");
        fs::write(&file, &whole[..at]).expect("it is shorter");
        let kept = keep(&worker.address(), &token(), attempt(0, 0), &file, TIMEOUT);
        assert_eq!(refusal(kept), Kind::Corrupt, "{at} bytes");
    }
    assert_eq!(files(&worker), 0);
    fs::write(&file, &whole).expect("it is whole again");
    keep(&worker.address(), &token(), attempt(0, 0), &file, TIMEOUT).expect("it is kept");
}

#[test]
fn nothing_of_a_job_that_has_ended_is_taken() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = map_output(&dir, &records(0, 50));
    let worker = Worker::start(1);
    worker.store.end_job(JOB);
    let kept = keep(&worker.address(), &token(), attempt(0, 0), &file, TIMEOUT);
    assert_eq!(refusal(kept), Kind::NotFound);
    assert_eq!(fs::read_dir(worker.dir.path()).expect("a directory").count(), 0, "nor is there a directory");
}

#[test]
fn one_that_ends_half_way_leaves_nothing() {
    let worker = Worker::start(1);
    let mut client = Client::connect(&worker.address());
    let output = Some(attempt(0, 0).to_wire());
    client.ask(token(), Operation::KeepOutput(KeepOutput { output: output.clone(), bytes: 1000 }));
    assert_eq!(client.reply::<Reply>(), Reply::default());
    client.send(&frame(FrameKind::RunBytes, 1, &RunBytes { offset: 0, last: false }, &[7; 500]));
    wait_until("it is being written", || files(&worker) == 1);
    drop(client);
    wait_until("nothing is left", || files(&worker) == 0);
    assert!(worker.store.list().is_empty());

    // A gap is noticed at once.
    let mut client = Client::connect(&worker.address());
    client.ask(token(), Operation::KeepOutput(KeepOutput { output, bytes: 1000 }));
    assert_eq!(client.reply::<Reply>(), Reply::default());
    client.send(&frame(FrameKind::RunBytes, 1, &RunBytes { offset: 5, last: false }, &[7; 500]));
    let ack: gristmill_proto::messages::Ack = client.reply();
    assert_eq!(ack.failure.expect("a failure").kind(), Kind::Protocol);
    assert_eq!(files(&worker), 0);
}

#[test]
fn one_that_cannot_fit_is_refused_before_it_is_sent() {
    let worker = Worker::start(1);
    for bytes in [1 << 60, u64::MAX] {
        let mut client = Client::connect(&worker.address());
        let output = Some(attempt(0, 0).to_wire());
        client.ask(token(), Operation::KeepOutput(KeepOutput { output, bytes }));
        let reply: Reply = client.reply();
        let failure = reply.failure.expect("a failure");
        assert_eq!(failure.kind(), Kind::Disk);
        assert!(failure.detail.contains("do not fit"), "{}", failure.detail);
    }
    assert_eq!(files(&worker), 0);
}

#[test]
fn one_of_another_job_is_refused_and_one_for_nobody_ends_in_time() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = map_output(&dir, &records(0, 5));
    let worker = Worker::start(1);
    let kept = keep(&worker.address(), &token_of(JobId([4; 16])), attempt(0, 0), &file, TIMEOUT);
    assert_eq!(refusal(kept), Kind::Token);

    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = mute.local_addr().expect("an address").to_string();
    let started = Instant::now();
    let kept = keep(&address, &token(), attempt(0, 0), &file, Duration::from_millis(200));
    assert!(matches!(kept, Err(KeepError::Answer { .. })), "{kept:?}");
    assert!(started.elapsed() < TIMEOUT / 2);
    drop(mute);
    let kept = keep(&address, &token(), attempt(0, 0), &file, TIMEOUT);
    assert!(matches!(kept, Err(KeepError::Connect { .. })), "{kept:?}");
    let kept = keep(&worker.address(), &token(), attempt(0, 0), &dir.path().join("none"), TIMEOUT);
    assert!(matches!(kept, Err(KeepError::File { .. })), "{kept:?}");
}
