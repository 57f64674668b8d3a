//! The bytes of an object, chunk by chunk, from as many files as it has.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::failure::StoreError;
use super::files::{Files, PinGuard};
use super::records::DataFile;

/// What is read at a time. A connection holds two of them: one being sent, one being read.
const READ_CHUNK_BYTES: u64 = 256 * 1024;

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

    /// What is ready.
    pub(crate) fn take_ready(&mut self) -> Option<Bytes> {
        self.ready.take()
    }

    /// The next bytes; none at the end of the range.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        if let Some(ready) = self.ready.take() {
            return Ok(Some(ready));
        }
        let Some(piece) = self.pieces.front_mut() else { return Ok(None) };
        let path = self.files.path(piece.number);
        let file_error = |source: io::Error| StoreError::File { path: path.clone(), source };
        let file = match self.open.take() {
            Some(file) => file,
            None => File::open(&path).map_err(file_error)?,
        };
        let count = piece.bytes.min(READ_CHUNK_BYTES);
        let mut chunk = vec![0; usize::try_from(count).expect("a chunk fits")];
        // A file that is too short is an error, never a short answer.
        file.read_exact_at(&mut chunk, piece.offset).map_err(file_error)?;
        piece.offset += count;
        piece.bytes -= count;
        if piece.bytes == 0 {
            self.pieces.pop_front();
        } else {
            self.open = Some(file);
        }
        Ok(Some(Bytes::from(chunk)))
    }
}
