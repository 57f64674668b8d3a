//! The combine table: map output aggregated by hashing before anything is sorted.
//!
//! ```text
//!  slots  [ head: first 16 key bytes | key length | position of longer key | value or its cell ]   open addressing
//!  keys   keys of more than 16 bytes
//!  cells  values of more than 8 bytes (see `cells`)
//! ```
//! A slot has 32 bytes and never crosses a cache line, so that finding a short word costs one memory access.

use crate::cells::{Cell, Cells};
use crate::fold::Fold;
use crate::partition::Partitioner;
use crate::prefix::prefix;
use crate::run_writer::RunWriter;
use crate::scratch::ScratchError;
use crate::sort::{entry, partition, position, sort_entries};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

const HEAD_BYTES: usize = 16;
/// Small jobs must not pay for a large table.
const SLOTS_MIN: usize = 1 << 10;
/// The table grows when more than five of eight slots are taken: linear probing stays short.
const LOAD_NUMERATOR: usize = 5;
const LOAD_DENOMINATOR: usize = 8;
/// Slots looked at together when the table is written: their order is random in memory, so the processor should
/// wait for several at once.
const SLOTS_AHEAD: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// First 16 bytes of the key, zero-padded, big-endian.
    head: u128,
    /// Length of the key plus one; zero marks a free slot.
    key_mark: u32,
    /// Where the key's bytes after the sixteenth are.
    rest: u32,
    value: u64,
}

/// The memory of a table, without its keys: handed from task to task, because memory that a process has touched
/// once is much cheaper than new memory.
#[derive(Debug, Default)]
pub(crate) struct TableMemory {
    /// All free.
    slots: Vec<Slot>,
    rests: Vec<u8>,
}

/// Aggregates values by key within a fixed amount of memory.
pub(crate) struct CombineTable {
    slots: Vec<Slot>,
    used: usize,
    rests: Vec<u8>,
    cells: Cells,
    fold: Arc<dyn Fold>,
    words: bool,
    bytes_max: usize,
    seed: u64,
}

