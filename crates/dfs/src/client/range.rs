//! A range of one block of a file, read from whichever replica can give it, and from another one when that fails.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gristmill_proto::ids::{BlockId, WorkerId};
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::{LocatedBlock, Replica, ReportBad};

use super::connection::block_on;
use super::errors::{DfsError, ReplicaFailure, TransferError};
use super::local_replica::LocalRead;
use super::locations::Locations;
use super::pace::ReadPace;
use super::remote_replica::RemoteReplica;
use super::verified::Verified;

/// How often the master is asked again where a block is, after all replicas failed.
const REFRESHES_MAX: u32 = 3;
/// Before the first of these questions; three times as long before each other one.
const REFRESH_BACK_OFF: Duration = Duration::from_millis(100);

/// What the ranges of one open file share.
pub(crate) struct Source {
    pub(crate) locations: Locations,
    /// Workers that could not be spoken with, or were slow: they are tried last.
    shunned: Mutex<HashSet<u64>>,
}

/// A part of one block of a file, and how far it is read.
pub(crate) struct Range {
    block: Arc<LocatedBlock>,
    /// In the file.
    position: u64,
    end: u64,
    stream: Option<Stream>,
    /// Replicas that failed since the master was asked.
    failed: HashSet<u64>,
    causes: Vec<ReplicaFailure>,
    refreshes: u32,
    /// The present worker has given bytes: a broken connection to it is worth another one.
    given: bool,
    /// The files of this machine's replica cannot be used.
    local_failed: bool,
}

struct Stream {
    replica: Replica,
    bytes: Bytes,
    pace: ReadPace,
}

enum Bytes {
    Remote(Verified<RemoteReplica>),
    Local(Verified<LocalRead>),
}

impl Source {
    pub(crate) fn new(locations: Locations) -> Source {
        Source { locations, shunned: Mutex::default() }
    }

    fn shunned(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.shunned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the master of a replica whose bytes are not those that were written. It looks for itself.
    fn report_bad(&self, block: &LocatedBlock, worker: u64) {
        let client = &self.locations.client;
        let bad = ReportBad { block: block.block, generation: block.generation, worker };
        let call = client.call_async(Request::ReportBad(bad));
        client.inner.handle.spawn(async move {
            if let Err(error) = call.await {
                tracing::warn!(%error, "a damaged replica could not be reported");
            }
        });
    }
}

impl Range {
    /// From `position` to `end` or to the end of the block that holds `position`, which is before both.
    pub(crate) fn new(source: &Source, position: u64, end: u64) -> Result<Range, DfsError> {
        let block = source.locations.block_at(position)?;
        let end = end.min(block.offset + block.bytes);
        Ok(Range {
            block,
            position,
            end,
            stream: None,
            failed: HashSet::new(),
            causes: Vec::new(),
            refreshes: 0,
            given: false,
            local_failed: false,
        })
    }

    /// Where the next byte is in the file.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Reads some verified bytes; 0: the range is over, or `into` is empty.
    pub(crate) fn read(&mut self, source: &Source, into: &mut [u8]) -> Result<usize, DfsError> {
        if self.position == self.end || into.is_empty() {
            return Ok(0);
        }
        loop {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => self.open(source)?,
            };
            let asked = Instant::now();
            let read = match &mut stream.bytes {
                Bytes::Remote(bytes) => bytes.read(into),
                Bytes::Local(bytes) => bytes.read(into),
            };
            match read {
                Ok(bytes) => {
                    self.position += bytes as u64;
                    self.given = true;
                    self.refreshes = 0;
                    let is_slow = stream.pace.is_slow(bytes as u64, asked.elapsed());
                    if self.position < self.end && is_slow && self.has_better(source, &stream.replica) {
                        self.leave(source, &stream.replica);
                    } else if self.position < self.end {
                        self.stream = Some(stream);
                    } else if let Bytes::Remote(bytes) = stream.bytes {
                        source.locations.client.inner.idle.give_back(bytes.source);
                    }
                    return Ok(bytes);
                }
                Err(cause) => self.failed(source, &stream, cause),
            }
        }
    }

