//! A file being written.

use std::collections::VecDeque;
use std::io;

use gristmill_proto::chunks::CHUNK_BYTES;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::{Append, BlockEnd, Complete, Create, Entry, LocatedBlock, OpenFile, Sync};

use super::DfsClient;
use super::block_writer::{BlockWriter, OpenInode};
use super::connection::block_on;
use super::errors::DfsError;
use super::leases::OpenWriter;
use super::packing::{Buffers, Packer, Packet};

/// Bytes of the next block that may wait while the one before it is synced.
const WAITING_BYTES_MAX: u64 = 16 << 20;

/// How a file is created.
#[derive(Clone, Copy, Debug)]
pub struct CreateOptions {
    /// A file that is there is replaced; else it is refused.
    pub overwrite: bool,
    /// Directories above it are made.
    pub parents: bool,
    /// Replicas of each block; 0: as the cluster has it.
    pub replication: u32,
    /// Bytes of a block; 0: as the cluster has it.
    pub block_bytes: u64,
    /// Permissions.
    pub mode: u32,
}

impl Default for CreateOptions {
    fn default() -> CreateOptions {
        CreateOptions { overwrite: false, parents: false, replication: 0, block_bytes: 0, mode: 0o644 }
    }
}

/// A file open for writing, by this client alone. Hadoop: `DFSOutputStream`.
///
/// Bytes leave in packets of up to 1 MiB, through a pipeline of workers, and stay in memory until all of these have them: up
/// to 32 MiB. When workers fail the others go on, and nothing that was acknowledged is lost. After an error the writer
/// is of no more use.
///
/// Dropped without [`FileWriter::finish`], also after an error, it gives the file up: the master settles what the
/// workers have and closes the file, in the background.
pub struct FileWriter {
    writing: Writing,
}

impl FileWriter {
    /// Bytes of the file, with those that are not written out yet.
    pub fn file_bytes(&self) -> u64 {
        self.writing.bytes
    }

    /// The file as it was opened.
    pub fn entry(&self) -> &Entry {
        &self.writing.entry
    }

    /// As [`io::Write::write_all`], with the error as it is.
    pub fn write_whole(&mut self, bytes: &[u8]) -> Result<(), DfsError> {
        self.writing.write(bytes).map(|_| ())
    }

    /// Waits until all workers of the pipeline have all bytes, in memory. Hadoop: `hflush`.
    pub fn flush_visible(&mut self) -> Result<(), DfsError> {
        self.writing.flush_visible()
    }

    /// Waits until all workers have all bytes on disk, and readers see them. Hadoop: `hsync` with `UPDATE_LENGTH`.
    pub fn sync(&mut self) -> Result<(), DfsError> {
        self.writing.sync()
    }

    /// Ends the file: it is whole, on the disks of all workers, and closed. The answer is the file as it is then;
    /// its times and version are those of the creation if the master does not tell.
    pub fn finish(self) -> Result<Entry, DfsError> {
        self.writing.finish()
    }
}

struct Writing {
    file: OpenInode,
    entry: Entry,
    packer: Packer,
    buffers: Buffers,
    block: Option<BlockWriter>,
    /// Packets that wait until the block before theirs is durable.
    waiting: VecDeque<Packet>,
    waiting_bytes: u64,
    /// The block that was finished at last.
    previous: Option<BlockEnd>,
    /// The end of the last block that the master knows.
    synced: Option<BlockEnd>,
    bytes: u64,
    state: State,
    _open: OpenWriter,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Failed,
    Finished,
}

impl DfsClient {
    /// Creates a file and opens it for writing. It is in the namespace at once, and empty until the first
    /// [`FileWriter::sync`].
    pub fn create(&self, path: &str, options: CreateOptions) -> Result<FileWriter, DfsError> {
        let request = Request::Create(Create {
            path: path.to_owned(),
            overwrite: options.overwrite,
            parents: options.parents,
            replication: options.replication,
            block_bytes: options.block_bytes,
            mode: options.mode,
        });
        let (entry, _) = block_on(self.ask(request, opened))?;
        let packer = Packer::new(entry.block_bytes.max(1), 0, Vec::new());
        Ok(FileWriter { writing: Writing::new(self, path, entry, packer, None, None) })
    }

