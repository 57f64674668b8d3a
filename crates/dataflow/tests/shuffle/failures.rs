use crate::cluster::{CLUSTER, Reader, Worker, attempt, hash, key, outputs, range, records, token_of};
use gristmill_dataflow::shuffle::FetchError;
use gristmill_proto::auth::TaskKey;
use gristmill_proto::ids::{ClusterId, JobId};
use gristmill_proto::task::fetch_failed::Kind;
use gristmill_proto::task::{OutputEntry, Outputs};
use std::sync::atomic::Ordering;

/// The same entry, of an attempt that nobody has the output of.
fn missing(entry: &OutputEntry) -> OutputEntry {
    OutputEntry { number: 9, ..entry.clone() }
}

#[test]
fn a_lost_map_output_is_reported_once_and_another_attempts_is_waited_for() {
    let rule = hash();
    let worker = Worker::start(1);
    let entries: Vec<OutputEntry> =
        (0..3).map(|task| worker.map(&rule, attempt(task, 1), &records(task, 50))).collect();
    let mut reader = Reader::elsewhere(0);
    let all_there = Reader::elsewhere(0);
    all_there.sources.learn(&outputs(&[&worker], entries.clone(), 3));

    let mut news = outputs(&[&worker], entries.clone(), 3);
    news.entries[1] = missing(&entries[1]);
    reader.sources.learn(&news);
    let lost = OutputEntry { holder: 0, ..missing(&entries[1]) };
    let answer = outputs(&[], vec![lost, entries[1].clone()], 3);
    reader.answer_reports(move |_| Some(answer.clone()));
    assert!(reader.read(&rule, 0) == all_there.read(&rule, 0));

    let reports = reader.reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!((reports[0].kind(), reports[0].holder), (Kind::NotFound, 1));
    assert_eq!(reports[0].output, Some(attempt(1, 9).to_wire()));
    assert_eq!(reports[0].reader, Some(reader.options.reader.to_wire()));
    assert!(reports[0].detail.contains("s0-t00001-a9 is not here"), "{}", reports[0].detail);
}

#[test]
fn an_own_map_output_that_is_gone_is_reported_like_any_other() {
    let rule = hash();
    let worker = Worker::start(1);
    let entry = worker.map(&rule, attempt(0, 0), &records(0, 50));
    let again = worker.map(&rule, attempt(0, 1), &records(0, 50));
    std::fs::remove_file(worker.file(attempt(0, 0))).expect("it is gone");
    let mut reader = Reader::on(&worker, 0);
    reader.sources.learn(&outputs(&[&worker], vec![entry], 1));
    let answer = outputs(&[&worker], vec![again], 1);
    reader.answer_reports(move |_| Some(answer.clone()));
    assert!(!reader.read(&rule, 0).is_empty());
    let reports = reader.reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!((reports[0].kind(), reports[0].holder), (Kind::NotFound, 1));
}

#[test]
fn a_worker_that_is_gone_is_unreachable_until_the_output_is_named_elsewhere() {
    let rule = hash();
    let (mut dead, alive) = (Worker::start(1), Worker::start(2));
    let mut entries: Vec<OutputEntry> =
        (0..2).map(|task| dead.map(&rule, attempt(task, 0), &records(task, 50))).collect();
    entries.push(alive.map(&rule, attempt(2, 0), &records(2, 50)));
    let again: Vec<OutputEntry> =
        (0..2).map(|task| alive.map(&rule, attempt(task, 1), &records(task, 50))).collect();
    dead.stop();
    let mut reader = Reader::elsewhere(0);
    reader.sources.learn(&outputs(&[&dead, &alive], entries, 3));
    let answers: Vec<Outputs> = again.iter().map(|entry| outputs(&[], vec![entry.clone()], 3)).collect();
    reader.answer_reports(move |report| {
        Some(answers[report.output.as_ref().expect("an output").task as usize].clone())
    });
    assert!(!reader.read(&rule, 1).is_empty());
    let reports = reader.reports();
    assert_eq!(reports.len(), 2, "each output once: {reports:?}");
    assert!(reports.iter().all(|report| report.kind() == Kind::Unreachable && report.holder == 1));
}

