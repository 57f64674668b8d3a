//! Two attempts at a map task that emit the same records in different orders make map outputs with the same digests,
//! segment by segment: whatever the memory, with and without spills, with and without folding.

use gristmill_dataflow::block::Codec;
use gristmill_dataflow::digest::Digest;
use gristmill_dataflow::fold::Fold;
use gristmill_dataflow::group::Groups;
use gristmill_dataflow::idle::IdleBuffers;
use gristmill_dataflow::map_output::{MapOutput, ShuffleRule};
use gristmill_dataflow::memory::{ResidentPool, TaskMemory};
use gristmill_dataflow::partition::Partitioner;
use gristmill_dataflow::run::Run;
use gristmill_dataflow::scratch::Scratch;
use gristmill_dataflow::shuffle::{Shuffle, group_parts};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// Adds numbers; those of eight bytes in the table's own slots.
struct Sum {
    word_bytes: Option<usize>,
}

impl Fold for Sum {
    fn word_bytes(&self) -> Option<usize> {
        self.word_bytes
    }

    fn fold_word(&self, sum: u64, value: u64) -> u64 {
        sum.wrapping_add(value)
    }

    fn fold_all(&self, values: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
        let number = |value: &[u8]| u64::from_be_bytes(value.try_into().expect("eight bytes"));
        out.extend_from_slice(&values.map(number).fold(0, u64::wrapping_add).to_be_bytes());
    }
}

/// One attempt: what it made, and how many bytes went to the disk.
struct Output {
    run: Arc<Run>,
    rule: ShuffleRule,
    scratch: Scratch,
    memory: TaskMemory,
    _dir: tempfile::TempDir,
}

fn attempt(
    records: &Records,
    fold: Option<Arc<dyn Fold>>,
    task_bytes: usize,
    resident_bytes: usize,
) -> Output {
    let dir = tempfile::tempdir().expect("tempdir");
    let resident = ResidentPool::new(resident_bytes);
    let scratch = Scratch::create(dir.path(), resident, Codec::Lz4).expect("scratch");
    let rule = ShuffleRule { partitioner: Partitioner::Hash, partitions: 5, fold };
    let memory = TaskMemory { bytes: task_bytes };
    let mut output = MapOutput::new(rule.clone(), memory, scratch.clone(), IdleBuffers::default());
    records.iter().for_each(|(key, value)| output.collect(key, value).expect("it fits"));
    let run = Arc::new(output.finish().expect("a run"));
    Output { run, rule, scratch, memory, _dir: dir }
}

impl Output {
    fn digests(&self) -> Vec<(u32, Digest)> {
        self.run.index.segments.iter().map(|segment| (segment.partition, segment.digest)).collect()
    }

    /// Everything in it, partition by partition.
    fn groups(&self) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
        let shuffle = Shuffle::new(vec![self.run.clone()], &self.rule);
        let mut groups = BTreeMap::new();
        for partition in 0..self.rule.partitions {
            let parts = shuffle.parts(partition);
            let mut part: Groups = group_parts(parts, self.memory, &self.scratch).expect("a merge");
            while part.next_group().expect("a group") {
                let mut values = Vec::new();
                while let Some(value) = part.next_value().expect("a value") {
                    values.push(value.to_vec());
                }
                assert!(groups.insert(part.key().to_vec(), values).is_none(), "a key has one group");
            }
        }
        groups
    }
}

/// `count` records of few keys, some of them equal: the key's number decides its length.
fn records(count: u64, keys: u64) -> Records {
    let key = |n: u64| vec![n as u8; n as usize % 40];
    (0..count).map(|n| (key(n * n % keys), (n % 1000).to_be_bytes().to_vec())).collect()
}

/// Another order, without chance: every `step`th record, round and round. `step` has no divisor in common with `len`.
fn reordered(records: &Records, step: usize) -> Records {
    (0..records.len()).map(|n| records[n * step % records.len()].clone()).collect()
}

const ROOMY: usize = 64 << 20;
const TINY: usize = 96 << 10;

#[test]
fn the_order_of_emission_leaves_no_trace() {
    // 20,011 is a prime, so every step visits all of them. In 96 KiB they spill a dozen times and more.
    let records = records(20_011, 251);
    let folds: [Option<Arc<dyn Fold>>; 3] =
        [None, Some(Arc::new(Sum { word_bytes: Some(8) })), Some(Arc::new(Sum { word_bytes: None }))];
    for fold in folds {
        let first = attempt(&records, fold.clone(), ROOMY, ROOMY);
        let digests = first.digests();
        assert_eq!(digests.len(), 5, "251 keys reach all partitions");
        let mut spilled = 0;
        for (task_bytes, resident_bytes) in [(ROOMY, ROOMY), (ROOMY, 0), (TINY, ROOMY), (TINY, 0)] {
            for step in [1, 2, 7919] {
                let again = attempt(&reordered(&records, step), fold.clone(), task_bytes, resident_bytes);
                assert_eq!(again.digests(), digests, "{task_bytes}, {resident_bytes}, step {step}");
                assert!(again.groups() == first.groups(), "and the same records, in the same order");
                spilled += again.scratch.written_bytes();
            }
        }
        assert!(spilled > 100_000 || fold.is_some(), "{spilled} bytes spilled");
    }
}

#[test]
fn many_keys_in_little_memory_leave_no_trace_either() {
    // A table of 20,011 keys does not fit into 96 KiB: the same key comes from several spills and is folded again.
    let records: Records = (0..20_011u64)
        .map(|n| (format!("key {}", n % 9_001).into_bytes(), n.to_be_bytes().to_vec()))
        .collect();
    for word_bytes in [Some(8), None] {
        let fold: Option<Arc<dyn Fold>> = Some(Arc::new(Sum { word_bytes }));
        let roomy = attempt(&records, fold.clone(), ROOMY, ROOMY);
        let tiny = attempt(&reordered(&records, 7919), fold.clone(), TINY, 0);
        assert_eq!(roomy.run.index.records(), 9_001, "each key once");
        assert_eq!(tiny.digests(), roomy.digests());
        assert!(tiny.groups() == roomy.groups());
        // More than the final run: spills before it.
        assert!(tiny.scratch.written_bytes() > tiny.run.stored_bytes() * 3 / 2, "it spilled");
    }
}

#[test]
fn a_lost_doubled_or_changed_record_shows() {
    let whole = records(2_003, 251);
    let digests = attempt(&whole, None, ROOMY, ROOMY).digests();
    let (mut lost, mut doubled, mut changed) = (whole.clone(), whole.clone(), whole.clone());
    lost.pop();
    doubled.push(whole[0].clone());
    changed[1000].1[7] ^= 1;
    for other in [lost, doubled, changed] {
        assert_ne!(attempt(&other, None, ROOMY, ROOMY).digests(), digests);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_map_output_holds_what_was_collected(
        records in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..6), prop::collection::vec(any::<u8>(), 0..400)), 0..400),
        resident in prop::bool::ANY,
    ) {
        let mut expected = BTreeMap::<Vec<u8>, Vec<Vec<u8>>>::new();
        records.iter().for_each(|(key, value)| expected.entry(key.clone()).or_default().push(value.clone()));
        expected.values_mut().for_each(|values| values.sort());
        let output = attempt(&records, None, TINY, if resident { ROOMY } else { 0 });
        prop_assert_eq!(output.groups(), expected);
    }
}
