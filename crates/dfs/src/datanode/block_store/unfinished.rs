//! A replica that is not finished.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill_proto::chunks::{CHUNK_BYTES, SUM_BYTES};
use gristmill_proto::ids::BlockId;
use rustix::fs::{Advice, fadvise};

use super::broken_disk::{Access, heed};
use super::error::{DiskError, ReplicaError};
use super::names::{State, SumName};
use super::sum_file::{Mark, MarkKind, SumFile};
use super::volume::Volume;

/// After so many bytes the disk is told to begin with them, so that little is left to do when the replica is synced. Of more a
/// fast disk has written the first before Linux has gone over all of them, and what is written leaves the cache: with
/// 8 MiB up to 1 MiB of each 64 MiB.
const WRITE_BACK_BYTES: u64 = 512 << 10;
/// Bytes of one write to a data file. The page cache takes memory in pieces as large as the write, and pieces that are
/// larger than this are not among those that were freed lately: in a virtual machine that is memory which the host has to
/// find first. Measured in one, with the advice of `write_back` and without it, 512 MiB take 0.1 to 0.4 s of processor time
/// in writes of 64 KiB, and 0.5 to 0.8 s in writes of 1 MiB.
const WRITE_BYTES: usize = 64 << 10;

/// A replica between its creation, or its opening again, and its end. Each generation and each writer has an own one:
/// whoever takes the replica over retires this and makes another, so a writer can only ever lose it.
pub(super) struct Unfinished {
    pub(super) block: BlockId,
    pub(super) name: SumName,
    pub(super) volume: Arc<Volume>,
    /// Whether its writer may go on. Never set again once it is not. Whoever clears it takes `files` then, and so waits
    /// for a write that has begun.
    live: AtomicBool,
    files: Mutex<Files>,
    visible: Mutex<Visible>,
}

/// The files of a replica, and what is known of them.
pub(super) struct Files {
    pub(super) data: Arc<File>,
    pub(super) data_path: PathBuf,
    pub(super) sums: SumFile,
    pub(super) mark: Mark,
    /// Bytes that the disk was told to begin with.
    pub(super) written_back: u64,
    /// Whether a write failed: the data file may have bytes after those of `mark`, and the last sum be for them.
    pub(super) torn: bool,
    /// Whether the names of the files are durable.
    pub(super) named: bool,
}

/// What readers may see: all that was written, with its sums. Locked for moments only, unlike the files.
#[derive(Clone)]
pub(super) struct Visible {
    pub(super) bytes: u64,
    /// Sum of the last chunk at this length: the one in the file may already be for more bytes.
    pub(super) last_sum: u32,
    pub(super) data: Arc<File>,
    pub(super) sums: SumFile,
    pub(super) data_path: PathBuf,
}

impl Unfinished {
    pub(super) fn new(volume: Arc<Volume>, state: State, files: Files, live: bool) -> Unfinished {
        let visible = Visible {
            bytes: files.mark.bytes,
            last_sum: files.mark.last_sum,
            data: files.data.clone(),
            sums: files.sums.clone(),
            data_path: files.data_path.clone(),
        };
        Unfinished {
            block: files.sums.head.block,
            name: SumName { generation: files.sums.head.generation, state },
            volume,
            live: AtomicBool::new(live),
            files: Mutex::new(files),
            visible: Mutex::new(visible),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// The files, for its writer, which holds them while it works with them.
    pub(super) fn writing(&self) -> Result<MutexGuard<'_, Files>, ReplicaError> {
        let files = self.lock();
        if self.volume.failed() {
            return Err(ReplicaError::VolumeFailed { volume: self.volume.root.clone(), source: None });
        }
        if self.is_live() {
            return Ok(files);
        }
        Err(ReplicaError::Fenced { block: self.block, generation: self.name.generation })
    }

    /// Takes the replica from its writer, for ever.
    pub(super) fn retire(&self) -> MutexGuard<'_, Files> {
        self.disown();
        self.lock()
    }

    /// The same without waiting for a write that has begun. Returns whether there was a writer.
    pub(super) fn disown(&self) -> bool {
        self.live.swap(false, Ordering::AcqRel)
    }