#[test]
fn a_worker_that_comes_back_elsewhere_is_found_by_a_later_entry() {
    let rule = hash();
    let mut worker = Worker::start(1);
    let entry = worker.map(&rule, attempt(0, 0), &records(0, 50));
    worker.stop();
    let back = Worker::start(1);
    back.map(&rule, attempt(0, 0), &records(0, 50));
    let mut reader = Reader::elsewhere(0);
    reader.sources.learn(&outputs(&[&worker], vec![entry.clone()], 1));
    let answer = outputs(&[&back], vec![entry], 1);
    reader.answer_reports(move |_| Some(answer.clone()));
    assert!(!reader.read(&rule, 0).is_empty());
    assert_eq!(reader.reports().len(), 1);
}

#[test]
fn what_another_job_may_fetch_this_one_may_not() {
    let rule = hash();
    let worker = Worker::start(1);
    let entry = worker.map(&rule, attempt(0, 0), &records(0, 50));
    let other_key = TaskKey::open_random().0;
    let forged =
        other_key.shuffle_token(CLUSTER, gristmill_proto::ids::Epoch(1), crate::cluster::JOB, &[], 1);
    for token in [token_of(JobId([4; 16])), forged, Vec::new()] {
        let mut reader = Reader::elsewhere(0);
        reader.options.token = token;
        reader.sources.learn(&outputs(&[&worker], vec![entry.clone()], 1));
        let cancel = reader.options.cancel.clone();
        reader.answer_reports(move |_| {
            cancel.store(true, Ordering::Relaxed);
            None
        });
        assert!(matches!(reader.fetch(&rule, 0), Err(FetchError::Cancelled)));
        assert_eq!(reader.reports()[0].kind(), Kind::Refused);
    }
    // A worker that serves another cluster now, at the same address.
    worker.keys.set(ClusterId([8; 16]), key());
    let mut reader = Reader::elsewhere(0);
    reader.sources.learn(&outputs(&[&worker], vec![entry], 1));
    let cancel = reader.options.cancel.clone();
    reader.answer_reports(move |_| {
        cancel.store(true, Ordering::Relaxed);
        None
    });
    assert!(matches!(reader.fetch(&rule, 0), Err(FetchError::Cancelled)));
    assert_eq!(reader.reports()[0].kind(), Kind::Refused);
    assert!(reader.reports()[0].detail.contains("is for cluster"), "{:?}", reader.reports());
}

#[test]
fn a_fetch_that_waits_ends_when_it_is_cancelled_and_when_nothing_more_can_come() {
    let rule = hash();
    let worker = Worker::start(1);
    let entry = worker.map(&rule, attempt(0, 0), &records(0, 50));
    for rule in [rule, range()] {
        let reader = Reader::elsewhere(0);
        reader.sources.learn(&outputs(&[&worker], vec![entry.clone()], 2));
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| reader.fetch(&rule, 0).map(drop));
            reader.options.cancel.store(true, Ordering::Relaxed);
            let ended = reading.join().expect("no panic");
            assert!(matches!(ended, Err(FetchError::Cancelled)), "{ended:?}");
        });
        let reader = Reader::elsewhere(0);
        reader.sources.learn(&outputs(&[&worker], vec![entry.clone()], 2));
        reader.sources.close();
        let ended = reader.fetch(&rule, 0).map(drop);
        assert!(matches!(ended, Err(FetchError::Closed { expected: Some(2), .. })), "{ended:?}");
    }
}

#[test]
fn more_map_outputs_than_map_tasks_are_an_error() {
    let worker = Worker::start(1);
    let entries = (0..2).map(|task| worker.map(&hash(), attempt(task, 0), &records(task, 5))).collect();
    let reader = Reader::elsewhere(0);
    reader.sources.learn(&outputs(&[&worker], entries, 1));
    let ended = reader.fetch(&hash(), 0).map(drop);
    assert!(matches!(ended, Err(FetchError::TooMany { expected: 1, named: 2 })), "{ended:?}");
}

#[test]
fn a_full_scratch_disk_ends_the_fetch() {
    let worker = Worker::start(1);
    let entry = worker.map(&hash(), attempt(0, 0), &records(0, 50));
    let reader = Reader::elsewhere(0);
    // Its directory is gone: nothing can be written.
    std::fs::remove_dir_all(reader.dir.path()).expect("it is gone");
    reader.sources.learn(&outputs(&[&worker], vec![entry], 1));
    let ended = reader.fetch(&hash(), 0).map(drop);
    assert!(matches!(ended, Err(FetchError::Scratch(_))), "{ended:?}");
    assert!(reader.reports().is_empty(), "that is not the holder's fault");
}
