use crate::cluster::{JOB, attempt, hash, records, run};
use gristmill_dataflow::map_output::ShuffleRule;
use gristmill_dataflow::partition::Partitioner;
use gristmill_dataflow::shuffle::{OutputStore, OutputStoreError};
use gristmill_proto::ids::{AttemptId, JobId, TaskId};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn put(store: &OutputStore, disk: usize, attempt: AttemptId) -> PathBuf {
    let (run, _dir) = run(&hash(), &records(attempt.task.task, 9), 0);
    let path = store.place(disk, attempt).expect("a place");
    run.detach(&path).expect("it is moved");
    store.add(disk, attempt).expect("it is whole");
    path
}

fn two_disks(dir: &Path) -> Vec<PathBuf> {
    vec![dir.join("a"), dir.join("b")]
}

#[test]
fn a_restart_finds_whole_map_outputs_and_removes_what_is_half_done() {
    let dir = tempfile::tempdir().expect("tempdir");
    let disks = two_disks(dir.path());
    let store = OutputStore::open(&disks).expect("a store");
    let paths: Vec<PathBuf> = (0..4).map(|task| put(&store, task as usize % 2, attempt(task, 0))).collect();
    let whole = fs::read(&paths[1]).expect("a file");
    fs::write(&paths[1], &whole[..whole.len() - 1]).expect("it lost its end");
    fs::write(paths[2].with_extension("7.new"), &whole).expect("it was being received");
    fs::write(paths[2].with_file_name("s0-t7-a0.run"), &whole).expect("no name of an attempt");

    let unused = TaskId { job: JobId([9; 16]), stage: 0, task: 0 }.attempt(0);
    store.place(0, unused).expect("a place");

    let again = OutputStore::open(&disks).expect("a store");
    assert_eq!(again.list(), [attempt(0, 0), attempt(2, 0), attempt(3, 0)]);
    assert!(!disks[0].join(unused.task.job.to_string()).exists(), "nobody would remove it later");
    assert_eq!(again.path(attempt(3, 0)), Some(paths[3].clone()));
    assert_eq!(again.path(attempt(1, 0)), None);
    let left = |disk: usize| fs::read_dir(&again.job_dirs(JOB)[disk]).expect("a directory").count();
    assert_eq!((left(0), left(1)), (3, 1), "what is not this store's stays");
}

#[test]
fn what_is_removed_is_gone_from_the_disk() {
    let dir = tempfile::tempdir().expect("tempdir");
    let disks = two_disks(dir.path());
    let store = OutputStore::open(&disks).expect("a store");
    let other = TaskId { job: JobId([9; 16]), stage: 0, task: 0 }.attempt(0);
    let kept = put(&store, 0, other);
    let paths: Vec<PathBuf> = (0..4).map(|task| put(&store, task as usize % 2, attempt(task, 0))).collect();
    store.remove(attempt(0, 0)).expect("it is removed");
    store.remove(attempt(0, 0)).expect("it is gone already");
    assert!(!paths[0].exists() && paths[1].exists());
    store.remove_job(JOB).expect("they are removed");
    store.remove_job(JOB).expect("they are gone already");
    assert_eq!(store.list(), [other]);
    assert!(kept.exists());
    assert!(disks.iter().all(|disk| !disk.join(JOB.to_string()).exists()), "nor is the job's directory left");
}

#[test]
fn what_is_not_there_is_not_added() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = OutputStore::open(&[dir.path().to_owned()]).expect("a store");
    let missing = store.add(0, attempt(0, 0));
    assert!(matches!(missing, Err(OutputStoreError::Missing { .. })), "{missing:?}");
    let path = store.place(0, attempt(0, 0)).expect("a place");
    fs::write(&path, b"no run file").expect("a file");
    let damaged = store.add(0, attempt(0, 0));
    assert!(matches!(damaged, Err(OutputStoreError::Run { .. })), "{damaged:?}");
    let nowhere = store.place(1, attempt(0, 0));
    assert!(matches!(nowhere, Err(OutputStoreError::NoDisk { disk: 1, disks: 1 })), "{nowhere:?}");
    assert!(store.list().is_empty());
}

#[test]
fn attempts_that_emit_the_same_have_the_same_digest() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (resident, _a) = run(&hash(), &records(0, 500), 1 << 20);
    let (stored, _b) = run(&hash(), &records(0, 500), 0);
    let (other, _c) = run(&hash(), &records(1, 500), 0);
    let digest = stored.digest();
    assert_eq!(resident.digest(), digest);
    assert_ne!(other.digest(), digest);
    let paths = ["resident", "stored"].map(|name| dir.path().join(name));
    for (run, path) in [resident, stored].into_iter().zip(&paths) {
        assert_eq!(run.detach(path).expect("it is moved"), fs::metadata(path).expect("a file").len());
    }
    assert!(fs::read(&paths[0]).expect("a file") == fs::read(&paths[1]).expect("a file"));
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 2);
}

#[test]
fn the_same_records_in_other_partitions_have_another_digest() {
    // As a plan does that scatters records in turn, and begins elsewhere when it runs again.
    let scattered_from = |first: u32| {
        let turn = AtomicU32::new(first);
        let rule = move |_: &[u8], partitions: u32| turn.fetch_add(1, Ordering::Relaxed) % partitions;
        ShuffleRule { partitioner: Partitioner::Custom(Arc::new(rule)), ..hash() }
    };
    let digest = |first| run(&scattered_from(first), &records(0, 500), 0).0.digest();
    assert_eq!(digest(0), digest(0));
    assert_ne!(digest(0), digest(1));
}
