//! Run files on disks that flip bits and lose ends: reading gives the right records or an error, and nothing else.

use gristmill_dataflow::block::Codec;
use gristmill_dataflow::idle::IdleBuffers;
use gristmill_dataflow::map_output::{MapOutput, ShuffleRule};
use gristmill_dataflow::memory::{ResidentPool, TaskMemory};
use gristmill_dataflow::partition::Partitioner;
use gristmill_dataflow::read::SequenceReader;
use gristmill_dataflow::run::Run;
use gristmill_dataflow::scratch::Scratch;
use gristmill_dataflow::shuffle::{Shuffle, group_parts};
use gristmill_dataflow::split::FileRange;
use gristmill_dfs::{Stamp, Uri};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MEMORY: TaskMemory = TaskMemory { bytes: 1 << 20 };
/// Header of the file; before the first block.
const HEADER_BYTES: usize = 16;

type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// A map output in a file, with three partitions.
struct Stored {
    run: Arc<Run>,
    rule: ShuffleRule,
    scratch: Scratch,
    path: PathBuf,
    dir: tempfile::TempDir,
}

impl Stored {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        // Without resident memory every run is a file.
        let scratch = Scratch::create(dir.path(), ResidentPool::new(0), Codec::Lz4).expect("scratch");
        let rule = ShuffleRule { partitioner: Partitioner::Hash, partitions: 3, fold: None };
        let mut output = MapOutput::new(rule.clone(), MEMORY, scratch.clone(), IdleBuffers::default());
        for n in 0..30u32 {
            output.collect(format!("key {n}").as_bytes(), &n.to_be_bytes()).expect("it fits");
        }
        let run = Arc::new(output.finish().expect("a run"));
        let path = run_file(dir.path());
        Self { run, rule, scratch, path, dir }
    }

    /// Reads all partitions as reduce tasks would.
    fn read(&self) -> Result<Records, String> {
        let shuffle = Shuffle::new(vec![self.run.clone()], &self.rule);
        let mut records = Vec::new();
        for partition in 0..3 {
            let parts = shuffle.parts(partition);
            let mut groups = group_parts(parts, MEMORY, &self.scratch).map_err(|error| error.to_string())?;
            while groups.next_group().map_err(|error| error.to_string())? {
                let key = groups.key().to_vec();
                while let Some(value) = groups.next_value().map_err(|error| error.to_string())? {
                    records.push((key.clone(), value.to_vec()));
                }
            }
        }
        Ok(records)
    }

    /// Reads the file as whoever has nothing but the file.
    fn read_alone(&self, bytes: &[u8]) -> Result<Records, String> {
        let copy = self.dir.path().join("copy");
        fs::write(&copy, bytes).expect("a copy");
        let uri = Uri::parse(copy.to_str().expect("a plain name")).expect("a path");
        let file_bytes = bytes.len() as u64;
        let range = FileRange { uri, start: 0, end: file_bytes, file_bytes, stamp: Stamp::UNKNOWN };
        let mut reader = SequenceReader::open(&range).map_err(|error| error.to_string())?;
        let mut records = Vec::new();
        while let Some((_, key, value)) = reader.next_record().map_err(|error| error.to_string())? {
            records.push((key.to_vec(), value.to_vec()));
        }
        Ok(records)
    }
}

fn run_file(parent: &Path) -> PathBuf {
    let scratch =
        fs::read_dir(parent).expect("a directory").next().expect("the scratch").expect("an entry").path();
    let files = fs::read_dir(scratch).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut runs: Vec<PathBuf> = files.filter(|path| !path.ends_with("lock")).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0)
}

/// Where the blocks end and the footer begins: the trailer's first field.
fn footer_at(file: &[u8]) -> usize {
    let trailer = &file[file.len() - 24..];
    u64::from_le_bytes(trailer[..8].try_into().expect("eight bytes")) as usize
}

#[track_caller]
fn assert_error(result: Result<Records, String>, names: &Path, what: &str) {
    match result {
        Ok(records) => panic!("{what}: {} records", records.len()),
        Err(error) => {
            let named = error.contains(names.to_str().expect("a plain name")) && error.contains("offset");
            assert!(named, "{what}: {error}");
        }
    }
}

#[test]
fn every_flipped_byte_of_a_block_is_an_error_of_the_reduce() {
    let stored = Stored::new();
    let file = fs::read(&stored.path).expect("the run");
    let right = stored.read().expect("it is whole");
    assert_eq!(right.len(), 30);
    let blocks = HEADER_BYTES..footer_at(&file);
    for at in 0..file.len() {
        for flip in [0xff, 1 << (at % 8)] {
            let mut damaged = file.clone();
            damaged[at] ^= flip;
            fs::write(&stored.path, damaged).expect("it is damaged");
            let read = stored.read();
            if blocks.contains(&at) {
                assert_error(read, &stored.path, &format!("byte {at}, {flip:#x}"));
            } else {
                // The task that reads it has the index already and needs neither header nor footer.
                assert_eq!(read.as_ref(), Ok(&right), "byte {at}");
            }
        }
    }
}

#[test]
fn every_truncation_of_a_block_is_an_error_of_the_reduce() {
    let stored = Stored::new();
    let file = fs::read(&stored.path).expect("the run");
    let right = stored.read().expect("it is whole");
    for bytes in 0..file.len() {
        fs::write(&stored.path, &file[..bytes]).expect("it is shorter");
        let read = stored.read();
        if bytes < footer_at(&file) {
            assert_error(read, &stored.path, &format!("{bytes} bytes"));
        } else {
            assert_eq!(read.as_ref(), Ok(&right), "{bytes} bytes");
        }
    }
}

#[test]
fn a_block_in_the_place_of_another_is_an_error() {
    // Each block is right in itself: only its place is wrong.
    let stored = Stored::new();
    let file = fs::read(&stored.path).expect("the run");
    let mut index = stored.run.index.segments.iter().map(|segment| segment.digest.records);
    assert!(index.all(|records| records > 0) && stored.run.index.segments.len() == 3);
    let stored_bytes =
        |at: usize| u32::from_le_bytes(file[at + 8..at + 12].try_into().expect("four bytes")) as usize;
    let first_bytes = 20 + stored_bytes(HEADER_BYTES);
    let second_bytes = 20 + stored_bytes(HEADER_BYTES + first_bytes);
    let (header, rest) = file.split_at(HEADER_BYTES);
    let (first, rest) = rest.split_at(first_bytes);
    let (second, rest) = rest.split_at(second_bytes);
    fs::write(&stored.path, [header, second, first, rest].concat()).expect("it is mixed up");
    assert_error(stored.read(), &stored.path, "two blocks exchanged");
}

#[test]
fn every_flipped_byte_and_every_truncation_is_an_error_of_whoever_has_only_the_file() {
    let stored = Stored::new();
    let file = fs::read(&stored.path).expect("the run");
    let copy = stored.dir.path().join("copy");
    assert_eq!(stored.read_alone(&file).expect("it is whole").len(), 30);
    for at in 0..file.len() {
        for flip in [0xff, 1 << (at % 8)] {
            let mut damaged = file.clone();
            damaged[at] ^= flip;
            assert_error(stored.read_alone(&damaged), &copy, &format!("byte {at}, {flip:#x}"));
        }
        assert_error(stored.read_alone(&file[..at]), &copy, &format!("{at} bytes"));
    }
}
