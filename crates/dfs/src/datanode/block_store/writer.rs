//! What writes one replica.

use std::sync::Arc;

use gristmill_proto::attendance::ReplicaInfo;
use gristmill_proto::chunks::{CHUNK_BYTES, verify};
use gristmill_proto::ids::{BlockId, Generation};

use super::Inner;
use super::error::ReplicaError;
use super::names::State;
use super::unfinished::Unfinished;
use super::volume::Promise;

/// The one writer of a replica. Once the replica was rebuilt, stopped, settled or deleted, everything fails with
/// [`ReplicaError::Fenced`]. Dropped unfinished, the replica stays as it is; a copy is removed.
pub struct ReplicaWriter {
    inner: Arc<Inner>,
    replica: Arc<Unfinished>,
    promise: Promise,
    bytes: u64,
}

impl ReplicaWriter {
    /// `room_bytes` more are kept for it.
    pub(super) fn new(inner: Arc<Inner>, replica: Arc<Unfinished>, room_bytes: u64) -> ReplicaWriter {
        let bytes = replica.visible().bytes;
        let promise = Promise::new(replica.volume.clone(), room_bytes);
        ReplicaWriter { inner, replica, promise, bytes }
    }

    /// The block.
    pub fn block(&self) -> BlockId {
        self.replica.block
    }

    /// What it writes under.
    pub fn generation(&self) -> Generation {
        self.replica.name.generation
    }

    /// Bytes of the replica so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds `data`, which starts at `offset` of the block and has a sum in `sums` for each of its chunks. Readers see it
    /// when this returns.
    ///
    /// `offset` is where the replica ends, or the start of its last chunk if that is not full; then `data` repeats what
    /// is there. The sums are checked first, and nothing is written if they or the offset are wrong. A write that
    /// failed may be tried again.
    pub fn write(&mut self, offset: u64, data: &[u8], sums: &[u8]) -> Result<(), ReplicaError> {
        let written = self.try_write(offset, data, sums);
        self.deliver_failure(written)
    }

    /// Makes all that was written durable. If that fails the writer has lost the replica.
    pub fn sync(&mut self) -> Result<(), ReplicaError> {
        let synced = self.replica.writing().and_then(|mut files| {
            files.sync(&self.replica.volume).map_err(|error| self.inner.unsynced(&self.replica, error))
        });
        self.deliver_failure(synced)
    }

    /// Makes the replica whole and durable, and announces it.
    pub fn finish(self) -> Result<ReplicaInfo, ReplicaError> {
        let info = self.inner.finish(&self.replica);
        self.inner.announcer.deliver();
        info
    }

    fn try_write(&mut self, offset: u64, data: &[u8], sums: &[u8]) -> Result<(), ReplicaError> {
        let block = self.block();
        verify(data, sums).map_err(|bad| {
            let chunk = offset / CHUNK_BYTES + bad.index;
            ReplicaError::Mismatch { block, offset, chunk }
        })?;
        let mut files = self.replica.writing()?;
        let has = files.bytes();
        if !files.continues(offset, data.len() as u64) {
            return Err(ReplicaError::Misplaced { block, offset, bytes: data.len() as u64, has });
        }
        let repeated = (has - offset) as usize;
        if repeated > 0 && crc32c::crc32c(&data[..repeated]) != files.mark.last_sum {
            return Err(ReplicaError::Rewritten { block, offset });
        }
        if repeated == data.len() {
            return Ok(());
        }
        files.extend(data, sums).map_err(|error| self.inner.disk_error(&self.replica.volume, error))?;
        self.replica.show(files.mark);
        self.bytes = files.bytes();
        self.replica.volume.count_used(has, self.bytes);
        self.promise.spend(self.bytes - has);
        Ok(())
    }

    /// A failure may have been that of a volume, with all its replicas.
    fn deliver_failure(&self, result: Result<(), ReplicaError>) -> Result<(), ReplicaError> {
        result.inspect_err(|_| self.inner.announcer.deliver())
    }
}

impl Drop for ReplicaWriter {
    fn drop(&mut self) {
        let was_live = self.replica.disown();
        if was_live
            && self.replica.name.state == State::Copied
            && let Err(error) = self.inner.discard(&self.replica)
        {
            tracing::warn!("half a copy of {} is left: {error}", self.block());
        }
    }
}
