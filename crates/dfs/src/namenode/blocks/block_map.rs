//! Which workers hold good replicas of which complete block, in little memory.
//!
//! Block ids are given out rising and never again, so they are dense: a page holds the entries of 256 neighbouring
//! ids, sorted, in one allocation. An entry takes 24 bytes with up to four replicas, so 10 million blocks take
//! about 245 MB when dense. A page that loses half of its entries shrinks, so at most twice that (488 MB, 465 MiB).
//! A block with more than four replicas keeps them all in a side table.

use std::collections::BTreeMap;

use super::roster::Slot;

/// Replicas that fit in an entry itself.
const INLINE: usize = 4;
/// Replicas of one block that are remembered. More than any replication (a byte) asks for.
const HOLDERS_MAX: usize = 255;
/// Low bits of a block id that name its place in a page.
const PAGE_BITS: u32 = 8;
/// Generations and lengths have 48 bits here. Both are the namespace's own, never a worker's word.
const PACKED_MAX: u64 = (1 << 48) - 1;
/// The queue of a block that wants nothing.
pub(super) const NO_QUEUE: u8 = u8::MAX;

/// What the namespace says of a complete block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) generation: u64,
    pub(super) bytes: u64,
    pub(super) replication: u8,
}

/// A complete block: 24 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    generation_low: u32,
    bytes_low: u32,
    generation_high: u16,
    bytes_high: u16,
    /// The lowest bits of the id.
    low: u8,
    replication: u8,
    /// In which queue of `Wanting` the block is, or `NO_QUEUE`.
    queue: u8,
    /// Good replicas. More than `INLINE`: they are in `BlockMap::crowded`.
    count: u8,
    holders: [Slot; INLINE],
}

impl Entry {
    fn new(low: u8, record: Record) -> Entry {
        let mut entry = Entry {
            generation_low: 0,
            bytes_low: 0,
            generation_high: 0,
            bytes_high: 0,
            low,
            replication: 0,
            queue: NO_QUEUE,
            count: 0,
            holders: [0; INLINE],
        };
        entry.set_record(record);
        entry
    }

    fn set_record(&mut self, record: Record) {
        let Record { generation, bytes, replication } = record;
        assert!(generation <= PACKED_MAX && bytes <= PACKED_MAX, "a block of {bytes} bytes, g{generation}");
        (self.generation_low, self.generation_high) = (generation as u32, (generation >> 32) as u16);
        (self.bytes_low, self.bytes_high) = (bytes as u32, (bytes >> 32) as u16);
        self.replication = replication;
    }

    pub(super) fn record(&self) -> Record {
        Record { generation: self.generation(), bytes: self.bytes(), replication: self.replication }
    }

    pub(super) fn generation(&self) -> u64 {
        u64::from(self.generation_high) << 32 | u64::from(self.generation_low)
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.bytes_high) << 32 | u64::from(self.bytes_low)
    }

    pub(super) fn replication(&self) -> u32 {
        u32::from(self.replication)
    }

    pub(super) fn queue(&self) -> u8 {
        self.queue
    }

    /// Good replicas, on whatever workers.
    pub(super) fn count(&self) -> usize {
        usize::from(self.count)
    }
}

/// All complete blocks.
#[derive(Debug, Default)]
pub(super) struct BlockMap {
    pages: BTreeMap<u64, Vec<Entry>>,
    /// All holders of blocks with more than `INLINE` of them.
    crowded: BTreeMap<u64, Vec<Slot>>,
    blocks: u64,
    reported: u64,
}

impl BlockMap {
    pub(super) fn len(&self) -> u64 {
        self.blocks
    }

    /// Blocks with at least one good replica.
    pub(super) fn reported(&self) -> u64 {
        self.reported
    }

    pub(super) fn get(&self, block: u64) -> Option<&Entry> {
        let page = self.pages.get(&(block >> PAGE_BITS))?;
        find(page, block as u8).ok().map(|place| &page[place])
    }

    fn get_mut(&mut self, block: u64) -> Option<&mut Entry> {
        let page = self.pages.get_mut(&(block >> PAGE_BITS))?;
        find(page, block as u8).ok().map(|place| &mut page[place])
    }

    /// The workers with a good replica, none if there is no such block.
    pub(super) fn holders(&self, block: u64) -> &[Slot] {
        self.get(block).map_or(&[], |entry| self.holders_of(block, entry))
    }

    pub(super) fn holders_of<'a>(&'a self, block: u64, entry: &'a Entry) -> &'a [Slot] {
        match entry.count() {
            count @ ..=INLINE => &entry.holders[..count],
            _ => &self.crowded[&block],
        }
    }

    /// Takes the block in, without replicas. It must not be there.
    pub(super) fn insert(&mut self, block: u64, record: Record) {
        let page = self.pages.entry(block >> PAGE_BITS).or_default();
        match find(page, block as u8) {
            Ok(_) => panic!("block {block} is there already"),
            Err(place) => page.insert(place, Entry::new(block as u8, record)),
        }
        self.blocks += 1;
    }

