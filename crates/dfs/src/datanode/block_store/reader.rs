//! What reads one replica.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use gristmill_proto::chunks::{CHUNK_BYTES, SUM_BYTES, verify};
use gristmill_proto::ids::{BlockId, Generation};

use super::error::{Fault, ReplicaError, Trouble};
use super::index::Finished;
use super::sum_file::{SumFile, check_length, read_exact};
use super::unfinished::Visible;
use super::volume::Volume;

/// Bytes that are read and checked at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// A replica as it was when it was opened: its length and its sums stay what they were, whatever becomes of the replica.
/// Only if it is cut shorter, bytes are missing or do not match their sums.
#[derive(Debug)]
pub struct ReplicaReader {
    bytes: u64,
    finished: bool,
    /// Sum of the partial last chunk of an unfinished replica: the file's is perhaps already for more bytes.
    last_sum: Option<u32>,
    data: Arc<File>,
    data_path: PathBuf,
    sums: SumFile,
}

impl ReplicaReader {
    /// Opens the files of a finished replica. All but the data itself is checked.
    pub(super) fn open(
        volume: &Volume,
        block: BlockId,
        finished: &Finished,
    ) -> Result<ReplicaReader, Trouble> {
        let sums_path = volume.sums_path(block, finished.name());
        let sums = SumFile::open(sums_path, block, finished.generation)?;
        let data_path = volume.data_path(block);
        let data = File::open(&data_path).map_err(|source| Trouble::reading("open", &data_path, source))?;
        ReplicaReader::whole(sums, data, data_path, finished.bytes)
    }

    /// What is visible of an unfinished replica.
    pub(super) fn of_unfinished(visible: Visible) -> ReplicaReader {
        let last_sum = (!visible.bytes.is_multiple_of(CHUNK_BYTES)).then_some(visible.last_sum);
        let Visible { bytes, data, sums, data_path, .. } = visible;
        ReplicaReader { bytes, finished: false, last_sum, data, data_path, sums }
    }

    /// A finished replica whose files another process of this machine opened and handed over.
    pub fn from_files(
        block: BlockId,
        generation: Generation,
        bytes: u64,
        data: File,
        sums: File,
    ) -> Result<ReplicaReader, ReplicaError> {
        let sums = SumFile::adopt(sums, PathBuf::from(format!("checksums of {block}")), block, generation);
        let reader =
            sums.and_then(|sums| ReplicaReader::whole(sums, data, PathBuf::from(block.to_string()), bytes));
        reader.map_err(|trouble| said(trouble, block, generation))
    }

    fn whole(sums: SumFile, data: File, data_path: PathBuf, bytes: u64) -> Result<ReplicaReader, Trouble> {
        sums.check_finished(bytes)?;
        check_length(&data, &data_path, bytes)?;
        Ok(ReplicaReader { bytes, finished: true, last_sum: None, data: Arc::new(data), data_path, sums })
    }

    /// The block.
    pub fn block(&self) -> BlockId {
        self.sums.head.block
    }

    /// The generation of the replica.
    pub fn generation(&self) -> Generation {
        self.sums.head.generation
    }

    /// Bytes to be read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the replica is finished, and the checksum file therefore right to its end.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The bytes of the block: the first [`bytes`](Self::bytes) of this file, which may be longer.
    pub fn data_file(&self) -> &File {
        &self.data
    }

    /// The checksum file; the sums start at [`SUMS_START`](super::SUMS_START). Of an unfinished replica the sum of the
    /// last chunk may be another than that of [`read_sums`](Self::read_sums).
    pub fn sum_file(&self) -> &File {
        &self.sums.file
    }

    /// Adds the sums of `count` chunks to `sums`. There must be as many.
    pub fn read_sums(&self, first_chunk: u64, count: u64, sums: &mut Vec<u8>) -> Result<(), ReplicaError> {
        let trouble = self.try_read_sums(first_chunk, count, sums);
        trouble.map_err(|trouble| said(trouble, self.block(), self.generation()))
    }

    /// Reads exactly `into` at `offset`, unchecked. The bytes must be there.
    pub fn read_data(&self, offset: u64, into: &mut [u8]) -> Result<(), ReplicaError> {
        let read = read_exact(&self.data, &self.data_path, into, offset);
        read.map_err(|trouble| said(trouble, self.block(), self.generation()))
    }

    /// Reads all bytes, from the disk and not from memory, and checks them against their sums. `pace` is told before
    /// each piece how many bytes come, and says whether to go on. Returns whether it came to the end.
    pub(super) fn verify_cold(&self, pace: &mut dyn FnMut(u64) -> bool) -> Result<bool, Trouble> {
        if let Err(errno) = rustix::fs::fadvise(&*self.data, 0, None, rustix::fs::Advice::DontNeed) {
            tracing::debug!("{} is read from memory: {errno}", self.data_path.display());
        }
        let mut data = vec![0; PIECE_BYTES.min(self.bytes) as usize];
        let mut sums = Vec::new();
        let mut offset = 0;
        while offset < self.bytes {
            let piece = PIECE_BYTES.min(self.bytes - offset);
            if !pace(piece) {
                return Ok(false);
            }
            let data = &mut data[..piece as usize];
            read_exact(&self.data, &self.data_path, data, offset)?;
            sums.clear();
            let first_chunk = offset / CHUNK_BYTES;
            self.try_read_sums(first_chunk, piece.div_ceil(CHUNK_BYTES), &mut sums)?;
            verify(data, &sums).map_err(|bad| {
                Trouble::fault(&self.data_path, Fault::Chunk { chunk: first_chunk + bad.index })
            })?;
            offset += piece;
        }
        Ok(true)
    }

    fn try_read_sums(&self, first_chunk: u64, count: u64, sums: &mut Vec<u8>) -> Result<(), Trouble> {
        let end = first_chunk.saturating_add(count);
        let chunks = self.bytes.div_ceil(CHUNK_BYTES);
        if end > chunks {
            let wanted = end.saturating_mul(CHUNK_BYTES);
            return Err(Trouble::fault(&self.data_path, Fault::Truncated { bytes: self.bytes, wanted }));
        }
        let start = sums.len();
        // Bounded: there are as many chunks, for all of which the file was seen to have sums.
        sums.resize(start + (count * SUM_BYTES) as usize, 0);
        let of_file = if end == chunks && self.last_sum.is_some() { count.saturating_sub(1) } else { count };
        let (from_file, last) = sums[start..].split_at_mut((of_file * SUM_BYTES) as usize);
        self.sums.read_sums(first_chunk, from_file)?;
        if let Some(sum) = self.last_sum.filter(|_| !last.is_empty()) {
            last.copy_from_slice(&sum.to_le_bytes());
        }
        Ok(())
    }
}

fn said(trouble: Trouble, block: BlockId, generation: Generation) -> ReplicaError {
    match trouble {
        Trouble::Disk(error) => ReplicaError::Disk(error),
        Trouble::Fault { path, fault } => ReplicaError::Corrupt { block, generation, path, fault },
    }
}
