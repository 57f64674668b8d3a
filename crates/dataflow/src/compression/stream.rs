//! Decompression beside the map work: a thread of its own, a few buffers ahead.

use super::compressed_file::{Shared, StoreError};
use super::decoder::{Decoder, Piece, Truncated};
use super::{Compression, RATIO_FREE_BYTES, RATIO_MAX};
use crate::memory::TaskMemory;
use crate::read::ReadError;
use crate::split::FileRange;
use gristmill_dfs::{ReadAt, Uri};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Buffers that wait to be read: enough that neither side waits for a buffer when both are equally fast.
const CHUNKS_MAX: usize = 3;

/// The decompressed bytes of a piece of a file, and of what follows it.
pub(crate) struct Decompression {
    uri: Uri,
    compression: Compression,
    chunk: Vec<u8>,
    at: usize,
    /// Bytes received.
    received: u64,
    /// Bytes of what begins in the piece, once all of them are received.
    own_bytes: Option<u64>,
    ended: bool,
    chunks: Option<Receiver<Message>>,
    idle: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
    taken: Arc<AtomicU64>,
    start: u64,
}

enum Message {
    Chunk(Vec<u8>),
    /// What follows began behind the piece.
    OwnEnds,
    End,
    Failed(Failure),
}

/// Why decompression ended early.
struct Failure {
    /// Compressed bytes that were read.
    offset: u64,
    /// Bytes that were decompressed before.
    decompressed: u64,
    source: io::Error,
    bomb: bool,
}

impl Decompression {
    /// Begins to decompress what begins within `range` of `file`.
    pub(crate) fn start(
        compression: Compression,
        file: Box<dyn ReadAt>,
        range: &FileRange,
        memory: TaskMemory,
    ) -> Result<Self, ReadError> {
        let taken = Arc::new(AtomicU64::new(range.start));
        let read_bytes = memory.read_bytes() / (CHUNKS_MAX + 1);
        let piece = Piece {
            file: Arc::new(Shared(Mutex::new(file))),
            start: range.start,
            end: range.end,
            file_bytes: range.file_bytes,
            read_bytes,
            taken: taken.clone(),
        };
        let (sender, chunks) = mpsc::sync_channel(CHUNKS_MAX);
        let (idle, used) = mpsc::sync_channel(CHUNKS_MAX);
        let work = Work { compression, chunk_bytes: read_bytes, sender, used, taken: taken.clone() };
        let spawned = thread::Builder::new().name("decompress".to_owned()).spawn(move || work.run(piece));
        let thread = spawned.map_err(|source| {
            let uri = range.uri.clone();
            ReadError::Io { uri, offset: range.start, source }
        })?;
        Ok(Self {
            uri: range.uri.clone(),
            compression,
            chunk: Vec::new(),
            at: 0,
            received: 0,
            own_bytes: None,
            ended: false,
            chunks: Some(chunks),
            idle: Some(idle),
            thread: Some(thread),
            taken,
            start: range.start,
        })
    }

    /// How many of the decompressed bytes begin in the piece, if they have all been read.
    pub(crate) fn own_bytes(&self) -> Option<u64> {
        self.own_bytes
    }

    /// Where in the file decompression began.
    pub(crate) fn start_offset(&self) -> u64 {
        self.start
    }

