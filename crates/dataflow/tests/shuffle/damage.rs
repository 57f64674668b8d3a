//! Disks that flip bits and lose ends under a map output: what is read is right, or the damage is told to the master.

use crate::cluster::{PARTITIONS, ROOMY, Reader, Records, Worker, attempt, hash, outputs, records};
use gristmill_proto::task::OutputEntry;
use gristmill_proto::task::fetch_failed::Kind;
use std::fs;
use std::ops::Range;

/// Before the first block of a run file.
const HEADER_BYTES: usize = 16;
/// Of a map output: one short block in each partition.
const RECORDS: u32 = 12;

/// Where the blocks end and the footer begins: the trailer's first field.
fn footer_at(file: &[u8]) -> usize {
    let trailer = &file[file.len() - 24..];
    u64::from_le_bytes(trailer[..8].try_into().expect("eight bytes")) as usize
}

/// Where the block of each partition is.
fn blocks(file: &[u8]) -> Vec<Range<usize>> {
    let (mut blocks, mut at) = (Vec::new(), HEADER_BYTES);
    while at < footer_at(file) {
        let stored = u32::from_le_bytes(file[at + 8..at + 12].try_into().expect("four bytes")) as usize;
        blocks.push(at..at + 20 + stored);
        at += 20 + stored;
    }
    assert_eq!(blocks.len(), PARTITIONS as usize, "one block a partition");
    blocks
}

/// Map outputs that are all the same, each damaged in another way on the disk after it was put there; and a good one
/// for each, by a second attempt.
struct Damaged {
    worker: Worker,
    entries: Vec<OutputEntry>,
    /// What a task reads of one of them.
    right: Vec<Records>,
}

impl Damaged {
    fn new(change: impl Fn(usize, &mut Vec<u8>)) -> (Self, Vec<u8>) {
        let worker = Worker::start(1);
        worker.map(&hash(), attempt(0, 0), &records(0, RECORDS));
        let whole = fs::read(worker.file(attempt(0, 0))).expect("a file");
        let count = whole.len() as u32;
        let entries: Vec<OutputEntry> = (0..count)
            .map(|task| {
                let entry = worker.map(&hash(), attempt(task, 0), &records(0, RECORDS));
                let mut file = whole.clone();
                change(task as usize, &mut file);
                fs::write(worker.file(attempt(task, 0)), file).expect("it is damaged");
                entry
            })
            .collect();
        worker.map(&hash(), attempt(0, 1), &records(0, RECORDS));
        let reader = Reader::on(&worker, ROOMY);
        let good = OutputEntry { number: 1, ..entries[0].clone() };
        reader.sources.learn(&outputs(&[&worker], vec![good], 1));
        let right = (0..PARTITIONS).map(|partition| reader.read(&hash(), partition)).collect();
        (Self { worker, entries, right }, whole)
    }

    /// Reads all of them; those reported are replaced. Returns the tasks that were reported, in order.
    #[track_caller]
    fn read(&self, mut reader: Reader, partition: u32) -> Vec<usize> {
        let tasks = self.entries.len();
        reader.sources.learn(&outputs(&[&self.worker], self.entries.clone(), tasks as u32));
        let good = Worker::start(2);
        let again = good.map(&hash(), attempt(0, 1), &records(0, RECORDS));
        let holder = outputs(&[&good], Vec::new(), tasks as u32);
        let store = good.store.clone();
        let file = fs::read(good.file(attempt(0, 1))).expect("a file");
        reader.answer_reports(move |report| {
            let task = report.output.as_ref().expect("an output").task;
            fs::write(store.place(0, attempt(task, 1)).expect("a place"), &file).expect("a copy");
            store.add(0, attempt(task, 1)).expect("it is whole");
            let mut news = holder.clone();
            news.entries.push(OutputEntry { task, ..again.clone() });
            Some(news)
        });
        let found = reader.read(&hash(), partition);
        let mut expected: Records =
            self.right[partition as usize].iter().flat_map(|record| vec![record.clone(); tasks]).collect();
        expected.sort();
        assert!(found == expected, "partition {partition}");
        let reports = reader.reports();
        assert!(reports.iter().all(|report| report.kind() == Kind::Damaged), "{reports:?}");
        let mut reported: Vec<usize> =
            reports.iter().map(|report| report.output.as_ref().expect("an output").task as usize).collect();
        reported.sort_unstable();
        reported
    }
}

#[test]
fn every_flipped_byte_of_a_part_is_found_and_no_other_matters() {
    for flip in [0xff, 0x01] {
        let (damaged, whole) = Damaged::new(|at, file| file[at] ^= flip);
        for (partition, block) in (0..PARTITIONS).zip(blocks(&whole)) {
            let reported = damaged.read(Reader::elsewhere(0), partition);
            // The worker has read the index when the file was whole.
            assert_eq!(reported, block.collect::<Vec<_>>(), "partition {partition}");
        }
    }
}

#[test]
fn an_own_map_output_is_looked_at_as_closely() {
    let (damaged, whole) = Damaged::new(|at, file| file[at] ^= 0x10);
    for resident_bytes in [ROOMY, 0] {
        for (partition, block) in (0..PARTITIONS).zip(blocks(&whole)) {
            let reported = damaged.read(Reader::on(&damaged.worker, resident_bytes), partition);
            let around = (0..HEADER_BYTES).chain(footer_at(&whole)..whole.len());
            let mut expected: Vec<usize> = block.chain(around).collect();
            expected.sort_unstable();
            assert_eq!(reported, expected, "partition {partition}");
        }
    }
}

#[test]
fn every_map_output_that_lost_its_end_is_found() {
    let (damaged, whole) = Damaged::new(|bytes, file| file.truncate(bytes));
    let all: Vec<usize> = (0..whole.len()).collect();
    assert_eq!(damaged.read(Reader::elsewhere(0), 0), all);
    assert_eq!(damaged.read(Reader::on(&damaged.worker, 0), 0), all);
}