    /// Whether there is a replica of which nothing bad is known.
    fn has_better(&self, source: &Source, than: &Replica) -> bool {
        let shunned = source.shunned();
        let is_bad = |worker: &u64| self.failed.contains(worker) || shunned.contains(worker);
        self.block.replicas.iter().any(|other| other.worker != than.worker && !is_bad(&other.worker))
    }

    /// Reading goes on elsewhere: this replica is good, but slow.
    fn leave(&self, source: &Source, replica: &Replica) {
        let (path, worker) = (&source.locations.path, replica.worker);
        tracing::warn!(%path, block = self.block.block, worker, "a replica is slow: another one is read");
        source.shunned().insert(worker);
    }

    fn failed(&mut self, source: &Source, stream: &Stream, cause: TransferError) {
        let replica = &stream.replica;
        if matches!(stream.bytes, Bytes::Local(_)) {
            // The worker itself may still give these bytes, and if not it is asked why.
            tracing::warn!(path = %source.locations.path, block = self.block.block, %cause, "a local read failed");
            source.locations.client.inner.local.forget(self.block.block);
            self.local_failed = true;
            return;
        }
        let given = std::mem::take(&mut self.given);
        if given && cause.is_transient() {
            tracing::debug!(worker = replica.worker, %cause, "reading goes on with another connection");
            return;
        }
        self.note(source, replica, cause);
    }

    /// One replica less.
    fn note(&mut self, source: &Source, replica: &Replica, cause: TransferError) {
        let worker = replica.worker;
        tracing::warn!(path = %source.locations.path, block = self.block.block, worker, %cause, "a replica failed");
        if matches!(cause, TransferError::Corrupt { .. }) {
            source.report_bad(&self.block, worker);
        }
        if cause.is_transient() {
            source.shunned().insert(worker);
        }
        self.failed.insert(worker);
        let address = replica.address.clone();
        self.causes.push(ReplicaFailure { worker: WorkerId(worker), address, cause });
    }

    /// A stream from the first replica that can give one.
    fn open(&mut self, source: &Source) -> Result<Stream, DfsError> {
        loop {
            let Some(replica) = self.choose(source) else {
                self.refresh(source)?;
                continue;
            };
            match self.open_at(source, &replica) {
                Ok(bytes) => return Ok(Stream { replica, bytes, pace: ReadPace::default() }),
                Err(cause) => self.note(source, &replica, cause),
            }
        }
    }

    fn choose(&self, source: &Source) -> Option<Replica> {
        let shunned = source.shunned();
        let left = || self.block.replicas.iter().filter(|replica| !self.failed.contains(&replica.worker));
        left().find(|replica| !shunned.contains(&replica.worker)).or_else(|| left().next()).cloned()
    }

    fn open_at(&mut self, source: &Source, replica: &Replica) -> Result<Bytes, TransferError> {
        let client = &source.locations.client.inner;
        let (offset, bytes) = (self.position - self.block.offset, self.end - self.position);
        let timeout = client.options.read_timeout;
        let near = replica.host == client.options.host && !replica.socket.is_empty();
        let route = client.route();
        if near && route.is_straight() && client.options.short_circuit && !self.local_failed {
            match client.local.open(&self.block, &replica.socket, offset, bytes, timeout) {
                Ok(read) => return Ok(Bytes::Local(Verified::new(read, offset, bytes))),
                Err(cause) => {
                    tracing::debug!(block = self.block.block, %cause, "not read from its files");
                    self.local_failed = true;
                }
            }
        }
        let read = RemoteReplica::open(&client.idle, &route, &self.block, replica, offset, bytes, timeout)?;
        Ok(Bytes::Remote(Verified::new(read, offset, bytes)))
    }

    /// Asks the master again where the block is. All replicas get another chance.
    fn refresh(&mut self, source: &Source) -> Result<(), DfsError> {
        if self.refreshes == REFRESHES_MAX {
            return Err(DfsError::ReadFailed {
                path: source.locations.path.clone(),
                offset: self.position,
                block: BlockId(self.block.block),
                causes: std::mem::take(&mut self.causes),
            });
        }
        block_on(source.locations.client.pause(REFRESH_BACK_OFF * 3_u32.pow(self.refreshes)));
        self.refreshes += 1;
        self.block = source.locations.refresh(self.position)?;
        self.end = self.end.min(self.block.offset + self.block.bytes);
        self.failed.clear();
        Ok(())
    }
}
