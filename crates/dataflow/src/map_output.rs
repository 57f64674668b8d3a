//! The map side of a shuffle: collect, spill when memory is full, merge the spills into one run.
//!
//! ```text
//!  emit -> combine table or sort buffer -> (full) -> sorted run ... -> merge -> one run, a segment a partition
//! ```

use crate::combine::CombineTable;
use crate::fold::Fold;
use crate::group::Groups;
use crate::hold::{self, Moment};
use crate::idle::IdleBuffers;
use crate::memory::TaskMemory;
use crate::merge::{Merge, MergeError, merge_until_few};
use crate::partition::Partitioner;
use crate::run::{Run, RunPart};
use crate::run_writer::RunWriter;
use crate::scratch::{Scratch, ScratchError};
use crate::sort::SortBuffer;
use std::sync::Arc;
use thiserror::Error;

/// What a shuffle asks of its map side.
#[derive(Clone)]
pub struct ShuffleRule {
    /// Which keys go where.
    pub partitioner: Partitioner,
    /// Number of reduce partitions.
    pub partitions: u32,
    /// The author's combine function.
    pub fold: Option<Arc<dyn Fold>>,
}

impl ShuffleRule {
    /// Partitions in a map output: one if they are cut later, by key range.
    fn map_partitions(&self) -> u32 {
        if self.is_range() { 1 } else { self.partitions }
    }

    fn is_range(&self) -> bool {
        matches!(self.partitioner, Partitioner::Range)
    }
}

/// Why a map output could not be made.
#[derive(Debug, Error)]
pub enum MapOutputError {
    /// A spill cannot be written.
    #[error(transparent)]
    Spill(#[from] ScratchError),
    /// Spills cannot be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// One record is larger than a task may hold.
    #[error(
        "a record of {bytes} bytes is larger than the limit of {limit_bytes} bytes (half of a task's memory; raise --memory)"
    )]
    RecordTooLarge {
        /// Key and value together.
        bytes: usize,
        /// `TaskMemory::record_bytes_max`.
        limit_bytes: usize,
    },
}

/// Collects one map attempt's records.
pub struct MapOutput {
    rule: ShuffleRule,
    memory: TaskMemory,
    scratch: Scratch,
    idle: IdleBuffers,
    collector: Collector,
    spills: Vec<Arc<Run>>,
    records: u64,
    record_bytes_max: usize,
}

enum Collector {
    Sort(SortBuffer),
    Combine(CombineTable),
}

impl MapOutput {
    /// An empty output.
    pub fn new(rule: ShuffleRule, memory: TaskMemory, scratch: Scratch, idle: IdleBuffers) -> Self {
        let bytes_max = memory.collect_bytes();
        let collector = match &rule.fold {
            Some(fold) => Collector::Combine(CombineTable::new(fold.clone(), bytes_max, idle.take_table())),
            None => Collector::Sort(SortBuffer::new(bytes_max, idle.take_sort())),
        };
        Self {
            rule,
            memory,
            scratch,
            idle,
            collector,
            spills: Vec::new(),
            records: 0,
            record_bytes_max: memory.record_bytes_max(),
        }
    }

    /// Takes one record.
    #[inline]
    pub fn collect(&mut self, key: &[u8], value: &[u8]) -> Result<(), MapOutputError> {
        self.records += 1;
        if key.len() + value.len() > self.record_bytes_max {
            return Err(self.too_large(key, value));
        }
        if self.fits(key, value) { Ok(()) } else { self.collect_after_spill(key, value) }
    }

    #[inline]
    fn fits(&mut self, key: &[u8], value: &[u8]) -> bool {
        match &mut self.collector {
            Collector::Combine(table) => table.add(key, value),
            Collector::Sort(buffer) => {
                let partition = self.rule.partitioner.of(key, self.rule.map_partitions());
                buffer.push(partition, key, value)
            }
        }
    }

    #[cold]
    fn too_large(&self, key: &[u8], value: &[u8]) -> MapOutputError {
        let (bytes, limit_bytes) = (key.len() + value.len(), self.record_bytes_max);
        MapOutputError::RecordTooLarge { bytes, limit_bytes }
    }