    pub(super) fn visible(&self) -> Visible {
        self.visible_now().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        // The mark is advanced only after the bytes are written: what a panic leaves is torn at worst.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn visible_now(&self) -> MutexGuard<'_, Visible> {
        self.visible.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows readers what is written.
    pub(super) fn show(&self, mark: Mark) {
        let mut visible = self.visible_now();
        visible.bytes = mark.bytes;
        visible.last_sum = mark.last_sum;
    }
}

impl Files {
    pub(super) fn bytes(&self) -> u64 {
        self.mark.bytes
    }

    /// Whether `bytes` at `offset` continue the replica: from its end, or from the start of its partial last chunk.
    pub(super) fn continues(&self, offset: u64, bytes: u64) -> bool {
        offset == start_of_last(self.mark.bytes)
            && offset.checked_add(bytes).is_some_and(|end| end >= self.mark.bytes)
    }

    /// Adds the part of `data` that is new, and all its sums. `data` starts at the start of the partial last chunk and
    /// repeats it.
    ///
    /// Data before sums before mark: at any moment the mark, or a sum, fits what is in the data file.
    pub(super) fn extend(&mut self, data: &[u8], sums: &[u8]) -> Result<(), DiskError> {
        let start = start_of_last(self.mark.bytes);
        let repeated = (self.mark.bytes - start) as usize;
        let was_torn = std::mem::replace(&mut self.torn, true);
        let mut at = self.mark.bytes;
        for piece in data[repeated..].chunks(WRITE_BYTES) {
            let written =
                heed(Access::Write, &self.data_path).and_then(|()| self.data.write_all_at(piece, at));
            written.map_err(DiskError::on("write", &self.data_path))?;
            at += piece.len() as u64;
        }
        self.sums.write_sums(start / CHUNK_BYTES, sums)?;
        let mut last_sum = [0; SUM_BYTES as usize];
        last_sum.copy_from_slice(&sums[sums.len() - SUM_BYTES as usize..]);
        let mark = Mark { bytes: start + data.len() as u64, last_sum: u32::from_le_bytes(last_sum) };
        if mark.is_partial() {
            self.sums.write_mark(MarkKind::Written, mark)?;
        }
        self.mark = mark;
        self.torn = was_torn;
        self.write_back();
        Ok(())
    }

    /// Makes all bytes durable, and then says so.
    pub(super) fn sync(&mut self, volume: &Volume) -> Result<(), DiskError> {
        self.data.sync_data().map_err(DiskError::on("sync", &self.data_path))?;
        if self.mark.is_partial() {
            self.sums.write_mark(MarkKind::Synced, self.mark)?;
        }
        self.sums.sync()?;
        if !self.named {
            volume.sync_directory(self.sums.head.block)?;
            self.named = true;
        }
        Ok(())
    }

    /// Makes the files those of a finished replica, all but the name.
    pub(super) fn seal(&mut self) -> Result<(), DiskError> {
        if self.torn {
            self.data.set_len(self.mark.bytes).map_err(DiskError::on("cut", &self.data_path))?;
            if self.mark.is_partial() {
                self.sums.write_sums(self.mark.bytes / CHUNK_BYTES, &self.mark.last_sum.to_le_bytes())?;
            }
        }
        self.data.sync_data().map_err(DiskError::on("sync", &self.data_path))?;
        self.sums.write_marks(self.mark)?;
        self.sums.sync()
    }

    /// Has the disk begin with what was written since the last time. Not needing a range of the cache any more makes
    /// Linux write it, without waiting; what is dirty stays in the cache. A wish: it may fail and nothing is wrong.
    fn write_back(&mut self) {
        let bytes = self.mark.bytes - self.written_back;
        if bytes < WRITE_BACK_BYTES {
            return;
        }
        let advised =
            fadvise(&*self.data, self.written_back, std::num::NonZeroU64::new(bytes), Advice::DontNeed);
        if let Err(errno) = advised {
            tracing::debug!("{} is written back late: {errno}", self.data_path.display());
        }
        self.written_back = self.mark.bytes;
    }
}

impl Mark {
    /// Whether the last chunk is not full.
    pub(super) fn is_partial(&self) -> bool {
        !self.bytes.is_multiple_of(CHUNK_BYTES)
    }
}

/// Where the partial last chunk of a replica starts; its end if there is none.
pub(super) fn start_of_last(bytes: u64) -> u64 {
    bytes - bytes % CHUNK_BYTES
}
