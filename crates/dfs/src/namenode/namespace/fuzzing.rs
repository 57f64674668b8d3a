//! Rows of the store, for the fuzz targets: decoded, and encoded again.

use gristmill_proto::ids::InodeId;
use gristmill_proto::namespace::Entry;

use super::refusal::StoreError;
use super::tables::{ClientRow, Counters, entry_name};
use super::{BlockRecord, inode};

/// An inode as a client sees it, and the bytes that it counts for in quotas.
pub fn inode(id: InodeId, record: &[u8]) -> Result<(Entry, u64), StoreError> {
    let inode = inode::decode(id, record)?;
    let space = inode::file(&inode).map_or(0, inode::space);
    Ok((inode::entry("/path".to_owned(), id, &inode), space))
}

/// The name in a key of a directory's entries.
pub fn name_in_key(key: &[u8]) -> Result<&str, StoreError> {
    entry_name(key)
}

/// The row of counters.
pub fn counters(row: &[u8]) -> Result<[u8; 64], StoreError> {
    Counters::unpack(row).map(Counters::pack)
}

/// The row of a block.
pub fn block(row: &[u8; 29]) -> [u8; 29] {
    BlockRecord::unpack(row).pack()
}

/// The row of a client.
pub fn client(row: &[u8; 32]) -> [u8; 32] {
    ClientRow::unpack(row).pack()
}
