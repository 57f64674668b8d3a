//! How a replica takes a new generation, a new fence, a new length.
//!
//! What is true of a replica stands in its checksum file and that file's name, so a change is a new checksum file: made
//! beside the old one, synced, and then named, which is the one moment at which the change happens. What a crash can leave
//! is harmless:
//!
//! - before it, a `.new` file, which is removed when the store is opened;
//! - after it, the old checksum file, whose name is the lesser of the two and which is removed then as well, and data
//!   after the replica's end, which nobody reads, and which is cut off when the replica changes again.
//!
//! The data is never touched before that moment, and never other than by cutting it.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use gristmill_proto::chunks::{CHUNK_BYTES, SUM_BYTES};
use gristmill_proto::ids::{BlockId, Generation};

use super::error::{DiskError, Fault, Trouble};
use super::names::SumName;
use super::sum_file::{Mark, SumFile, SumHead, check_length, read_exact};
use super::unfinished::{Files, start_of_last};
use super::volume::Volume;

/// Sums are copied in pieces of this size: those of 256 MiB.
const COPY_BYTES: u64 = 64 << 10;

/// A replica that nobody writes, at the gate of its block.
pub(super) struct Held {
    pub(super) volume: Arc<Volume>,
    pub(super) sums: SumFile,
    pub(super) mark: Mark,
}

/// What a replica is to become.
pub(super) struct Next {
    pub(super) name: SumName,
    pub(super) fence: Generation,
    /// At most what it has.
    pub(super) bytes: u64,
}

impl Held {
    pub(super) fn block(&self) -> BlockId {
        self.sums.head.block
    }

    /// Makes the change; it is durable, with all bytes that are kept, when this returns.
    pub(super) fn become_next(&self, next: Next) -> Result<Files, Trouble> {
        let block = self.block();
        let data_path = self.volume.data_path(block);
        let data = OpenOptions::new().read(true).write(true).open(&data_path);
        let data = data.map_err(|source| Trouble::reading("open", &data_path, source))?;
        check_length(&data, &data_path, next.bytes)?;
        data.sync_data().map_err(DiskError::on("sync", &data_path))?;
        let mark = Mark { bytes: next.bytes, last_sum: self.sum_at(next.bytes, &data, &data_path)? };

        let path = self.volume.sums_path(block, next.name);
        let new_path = path.with_added_extension("new");
        let head = SumHead { block, generation: next.name.generation, fence: next.fence };
        let made = self.make_sums(&new_path, head, mark);
        let sums = made.and_then(|sums| {
            self.volume.rename(block, &new_path, &path)?;
            Ok(SumFile { path, ..sums })
        });
        let sums = sums.inspect_err(|_| remove_new(&new_path))?;

        if sums.path != self.sums.path {
            fs::remove_file(&self.sums.path).map_err(DiskError::on("remove", &self.sums.path))?;
        }
        data.set_len(next.bytes).map_err(DiskError::on("cut", &data_path))?;
        data.sync_data().map_err(DiskError::on("sync", &data_path))?;
        let written_back = next.bytes;
        Ok(Files { data: Arc::new(data), data_path, sums, mark, written_back, torn: false, named: true })
    }

    /// The new checksum file, all of it durable but the name.
    fn make_sums(&self, path: &Path, head: SumHead, mark: Mark) -> Result<SumFile, Trouble> {
        let sums = SumFile::create(path.to_owned(), head, true)?;
        sums.write_marks(mark)?;
        let chunks = mark.bytes.div_ceil(CHUNK_BYTES);
        let kept = chunks.saturating_sub(1);
        let mut buffer = [0; COPY_BYTES as usize];
        let mut copied = 0;
        while copied < kept {
            let count = (kept - copied).min(COPY_BYTES / SUM_BYTES);
            let piece = &mut buffer[..(count * SUM_BYTES) as usize];
            self.sums.read_sums(copied, piece)?;
            sums.write_sums(copied, piece)?;
            copied += count;
        }
        if chunks > 0 {
            sums.write_sums(kept, &mark.last_sum.to_le_bytes())?;
        }
        sums.sync()?;
        Ok(sums)
    }

    /// The sum of the last chunk once the replica is cut to `bytes`. The whole chunk is checked first, so that no damage
    /// gets a sum of its own.
    fn sum_at(&self, bytes: u64, data: &File, path: &Path) -> Result<u32, Trouble> {
        let Some(last) = bytes.checked_sub(1) else { return Ok(0) };
        let start = start_of_last(last);
        let end = self.mark.bytes.min(start + CHUNK_BYTES);
        let chunk = start / CHUNK_BYTES;
        let known = if end == self.mark.bytes { self.mark.last_sum } else { self.sums.sum(chunk)? };
        let mut buffer = [0; CHUNK_BYTES as usize];
        let whole = &mut buffer[..(end - start) as usize];
        read_exact(data, path, whole, start)?;
        if crc32c::crc32c(whole) != known {
            return Err(Trouble::fault(path, Fault::Chunk { chunk }));
        }
        Ok(crc32c::crc32c(&whole[..(bytes - start) as usize]))
    }
}

/// Takes away what a failed change made; if that fails, too, the next opening of the store does it.
fn remove_new(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!("{} is left: {error}", path.display());
    }
}

/// A generation that is over, or not yet: `asked` is refused if something newer is here.
pub(super) fn refuse_stale(
    block: BlockId,
    asked: Generation,
    has: Generation,
) -> Result<(), super::error::ReplicaError> {
    if asked < has { Err(super::error::ReplicaError::Stale { block, asked, has }) } else { Ok(()) }
}
