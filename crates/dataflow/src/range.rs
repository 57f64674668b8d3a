//! Range partitions: where to cut the key space so that reduces get equal shares and part files are in total
//! order. The sample is the index of the map outputs: each block's first key stands for the block's bytes, so
//! the cuts are right to a block for each map output, and the input is read only once.

use crate::run::{Run, RunPart};
use std::sync::Arc;

/// Keys at which partitions begin; partition `i` has the keys from cut `i - 1` on and before cut `i`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeCuts {
    cuts: Vec<Arc<[u8]>>,
}

impl RangeCuts {
    /// Cuts the keys of `runs` into at most `partitions` shares of about equal bytes.
    pub fn choose(runs: &[Arc<Run>], partitions: u32) -> Self {
        let mut sample: Vec<(&[u8], u64)> = Vec::new();
        for run in runs {
            for (number, block) in (0u32..).zip(&run.index.blocks) {
                sample.push((run.index.first_key(number), block.raw_bytes.into()));
            }
        }
        sample.sort_unstable();
        let total: u64 = sample.iter().map(|(_, bytes)| bytes).sum();
        let mut cuts: Vec<Arc<[u8]>> = Vec::new();
        let mut below = 0u64;
        // A cut at the least key of all would leave nothing below it.
        let mut last = sample.first().map_or(&[][..], |(key, _)| key);
        for (key, bytes) in sample {
            let share = cuts.len() as u128 + 1;
            let wanted = (u128::from(total) * share / u128::from(partitions.max(1))) as u64;
            if share < partitions.into() && below >= wanted && key > last {
                cuts.push(key.into());
                last = key;
            }
            below += bytes;
        }
        Self { cuts }
    }

    /// What partition `partition` reads of `run`.
    pub fn part(&self, run: &Arc<Run>, partition: u32) -> RunPart {
        let partition = partition as usize;
        if partition > self.cuts.len() {
            return RunPart::none(run);
        }
        let from = partition.checked_sub(1).and_then(|before| self.cuts.get(before)).cloned();
        RunPart::keys(run, from, self.cuts.get(partition).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Codec;
    use crate::cursor::Cursor;
    use crate::memory::ResidentPool;
    use crate::run_writer::RunWriter;
    use crate::scratch::Scratch;
    use proptest::prelude::*;

    fn runs(scratch: &Scratch, keys: &[Vec<Vec<u8>>]) -> Vec<Arc<Run>> {
        let run = |keys: &Vec<Vec<u8>>| {
            let mut keys = keys.clone();
            keys.sort();
            let mut writer = RunWriter::new(scratch, true);
            // Values of 3,000 bytes: a block holds about 20 records, so a few hundred keys make many blocks.
            keys.iter().for_each(|key| writer.push(0, key, &[7; 3000]).expect("push"));
            Arc::new(writer.finish().expect("finish"))
        };
        keys.iter().map(run).collect()
    }

    fn partition_of(cuts: &RangeCuts, runs: &[Arc<Run>], partition: u32) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for run in runs {
            let mut cursor = Cursor::open(cuts.part(run, partition)).expect("open");
            while !cursor.ended {
                keys.push(cursor.key().to_vec());
                cursor.advance().expect("advance");
            }
        }
        keys.sort();
        keys
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn every_record_is_in_one_partition_and_partitions_are_in_order(
            // Long common beginnings: the index keeps only 32 bytes of a key.
            keys in prop::collection::vec(prop::collection::vec("(abcdefghijklmnopqrstuvwxyz){0,2}[a-c]{0,4}", 0..150), 1..4),
            partitions in 1u32..6, resident in any::<bool>(),
        ) {
            let keys: Vec<Vec<Vec<u8>>> =
                keys.into_iter().map(|run| run.into_iter().map(String::into_bytes).collect()).collect();
            let dir = tempfile::tempdir().expect("tempdir");
            let pool = ResidentPool::new(if resident { 1 << 30 } else { 0 });
            let scratch = Scratch::create(dir.path(), pool, Codec::Lz4).expect("scratch");
            let runs = runs(&scratch, &keys);
            let cuts = RangeCuts::choose(&runs, partitions);
            let found: Vec<_> = (0..partitions).flat_map(|part| partition_of(&cuts, &runs, part)).collect();
            let mut expected = keys.concat();
            expected.sort();
            // In order over all partitions, and nothing lost or doubled.
            prop_assert_eq!(found, expected);
            for cut in &cuts.cuts {
                prop_assert!(!cut.is_empty());
            }
        }
    }

    #[test]
    fn uniform_keys_give_even_partitions() {
        let dir = tempfile::tempdir().expect("tempdir");
        let scratch = Scratch::create(dir.path(), ResidentPool::new(1 << 30), Codec::Lz4).expect("scratch");
        let key = |i: u32| i.wrapping_mul(2_654_435_761).to_be_bytes().to_vec();
        let keys: Vec<Vec<_>> = (0..4).map(|run| (0..2000).map(|i| key(2000 * run + i)).collect()).collect();
        let runs = runs(&scratch, &keys);
        let cuts = RangeCuts::choose(&runs, 4);
        for partition in 0..4 {
            let count = partition_of(&cuts, &runs, partition).len();
            // 2,000 each; a block of each run, 20 records, on either side is the sample's error.
            assert!(count.abs_diff(2000) <= 2 * 4 * 21, "{count} records in partition {partition}");
        }
    }
}
