//! The replicas on the disks of a worker.
//!
//! ```text
//!   create ─> ReplicaWriter ── write, sync ── finish ─> finished ── read ─> ReplicaReader
//!                  ▲  │                                  │  │  ▲
//!       rebuild,   │  └─ dropped ─> unfinished <─ append ┘  │  │ settle
//!       append     └─────────────────── │ └─────────────────┼──┘
//!                        stop_writer <──┘                   └─> delete
//! ```
//!
//! A replica is two files in a directory of its volume: its bytes, and their checksums. The name of the checksum file
//! tells generation, length and whether the replica is finished; giving it a name is the one moment at which anything
//! about a replica changes (`succession`). So a crash leaves a replica as it was or as it was to become, and opening
//! a store only lists names. Only what was not finished is read.
//!
//! Modules, in reading order: `names` and `sum_file` (what is on disk), `version` and `volume` (a directory of it),
//! `index` (what is in memory), `unfinished`, `writer`, `reader`, `succession`, `changes` and `reading` (the
//! operations), `recovery` (what a crash left), `placement`, `gates`, `announcer`.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill_proto::attendance::{self, ReplicaInfo};
use gristmill_proto::ids::{BlockId, ClusterId, Generation, WorkerId};

mod announcer;
mod broken_disk;
mod changes;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod gates;
mod index;
mod names;
mod opening;
mod placement;
mod reader;
mod reading;
mod recovery;
mod succession;
mod sum_file;
mod unfinished;
mod version;
mod volume;
mod writer;

pub use announcer::{Change, Listener};
pub use error::{AdoptError, DiskError, Fault, ReplicaError, StoreOpenError};
pub use reader::ReplicaReader;
pub use recovery::Recovery;
pub use sum_file::SUMS_START;
pub use writer::ReplicaWriter;

use announcer::Announcer;
use gates::Gates;
use index::{Entry, Index};
use volume::Volume;

/// The replicas of a worker, on one or more volumes. Clones are the same store. All of it may be used by many threads
/// at once; calls wait for the disk.
#[derive(Clone)]
pub struct BlockStore {
    inner: Arc<Inner>,
}

/// What a store is told about its volumes.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Bytes of each volume that stay free (Hadoop: `dfs.datanode.du.reserved`).
    pub reserve_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { reserve_bytes: 1 << 30 }
    }
}

/// Whose replicas these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The worker of that cluster.
    pub worker: WorkerId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of cluster {}", self.worker, self.cluster)
    }
}

/// Why a replica is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteStage {
    /// A client writes a new block.
    Create,
    /// A finished replica is copied from another worker.
    Copy,
}

/// What a stopped writer left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// What the replica was written under.
    pub generation_before: Generation,
    /// Its bytes, all good and durable.
    pub bytes: u64,
}

/// The store behind all its handles. Locks are taken in this order: the gate of a block, the files of an unfinished
/// replica, the index. No disk is waited for with the index.
struct Inner {
    volumes: Vec<Arc<Volume>>,
    identity: Mutex<Option<Identity>>,
    index: Mutex<Index>,
    gates: Gates,
    announcer: Announcer,
    /// Replicas placed so far.
    turn: AtomicU64,
    recovery: Recovery,
}

impl BlockStore {
    /// Begins a replica. Refused if one of this or a newer generation is here, finished or not, except that a copy may
    /// take the place of what nobody writes any more, or of a bad one, and that older ones that are not finished give
    /// way (finished ones only to copies).
    ///
    /// `block_bytes` is the most that it will have: as many must be left on a volume, and are kept for its writer.
    pub fn create(
        &self,
        block: BlockId,
        generation: Generation,
        stage: WriteStage,
        block_bytes: u64,
    ) -> Result<ReplicaWriter, ReplicaError> {
        self.announced(self.inner.create(block, generation, stage, block_bytes))
    }