    /// Opens a closed file to write behind its end.
    ///
    /// The bytes of a partial last chunk are read first, verified, as the chunk is written again with its new end.
    pub fn append(&self, path: &str) -> Result<FileWriter, DfsError> {
        let before = Tail::read(self, path)?;
        let request = Request::Append(Append { path: path.to_owned() });
        let (entry, mut open) = block_on(self.ask(request, opened))?;
        let last = open.last.take();
        let generation = open.last_generation_before;
        let end = |last: &LocatedBlock| BlockEnd { block: last.block, generation, bytes: last.bytes };
        let same_end = last.as_ref().is_none_or(|last| before.end == Some(end(last)));
        if !same_end || entry.bytes != before.file_bytes {
            // Another writer was faster. It is gone again, or this one would have been refused.
            self.abort(path);
            return Err(DfsError::FileChanged { path: path.to_owned() });
        }
        let (start, tail, block) = match last {
            // All blocks are full.
            None => (0, Vec::new(), None),
            Some(last) => {
                let start = last.bytes - before.bytes.len() as u64;
                (start, before.bytes, Some(BlockWriter::append(last, generation)))
            }
        };
        let packer = Packer::new(entry.block_bytes.max(1), start, tail);
        let previous = if block.is_some() { None } else { before.end };
        Ok(FileWriter { writing: Writing::new(self, path, entry, packer, block, previous) })
    }

    /// Has the master end the writing of a file, in the background.
    fn abort(&self, path: &str) {
        let (client, path) = (self.clone(), path.to_owned());
        self.inner.handle.spawn(async move {
            if let Err(error) = client.recover_lease_async(&path).await {
                tracing::warn!(%error, "an unfinished file stays open until its lease runs out");
            }
        });
    }
}

/// The last chunk of a file, if it is a partial one, and the block that it is in.
struct Tail {
    bytes: Vec<u8>,
    end: Option<BlockEnd>,
    file_bytes: u64,
}

impl Tail {
    fn read(client: &DfsClient, path: &str) -> Result<Tail, DfsError> {
        let reader = client.open(path)?;
        let file_bytes = reader.file_bytes();
        let Some(last) = reader.last_block()? else {
            return Ok(Tail { bytes: Vec::new(), end: None, file_bytes });
        };
        let end = BlockEnd { block: last.block, generation: last.generation, bytes: last.bytes };
        let mut bytes = vec![0; (last.bytes % CHUNK_BYTES) as usize];
        reader.read_at(&mut bytes, file_bytes - last.bytes % CHUNK_BYTES)?;
        Ok(Tail { bytes, end: Some(end), file_bytes })
    }
}

/// An answer that opens a file: what the file is, and the rest.
fn opened(outcome: Outcome) -> Option<(Entry, OpenFile)> {
    let Outcome::OpenFile(mut open) = outcome else { return None };
    Some((open.entry.take()?, open))
}