    /// Forgets the block and tells what was known of it.
    pub(super) fn remove(&mut self, block: u64) -> Option<(Entry, Vec<Slot>)> {
        let holders = self.holders(block).to_vec();
        let page = self.pages.get_mut(&(block >> PAGE_BITS))?;
        let entry = page.remove(find(page, block as u8).ok()?);
        if page.is_empty() {
            self.pages.remove(&(block >> PAGE_BITS));
        } else if page.len() * 2 <= page.capacity() {
            page.shrink_to_fit();
        }
        self.crowded.remove(&block);
        self.blocks -= 1;
        self.reported -= u64::from(entry.count > 0);
        Some((entry, holders))
    }

    pub(super) fn set_record(&mut self, block: u64, record: Record) {
        if let Some(entry) = self.get_mut(block) {
            entry.set_record(record);
        }
    }

    pub(super) fn set_queue(&mut self, block: u64, queue: u8) {
        if let Some(entry) = self.get_mut(block) {
            entry.queue = queue;
        }
    }

    /// Whether this was news.
    pub(super) fn add_holder(&mut self, block: u64, slot: Slot) -> bool {
        if self.holders(block).contains(&slot) {
            return false;
        }
        let Some(entry) = self.get_mut(block) else { return false };
        let count = entry.count();
        if count >= HOLDERS_MAX {
            return false;
        }
        entry.count += 1;
        if count < INLINE {
            entry.holders[count] = slot;
        } else {
            let inline = entry.holders;
            self.crowded.entry(block).or_insert_with(|| inline.to_vec()).push(slot);
        }
        self.reported += u64::from(count == 0);
        true
    }

    /// Whether the worker was a holder.
    pub(super) fn remove_holder(&mut self, block: u64, slot: Slot) -> bool {
        let Some(place) = self.holders(block).iter().position(|&holder| holder == slot) else { return false };
        let mut crowd = self.crowded.remove(&block);
        let Some(entry) = self.get_mut(block) else { return false };
        entry.count -= 1;
        let count = entry.count();
        match &mut crowd {
            None => entry.holders.copy_within(place + 1.., place),
            Some(crowd) => {
                crowd.remove(place);
                if count == INLINE {
                    entry.holders.copy_from_slice(crowd);
                }
            }
        }
        if let Some(crowd) = crowd.filter(|_| count > INLINE) {
            self.crowded.insert(block, crowd);
        }
        self.reported -= u64::from(count == 0);
        true
    }

    /// Entries with `first <= block <= last`, ascending.
    pub(super) fn range(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.pages
            .range(first >> PAGE_BITS..=last >> PAGE_BITS)
            .flat_map(|(page, entries)| {
                entries.iter().map(move |entry| (page << PAGE_BITS | u64::from(entry.low), entry))
            })
            .skip_while(move |(block, _)| *block < first)
            .take_while(move |(block, _)| *block <= last)
    }
}

/// Where the entry is, or belongs, in a page.
fn find(page: &[Entry], low: u8) -> Result<usize, usize> {
    // A page without gaps answers at once.
    let dense = usize::from(low).wrapping_sub(page.first().map_or(0, |entry| usize::from(entry.low)));
    if page.get(dense).is_some_and(|entry| entry.low == low) {
        return Ok(dense);
    }
    page.binary_search_by_key(&low, |entry| entry.low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Record = Record { generation: 1 << 40, bytes: (1 << 40) + 7, replication: 3 };

    #[test]
    fn an_entry_is_24_bytes_and_keeps_long_numbers() {
        assert_eq!(size_of::<Entry>(), 24);
        let mut map = BlockMap::default();
        map.insert(u64::MAX, RECORD);
        assert_eq!(map.get(u64::MAX).unwrap().record(), RECORD);
        assert!(map.get(u64::MAX - 1).is_none());
    }

    #[test]
    fn holders_come_and_go_beyond_those_inline() {
        let mut map = BlockMap::default();
        map.insert(5, RECORD);
        for slot in 0..7 {
            assert_eq!(map.reported(), u64::from(slot > 0));
            assert!(map.add_holder(5, slot));
            assert!(!map.add_holder(5, slot), "a duplicate is no news");
        }
        assert_eq!(map.holders(5), [0, 1, 2, 3, 4, 5, 6]);
        for (left, slot) in [(6, 3), (5, 0), (4, 6), (3, 1), (2, 5), (1, 2), (0, 4)] {
            assert!(map.remove_holder(5, slot));
            assert!(!map.remove_holder(5, slot));
            assert_eq!(map.holders(5).len(), left);
        }
        assert_eq!((map.reported(), map.crowded.len()), (0, 0));
    }

    #[test]
    fn blocks_are_found_in_dense_and_in_sparse_pages() {
        let mut map = BlockMap::default();
        let ids: Vec<u64> = (1..600).chain((1000..9000).step_by(37)).collect();
        for &id in ids.iter().rev() {
            map.insert(id, RECORD);
            map.add_holder(id, (id % 7) as Slot);
        }
        assert_eq!(map.range(0, u64::MAX).map(|(id, _)| id).collect::<Vec<_>>(), ids);
        assert_eq!(map.range(598, 1037).map(|(id, _)| id).collect::<Vec<_>>(), [598, 599, 1000, 1037]);
        for &id in &ids {
            assert_eq!(map.holders(id), [(id % 7) as Slot]);
            assert!(map.remove(id).is_some());
            assert!(map.remove(id).is_none());
        }
        assert_eq!((map.len(), map.reported(), map.pages.len()), (0, 0, 0));
    }
}
