use crate::cluster::{
    JOB, PARTITIONS, ROOMY, Reader, Records, Worker, attempt, hash, merged, noise, outputs, range, records,
    run,
};
use gristmill_dataflow::block::Codec;
use gristmill_dataflow::map_output::ShuffleRule;
use gristmill_dataflow::memory::ResidentPool;
use gristmill_dataflow::scratch::Scratch;
use gristmill_dataflow::shuffle::{Shuffle, cut};
use gristmill_proto::task::{OutputEntry, Outputs};
use std::sync::Arc;

const MAPS: u32 = 12;
/// More than one block in each partition of each map output.
const RECORDS: u32 = 20_000;
/// Room for some of the blocks that one task reads, and not for all.
const TIGHT: usize = 600 << 10;

/// What the tasks of a job in one process read, partition by partition.
fn local(rule: &ShuffleRule, maps: &[Records]) -> Vec<Records> {
    let (runs, _dirs): (Vec<_>, Vec<_>) =
        maps.iter().map(|records| run(rule, records, ROOMY)).map(|(run, dir)| (Arc::new(run), dir)).unzip();
    let shuffle = Shuffle::new(runs, rule);
    let dir = tempfile::tempdir().expect("tempdir");
    let scratch = Scratch::create(dir.path(), ResidentPool::new(0), Codec::Lz4).expect("scratch");
    (0..rule.partitions).map(|partition| merged(shuffle.parts(partition), &scratch)).collect()
}

struct Mapped {
    workers: Vec<Worker>,
    maps: Vec<Records>,
    news: Outputs,
}

fn map_all(rule: &ShuffleRule, workers: u64, maps: u32, count: u32) -> Mapped {
    let workers: Vec<Worker> = (1..=workers).map(Worker::start).collect();
    let maps: Vec<Records> = (0..maps).map(|task| records(task, count)).collect();
    let mut entries = Vec::new();
    for (task, records) in (0u32..).zip(&maps) {
        let worker = &workers[task as usize % workers.len()];
        entries.push(worker.map(rule, attempt(task, 0), records));
    }
    let expected = entries.len() as u32;
    let news = outputs(&workers.iter().collect::<Vec<_>>(), entries, expected);
    Mapped { workers, maps, news }
}

#[test]
fn what_is_fetched_is_what_a_local_merge_reads() {
    let rule = hash();
    let Mapped { workers, maps, news } = map_all(&rule, 3, MAPS, RECORDS);
    let expected = local(&rule, &maps);
    for resident_bytes in [ROOMY, TIGHT, 0] {
        for reader in [Reader::elsewhere(resident_bytes), Reader::on(&workers[1], resident_bytes)] {
            reader.sources.learn(&news);
            for (partition, expected) in (0..PARTITIONS).zip(&expected) {
                let parts = reader.fetch(&rule, partition).expect("everything is there");
                let on_disk = reader.files() > 0;
                assert_eq!(on_disk, resident_bytes < ROOMY, "{resident_bytes} bytes of memory");
                assert!(reader.merge(parts) == *expected, "partition {partition}, {resident_bytes} bytes");
            }
            assert_eq!(reader.files(), 0, "nothing is left");
            assert!(reader.reports().is_empty());
        }
    }
}

#[test]
fn ranges_that_were_cut_on_the_cluster_are_those_of_a_local_run() {
    let rule = range();
    let Mapped { workers, maps, mut news } = map_all(&rule, 3, MAPS, RECORDS);
    let expected = local(&rule, &maps);
    assert!(expected.iter().all(|partition| partition.len() > 10_000), "the ranges are even");
    let cutter = Reader::on(&workers[2], 0);
    cutter.sources.learn(&news);
    news.cuts = cut(&cutter.options, &cutter.sources, PARTITIONS).expect("cuts").into();
    for resident_bytes in [ROOMY, TIGHT, 0] {
        for reader in [Reader::elsewhere(resident_bytes), Reader::on(&workers[0], resident_bytes)] {
            reader.sources.learn(&news);
            for (partition, expected) in (0..PARTITIONS).zip(&expected) {
                assert!(reader.read(&rule, partition) == *expected, "{partition}, {resident_bytes} bytes");
            }
        }
    }
}

