//! The sort buffer: records in arrival order in one arena, and an index of 16 bytes a record that is sorted.
//!
//! An index entry is one number: `partition (16 bits) | first 10 bytes of the key | position (32 bits)`. Sorting
//! numbers never touches the records; only entries whose partition and ten bytes are equal are looked at again.
//! Records with equal keys end up in the order of their values' bytes: a run's order depends on nothing but
//! what is in it.

use crate::block::{put_record, record_at};
use crate::prefix::prefix;
use crate::run_writer::RunWriter;
use crate::scratch::ScratchError;
use std::cmp::Ordering;

const POSITION_BITS: u32 = 32;
const PREFIX_BITS: u32 = 80;

/// Packs an index entry.
#[inline]
pub(crate) fn entry(partition: u32, key_prefix: u128, position: u32) -> u128 {
    (u128::from(partition) << (PREFIX_BITS + POSITION_BITS))
        | ((key_prefix >> (128 - PREFIX_BITS)) << POSITION_BITS)
        | u128::from(position)
}

/// Where the entry's record is.
#[inline]
pub(crate) fn position(entry: u128) -> u32 {
    entry as u32
}

/// The entry's partition.
#[inline]
pub(crate) fn partition(entry: u128) -> u32 {
    (entry >> (PREFIX_BITS + POSITION_BITS)) as u32
}

/// Sorts by partition and key prefix; entries that are equal in both are sorted by `compare`.
pub(crate) fn sort_entries(entries: &mut [u128], compare: impl Fn(u32, u32) -> Ordering) {
    entries.sort_unstable();
    let mut start = 0;
    while start < entries.len() {
        let head = entries[start] >> POSITION_BITS;
        let ties = entries[start..].iter().take_while(|&&entry| entry >> POSITION_BITS == head).count();
        if ties > 1 {
            entries[start..start + ties].sort_unstable_by(|&a, &b| compare(position(a), position(b)));
        }
        start += ties;
    }
}

/// Records looked at together when a sorted buffer is written: their order is random in memory, so the processor
/// should wait for several at once.
const RECORDS_AHEAD: usize = 16;
const CACHE_LINE_BYTES: usize = 64;
/// Lines of one record that are worth looking at: the processor itself fetches what follows in order.
const LINES_AHEAD_MAX: usize = 3;

/// Collects records until they fill their share of memory.
pub(crate) struct SortBuffer {
    arena: Vec<u8>,
    index: Vec<u128>,
    bytes_max: usize,
}

/// The memory of a sort buffer, without its records: handed from task to task, because memory that a process
/// has touched once is much cheaper than new memory.
#[derive(Debug, Default)]
pub(crate) struct SortMemory {
    arena: Vec<u8>,
    index: Vec<u128>,
}

impl SortBuffer {
    /// A buffer of at most `bytes_max`, at most 4 GiB (positions have 32 bits).
    pub(crate) fn new(bytes_max: usize, memory: SortMemory) -> Self {
        let SortMemory { arena, index } = memory;
        Self { arena, index, bytes_max: bytes_max.min(u32::MAX as usize) }
    }

    /// Forgets all records; what is left is memory.
    pub(crate) fn into_memory(mut self) -> SortMemory {
        self.arena.clear();
        self.index.clear();
        SortMemory { arena: self.arena, index: self.index }
    }

    /// Adds a record, or says that it does not fit beside the others.
    #[inline]
    pub(crate) fn push(&mut self, partition: u32, key: &[u8], value: &[u8]) -> bool {
        let record = crate::block::record_bytes(key, value);
        if self.bytes() + record + size_of::<u128>() > self.bytes_max {
            return false;
        }
        self.index.push(entry(partition, prefix(key), self.arena.len() as u32));
        put_record(key, value, &mut self.arena);
        true
    }

    fn bytes(&self) -> usize {
        self.arena.len() + self.index.len() * size_of::<u128>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Writes everything, sorted, and is empty afterwards.
    pub(crate) fn drain_into(&mut self, run: &mut RunWriter) -> Result<(), ScratchError> {
        let arena = &self.arena[..];
        sort_entries(&mut self.index, |a, b| compare_records(arena, a, b));
        let lines = (arena.len() / self.index.len().max(1)).div_ceil(CACHE_LINE_BYTES).min(LINES_AHEAD_MAX);
        for entries in self.index.chunks(RECORDS_AHEAD) {
            look_at(arena, entries, lines);
            for &entry in entries {
                run.push_encoded(partition(entry), encoded(arena, position(entry)))?;
            }
        }
        self.arena.clear();
        self.index.clear();
        Ok(())
    }
}

/// Brings the beginnings of records into the cache, all at the same time.
#[inline]
fn look_at(arena: &[u8], entries: &[u128], lines: usize) {
    let mut seen = 0;
    for &entry in entries {
        for line in 0..=lines {
            let byte = position(entry) as usize + line * CACHE_LINE_BYTES;
            seen ^= arena[byte.min(arena.len() - 1)];
        }
    }
    std::hint::black_box(seen);
}

fn encoded(arena: &[u8], position: u32) -> &[u8] {
    let span = record_at(arena, position as usize).expect("the buffer wrote this record itself");
    &arena[span.start..span.end]
}

fn compare_records(arena: &[u8], a: u32, b: u32) -> Ordering {
    let record = |position: u32| {
        let span = record_at(arena, position as usize).expect("the buffer wrote this record itself");
        (&arena[span.key..span.value], &arena[span.value..span.end])
    };
    record(a).cmp(&record(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_sort_as_their_records_do(
            // Few letters and long keys: most prefixes are equal, some keys are prefixes of others.
            records in prop::collection::vec((0u32..3, "[ab\0]{0,14}", "[xy]{0,2}"), 0..200)
        ) {
            let mut buffer = SortBuffer::new(1 << 20, SortMemory::default());
            for (partition, key, value) in &records {
                prop_assert!(buffer.push(*partition, key.as_bytes(), value.as_bytes()));
            }
            let arena = &buffer.arena[..];
            sort_entries(&mut buffer.index, |a, b| compare_records(arena, a, b));
            let sorted: Vec<_> = buffer.index.iter().map(|&entry| {
                let span = record_at(arena, position(entry) as usize).expect("record");
                (partition(entry), arena[span.key..span.value].to_vec(), arena[span.value..span.end].to_vec())
            }).collect();
            let mut expected: Vec<_> =
                records.into_iter().map(|(p, k, v)| (p, k.into_bytes(), v.into_bytes())).collect();
            expected.sort();
            prop_assert_eq!(sorted, expected);
        }
    }

    #[test]
    fn a_full_buffer_refuses_and_keeps_what_it_has() {
        let mut buffer = SortBuffer::new(200, SortMemory::default());
        assert!(buffer.push(0, b"key", &[7; 100]));
        assert!(!buffer.push(0, b"key", &[7; 100]));
        assert_eq!(buffer.index.len(), 1);
    }
}