    /// Continues a replica under a new generation, from `offset` on; what is after that is cut off. The writer it has is
    /// fenced, and one that is finished is opened again, be it that its writer's pipeline is rebuilt or that somebody
    /// appends. The replica must have a generation from `before` to `generation`, and at least `offset` bytes.
    ///
    /// What it has less than `block_bytes` is kept for its writer, as far as the volume has it.
    pub fn reopen(
        &self,
        block: BlockId,
        before: Generation,
        generation: Generation,
        offset: u64,
        block_bytes: u64,
    ) -> Result<ReplicaWriter, ReplicaError> {
        self.announced(self.inner.reopen(block, before, generation, offset, block_bytes))
    }

    /// Fences all writers below `generation`, now and ever after, and says what the replica has. None: there is none.
    /// Asked again, it answers the same.
    pub fn stop_writer(
        &self,
        block: BlockId,
        generation: Generation,
    ) -> Result<Option<Stopped>, ReplicaError> {
        self.announced(self.inner.stop_writer(block, generation))
    }

    /// Ends a replica, finished or not: cut to `bytes`, with `generation`, finished and announced.
    pub fn settle(
        &self,
        block: BlockId,
        generation: Generation,
        bytes: u64,
    ) -> Result<ReplicaInfo, ReplicaError> {
        self.announced(self.inner.settle(block, generation, bytes))
    }

    /// Deletes the replica if it has this generation or an older one, and announces that there is none. Without any
    /// replica it does the same. A newer one is left alone: [`ReplicaError::Stale`].
    pub fn delete(&self, block: BlockId, generation: Generation) -> Result<(), ReplicaError> {
        self.announced(self.inner.delete(block, generation))
    }

    /// Opens a replica of this generation or a newer one to read it. Of an unfinished one all that was written is
    /// there. One that turns out to be damaged is announced as bad.
    pub fn read(&self, block: BlockId, at_least: Generation) -> Result<ReplicaReader, ReplicaError> {
        self.announced(self.inner.read(block, at_least))
    }

    /// Reads all of a replica and checks it against its sums: somebody complained. A bad finished one is announced, even
    /// if it was before.
    pub fn check(&self, block: BlockId, generation: Generation) -> Result<ReplicaInfo, ReplicaError> {
        self.announced(self.inner.check(block, generation))
    }

    /// The same, without hurry: `pace` is told how many bytes come next, and may stop it. Returns whether all was read.
    pub(crate) fn scrub(
        &self,
        block: BlockId,
        generation: Generation,
        pace: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, ReplicaError> {
        self.announced(self.inner.verify(block, generation, pace).map(|(_, whole)| whole))
    }

    /// The next finished replicas after `after`, at most `limit`, in the order of their blocks. Bad ones are left out.
    pub fn replicas_after(&self, after: BlockId, limit: usize) -> Vec<ReplicaInfo> {
        self.inner.index().finished_after(after, limit, false)
    }

    /// All that are known to be bad, kept but not served.
    pub fn bad_replicas(&self) -> Vec<ReplicaInfo> {
        self.inner.index().finished_after(BlockId(0), usize::MAX, true)
    }

    /// All that are not finished, with what is visible of them. Copies on their way here are left out.
    pub fn unfinished_replicas(&self) -> Vec<ReplicaInfo> {
        let index = self.inner.index();
        let written = index.unfinished().filter(|replica| replica.name.state == names::State::Written);
        written.map(|replica| Entry::Unfinished(replica.clone()).info(replica.block)).collect()
    }

    /// The volumes as the master is told of them.
    pub fn volumes(&self) -> Vec<attendance::Volume> {
        self.inner.volumes.iter().map(|volume| volume.report()).collect()
    }

    /// Tries all volumes with a small write; one that fails it has failed. For a regular look at disks nobody writes to.
    pub fn probe_volumes(&self) {
        for volume in self.inner.volumes.iter().filter(|volume| !volume.failed()) {
            if let Err(error) = volume.probe() {
                // Already counted and logged; there is no operation to fail.
                let error = self.inner.disk_error(volume, error);
                tracing::debug!("{error}");
            }
        }
        self.inner.announcer.deliver();
    }

    /// Whose replicas these are; None: no cluster's yet.
    pub fn identity(&self) -> Option<Identity> {
        *self.inner.identity()
    }

    /// Sets `listener` to be told of every change from now on, once it is durable, in order; and first of all replicas
    /// that are known to be bad. It must not call the store.
    pub fn set_listener(&self, listener: Listener) {
        let announcer = &self.inner.announcer;
        announcer.expect_listener();
        // Noted with the index locked: whatever turns bad later is noted later.
        let index = self.inner.index();
        index
            .finished_after(BlockId(0), usize::MAX, true)
            .into_iter()
            .for_each(|bad| announcer.note(Change::Bad(bad)));
        drop(index);
        announcer.set_listener(listener);
    }

    /// What opening the store found and mended.
    pub fn recovery(&self) -> &Recovery {
        &self.inner.recovery
    }

    /// Where things of the store as a whole may be written: the first volume that works.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.inner.volumes.iter().find(|volume| !volume.failed()).map(|volume| volume.root.clone())
    }

