//! The tables of the store, byte by byte. Numbers are little endian in values, and big endian in keys of several parts,
//! so that these sort as their numbers do; a key that is one number the store orders itself.
//!
//! ```text
//!   entries   parent inode u64, name        -> inode x 2 + (1 if a directory) u64
//!   inodes    inode u64                     -> record::Inode
//!   blocks    block u64                     -> inode u64, generation u64, bytes u64, replication u32, complete u8
//!   open      inode u64                     -> the writer's client id, or zeros while its lease is recovered
//!   orphans   inode u64                     -> nothing: it is in no directory, and it and all below is forgotten
//!   answers   client id, sequence u64       -> namespace::Answer
//!   clients   client id                     -> settled below u64, highest u64, kept u64, heard of ms u64
//!   services  worker u64, 0 for all         -> what an operator wants of it, u8: see [`Service`]
//!   meta      "format" "cluster" "epoch" "counters"
//! ```

use std::ops::Deref;

use gristmill_proto::ids::{ClientId, Generation, InodeId};
use redb::TableDefinition;

use super::paths::NAME_BYTES_MAX;
use super::{BlockRecord, StoreError};

/// What these tables are. A store of another format is refused.
pub(super) const FORMAT: u64 = 2;
/// The one before: a file of redb's own, without sums of pages.
pub(super) const FORMAT_WITHOUT_SUMS: u64 = 1;
/// How such a file begins.
pub(super) const REDB_MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// The inode of `/`.
pub(super) const ROOT: InodeId = InodeId(1);

pub(super) const ENTRIES: TableDefinition<&[u8], u64> = TableDefinition::new("entries");
pub(super) const INODES: TableDefinition<u64, &[u8]> = TableDefinition::new("inodes");
pub(super) const BLOCKS: TableDefinition<u64, &[u8; BLOCK_BYTES]> = TableDefinition::new("blocks");
pub(super) const OPEN: TableDefinition<u64, &[u8; 16]> = TableDefinition::new("open");
pub(super) const ORPHANS: TableDefinition<u64, ()> = TableDefinition::new("orphans");
pub(super) const ANSWERS: TableDefinition<&[u8; 24], &[u8]> = TableDefinition::new("answers");
pub(super) const CLIENTS: TableDefinition<&[u8; 16], &[u8; 32]> = TableDefinition::new("clients");
pub(super) const SERVICES: TableDefinition<u64, u8> = TableDefinition::new("services");
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

const BLOCK_BYTES: usize = 29;
const NO_CLIENT: [u8; 16] = [0; 16];

/// A key of `entries`, on the stack: paths are walked often.
pub(super) struct EntryKey {
    bytes: [u8; 8 + NAME_BYTES_MAX],
    len: usize,
}

impl EntryKey {
    /// `name` must be a checked name, or empty: then the key is below all of the directory's.
    pub(super) fn new(parent: InodeId, name: &str) -> EntryKey {
        let len = 8 + name.len();
        let mut bytes = [0; 8 + NAME_BYTES_MAX];
        bytes[..8].copy_from_slice(&parent.0.to_be_bytes());
        bytes[8..len].copy_from_slice(name.as_bytes());
        EntryKey { bytes, len }
    }
}

impl EntryKey {
    /// The same of a name that nobody has checked.
    pub(super) fn new_checked(parent: InodeId, name: &str) -> Option<EntryKey> {
        (name.len() <= NAME_BYTES_MAX).then(|| EntryKey::new(parent, name))
    }
}

impl Deref for EntryKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The name in a key of `entries`.
pub(super) fn entry_name(key: &[u8]) -> Result<&str, StoreError> {
    let (parent, name) =
        key.split_first_chunk().ok_or_else(|| StoreError::damaged("entry", 0, "is short"))?;
    let parent = u64::from_be_bytes(*parent);
    std::str::from_utf8(name).map_err(|problem| StoreError::damaged("an entry of inode", parent, problem))
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) id: InodeId,
    pub(super) is_directory: bool,
}

impl Child {
    pub(super) fn pack(self) -> u64 {
        self.id.0 << 1 | u64::from(self.is_directory)
    }

    pub(super) fn unpack(packed: u64) -> Child {
        Child { id: InodeId(packed >> 1), is_directory: packed & 1 == 1 }
    }
}