impl CombineTable {
    /// A table of at most `bytes_max`.
    pub(crate) fn new(fold: Arc<dyn Fold>, bytes_max: usize, memory: TableMemory) -> Self {
        let TableMemory { mut slots, rests } = memory;
        // Another stage may have had more memory for each of its tasks.
        if slots.is_empty() || 2 * size_of_val(&slots[..]) > bytes_max {
            slots = vec![Slot::default(); SLOTS_MIN];
        }
        Self {
            slots,
            used: 0,
            rests,
            cells: Cells::default(),
            words: fold.word_bytes().is_some(),
            fold,
            bytes_max: bytes_max.min(u32::MAX as usize),
            // Not the same in each process: nobody can prepare keys that all collide. Order never shows.
            seed: RandomState::new().hash_one(0),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Forgets everything; what is left is memory.
    pub(crate) fn into_memory(mut self) -> TableMemory {
        if !self.is_empty() {
            self.clear();
        }
        TableMemory { slots: self.slots, rests: self.rests }
    }

    /// Folds `value` into what the table has for `key`, or says that memory is full and nothing has changed.
    #[inline]
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        let head = prefix(key);
        let at = self.find(head, key);
        if self.slots[at].key_mark == 0 {
            return self.insert(at, head, key, value);
        }
        if self.words {
            let slot = &mut self.slots[at];
            slot.value = self.fold.fold_word(slot.value, word(value));
            return true;
        }
        self.add_to_cell(at, value)
    }

    /// The slot of `key`, or the free one where it belongs.
    #[inline]
    fn find(&self, head: u128, key: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mark = key.len() as u32 + 1;
        let mut at = self.hash(head, key) as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.key_mark == 0 || (slot.key_mark == mark && slot.head == head && self.same_rest(slot, key))
            {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    fn same_rest(&self, slot: &Slot, key: &[u8]) -> bool {
        key.len() <= HEAD_BYTES || {
            let start = slot.rest as usize;
            self.rests[start..start + key.len() - HEAD_BYTES] == key[HEAD_BYTES..]
        }
    }

    #[inline]
    fn hash(&self, head: u128, key: &[u8]) -> u64 {
        let mut hash = mix((head >> 64) as u64 ^ key.len() as u64 ^ self.seed, head as u64);
        if key.len() > HEAD_BYTES {
            for chunk in key[HEAD_BYTES..].chunks(HEAD_BYTES) {
                let more = prefix(chunk);
                hash = mix(hash ^ (more >> 64) as u64, more as u64);
            }
        }
        hash
    }

    fn insert(&mut self, at: usize, head: u128, key: &[u8], value: &[u8]) -> bool {
        let rest_bytes = key.len().saturating_sub(HEAD_BYTES);
        if self.bytes() + rest_bytes + self.cells.cost(value.len()) > self.bytes_max {
            return false;
        }
        if (self.used + 1) * LOAD_DENOMINATOR > self.slots.len() * LOAD_NUMERATOR {
            return self.grow() && self.insert(self.find(head, key), head, key, value);
        }
        let rest = self.rests.len() as u32;
        self.rests.extend_from_slice(&key[key.len() - rest_bytes..]);
        let value = if self.words { word(value) } else { self.cells.add(value).into() };
        self.slots[at] = Slot { head, key_mark: key.len() as u32 + 1, rest, value };
        self.used += 1;
        true
    }

    fn add_to_cell(&mut self, at: usize, value: &[u8]) -> bool {
        if self.bytes() + self.cells.cost(value.len()) > self.bytes_max {
            return false;
        }
        let cell = Cell::from(self.slots[at].value);
        self.slots[at].value = self.cells.push(cell, value, &*self.fold).into();
        true
    }

    /// What the table takes, and what [`Self::drain_into`] will take beside it.
    fn bytes(&self) -> usize {
        size_of_val(&self.slots[..]) + self.used * size_of::<u128>() + self.rests.len() + self.cells.bytes()
    }

    /// Doubles the slots, unless old and new would not fit together.
    fn grow(&mut self) -> bool {
        if self.bytes() + 2 * size_of_val(&self.slots[..]) > self.bytes_max {
            return false;
        }
        let wider = vec![Slot::default(); self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, wider) {
            if slot.key_mark != 0 {
                let at = self.free_slot(&slot);
                self.slots[at] = slot;
            }
        }
        true
    }

    fn free_slot(&self, slot: &Slot) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = self.slot_hash(slot) as usize & mask;
        while self.slots[at].key_mark != 0 {
            at = (at + 1) & mask;
        }
        at
    }

    fn slot_hash(&self, slot: &Slot) -> u64 {
        let key_bytes = slot.key_mark as usize - 1;
        let mut hash = mix((slot.head >> 64) as u64 ^ key_bytes as u64 ^ self.seed, slot.head as u64);
        for chunk in self.rest(slot).chunks(HEAD_BYTES) {
            let more = prefix(chunk);
            hash = mix(hash ^ (more >> 64) as u64, more as u64);
        }
        hash
    }

    fn rest(&self, slot: &Slot) -> &[u8] {
        let bytes = (slot.key_mark as usize - 1).saturating_sub(HEAD_BYTES);
        &self.rests[slot.rest as usize..slot.rest as usize + bytes]
    }

    /// Writes everything, sorted by partition and key, and is empty afterwards.
    pub(crate) fn drain_into(
        &mut self,
        partitioner: &Partitioner,
        partitions: u32,
        run: &mut RunWriter,
    ) -> Result<(), ScratchError> {
        let mut key = Vec::new();
        let mut index = Vec::with_capacity(self.used);
        for (number, slot) in (0u32..).zip(&self.slots) {
            if slot.key_mark != 0 {
                self.key_of(slot, &mut key);
                index.push(entry(partitioner.of(&key, partitions), slot.head, number));
            }
        }
        let slot = |position: u32| &self.slots[position as usize];
        sort_entries(&mut index, |a, b| {
            let (a, b) = (slot(a), slot(b));
            (a.head.cmp(&b.head))
                .then_with(|| self.rest(a).cmp(self.rest(b)))
                .then(a.key_mark.cmp(&b.key_mark))
        });
        let (word_bytes, mut scratch) = (self.fold.word_bytes(), Vec::new());
        for (number, &entry) in index.iter().enumerate() {
            if number.is_multiple_of(SLOTS_AHEAD) {
                self.look_at(&index[number..index.len().min(number + SLOTS_AHEAD)]);
            }
            let slot = self.slots[position(entry) as usize];
            self.key_of(&slot, &mut key);
            match word_bytes {
                Some(bytes) => run.push(partition(entry), &key, &slot.value.to_be_bytes()[8 - bytes..])?,
                None => {
                    let value = self.cells.value(Cell::from(slot.value), &*self.fold, &mut scratch);
                    run.push(partition(entry), &key, value)?;
                }
            }
        }
        self.clear();
        Ok(())
    }

    /// Brings slots into the cache, all at the same time.
    #[inline]
    fn look_at(&self, entries: &[u128]) {
        let seen =
            entries.iter().fold(0, |seen, &entry| seen ^ self.slots[position(entry) as usize].key_mark);
        std::hint::black_box(seen);
    }

    fn key_of(&self, slot: &Slot, key: &mut Vec<u8>) {
        let bytes = slot.key_mark as usize - 1;
        key.clear();
        key.extend_from_slice(&slot.head.to_be_bytes()[..bytes.min(HEAD_BYTES)]);
        key.extend_from_slice(self.rest(slot));
    }

    fn clear(&mut self) {
        self.slots.fill(Slot::default());
        self.used = 0;
        self.rests.clear();
        self.cells.clear();
    }
}

/// A fixed-width value of at most eight bytes as a number.
#[inline]
fn word(value: &[u8]) -> u64 {
    match value.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => value.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// Multiplies to 128 bits and folds the halves: each input bit reaches all output bits.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9E37_79B9_7F4A_7C15) * u128::from(b ^ 0xD1B5_4A32_D192_ED03);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Codec;
    use crate::cursor::Cursor;
    use crate::memory::ResidentPool;
    use crate::run::RunPart;
    use crate::scratch::Scratch;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Adds numbers; `WORDS` says whether the table may keep them in its slots.
    struct Sum<const WORDS: bool>;

    impl<const WORDS: bool> Fold for Sum<WORDS> {
        fn word_bytes(&self) -> Option<usize> {
            WORDS.then_some(8)
        }
        fn fold_word(&self, sum: u64, value: u64) -> u64 {
            sum + value
        }
        fn fold_all(&self, values: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
            out.extend_from_slice(&values.map(word).sum::<u64>().to_be_bytes());
        }
    }

    /// What the table writes when it has taken all of `records`, writing it out whenever it is full.
    fn sums(
        fold: Arc<dyn Fold>,
        bytes_max: usize,
        records: &[(Vec<u8>, u64)],
    ) -> (BTreeMap<Vec<u8>, u64>, usize) {
        let dir = tempfile::tempdir().expect("tempdir");
        let scratch = Scratch::create(dir.path(), ResidentPool::new(1 << 30), Codec::Lz4).expect("scratch");
        let mut table = CombineTable::new(fold, bytes_max, TableMemory::default());
        let (mut sums, mut drains) = (BTreeMap::new(), 0);
        let mut drain = |table: &mut CombineTable| {
            let mut run = RunWriter::new(&scratch, false);
            table.drain_into(&Partitioner::Hash, 1, &mut run).expect("drain");
            let run = Arc::new(run.finish().expect("finish"));
            let mut cursor = Cursor::open(RunPart::whole(&run)).expect("open");
            let mut last = None;
            while !cursor.ended {
                let key = cursor.key().to_vec();
                assert!(last.as_ref() < Some(&key), "sorted, and each key once");
                *sums.entry(key.clone()).or_default() += word(cursor.value());
                last = Some(key);
                cursor.advance().expect("advance");
            }
            drains += 1;
        };
        for (key, value) in records {
            while !table.add(key, &value.to_be_bytes()) {
                drain(&mut table);
            }
            assert!(table.bytes() <= bytes_max, "{} bytes of {bytes_max}", table.bytes());
        }
        drain(&mut table);
        (sums, drains)
    }

    proptest! {
        #[test]
        fn sums_are_right_however_often_the_table_is_full(
            // Keys around the 16 bytes that a slot holds, NULs and prefixes of each other among them.
            records in prop::collection::vec(("(a|\0|abcdefghijklmnop){0,3}", 0u64..100), 0..400),
        ) {
            let records: Vec<_> = records.into_iter().map(|(key, n)| (key.into_bytes(), n)).collect();
            let mut expected = BTreeMap::new();
            records.iter().for_each(|(key, n)| *expected.entry(key.clone()).or_default() += n);
            for bytes_max in [34_000, 1 << 20] {
                prop_assert_eq!(&sums(Arc::new(Sum::<true>), bytes_max, &records).0, &expected);
                prop_assert_eq!(&sums(Arc::new(Sum::<false>), bytes_max, &records).0, &expected);
            }
        }
    }

    #[test]
    fn many_keys_in_little_memory_are_written_out_several_times() {
        let records: Vec<_> = (0..20_000u64).map(|i| (i.to_string().repeat(4).into_bytes(), i)).collect();
        let expected: BTreeMap<_, _> = records.iter().cloned().collect();
        for fold in [Arc::new(Sum::<true>) as Arc<dyn Fold>, Arc::new(Sum::<false>)] {
            let (found, drains) = sums(fold, 200 << 10, &records);
            assert_eq!(found, expected);
            // 20,000 slots alone need 640,000 bytes.
            assert!(drains > 3, "{drains} times full");
        }
    }
}
