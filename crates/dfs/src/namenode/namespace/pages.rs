//! The pages of the store on its disk, each with its sum: what a disk has changed is an error, and never believed.
//!
//! redb has sums for what a crash may tear, and looks at them when it repairs. What it reads in between it believes. So
//! each page is stored with a CRC-32C of its number and its bytes, which every read checks:
//!
//! ```text
//!   0       magic, redb's header, CRC-32C of both; within one sector, as redb writes its header in place
//!   4096    page 1, CRC-32C, 4 zeros
//!   8200    page 2 ...
//! ```
//!
//! A page that was never written is zeros, with zeros for a sum. Writes torn by a loss of power are of pages that no
//! commit refers to: redb reads them no more.

use std::io;
use std::ops::Bound;

use redb::{BackendError, StorageBackend};

/// What redb calls a page.
const PAGE_BYTES: usize = 4096;
/// A page and its sum.
const STORED_BYTES: usize = PAGE_BYTES + 8;
/// Before page 1.
const HEAD_BYTES: u64 = 4096;
/// The first bytes of the file: the last two say the version of this layout.
const MAGIC: &[u8; 16] = b"gristmill pages1";
/// redb's header; the rest of its page 0 it never uses.
const HEADER_BYTES: usize = 320;
const HEADER_START: usize = MAGIC.len();
const HEADER_END: usize = HEADER_START + HEADER_BYTES;
const HEAD_STORED_BYTES: usize = HEADER_END + 4;

/// The storage of a namespace on top of another one.
#[derive(Debug)]
pub struct CheckedPages<B> {
    below: B,
}

/// Why what is stored is not believed.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("the store is damaged: its head is not that of a namespace, or its sum does not match")]
    Head,
    #[error("the store is damaged: the sum of page {0} does not match")]
    Page(u64),
}

impl From<Damage> for io::Error {
    fn from(damage: Damage) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, damage)
    }
}

impl<B: StorageBackend> CheckedPages<B> {
    /// Pages that are stored in `below`, which holds such pages or nothing.
    pub fn new(below: B) -> CheckedPages<B> {
        CheckedPages { below }
    }

    fn read_head(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        let mut head = [0; HEAD_STORED_BYTES];
        self.below.read(0, &mut head)?;
        let sum = u32::from_le_bytes(head[HEADER_END..].try_into().expect("four bytes"));
        // Before redb has written its header for the first time.
        let is_new = head.iter().all(|byte| *byte == 0);
        if !is_new && (!head.starts_with(MAGIC) || crc32c::crc32c(&head[..HEADER_END]) != sum) {
            return Err(Damage::Head.into());
        }
        let header = &head[HEADER_START..HEADER_END];
        let stored = header.get(offset..).unwrap_or_default();
        let copied = stored.len().min(out.len());
        out[..copied].copy_from_slice(&stored[..copied]);
        out[copied..].fill(0);
        Ok(())
    }

    fn write_head(&self, header: &[u8]) -> io::Result<()> {
        let mut head = [0; HEAD_STORED_BYTES];
        head[..HEADER_START].copy_from_slice(MAGIC);
        head[HEADER_START..HEADER_END].copy_from_slice(header);
        let sum = crc32c::crc32c(&head[..HEADER_END]);
        head[HEADER_END..].copy_from_slice(&sum.to_le_bytes());
        self.below.write(0, &head)
    }

    /// Reads `out.len()` bytes of a page from `offset` in it on.
    fn read_page(&self, page: u64, offset: usize, out: &mut [u8]) -> io::Result<()> {
        if page == 0 {
            return self.read_head(offset, out);
        }
        let mut stored = [0; STORED_BYTES];
        self.below.read(place_of(page), &mut stored)?;
        let (bytes, sum) = stored.split_at(PAGE_BYTES);
        if sum != sum_of(page, bytes) && stored.iter().any(|byte| *byte != 0) {
            return Err(Damage::Page(page).into());
        }
        out.copy_from_slice(&bytes[offset..offset + out.len()]);
        Ok(())
    }
}

impl<B: StorageBackend> StorageBackend for CheckedPages<B> {
    fn len(&self) -> io::Result<u64> {
        let stored = self.below.len()?;
        if stored == 0 {
            return Ok(0);
        }
        // A page at the end that is not whole was being written when the power went.
        let pages = stored.saturating_sub(HEAD_BYTES) / STORED_BYTES as u64;
        Ok((pages + 1) * PAGE_BYTES as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (mut at, mut left) = (offset, out);
        while !left.is_empty() {
            let (page, within) = (at / PAGE_BYTES as u64, (at % PAGE_BYTES as u64) as usize);
            let (now, later) = left.split_at_mut(left.len().min(PAGE_BYTES - within));
            self.read_page(page, within, now)?;
            at += now.len() as u64;
            left = later;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !len.is_multiple_of(PAGE_BYTES as u64) {
            return Err(not_pages(0, len));
        }
        self.below.set_len(match len / PAGE_BYTES as u64 {
            0 => 0,
            pages => place_of(pages),
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.below.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset == 0 && data.len() == HEADER_BYTES {
            return self.write_head(data);
        }
        let (pages, rest) = data.as_chunks::<PAGE_BYTES>();
        if !offset.is_multiple_of(PAGE_BYTES as u64) || offset == 0 || !rest.is_empty() {
            return Err(not_pages(offset, data.len() as u64));
        }
        let first = offset / PAGE_BYTES as u64;
        let mut stored = Vec::with_capacity(pages.len() * STORED_BYTES);
        for (page, bytes) in (first..).zip(pages) {
            stored.extend_from_slice(bytes);
            stored.extend_from_slice(&sum_of(page, bytes));
        }
        self.below.write(place_of(first), &stored)
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.query_lock_range(start, end)
    }
}

/// Where a page but the first is stored.
fn place_of(page: u64) -> u64 {
    HEAD_BYTES + (page - 1) * STORED_BYTES as u64
}

/// What is stored behind a page. Its number counts: bytes that were written to the wrong place are no good.
fn sum_of(page: u64, bytes: &[u8]) -> [u8; 8] {
    let sum = crc32c::crc32c_append(crc32c::crc32c(&page.to_le_bytes()), bytes);
    u64::from(sum).to_le_bytes()
}

/// A bug: redb writes whole pages, and its header.
fn not_pages(offset: u64, bytes: u64) -> io::Error {
    let said = format!("{bytes} bytes at {offset} are neither pages nor the header of a store");
    io::Error::new(io::ErrorKind::InvalidInput, said)
}