impl Writing {
    fn new(
        client: &DfsClient,
        path: &str,
        entry: Entry,
        packer: Packer,
        block: Option<BlockWriter>,
        previous: Option<BlockEnd>,
    ) -> Writing {
        let file = OpenInode {
            client: client.clone(),
            path: path.to_owned(),
            inode: entry.inode,
            block_bytes: entry.block_bytes,
            exclude: Vec::new(),
            is_way_in_slow: false,
        };
        Writing {
            file,
            bytes: entry.bytes,
            entry,
            packer,
            buffers: Buffers::default(),
            block,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            previous,
            synced: previous,
            state: State::Open,
            _open: client.inner.open_writers.open(),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, DfsError> {
        self.guarded(|writing| {
            let mut left = bytes;
            while !left.is_empty() {
                let taken = writing.packer.fill(left);
                left = &left[taken..];
                writing.bytes += taken as u64;
                if writing.packer.is_full() {
                    writing.seal(false, false)?;
                }
            }
            Ok(bytes.len())
        })
    }

    fn flush_visible(&mut self) -> Result<(), DfsError> {
        self.guarded(|writing| {
            if writing.packer.has_news() {
                writing.seal(false, false)?;
            }
            writing.drain()
        })
    }

    fn sync(&mut self) -> Result<(), DfsError> {
        self.guarded(|writing| {
            // A packet that only repeats still has its bytes synced. A block that has ended is synced by that.
            if writing.packer.has_begun() {
                writing.seal(false, true)?;
            }
            writing.drain()?;
            let last = writing.block.as_ref().map(BlockWriter::end).or(writing.previous);
            if last != writing.synced {
                let request = Request::Sync(Sync { inode: writing.file.inode, last });
                block_on(writing.file.client.ask(request, |_| Some(())))?;
                writing.synced = last;
            }
            Ok(())
        })
    }

    fn finish(mut self) -> Result<Entry, DfsError> {
        self.guarded(|writing| {
            if writing.packer.has_begun() {
                writing.seal(true, false)?;
            }
            writing.drain()?;
            let request = Request::Complete(Complete { inode: writing.file.inode, last: writing.previous });
            let completed = block_on(writing.file.client.ask(request, |outcome| match outcome {
                Outcome::Entry(entry) => Some(Some(entry)),
                Outcome::Done(_) => Some(None),
                _ => None,
            }))?;
            writing.state = State::Finished;
            let known = || Entry {
                bytes: writing.bytes,
                under_construction: false,
                ..std::mem::take(&mut writing.entry)
            };
            Ok(completed.unwrap_or_else(known))
        })
    }

    /// Nothing goes on after an error: what was written since is not known to be there.
    fn guarded<T>(&mut self, act: impl FnOnce(&mut Writing) -> Result<T, DfsError>) -> Result<T, DfsError> {
        if self.state != State::Open {
            return Err(DfsError::WriterFailed { path: self.file.path.clone() });
        }
        let done = act(self);
        if done.is_err() {
            self.state = State::Failed;
        }
        done
    }

    fn seal(&mut self, last: bool, sync: bool) -> Result<(), DfsError> {
        let packet = self.packer.seal(last, sync, &mut self.buffers);
        self.waiting_bytes += packet.data.len() as u64;
        self.waiting.push_back(packet);
        self.advance(self.waiting_bytes > WAITING_BYTES_MAX)
    }

    /// Waits until everything is acknowledged.
    fn drain(&mut self) -> Result<(), DfsError> {
        self.advance(true)?;
        if let Some(block) = &mut self.block {
            block.wait_all(&mut self.file, &mut self.buffers)?;
        }
        self.advance(true)
    }

    /// Hands packets to their blocks. A block is asked for once the one before it is acknowledged to its end, which is
    /// when it is durable everywhere; `wait`: for that.
    fn advance(&mut self, wait: bool) -> Result<(), DfsError> {
        loop {
            if let Some(block) = self.block.as_mut().filter(|block| block.has_ended()) {
                if !block.is_acked(&mut self.file, &mut self.buffers)? {
                    if !wait {
                        return Ok(());
                    }
                    block.wait_all(&mut self.file, &mut self.buffers)?;
                }
                self.previous = Some(block.end());
                self.block = None;
            }
            let Some(packet) = self.waiting.pop_front() else { return Ok(()) };
            self.waiting_bytes -= packet.data.len() as u64;
            let block = match &mut self.block {
                Some(block) => block,
                none => none.insert(BlockWriter::add(&mut self.file, self.previous)?),
            };
            block.push(&mut self.file, packet, &mut self.buffers)?;
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // First the connections: the workers must not wait for more.
        self.block = None;
        if self.state != State::Finished {
            self.file.client.abort(&self.file.path);
        }
    }
}

impl io::Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.writing.write(bytes)?)
    }

    /// As [`FileWriter::flush_visible`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(self.writing.flush_visible()?)
    }
}