    #[cold]
    fn collect_after_spill(&mut self, key: &[u8], value: &[u8]) -> Result<(), MapOutputError> {
        self.spill()?;
        if !self.fits(key, value) {
            // Larger than the whole buffer: a run of its own.
            let mut run = RunWriter::new(&self.scratch, self.rule.is_range());
            run.push(self.rule.partitioner.of(key, self.rule.map_partitions()), key, value)?;
            self.spills.push(Arc::new(run.finish()?));
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), ScratchError> {
        if self.collector.is_empty() {
            return Ok(());
        }
        let mut run = RunWriter::new(&self.scratch, self.rule.is_range());
        self.collector.drain_into(&self.rule, &mut run)?;
        hold::reach(Moment::Spill);
        self.spills.push(Arc::new(run.finish()?));
        Ok(())
    }

    /// Records collected, before combining.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Ends the output: everything in one run.
    pub fn finish(mut self) -> Result<Run, MapOutputError> {
        let mut out = RunWriter::of_output(&self.scratch, self.rule.is_range())?;
        if self.spills.is_empty() {
            self.collector.drain_into(&self.rule, &mut out)?;
        } else {
            self.spill()?;
        }
        match self.collector {
            Collector::Sort(buffer) => self.idle.give_sort(buffer.into_memory()),
            Collector::Combine(table) => self.idle.give_table(table.into_memory()),
        }
        if !self.spills.is_empty() {
            // The merge needs what collecting needed.
            self.idle.free();
            for partition in 0..self.rule.map_partitions() {
                let parts: Vec<_> =
                    self.spills.iter().filter_map(|run| RunPart::partition(run, partition)).collect();
                if !parts.is_empty() {
                    self.rule.merge_spills(partition, parts, self.memory, &self.scratch, &mut out)?;
                    hold::reach(Moment::Merge);
                }
            }
        }
        Ok(out.finish()?)
    }
}

impl Collector {
    fn is_empty(&self) -> bool {
        match self {
            Collector::Sort(buffer) => buffer.is_empty(),
            Collector::Combine(table) => table.is_empty(),
        }
    }

    /// Writes everything, sorted, and is empty afterwards.
    fn drain_into(&mut self, rule: &ShuffleRule, run: &mut RunWriter) -> Result<(), ScratchError> {
        match self {
            Collector::Sort(buffer) => buffer.drain_into(run),
            Collector::Combine(table) => table.drain_into(&rule.partitioner, rule.map_partitions(), run),
        }
    }
}

impl ShuffleRule {
    fn merge_spills(
        &self,
        partition: u32,
        parts: Vec<RunPart>,
        memory: TaskMemory,
        scratch: &Scratch,
        out: &mut RunWriter,
    ) -> Result<(), MergeError> {
        let mut merge = Merge::open(merge_until_few(parts, memory, scratch)?)?;
        let Some(fold) = &self.fold else {
            while let Some(top) = merge.top() {
                out.push_encoded(partition, top.record())?;
                merge.pop()?;
            }
            return Ok(());
        };
        // Keys that were spilled several times are folded again: what comes out depends on the records alone.
        let mut groups = Groups::new(merge);
        let mut sum = Accumulator::default();
        while groups.next_group()? {
            while let Some(value) = groups.next_value()? {
                sum.add(value, &**fold);
            }
            out.push(partition, groups.key(), sum.take())?;
        }
        Ok(())
    }
}

/// Folds the values of one group.
#[derive(Default)]
struct Accumulator {
    sum: Vec<u8>,
    next: Vec<u8>,
    some: bool,
}

impl Accumulator {
    fn add(&mut self, value: &[u8], fold: &dyn Fold) {
        if !self.some {
            self.sum.clear();
            self.sum.extend_from_slice(value);
            self.some = true;
            return;
        }
        self.next.clear();
        fold.fold_all(&mut [&self.sum[..], value].into_iter(), &mut self.next);
        std::mem::swap(&mut self.sum, &mut self.next);
    }

    fn take(&mut self) -> &[u8] {
        self.some = false;
        &self.sum
    }
}
