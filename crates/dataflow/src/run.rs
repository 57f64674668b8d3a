//! A run: a sorted sequence of records, in memory while there is room, else in a run file.

use crate::block::BLOCK_BYTES;
use crate::memory::Reservation;
use crate::run_file::{BlockEntry, INDEX_KEY_BYTES, RunError, RunIndex};
use crate::scratch::{ScratchError, ScratchFile};
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// Why a run could not be opened or read.
#[derive(Debug, Error)]
pub enum ReadRunError {
    /// Its file cannot be opened.
    #[error(transparent)]
    Open(#[from] ScratchError),
    /// Its file cannot be read, or is damaged.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A finished run. Its file or its memory is given back when it is dropped.
#[derive(Debug)]
pub struct Run {
    /// What it holds, and where.
    pub index: RunIndex,
    pub(crate) bytes: RunBytes,
}

/// Where a run's blocks are.
#[derive(Debug)]
pub(crate) enum RunBytes {
    Resident { blocks: Vec<Arc<Vec<u8>>>, _held: Reservation },
    Stored { file: ScratchFile, stored_bytes: u64 },
}

impl Run {
    /// Bytes as they would cross a network: compressed if the run is in a file.
    pub fn stored_bytes(&self) -> u64 {
        match &self.bytes {
            RunBytes::Resident { .. } => self.index.raw_bytes(),
            RunBytes::Stored { stored_bytes, .. } => *stored_bytes,
        }
    }
}

/// Some blocks of a run, and optionally a range of keys within them: what one reduce reads of one map output.
#[derive(Clone, Debug)]
pub struct RunPart {
    pub(crate) run: Arc<Run>,
    pub(crate) blocks: Range<u32>,
    /// Keys from this one on.
    pub(crate) from: Option<Arc<[u8]>>,
    /// Keys before this one.
    pub(crate) until: Option<Arc<[u8]>>,
}

impl RunPart {
    /// The segment of `partition`, unless it is empty.
    pub fn partition(run: &Arc<Run>, partition: u32) -> Option<Self> {
        let blocks = run.index.segment(partition)?.blocks.clone();
        Some(Self { run: run.clone(), blocks, from: None, until: None })
    }

    /// The whole run.
    pub fn whole(run: &Arc<Run>) -> Self {
        Self { run: run.clone(), blocks: 0..run.index.blocks.len() as u32, from: None, until: None }
    }

    /// No records.
    pub fn none(run: &Arc<Run>) -> Self {
        Self { run: run.clone(), blocks: 0..0, from: None, until: None }
    }

    /// The records with `from <= key < until`, found by the keys in the index.
    pub fn keys(run: &Arc<Run>, from: Option<Arc<[u8]>>, until: Option<Arc<[u8]>>) -> Self {
        let blocks = run.index.blocks.len() as u32;
        let below = |bound: &Arc<[u8]>| {
            partition_point(blocks, |number| run.index.first_key(number) < indexed(bound))
        };
        // The index has only the first bytes of keys. A block whose indexed key is below the bound's begins below
        // the bound; the last such block may reach it. The same holds at the end, where equal ones may be below.
        let start = from.as_ref().map_or(0, |bound| below(bound).saturating_sub(1));
        let end = until.as_ref().map_or(blocks, |bound| {
            partition_point(blocks, |number| run.index.first_key(number) <= indexed(bound))
        });
        Self { run: run.clone(), blocks: start..end.max(start), from, until }
    }

    fn entries(&self) -> &[BlockEntry] {
        &self.run.index.blocks[self.blocks.start as usize..self.blocks.end as usize]
    }

    /// Memory that reading it takes: its largest block, twice if it is stored.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let largest = self.entries().iter().map(|block| block.raw_bytes as usize).max().unwrap_or(0);
        match self.run.bytes {
            RunBytes::Resident { .. } => 0,
            RunBytes::Stored { .. } => 2 * largest.max(BLOCK_BYTES / 4),
        }
    }

    /// Bytes as they would cross a network.
    pub fn stored_bytes(&self) -> u64 {
        self.entries().iter().map(|block| u64::from(block.stored_bytes)).sum()
    }

    /// Records, at most (a range of keys may hold fewer).
    pub(crate) fn records(&self) -> u64 {
        self.entries().iter().map(|block| u64::from(block.records)).sum()
    }
}

fn indexed(bound: &[u8]) -> &[u8] {
    &bound[..bound.len().min(INDEX_KEY_BYTES)]
}

fn partition_point(blocks: u32, below: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, blocks);
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle) { low = middle + 1 } else { high = middle }
    }
    low
}
