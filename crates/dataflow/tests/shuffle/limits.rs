//! Whoever connects to a shuffle listener gets no more than its limits.

use crate::cluster::{JOB, Reader, Worker, attempt, hash, outputs, records, token};
use crate::liar::{Client, frame};
use gristmill_dataflow::shuffle::ServeOptions;
use gristmill_proto::bulk::FrameKind;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{FetchPart, ReadBlock, Reply, Request, SampleIndex};
use gristmill_proto::task;
use std::time::Duration;

fn fetch(output: task::AttemptId) -> Operation {
    Operation::FetchPart(FetchPart { output: Some(output), ..FetchPart::default() })
}

#[test]
fn a_connection_too_many_is_turned_away_and_asked_for_later() {
    let options = ServeOptions { peer_connections_max: 1, ..ServeOptions::default() };
    let worker = Worker::with_options(1, options);
    let entry = worker.map(&hash(), attempt(0, 0), &records(0, 50));
    let mut first = Client::connect(&worker.address());
    first.ask(token(), fetch(attempt(5, 5).to_wire()));
    let missing: Reply = first.reply();
    assert_eq!(missing.failure.expect("a failure").kind(), Kind::NotFound);
    let mut second = Client::connect(&worker.address());
    let busy: Reply = second.reply();
    assert_eq!(busy.failure.expect("a failure").kind(), Kind::Busy);
    assert!(second.is_closed());

    let reader = Reader::elsewhere(0);
    reader.sources.learn(&outputs(&[&worker], vec![entry], 1));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| reader.read(&hash(), 0));
        drop(first);
        assert!(!reading.join().expect("no panic").is_empty());
    });
    assert!(reader.reports().is_empty(), "{:?}", reader.reports());
}

#[test]
fn silence_ends_a_connection() {
    let (first, idle) = (Duration::from_millis(50), Duration::from_millis(50));
    let options = ServeOptions { first_frame_timeout: first, idle_timeout: idle, ..ServeOptions::default() };
    let worker = Worker::with_options(1, options);
    assert!(Client::connect(&worker.address()).is_closed());
    let mut client = Client::connect(&worker.address());
    client.ask(token(), fetch(attempt(5, 5).to_wire()));
    let missing: Reply = client.reply();
    assert!(missing.failure.is_some());
    assert!(client.is_closed());
}

#[test]
fn what_is_no_request_for_a_map_output_is_refused() {
    let worker = Worker::start(1);
    let refused = |operation: Option<Operation>| {
        let mut client = Client::connect(&worker.address());
        let request = Request { token: token().into(), operation };
        client.send(&frame(FrameKind::Request, 1, &request, &[]));
        let reply: Reply = client.reply();
        reply.failure.expect("a failure").kind()
    };
    assert_eq!(refused(None), Kind::Protocol);
    assert_eq!(refused(Some(Operation::ReadBlock(ReadBlock::default()))), Kind::Protocol);
    assert_eq!(refused(Some(fetch(task::AttemptId::default()))), Kind::Protocol);
    let path = task::AttemptId { job: b"../../../../etc/".to_vec().into(), ..Default::default() };
    assert_eq!(refused(Some(fetch(path))), Kind::Token);
    let mut client = Client::connect(&worker.address());
    client.send(b"GET /metrics HTTP/1.1\r\nHost: worker\r\n\r\n");
    let reply: Reply = client.reply();
    assert_eq!(reply.failure.expect("a failure").kind(), Kind::Protocol);
    drop(client);
    // A frame that is not a request.
    let mut client = Client::connect(&worker.address());
    client.send(&frame(FrameKind::Reply, 1, &Reply::default(), &[]));
    let reply: Reply = client.reply();
    assert_eq!(reply.failure.expect("a failure").kind(), Kind::Protocol);
}

#[test]
fn a_sample_has_no_more_entries_than_asked_for_and_stands_for_all_bytes() {
    let worker = Worker::start(1);
    worker.map(&crate::cluster::range(), attempt(0, 0), &records(0, 100_000));
    let mut client = Client::connect(&worker.address());
    let output = Some(attempt(0, 0).to_wire());
    let mut totals = Vec::new();
    for entries_max in [0, 1, 7, u32::MAX] {
        client.ask(token(), Operation::SampleIndex(SampleIndex { output: output.clone(), entries_max }));
        let sample = client.reply::<Reply>().sample.expect("a sample");
        assert_eq!(sample.output, output);
        assert!((1..=1000.min(entries_max.max(1)) as usize).contains(&sample.entries.len()));
        assert!(sample.entries.is_sorted_by_key(|entry| entry.key.clone()));
        totals.push(sample.entries.iter().map(|entry| entry.bytes).sum::<u64>());
    }
    assert!(totals.iter().all(|total| *total == totals[0] && *total > 1 << 20), "{totals:?}");
    assert_eq!(worker.store.list()[0].task.job, JOB);
}
