//! Merges sorted runs into one sorted sequence: a tournament in which only the last winner's path is replayed.

use crate::cursor::Cursor;
use crate::memory::TaskMemory;
use crate::run::{ReadRunError, Run, RunPart};
use crate::run_writer::RunWriter;
use crate::scratch::{Scratch, ScratchError};
use std::sync::Arc;
use thiserror::Error;

/// Fewer sources than this make no merge.
const FAN_IN_MIN: usize = 2;
/// Each source of a merge is an open file; this stays clear of the usual limit of 1,024.
const FAN_IN_MAX: usize = 400;

/// Why a merge failed.
#[derive(Debug, Error)]
pub enum MergeError {
    /// A source cannot be read.
    #[error(transparent)]
    Read(#[from] ReadRunError),
    /// An intermediate run cannot be written.
    #[error(transparent)]
    Write(#[from] ScratchError),
}

/// A loser tree over cursors; the least record is on top.
///
/// `losers[0]` is the overall winner, `losers[i]` for `i >= 1` the loser of the match at inner node `i`; cursor
/// `c` enters at node `(c + cursors) / 2`.
pub(crate) struct Merge {
    cursors: Vec<Cursor>,
    losers: Vec<u32>,
}

impl Merge {
    /// Opens all parts at once.
    pub(crate) fn open(parts: Vec<RunPart>) -> Result<Self, ReadRunError> {
        let cursors = parts.into_iter().map(Cursor::open).collect::<Result<Vec<_>, _>>()?;
        let mut merge = Self { losers: vec![0; cursors.len().max(1)], cursors };
        merge.play_all();
        Ok(merge)
    }

    /// The least record that is left, if any.
    #[inline]
    pub(crate) fn top(&self) -> Option<&Cursor> {
        self.cursors.get(self.losers[0] as usize).filter(|cursor| !cursor.ended)
    }

    /// Drops the least record.
    #[inline]
    pub(crate) fn pop(&mut self) -> Result<(), ReadRunError> {
        let winner = self.losers[0] as usize;
        self.cursors[winner].advance()?;
        self.replay(winner);
        Ok(())
    }

    fn play_all(&mut self) {
        let count = self.cursors.len();
        let mut winners = vec![0u32; 2 * count];
        for node in (1..2 * count).rev() {
            winners[node] = if node >= count {
                (node - count) as u32
            } else {
                let (left, right) = (winners[2 * node], winners[2 * node + 1]);
                let left_wins = self.less(left as usize, right as usize);
                self.losers[node] = if left_wins { right } else { left };
                if left_wins { left } else { right }
            };
        }
        self.losers[0] = winners.get(1).copied().unwrap_or(0);
    }

    #[inline]
    fn replay(&mut self, cursor: usize) {
        let mut winner = cursor;
        let mut node = (cursor + self.cursors.len()) / 2;
        while node >= 1 {
            let rival = self.losers[node] as usize;
            if self.less(rival, winner) {
                self.losers[node] = winner as u32;
                winner = rival;
            }
            node /= 2;
        }
        self.losers[0] = winner as u32;
    }

    #[inline]
    fn less(&self, a: usize, b: usize) -> bool {
        let (left, right) = (&self.cursors[a], &self.cursors[b]);
        if left.prefix != right.prefix {
            return left.prefix < right.prefix;
        }
        Self::less_in_full(left, right, a < b)
    }

    fn less_in_full(left: &Cursor, right: &Cursor, left_is_first: bool) -> bool {
        if left.ended || right.ended {
            return !left.ended;
        }
        left.key()
            .cmp(right.key())
            .then_with(|| left.value().cmp(right.value()))
            .then_with(|| right_if(left_is_first))
            .is_lt()
    }
}

fn right_if(left_is_first: bool) -> std::cmp::Ordering {
    if left_is_first { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater }
}

/// Merges parts into scratch runs until the rest can be merged at once within `memory`. A pass merges the
/// smallest parts, and no more of them than needed.
pub(crate) fn merge_until_few(
    mut parts: Vec<RunPart>,
    memory: TaskMemory,
    scratch: &Scratch,
) -> Result<Vec<RunPart>, MergeError> {
    while !fits(&parts, memory) {
        parts.sort_by_key(|part| std::cmp::Reverse(part.records()));
        let taken = parts.split_off(parts.len() - fan_in(&parts, memory));
        let mut out = RunWriter::new(scratch, false);
        let mut merge = Merge::open(taken)?;
        while let Some(cursor) = merge.top() {
            out.push_encoded(0, cursor.record())?;
            merge.pop()?;
        }
        let merged: Run = out.finish()?;
        parts.push(RunPart::whole(&Arc::new(merged)));
    }
    Ok(parts)
}

fn fits(parts: &[RunPart], memory: TaskMemory) -> bool {
    let bytes: usize = parts.iter().map(RunPart::buffer_bytes).sum();
    parts.len() <= FAN_IN_MIN || (parts.len() <= FAN_IN_MAX && bytes <= memory.merge_bytes())
}

/// How many parts, from the end, the next pass takes: as many as memory holds, and no more than bring the rest
/// within the limits.
fn fan_in(parts: &[RunPart], memory: TaskMemory) -> usize {
    let (mut bytes, mut count) = (0, 0);
    for part in parts.iter().rev() {
        bytes += part.buffer_bytes();
        if count >= FAN_IN_MIN && (bytes > memory.merge_bytes() || count >= FAN_IN_MAX) {
            break;
        }
        count += 1;
        if count >= FAN_IN_MIN && count < parts.len() && fits(&parts[..parts.len() - count + 1], memory) {
            break;
        }
    }
    count.max(FAN_IN_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Codec;
    use crate::memory::ResidentPool;
    use proptest::prelude::*;

    type Pair = (Vec<u8>, Vec<u8>);

    fn scratch(dir: &tempfile::TempDir, resident_bytes: usize) -> Scratch {
        Scratch::create(dir.path(), ResidentPool::new(resident_bytes), Codec::Lz4).expect("scratch")
    }

    fn run(scratch: &Scratch, mut pairs: Vec<Pair>) -> RunPart {
        pairs.sort();
        let mut writer = RunWriter::new(scratch, false);
        pairs.iter().for_each(|(key, value)| writer.push(0, key, value).expect("push"));
        RunPart::whole(&Arc::new(writer.finish().expect("finish")))
    }

    fn merged(parts: Vec<RunPart>, memory: TaskMemory, scratch: &Scratch) -> Vec<Pair> {
        let mut merge = Merge::open(merge_until_few(parts, memory, scratch).expect("merge")).expect("open");
        let mut pairs = Vec::new();
        while let Some(top) = merge.top() {
            pairs.push((top.key().to_vec(), top.value().to_vec()));
            merge.pop().expect("pop");
        }
        pairs
    }

    proptest! {
        #[test]
        fn merging_is_sorting_whether_runs_are_in_memory_or_on_disk(
            // Keys of 0xff are as large as the mark of an ended source.
            runs in prop::collection::vec(
                prop::collection::vec(("[ab\0]{0,20}|\u{7f}{0,2}", "[xy]{0,2}", any::<bool>()), 0..30), 0..9)
        ) {
            let runs: Vec<Vec<Pair>> = runs.into_iter().map(|run| run.into_iter().map(|(key, value, high)| {
                (if high { vec![0xff; key.len()] } else { key.into_bytes() }, value.into_bytes())
            }).collect()).collect();
            let mut expected = runs.concat();
            expected.sort();
            let dir = tempfile::tempdir().expect("tempdir");
            for resident_bytes in [0, 1 << 20] {
                let scratch = scratch(&dir, resident_bytes);
                let parts = runs.iter().map(|pairs| run(&scratch, pairs.clone())).collect();
                prop_assert_eq!(merged(parts, TaskMemory { bytes: 1 << 20 }, &scratch), expected.clone());
            }
        }
    }

    #[test]
    fn more_runs_than_memory_holds_at_once_are_merged_in_passes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let scratch = scratch(&dir, 0);
        let pair = |i: u32| (i.wrapping_mul(2_654_435_761).to_be_bytes().to_vec(), vec![b'v'; 1000]);
        let runs: Vec<Vec<Pair>> =
            (0..40).map(|run| (0..100).map(|i| pair(100 * run + i)).collect()).collect();
        let mut expected = runs.concat();
        expected.sort();
        let parts: Vec<RunPart> = runs.into_iter().map(|pairs| run(&scratch, pairs)).collect();
        let written = scratch.written_bytes();
        // Each run needs two blocks of 64 KiB, so 40 of them do not fit into 768 KiB, nor do 20.
        assert_eq!(merged(parts, TaskMemory { bytes: 1 << 20 }, &scratch), expected);
        assert!(scratch.written_bytes() > written, "there was no pass in between");
    }
}
