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
        for (key, bytes) in sample {
            let wanted =
                (u128::from(total) * (cuts.len() as u128 + 1) / u128::from(partitions.max(1))) as u64;
            if cuts.len() + 1 < partitions as usize
                && below >= wanted
                && cuts.last().is_none_or(|cut| **cut < *key)
            {
                cuts.push(key.into());
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
