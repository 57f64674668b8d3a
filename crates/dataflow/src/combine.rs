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
use crate::run::{RunWriter, prefix};
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

#[derive(Clone, Copy, Default)]
struct Slot {
    /// First 16 bytes of the key, zero-padded, big-endian.
    head: u128,
    /// Length of the key plus one; zero marks a free slot.
    key_mark: u32,
    /// Where the key's bytes after the sixteenth are.
    rest: u32,
    value: u64,
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
    pub(crate) fn new(fold: Arc<dyn Fold>, bytes_max: usize) -> Self {
        Self {
            slots: vec![Slot::default(); SLOTS_MIN],
            used: 0,
            rests: Vec::new(),
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
        for entry in index {
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