    /// Tells the listener what an operation changed, now that it is over.
    fn announced<T>(&self, result: T) -> T {
        self.inner.announcer.deliver();
        result
    }
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        // Each change of the index is one call of a map: it is whole after any panic.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn identity(&self) -> MutexGuard<'_, Option<Identity>> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn volume(&self, entry: &Entry) -> &Arc<Volume> {
        &self.volumes[usize::from(entry.volume())]
    }

    /// Chooses a volume for a new replica.
    fn place(&self, block: BlockId, block_bytes: u64, tried: &[u16]) -> Result<&Arc<Volume>, ReplicaError> {
        let remaining = |volume: &Arc<Volume>| {
            if volume.failed() || tried.contains(&volume.number) {
                return None;
            }
            volume.remaining_bytes().inspect_err(|error| tracing::warn!("{error}")).ok()
        };
        let remaining: Vec<Option<u64>> = self.volumes.iter().map(remaining).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(at) = placement::choose(&remaining, block_bytes, turn) {
            return Ok(&self.volumes[at]);
        }
        match self.volumes.iter().filter(|volume| !volume.failed()).count() {
            0 => Err(ReplicaError::NoVolume { block }),
            volumes => Err(ReplicaError::NoRoom { block, volumes }),
        }
    }

    /// What a failed operation on a volume's files means for the volume.
    fn disk_error(&self, volume: &Arc<Volume>, error: DiskError) -> ReplicaError {
        let path = volume.root.clone();
        if error.is_full() {
            volume.forget_room();
            return ReplicaError::Full { volume: path, source: error };
        }
        let broken = |error: DiskError| !error.is_full() && !error.is_ours();
        if !volume.failed() && !error.is_fatal() && !volume.probe().is_err_and(broken) {
            return ReplicaError::Disk(error);
        }
        self.fail(volume, &error);
        ReplicaError::VolumeFailed { volume: path, source: Some(error) }
    }

    /// Takes a volume out of service: its replicas are gone, its writers fenced.
    fn fail(&self, volume: &Volume, error: &DiskError) {
        if !volume.set_failed() {
            return;
        }
        tracing::error!("the volume {} has failed: {error}", volume.root.display());
        // No entry of a failed volume enters the index after this: `commit` looks at it under the same lock.
        for (block, entry) in self.index().remove_volume(volume.number) {
            match entry {
                Entry::Finished(finished) => self.announcer.note(Change::Bad(finished.info(block))),
                Entry::Unfinished(replica) => {
                    replica.disown();
                }
            }
        }
    }

    /// Enters what has become of a replica, unless its volume has failed meanwhile.
    fn commit(&self, block: BlockId, volume: &Volume, entry: Entry) -> Result<(), ReplicaError> {
        let mut index = self.index();
        if volume.failed() {
            return Err(ReplicaError::VolumeFailed { volume: volume.root.clone(), source: None });
        }
        index.insert(block, entry);
        Ok(())
    }
}
