//! Where the blocks of one open file are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::{Entry, Locate, LocatedBlock, LocatedFile};

use super::DfsClient;
use super::calls::outcome;
use super::connection::block_on;
use super::errors::DfsError;

/// Blocks asked for at a time: 2 GiB ahead.
const PAGE_BLOCKS: u32 = 32;
/// Locations kept of one file.
const KEPT_MAX: usize = 4096;

/// The file as it was opened, and the locations that were asked for so far.
pub(crate) struct Locations {
    pub(crate) client: DfsClient,
    pub(crate) path: String,
    pub(crate) entry: Entry,
    /// By offset in the file.
    blocks: Mutex<BTreeMap<u64, Arc<LocatedBlock>>>,
}

impl Locations {
    /// Opens a file: one call for what it is and where its first blocks are.
    pub(crate) async fn open(client: DfsClient, path: &str) -> Result<Locations, DfsError> {
        let located = locate(&client, path, 0, PAGE_BLOCKS).await?;
        let entry = located.entry.unwrap_or_default();
        let blocks = located.blocks.into_iter().map(|block| (block.offset, Arc::new(block)));
        let blocks = Mutex::new(blocks.collect());
        Ok(Locations { client, path: path.to_owned(), entry, blocks })
    }

    /// The block that holds `offset`, which is below the length of the file.
    pub(crate) fn block_at(&self, offset: u64) -> Result<Arc<LocatedBlock>, DfsError> {
        if let Some(block) = self.known(offset) {
            return Ok(block);
        }
        self.ask(offset, PAGE_BLOCKS)
    }

    /// The same, asked for again: replicas may have moved, and tokens expire.
    pub(crate) fn refresh(&self, offset: u64) -> Result<Arc<LocatedBlock>, DfsError> {
        self.ask(offset, 1)
    }

    fn ask(&self, offset: u64, limit: u32) -> Result<Arc<LocatedBlock>, DfsError> {
        let located = block_on(locate(&self.client, &self.path, offset, limit))?;
        let changed = || DfsError::FileChanged { path: self.path.clone() };
        if located.entry.is_none_or(|entry| entry.inode != self.entry.inode) {
            return Err(changed());
        }
        {
            let mut blocks = self.lock();
            if blocks.len() + located.blocks.len() > KEPT_MAX {
                blocks.clear();
            }
            blocks.extend(located.blocks.into_iter().map(|block| (block.offset, Arc::new(block))));
        }
        self.known(offset).ok_or_else(changed)
    }

    fn known(&self, offset: u64) -> Option<Arc<LocatedBlock>> {
        let blocks = self.lock();
        let (_, block) = blocks.range(..=offset).next_back()?;
        (offset - block.offset < block.bytes).then(|| block.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<LocatedBlock>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn locate(client: &DfsClient, path: &str, offset: u64, limit: u32) -> Result<LocatedFile, DfsError> {
    let locate = Locate { path: path.to_owned(), offset, bytes: u64::MAX - offset, limit };
    client.ask(Request::Locate(locate), outcome!(Located)).await
}