#[test]
fn a_range_that_nobody_has_is_empty_without_a_fetch() {
    let rule = range();
    let Mapped { workers: _workers, mut news, .. } = map_all(&rule, 1, 1, 3);
    let reader = Reader::elsewhere(0);
    reader.sources.learn(&news);
    news.cuts = cut(&reader.options, &reader.sources, PARTITIONS).expect("cuts").into();
    reader.sources.learn(&news);
    // Three records are one block, which cannot be cut.
    assert_eq!(reader.read(&rule, 0).len(), 3);
    reader.sources.learn(&Outputs { expected: 2, ..Outputs::default() });
    assert!(reader.read(&rule, 1).is_empty(), "although a map output is missing");
}

#[test]
fn many_small_map_outputs_need_few_files() {
    let rule = hash();
    let Mapped { workers, maps, news } = map_all(&rule, 2, 700, 9);
    let expected = local(&rule, &maps);
    for reader in [Reader::elsewhere(0), Reader::on(&workers[0], 0)] {
        reader.sources.learn(&news);
        let parts = reader.fetch(&rule, 0).expect("everything is there");
        assert!(parts.len() > 500);
        assert!((1..=5).contains(&reader.files()), "{} files", reader.files());
        assert!(reader.merge(parts) == expected[0]);
        assert_eq!(reader.files(), 0);
    }
}

#[test]
fn a_record_larger_than_a_frame_arrives() {
    let rule = hash();
    let worker = Worker::start(1);
    let large = vec![(b"large".to_vec(), noise(1 << 20)), (b"small".to_vec(), b"s".to_vec())];
    let entry = worker.map(&rule, attempt(0, 0), &large);
    for resident_bytes in [ROOMY, 0] {
        let reader = Reader::elsewhere(resident_bytes);
        reader.sources.learn(&outputs(&[&worker], vec![entry.clone()], 1));
        let mut found: Records =
            (0..PARTITIONS).flat_map(|partition| reader.read(&rule, partition)).collect();
        found.sort();
        assert!(found == large);
    }
}

#[test]
fn map_outputs_are_fetched_as_they_are_made() {
    let rule = hash();
    let Mapped { workers, maps, news } = map_all(&rule, 2, 6, 500);
    let expected = local(&rule, &maps);
    let reader = Reader::elsewhere(ROOMY);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| reader.read(&rule, 2));
        for entry in &news.entries {
            reader.sources.learn(&outputs(&[&workers[0], &workers[1]], vec![entry.clone()], 6));
        }
        assert!(reading.join().expect("no panic") == expected[2]);
    });
}

#[test]
fn of_no_map_tasks_nothing_is_read_and_of_empty_ones_neither() {
    let rule = hash();
    let reader = Reader::elsewhere(ROOMY);
    reader.sources.learn(&Outputs::default());
    assert!(reader.fetch(&rule, 0).expect("nothing is expected").is_empty());

    let worker = Worker::start(1);
    let empty: Vec<OutputEntry> =
        (0..2).map(|task| worker.map(&rule, attempt(task, 0), &Records::new())).collect();
    let reader = Reader::on(&worker, ROOMY);
    reader.sources.learn(&outputs(&[&worker], empty.clone(), 2));
    assert!(reader.read(&rule, 1).is_empty());
    let reader = Reader::elsewhere(ROOMY);
    reader.sources.learn(&outputs(&[&worker], empty, 2));
    assert!(reader.read(&rule, 1).is_empty());
    let cuts = cut(&reader.options, &reader.sources, PARTITIONS).expect("no cuts");
    let mut cut = outputs(&[&worker], Vec::new(), 2);
    cut.cuts = cuts.into();
    reader.sources.learn(&cut);
    assert!(reader.read(&range(), 0).is_empty());
    assert_eq!(worker.store.list().len(), 2);
    assert_eq!(worker.store.list()[0].task.job, JOB);
}
