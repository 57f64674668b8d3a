//! Stories of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use gristmill_proto::job::{JobSpec, JobStatus};
use gristmill_proto::job_record::{Ended, Failures, Forgotten, Lost, Submitted, TaskWorkers, Won};
use gristmill_proto::task::AttemptId;
use redb::backends::InMemoryBackend;

fn record(kind: Kind) -> Record {
    Record { record: Some(kind) }
}

fn submitted(job: u8, sequence: u64) -> Record {
    let spec = Some(JobSpec { job: vec![job; 16].into(), ..JobSpec::default() });
    record(Kind::Submitted(Submitted { spec, sequence, ..Submitted::default() }))
}

fn attempt(job: u8, task: u32, number: u32) -> Option<AttemptId> {
    Some(AttemptId { job: vec![job; 16].into(), stage: 0, task, number })
}

fn won(job: u8, task: u32, number: u32) -> Record {
    record(Kind::Won(Won { attempt: attempt(job, task, number), ..Won::default() }))
}

fn lost(job: u8, task: u32, number: u32) -> Record {
    record(Kind::Lost(Lost { attempt: attempt(job, task, number), ..Lost::default() }))
}

fn failures(job: u8, task: u32, failed: u32) -> Record {
    let job = vec![job; 16].into();
    record(Kind::Failures(Failures { job, task, failed, ..Failures::default() }))
}

fn restored(store: &Store) -> Vec<Record> {
    let mut records = Vec::new();
    let count = store.restore(|record| records.push(record)).unwrap();
    assert_eq!(count, records.len() as u64);
    records
}

#[test]
fn a_later_record_of_a_key_replaces_the_earlier_and_comes_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.redb");
    let mut store = Store::open(&path).unwrap();
    store.persist(&[submitted(1, 1), won(1, 0, 1), won(1, 1, 1), lost(1, 0, 1)]).unwrap();
    store.persist(&[won(1, 0, 2), failures(1, 0, 3)]).unwrap();
    drop(store);
    let mut store = Store::open(&path).unwrap();
    let expected = [submitted(1, 1), won(1, 1, 1), lost(1, 0, 1), won(1, 0, 2), failures(1, 0, 3)];
    assert_eq!(restored(&store), expected);
    store.persist(&[won(1, 1, 2)]).unwrap();
    assert_eq!(restored(&store).last(), Some(&won(1, 1, 2)), "numbers go on after a start");
}

#[test]
fn a_forgotten_job_leaves_nothing_and_takes_nobody_with_it() {
    let mut store = Store::with_backend(InMemoryBackend::new()).unwrap();
    let workers = record(Kind::TaskWorkers(TaskWorkers { next: 5 }));
    let (forgotten, kept) = (255, [submitted(254, 2), won(254, 9, 1), workers]);
    store.persist(&[submitted(forgotten, 1), won(forgotten, u32::MAX, 1)]).unwrap();
    store.persist(&kept).unwrap();
    let forget = Forgotten { job: vec![forgotten; 16].into() };
    store.persist(&[failures(forgotten, 0, 1), record(Kind::Forgotten(forget))]).unwrap();
    assert_eq!(restored(&store), kept);
}

#[test]
fn a_turn_is_kept_whole_or_not_at_all() {
    let mut store = Store::with_backend(InMemoryBackend::new()).unwrap();
    let error = store.persist(&[submitted(1, 1), record(Kind::Forgotten(Forgotten::default()))]).unwrap_err();
    assert!(matches!(error, StoreError::NoKey(_)), "{error}");
    assert_eq!(restored(&store), []);
}

#[test]
fn of_a_job_that_has_ended_its_submission_and_its_history_are_kept() {
    let mut store = Store::with_backend(InMemoryBackend::new()).unwrap();
    let status = |job: u8| Some(JobStatus { job: vec![job; 16].into(), ..JobStatus::default() });
    let ended = |job: u8| record(Kind::Ended(Ended { status: status(job), tasks: Vec::new() }));
    let other = [submitted(8, 2), won(8, 0, 1)];
    store.persist(&[submitted(7, 1), won(7, 0, 1), lost(7, 0, 1), won(7, 1, 1), failures(7, 1, 1)]).unwrap();
    store.persist(&other).unwrap();
    store.persist(&[ended(7)]).unwrap();
    assert_eq!(restored(&store), [submitted(7, 1), other[0].clone(), other[1].clone(), ended(7)]);
}

