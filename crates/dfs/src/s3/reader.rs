//! Reads an object in ranges, and ahead of whoever goes on where he was.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use tokio::task::JoinHandle;

use super::client::{S3Client, runtime, wait};
use super::failure::S3Error;
use crate::stamp::Stamp;
use crate::store::{OPENING_BYTES_MAX, ReadAt};

/// Of the first range, which is asked for with the length: a small object is one request.
const FIRST_BYTES: u64 = OPENING_BYTES_MAX;
/// Ranges grow to this as long as they follow each other: at 10 ms a request, 400 MB/s with those ahead.
const RANGE_BYTES_MAX: u64 = 4 << 20;
/// Ranges under way beside the one that is read: one reader has at most four in memory.
const RANGES_AHEAD: usize = 3;
/// Ranges that follow each other before any is fetched ahead: who jumps about pays for nothing that he does not read.
const FOLLOWING_MIN: u32 = 2;

/// Of an object with this ETag, if it has one.
pub(super) fn tag_stamp(tag: Option<&str>) -> Stamp {
    tag.map_or(Stamp::UNKNOWN, Stamp::of_tag)
}

/// An object open for reading. That it changes meanwhile is an error, not a mixture.
pub(super) struct S3Reader {
    client: Arc<S3Client>,
    path: Path,
    bytes: u64,
    tag: Option<String>,
    window: Mutex<Window>,
}

/// What is in memory, and what will be.
#[derive(Default)]
struct Window {
    start: u64,
    held: Bytes,
    ahead: VecDeque<Ahead>,
    range_bytes: u64,
    /// Ranges so far, each of which began where the one before it ended.
    following: u32,
}

struct Ahead {
    range: Range<u64>,
    request: JoinHandle<Result<Bytes, Error>>,
}

impl S3Reader {
    /// Asks for the length and the beginning at once.
    pub(super) async fn open(client: Arc<S3Client>, path: Path) -> Result<S3Reader, S3Error> {
        let range = Some(GetRange::Bounded(0..FIRST_BYTES));
        let begun = client.s3.get_opts(&path, GetOptions { range, ..GetOptions::default() }).await;
        let (meta, held) = match begun {
            Ok(found) => (found.meta.clone(), found.bytes().await?),
            Err(error @ Error::Generic { .. }) => match client.s3.head(&path).await {
                // There is no first byte to ask for.
                Ok(meta) if meta.size == 0 => (meta, Bytes::new()),
                _ => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        let window = Mutex::new(Window { held, range_bytes: FIRST_BYTES, ..Window::default() });
        Ok(S3Reader { client, path, bytes: meta.size, tag: meta.e_tag, window })
    }

    fn request(&self, range: Range<u64>) -> Ahead {
        let (s3, path) = (self.client.s3.clone(), self.path.clone());
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: self.tag.clone(),
            ..GetOptions::default()
        };
        let request = runtime().spawn(async move { s3.get_opts(&path, options).await?.bytes().await });
        Ahead { range, request }
    }

    /// Brings the range that begins at or before `offset` and ends behind it, and asks for those that will follow.
    fn advance(&self, window: &mut Window, offset: u64, wanted: usize) -> io::Result<()> {
        while window.ahead.front().is_some_and(|ahead| ahead.range.end <= offset) {
            drop(window.ahead.pop_front());
        }
        let follows = offset == window.start + window.held.len() as u64;
        let mut next = match window.ahead.pop_front() {
            Some(ahead) if ahead.range.contains(&offset) => ahead,
            _ => {
                window.ahead.clear();
                window.following = if follows { window.following + 1 } else { 0 };
                let wanted = (wanted as u64).clamp(FIRST_BYTES, RANGE_BYTES_MAX);
                let grown = if follows { window.range_bytes * 2 } else { 0 };
                window.range_bytes = grown.clamp(wanted, RANGE_BYTES_MAX);
                self.request(offset..self.bytes.min(offset + window.range_bytes))
            }
        };
        let mut end = window.ahead.back().map_or(next.range.end, |last| last.range.end);
        while window.following >= FOLLOWING_MIN && window.ahead.len() < RANGES_AHEAD && end < self.bytes {
            window.range_bytes = (window.range_bytes * 2).min(RANGE_BYTES_MAX);
            let range = end..self.bytes.min(end + window.range_bytes);
            end = range.end;
            window.ahead.push_back(self.request(range));
        }
        let start = next.range.start;
        let bytes = next.range.end - start;
        let held = wait(&mut next.request).map_err(io::Error::other)?.map_err(|error| self.failure(error))?;
        if held.len() as u64 != bytes {
            let short = format!("{} of {bytes} bytes came from offset {start} of {}", held.len(), self.path);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, short));
        }
        (window.start, window.held) = (start, held);
        Ok(())
    }

    fn failure(&self, error: Error) -> io::Error {
        match error {
            Error::Precondition { .. } | Error::NotFound { .. } => {
                let uri = self.client.uri(self.path.as_ref());
                io::Error::new(io::ErrorKind::InvalidData, format!("{uri} has changed since it was opened"))
            }
            error => S3Error::from(error).into(),
        }
    }
}

impl ReadAt for S3Reader {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn stamp(&self) -> Stamp {
        tag_stamp(self.tag.as_deref())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.bytes || buffer.is_empty() {
            return Ok(0);
        }
        // A request that failed leaves what was there.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if !(window.start..window.start + window.held.len() as u64).contains(&offset) {
            self.advance(&mut window, offset, buffer.len())?;
        }
        let from = (offset - window.start) as usize;
        let count = buffer.len().min(window.held.len() - from);
        buffer[..count].copy_from_slice(&window.held[from..from + count]);
        Ok(count)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.request.abort();
    }
}