impl BlockRecord {
    pub(super) fn pack(self) -> [u8; BLOCK_BYTES] {
        let mut packed = [0; BLOCK_BYTES];
        packed[..8].copy_from_slice(&self.inode.0.to_le_bytes());
        packed[8..16].copy_from_slice(&self.generation.0.to_le_bytes());
        packed[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        packed[24..28].copy_from_slice(&self.replication.to_le_bytes());
        packed[28] = u8::from(self.complete);
        packed
    }

    pub(super) fn unpack(packed: &[u8; BLOCK_BYTES]) -> BlockRecord {
        let [inode, generation, bytes] = numbers(packed);
        let replication = u32::from_le_bytes([packed[24], packed[25], packed[26], packed[27]]);
        let (inode, generation) = (InodeId(inode), Generation(generation));
        BlockRecord { inode, generation, bytes, replication, complete: packed[28] != 0 }
    }
}

/// The first `N` numbers of a value that has as many.
fn numbers<const N: usize>(packed: &[u8]) -> [u64; N] {
    let (words, _) = packed.as_chunks::<8>();
    std::array::from_fn(|at| u64::from_le_bytes(words[at]))
}

pub(super) fn pack_holder(holder: Option<ClientId>) -> [u8; 16] {
    holder.map_or(NO_CLIENT, |client| client.0)
}

pub(super) fn unpack_holder(packed: &[u8; 16]) -> Option<ClientId> {
    (*packed != NO_CLIENT).then_some(ClientId(*packed))
}

pub(super) fn answer_key(client: ClientId, sequence: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&client.0);
    key[16..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// What is kept of a client besides its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientRow {
    /// The client said that it is done with all smaller sequences.
    pub(super) settled_below: u64,
    /// The highest sequence that was ever answered.
    pub(super) highest: u64,
    /// How many answers are kept.
    pub(super) kept: u64,
    /// When the last command of this client came.
    pub(super) heard_ms: u64,
}

impl ClientRow {
    pub(super) fn pack(self) -> [u8; 32] {
        let mut packed = [0; 32];
        let fields = [self.settled_below, self.highest, self.kept, self.heard_ms];
        for (slot, field) in packed.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        packed
    }

    pub(super) fn unpack(packed: &[u8; 32]) -> ClientRow {
        let [settled_below, highest, kept, heard_ms] = numbers(packed);
        ClientRow { settled_below, highest, kept, heard_ms }
    }
}

/// The numbers of the whole namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) next_inode: u64,
    pub(super) next_block: u64,
    pub(super) next_generation: u64,
    pub(super) directories: u64,
    pub(super) files: u64,
    pub(super) blocks: u64,
    pub(super) complete_blocks: u64,
    /// Directories that have a quota: while there is none, nobody climbs.
    pub(super) quotas: u64,
}

impl Counters {
    pub(super) fn pack(self) -> [u8; 64] {
        let mut packed = [0; 64];
        let fields = [
            self.next_inode,
            self.next_block,
            self.next_generation,
            self.directories,
            self.files,
            self.blocks,
            self.complete_blocks,
            self.quotas,
        ];
        for (slot, field) in packed.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        packed
    }

    pub(super) fn unpack(packed: &[u8]) -> Result<Counters, StoreError> {
        if packed.len() != 64 {
            let how = format!("has {} bytes, not 64", packed.len());
            return Err(StoreError::damaged("the row of counters of format", FORMAT, how));
        }
        let [next_inode, next_block, next_generation, directories, files, blocks, complete_blocks, quotas] =
            numbers(packed);
        Ok(Counters {
            next_inode,
            next_block,
            next_generation,
            directories,
            files,
            blocks,
            complete_blocks,
            quotas,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_come_back_as_they_were(words: [u64; 8], replication: u32, complete: bool) {
            let [inode, generation, bytes, ..] = words;
            let (inode, generation) = (InodeId(inode), Generation(generation));
            let block = BlockRecord { inode, generation, bytes, replication, complete };
            prop_assert_eq!(BlockRecord::unpack(&block.pack()), block);
            let [settled_below, highest, kept, heard_ms, ..] = words;
            let row = ClientRow { settled_below, highest, kept, heard_ms };
            prop_assert_eq!(ClientRow::unpack(&row.pack()), row);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            prop_assert_eq!(Counters::unpack(&bytes).unwrap().pack().to_vec(), bytes);
            let child = Child { id: InodeId(words[0] >> 1), is_directory: complete };
            prop_assert_eq!(Child::unpack(child.pack()), child);
        }

        #[test]
        fn entries_sort_by_directory_and_then_by_name(a: u64, b: u64, x in "[a-c]{0,4}", y in "[a-c]{0,4}") {
            let keys = [EntryKey::new(InodeId(a), &x), EntryKey::new(InodeId(b), &y)];
            prop_assert_eq!(keys[0].cmp(&keys[1]), (a, x.as_bytes()).cmp(&(b, y.as_bytes())));
            prop_assert_eq!(entry_name(&keys[0]).unwrap(), x);
        }
    }

    #[test]
    fn a_damaged_key_or_row_is_named() {
        assert!(entry_name(&[0; 7]).unwrap_err().to_string().contains("entry 0 is short"));
        let key = [&7u64.to_be_bytes()[..], &[0xFF]].concat();
        assert!(entry_name(&key).unwrap_err().to_string().contains("an entry of inode 7"));
        assert!(Counters::unpack(&[0; 63]).unwrap_err().to_string().contains("has 63 bytes"));
    }
}