    /// Compressed bytes that were read, about.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken.load(Ordering::Relaxed).saturating_sub(self.start)
    }

    /// Copies some bytes; zero at the end of the file.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        while self.at == self.chunk.len() {
            if self.ended {
                return Ok(0);
            }
            self.next_chunk()?;
        }
        let bytes = buffer.len().min(self.chunk.len() - self.at);
        buffer[..bytes].copy_from_slice(&self.chunk[self.at..self.at + bytes]);
        self.at += bytes;
        Ok(bytes)
    }

    fn next_chunk(&mut self) -> Result<(), ReadError> {
        let message = self.chunks.as_ref().and_then(|chunks| chunks.recv().ok());
        match message {
            Some(Message::Chunk(chunk)) => {
                self.received += chunk.len() as u64;
                let used = std::mem::replace(&mut self.chunk, chunk);
                self.at = 0;
                if let Some(idle) = &self.idle {
                    // The thread may have ended, or have buffers enough: then this one is freed.
                    drop(idle.try_send(used));
                }
            }
            Some(Message::OwnEnds) => self.own_bytes = Some(self.received),
            Some(Message::End) => self.ended = true,
            Some(Message::Failed(failure)) => return Err(self.failed(failure)),
            None => {
                let source = io::Error::other("its decoder panicked");
                let (offset, decompressed) = (self.taken.load(Ordering::Relaxed), self.received);
                return Err(self.failed(Failure { offset, decompressed, source, bomb: false }));
            }
        }
        Ok(())
    }

    fn failed(&self, failure: Failure) -> ReadError {
        let Failure { offset, decompressed, source, bomb } = failure;
        let (uri, compression, from) = (self.uri.clone(), self.compression, self.start);
        if bomb {
            return ReadError::Bomb { uri, compression, offset, decompressed, ratio_max: RATIO_MAX };
        }
        let inner = source.get_ref();
        if inner.is_some_and(|inner| inner.is::<StoreError>()) {
            let inner = source.into_inner().and_then(|inner| inner.downcast::<StoreError>().ok());
            let Some(store) = inner else { unreachable!("it was one a moment ago") };
            return ReadError::Io { uri, offset: store.offset, source: store.source };
        }
        if source.kind() == io::ErrorKind::UnexpectedEof || inner.is_some_and(|inner| inner.is::<Truncated>())
        {
            return ReadError::Truncated { uri, compression, offset, from, decompressed };
        }
        ReadError::Corrupt { uri, compression, offset, from, decompressed, source }
    }
}

impl Drop for Decompression {
    fn drop(&mut self) {
        // The thread notices when it sends its next chunk.
        self.chunks = None;
        self.idle = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, its reader has been told, or had no need of more.
            drop(thread.join());
        }
    }
}

/// What the thread does.
struct Work {
    compression: Compression,
    chunk_bytes: usize,
    sender: SyncSender<Message>,
    used: Receiver<Vec<u8>>,
    taken: Arc<AtomicU64>,
}

/// Nobody reads any more.
struct Unwanted;

impl Work {
    fn run(&self, piece: Piece) {
        // If nobody wants to hear how it ended, it has ended all the same.
        drop(self.decompress(piece));
    }

    fn decompress(&self, piece: Piece) -> Result<(), Unwanted> {
        let (start, mut total) = (piece.start, 0);
        let mut decoder = match Decoder::new(self.compression, piece) {
            Ok(decoder) => decoder,
            Err(source) => return self.fail(source, 0, false),
        };
        self.copy(&mut decoder, start, &mut total)?;
        match decoder.go_beyond() {
            Ok(false) => {}
            Ok(true) => {
                self.send(Message::OwnEnds)?;
                self.copy(&mut decoder, start, &mut total)?;
            }
            Err(source) => return self.fail(source, total, false),
        }
        self.send(Message::End)
    }

    /// Sends chunks up to the next end.
    fn copy(&self, decoder: &mut Decoder, start: u64, total: &mut u64) -> Result<(), Unwanted> {
        loop {
            let mut chunk = self.used.try_recv().unwrap_or_default();
            // Of a chunk that comes back nothing is cleared: it has its length, or was the last.
            chunk.resize(self.chunk_bytes, 0);
            let (filled, failure) = fill(decoder, &mut chunk);
            chunk.truncate(filled);
            *total += filled as u64;
            let ended = filled < self.chunk_bytes;
            if !chunk.is_empty() {
                self.send(Message::Chunk(chunk))?;
            }
            if let Some(source) = failure {
                return self.fail(source, *total, false);
            }
            let taken = self.taken.load(Ordering::Relaxed).saturating_sub(start);
            if *total > RATIO_FREE_BYTES && *total / RATIO_MAX > taken {
                return self.fail(io::ErrorKind::FileTooLarge.into(), *total, true);
            }
            if ended {
                return Ok(());
            }
        }
    }

    fn fail(&self, source: io::Error, decompressed: u64, bomb: bool) -> Result<(), Unwanted> {
        let offset = self.taken.load(Ordering::Relaxed);
        self.send(Message::Failed(Failure { offset, decompressed, source, bomb }))?;
        Err(Unwanted)
    }

    fn send(&self, message: Message) -> Result<(), Unwanted> {
        self.sender.send(message).map_err(|_| Unwanted)
    }
}

/// Reads until the buffer is full, or the end, or a failure: how many bytes there are, whatever it was.
fn fill(decoder: &mut Decoder, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match decoder.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(error)),
        }
    }
    (filled, None)
}
