//! The bytes of an object, chunk by chunk, from as many files as it has.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::{ReadWriteFlags, preadv2};

use super::failure::StoreError;
use super::files::{Files, PinGuard};
use super::records::DataFile;

/// What is read at a time. A connection holds two of them: one being sent, one being read.
const READ_CHUNK_BYTES: u64 = 256 * 1024;
/// What is copied on a thread of the network if memory has it: more would keep the other connections waiting.
const CACHED_BYTES_MAX: u64 = 64 * 1024;

/// Reads a range of an object, which stays on disk as long.
pub(crate) struct DataReader {
    files: Arc<Files>,
    pieces: VecDeque<Piece>,
    open: Option<File>,
    /// What was read and not asked for yet.
    ready: Option<Bytes>,
    _pin: PinGuard,
}

/// What is still to be read of a file.
#[derive(Clone, Copy)]
struct Piece {
    number: u64,
    offset: u64,
    bytes: u64,
}

impl DataReader {
    pub(crate) fn new(files: Arc<Files>, data: &[DataFile], range: &Range<u64>, pin: PinGuard) -> DataReader {
        let mut pieces = VecDeque::new();
        let mut start = 0;
        for file in data {
            let end = start + file.bytes;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                pieces.push_back(Piece { number: file.number, offset: from - start, bytes: to - from });
            }
            start = end;
        }
        DataReader { files, pieces, open: None, ready: None, _pin: pin }
    }

    /// Reads the first bytes, to be taken without waiting.
    pub(crate) fn make_ready(&mut self) -> Result<(), StoreError> {
        self.ready = self.next_chunk()?;
        Ok(())
    }

    /// The same without waiting for the disk. False: they are many, or not in memory, or cannot be read; `make_ready` says why.
    pub(crate) fn make_ready_from_memory(&mut self) -> Result<bool, StoreError> {
        let Some(Piece { number, offset, bytes }) = self.pieces.front().copied() else { return Ok(true) };
        if bytes > CACHED_BYTES_MAX {
            return Ok(false);
        }
        let file = self.file(number)?;
        let mut chunk = vec![0; usize::try_from(bytes).expect("a chunk fits")];
        let read = preadv2(&file, &mut [IoSliceMut::new(&mut chunk)], offset, ReadWriteFlags::NOWAIT);
        let whole = read == Ok(chunk.len());
        if whole {
            self.pieces.pop_front();
            self.ready = Some(Bytes::from(chunk));
        } else {
            self.open = Some(file);
        }
        Ok(whole)
    }

    /// What is ready.
    pub(crate) fn take_ready(&mut self) -> Option<Bytes> {
        self.ready.take()
    }

    /// The next bytes; none at the end of the range.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        if let Some(ready) = self.ready.take() {
            return Ok(Some(ready));
        }
        let Some(Piece { number, offset, bytes }) = self.pieces.front().copied() else { return Ok(None) };
        let file = self.file(number)?;
        let count = bytes.min(READ_CHUNK_BYTES);
        let mut chunk = vec![0; usize::try_from(count).expect("a chunk fits")];
        // A file that is too short is an error, never a short answer.
        file.read_exact_at(&mut chunk, offset).map_err(self.failure(number))?;
        if count == bytes {
            self.pieces.pop_front();
        } else {
            self.pieces[0] = Piece { number, offset: offset + count, bytes: bytes - count };
            self.open = Some(file);
        }
        Ok(Some(Bytes::from(chunk)))
    }

    /// The file of the first piece.
    fn file(&mut self, number: u64) -> Result<File, StoreError> {
        match self.open.take() {
            Some(file) => Ok(file),
            None => File::open(self.files.path(number)).map_err(self.failure(number)),
        }
    }

    fn failure(&self, number: u64) -> impl FnOnce(io::Error) -> StoreError + '_ {
        move |source| StoreError::File { path: self.files.path(number), source }
    }
}