/// Storage that fails from some moment on.
#[derive(Debug)]
struct Failing {
    inner: InMemoryBackend,
    fails: Arc<AtomicBool>,
}

impl Failing {
    fn check(&self) -> io::Result<()> {
        if self.fails.load(Ordering::Relaxed) { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }
}

impl redb::StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.inner.write(offset, data)
    }
}

#[test]
fn a_store_that_fails_says_so_and_takes_nothing_more() {
    let fails = Arc::new(AtomicBool::new(false));
    let mut store =
        Store::with_backend(Failing { inner: InMemoryBackend::new(), fails: fails.clone() }).unwrap();
    store.persist(&[submitted(1, 1)]).unwrap();
    fails.store(true, Ordering::Relaxed);
    let error = store.persist(&[submitted(2, 2)]).unwrap_err();
    assert!(error.to_string().starts_with("cannot write the jobs"), "{error}");
    fails.store(false, Ordering::Relaxed);
    store.persist(&[submitted(3, 3)]).unwrap_err();
}

fn change(store: &Store, change: impl FnOnce(&WriteTransaction)) {
    let transaction = begin(&store.database).unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

fn refusal(damage: impl FnOnce(&WriteTransaction)) -> String {
    let mut store = Store::with_backend(InMemoryBackend::new()).unwrap();
    store.persist(&[submitted(1, 1), won(1, 0, 1)]).unwrap();
    change(&store, damage);
    let mut handed_out = 0;
    let error = store.restore(|_| handed_out += 1).unwrap_err();
    assert!(matches!(error, StoreOpenError::Damaged { .. }), "{error}");
    error.to_string()
}

#[test]
fn a_damaged_record_is_named_with_its_table_and_key() {
    let mut damaged = pack(&won(1, 0, 1));
    *damaged.last_mut().unwrap() ^= 1;
    let flipped = refusal(|transaction| {
        transaction.open_table(RECORDS).unwrap().insert(1, damaged.as_slice()).unwrap();
    });
    assert!(flipped.contains("table records, key 1, has the sum"), "{flipped}");
    let short = refusal(|transaction| {
        transaction.open_table(RECORDS).unwrap().insert(1, [0_u8; 3].as_slice()).unwrap();
    });
    assert!(short.contains("table records, key 1, has 3 bytes"), "{short}");
    let missing = refusal(|transaction| {
        transaction.open_table(RECORDS).unwrap().remove(1).unwrap();
    });
    assert!(missing.contains("2 keys for 1 records"), "{missing}");
    let elsewhere = refusal(|transaction| {
        let key = key_of(&won(1, 0, 1)).unwrap();
        transaction.open_table(KEYS).unwrap().insert(&key, 7).unwrap();
    });
    assert!(elsewhere.contains("does not name record 1"), "{elsewhere}");
}

#[test]
fn a_store_of_another_format_or_none_at_all_is_refused_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.redb");
    let store = Store::open(&path).unwrap();
    change(&store, |transaction| {
        transaction.open_table(META).unwrap().insert("format", 2).unwrap();
    });
    drop(store);
    let error = Store::open(&path).err().unwrap();
    assert!(matches!(error, StoreOpenError::OtherFormat { found: 2, .. }), "{error}");
    fs::write(&path, "no store").unwrap();
    let error = Store::open(&path).err().unwrap();
    assert!(error.to_string().contains("jobs.redb"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"no store");
}

#[test]
fn what_a_master_left_that_died_while_it_made_a_store_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("jobs.redb.new"), "half").unwrap();
    let store = Store::open(&dir.path().join("jobs.redb")).unwrap();
    assert_eq!(restored(&store), []);
    assert!(!dir.path().join("jobs.redb.new").exists());
}

#[test]
fn failures_to_cut_ranges_are_counted_apart_from_those_of_the_task() {
    let mut store = Store::with_backend(InMemoryBackend::new()).unwrap();
    let of_the_task = failures(1, 0, 3);
    let next_number = CUT_BIT | 2;
    let job = vec![1; 16].into();
    let of_the_cut = record(Kind::Failures(Failures { job, failed: 1, next_number, ..Failures::default() }));
    store.persist(&[of_the_task.clone(), of_the_cut.clone()]).unwrap();
    assert_eq!(restored(&store), [of_the_task, of_the_cut]);
}
