//! What changes replicas. Each change is made at the gate of its block, and is durable when it returns.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use gristmill_proto::attendance::ReplicaInfo;
use gristmill_proto::ids::{BlockId, Generation};

use super::announcer::Change;
use super::error::{DiskError, Fault, ReplicaError, Trouble};
use super::index::{Entry, Finished};
use super::names::{State, SumName};
use super::succession::{Held, Next, refuse_stale};
use super::sum_file::{Mark, SumFile, SumHead};
use super::unfinished::{Files, Unfinished};
use super::volume::Volume;
use super::writer::ReplicaWriter;
use super::{Inner, Stopped, WriteStage};

impl Inner {
    pub(super) fn create(
        self: &Arc<Self>,
        block: BlockId,
        generation: Generation,
        stage: WriteStage,
        block_bytes: u64,
    ) -> Result<ReplicaWriter, ReplicaError> {
        let _gate = self.gates.enter(block);
        let there = self.index().get(block);
        if let Some(entry) = there {
            may_replace(block, &entry, generation, stage)?;
            self.destroy(block, &entry)?;
        }
        let state = match stage {
            WriteStage::Create => State::Written,
            WriteStage::Copy => State::Copied,
        };
        let mut tried = Vec::new();
        loop {
            let volume = self.place(block, block_bytes, &tried)?;
            let created = create_files(volume, block, SumName { generation, state });
            match created.map_err(|error| self.disk_error(volume, error)) {
                Ok(files) => {
                    let replica = Arc::new(Unfinished::new(volume.clone(), state, files, true));
                    self.commit(block, volume, Entry::Unfinished(replica.clone()))?;
                    return Ok(ReplicaWriter::new(self.clone(), replica, block_bytes));
                }
                Err(error @ (ReplicaError::Full { .. } | ReplicaError::VolumeFailed { .. })) => {
                    tracing::warn!("{block} goes elsewhere: {error}");
                    tried.push(volume.number);
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn reopen(
        self: &Arc<Self>,
        block: BlockId,
        before: Generation,
        generation: Generation,
        offset: u64,
        block_bytes: u64,
    ) -> Result<ReplicaWriter, ReplicaError> {
        let _gate = self.gates.enter(block);
        let entry = self.written(block)?.ok_or(ReplicaError::NotFound { block })?;
        let has = entry.generation();
        refuse_stale(block, generation, has)?;
        if has < before {
            return Err(ReplicaError::TooOld { block, has, wanted: before });
        }
        // The same request come again finds the replica as it left it. One with more bytes, or finished, has been
        // written under this generation since: nothing of that may be cut off.
        if has == generation && (matches!(entry, Entry::Finished(_)) || entry.bytes() != offset) {
            return Err(ReplicaError::AlreadyExists { block, generation });
        }
        let held = self.hold(block, &entry)?;
        refuse_stale(block, generation, held.sums.head.fence)?;
        let name = SumName { generation, state: State::Written };
        let files = self.succeed(&held, has, Next { name, fence: generation, bytes: offset })?;
        let replica = Arc::new(Unfinished::new(held.volume.clone(), State::Written, files, true));
        self.commit(block, &held.volume, Entry::Unfinished(replica.clone()))?;
        // The replica is where it is, whether there is room for the rest or not.
        let room = held.volume.remaining_bytes().map_err(|error| self.disk_error(&held.volume, error))?;
        Ok(ReplicaWriter::new(self.clone(), replica, block_bytes.saturating_sub(offset).min(room)))
    }

    pub(super) fn stop_writer(
        &self,
        block: BlockId,
        generation: Generation,
    ) -> Result<Option<Stopped>, ReplicaError> {
        let _gate = self.gates.enter(block);
        let Some(entry) = self.written(block)? else { return Ok(None) };
        let generation_before = entry.generation();
        refuse_stale(block, generation, generation_before)?;
        if generation == generation_before {
            // Its writers are not below: this is the order come again, after the replica was settled.
            return Ok(Some(Stopped { generation_before, bytes: entry.bytes() }));
        }
        let held = self.hold(block, &entry)?;
        refuse_stale(block, generation, held.sums.head.fence)?;
        let bytes = held.mark.bytes;
        if held.sums.head.fence < generation {
            let name = entry.name();
            let files = self.succeed(&held, generation_before, Next { name, fence: generation, bytes })?;
            if let Entry::Unfinished(_) = entry {
                let replica = Unfinished::new(held.volume.clone(), name.state, files, false);
                self.commit(block, &held.volume, Entry::Unfinished(Arc::new(replica)))?;
            }
        }
        Ok(Some(Stopped { generation_before, bytes }))
    }

    pub(super) fn settle(
        &self,
        block: BlockId,
        generation: Generation,
        bytes: u64,
    ) -> Result<ReplicaInfo, ReplicaError> {
        let _gate = self.gates.enter(block);
        let entry = self.written(block)?.ok_or(ReplicaError::NotFound { block })?;
        let has = entry.generation();
        refuse_stale(block, generation, has)?;
        if let (Entry::Finished(finished), true) = (&entry, has == generation) {
            if finished.bytes != bytes {
                return Err(ReplicaError::AlreadyExists { block, generation });
            }
            self.announcer.note(Change::Finished(finished.info(block)));
            return Ok(finished.info(block));
        }
        let held = self.hold(block, &entry)?;
        refuse_stale(block, generation, held.sums.head.fence)?;
        let name = SumName { generation, state: State::Finished { bytes } };
        self.succeed(&held, has, Next { name, fence: generation, bytes })?;
        self.rest(block, &held.volume, name, bytes)
    }

    pub(super) fn delete(&self, block: BlockId, generation: Generation) -> Result<(), ReplicaError> {
        let _gate = self.gates.enter(block);
        let mut gone = ReplicaInfo { block: block.0, generation: generation.0, bytes: 0 };
        let entry = self.index().get(block);
        if let Some(entry) = entry {
            refuse_stale(block, generation, entry.generation())?;
            gone = entry.info(block);
            self.destroy(block, &entry)?;
        }
        self.announcer.note(Change::Deleted(gone));
        Ok(())
    }

    /// Finishes what a writer has written.
    ///
    /// All bytes, their sums and both marks are durable before the checksum file gets the name of a finished one, so
    /// under such a name there is always a whole replica; and the name is durable before anybody hears of it.
    pub(super) fn finish(&self, replica: &Arc<Unfinished>) -> Result<ReplicaInfo, ReplicaError> {
        let (block, volume) = (replica.block, &replica.volume);
        let _gate = self.gates.enter(block);
        let mut files = replica.writing()?;
        let bytes = files.bytes();
        let name = SumName { generation: replica.name.generation, state: State::Finished { bytes } };
        let sealed = files.seal();
        let sealed =
            sealed.and_then(|()| volume.rename(block, &files.sums.path, &volume.sums_path(block, name)));
        sealed.map_err(|error| self.unsynced(replica, error))?;
        replica.disown();
        self.rest(block, volume, name, bytes)
    }

    /// What a failed sync of a writer's means. What was not written may be gone from memory as well, and a second sync
    /// would not say so: the replica is out of use until it is read and measured, when the store is opened again.
    pub(super) fn unsynced(&self, replica: &Arc<Unfinished>, error: DiskError) -> ReplicaError {
        replica.disown();
        let mut index = self.index();
        let own = Entry::Unfinished(replica.clone());
        if index.get(replica.block).is_some_and(|entry| entry.is_same(&own)) {
            index.remove(replica.block);
        }
        drop(index);
        self.disk_error(&replica.volume, error)
    }

    /// Removes a copy that nobody will finish.
    pub(super) fn discard(&self, replica: &Arc<Unfinished>) -> Result<(), ReplicaError> {
        let block = replica.block;
        let _gate = self.gates.enter(block);
        let own = Entry::Unfinished(replica.clone());
        let still_there = self.index().get(block).is_some_and(|entry| entry.is_same(&own));
        if still_there { self.destroy(block, &own) } else { Ok(()) }
    }

    /// The replica of a block, unless it is a copy on its way, which is none yet.
    fn written(&self, block: BlockId) -> Result<Option<Entry>, ReplicaError> {
        let entry = self.index().get(block);
        match entry.filter(|entry| entry.name().state != State::Copied) {
            Some(Entry::Finished(finished)) if finished.bad => {
                let path = self.volumes[usize::from(finished.volume)].data_path(block);
                Err(ReplicaError::Corrupt {
                    block,
                    generation: finished.generation,
                    path,
                    fault: Fault::Known,
                })
            }
            entry => Ok(entry),
        }
    }

    /// Takes a replica from its writer, if it has one.
    fn hold(&self, block: BlockId, entry: &Entry) -> Result<Held, ReplicaError> {
        let volume = self.volume(entry).clone();
        match entry {
            Entry::Unfinished(replica) => {
                let files = replica.retire();
                Ok(Held { volume, sums: files.sums.clone(), mark: files.mark })
            }
            Entry::Finished(finished) => {
                let path = volume.sums_path(block, finished.name());
                let held = SumFile::open(path, block, finished.generation).and_then(|sums| {
                    let mark = sums.check_finished(finished.bytes)?;
                    Ok((sums, mark))
                });
                let (sums, mark) =
                    held.map_err(|trouble| self.trouble(&volume, block, finished.generation, trouble))?;
                Ok(Held { volume, sums, mark })
            }
        }
    }

    fn succeed(&self, held: &Held, has: Generation, next: Next) -> Result<Files, ReplicaError> {
        let (block, bytes) = (held.block(), next.bytes);
        if held.mark.bytes < bytes {
            return Err(ReplicaError::TooShort { block, has: held.mark.bytes, wanted: bytes });
        }
        let files =
            held.become_next(next).map_err(|trouble| self.trouble(&held.volume, block, has, trouble))?;
        held.volume.count_used(held.mark.bytes, bytes);
        Ok(files)
    }

    /// Enters a replica as finished, and announces it.
    fn rest(
        &self,
        block: BlockId,
        volume: &Volume,
        name: SumName,
        bytes: u64,
    ) -> Result<ReplicaInfo, ReplicaError> {
        let finished = Finished { generation: name.generation, bytes, volume: volume.number, bad: false };
        self.commit(block, volume, Entry::Finished(finished))?;
        self.announcer.note(Change::Finished(finished.info(block)));
        Ok(finished.info(block))
    }

    /// Deletes a replica. Data first: sums without data are a bad replica, which the namenode deletes again.
    fn destroy(&self, block: BlockId, entry: &Entry) -> Result<(), ReplicaError> {
        let volume = self.volume(entry);
        let (bytes, _files) = match entry {
            Entry::Finished(finished) => (finished.bytes, None),
            Entry::Unfinished(replica) => {
                let files = replica.retire();
                (files.bytes(), Some(files))
            }
        };
        let removed = remove(&volume.data_path(block))
            .and_then(|()| remove(&volume.sums_path(block, entry.name())))
            .and_then(|()| volume.sync_directory(block));
        removed.map_err(|error| self.disk_error(volume, error))?;
        self.index().remove(block);
        volume.count_used(bytes, 0);
        Ok(())
    }

    /// What trouble with a replica's files means: for its volume, or for the replica, which is bad then.
    pub(super) fn trouble(
        &self,
        volume: &Arc<Volume>,
        block: BlockId,
        generation: Generation,
        trouble: Trouble,
    ) -> ReplicaError {
        let (path, fault) = match trouble {
            Trouble::Disk(error) => return self.disk_error(volume, error),
            Trouble::Fault { path, fault } => (path, fault),
        };
        if matches!(fault, Fault::Missing | Fault::Unreadable) {
            // Perhaps it is not this file alone.
            if let Err(error) = volume.probe()
                && let failed @ ReplicaError::VolumeFailed { .. } = self.disk_error(volume, error)
            {
                return failed;
            }
        }
        if let Some(bad) = self.index().mark_bad(block, generation) {
            tracing::error!("the replica of {block} with {generation} is bad: {}: {fault}", path.display());
            self.announcer.note(Change::Bad(bad));
        }
        ReplicaError::Corrupt { block, generation, path, fault }
    }
}

/// Whether what is there gives way to a new replica.
fn may_replace(
    block: BlockId,
    entry: &Entry,
    generation: Generation,
    stage: WriteStage,
) -> Result<(), ReplicaError> {
    let has = entry.generation();
    refuse_stale(block, generation, has)?;
    let is_copy = stage == WriteStage::Copy;
    let yields = match entry {
        Entry::Finished(finished) => is_copy && (finished.bad || has < generation),
        Entry::Unfinished(replica) if has == generation && replica.is_live() => {
            return Err(ReplicaError::Busy { block, generation: has });
        }
        // A writer that comes again with the generation it had would lose what it wrote: it must rebuild.
        Entry::Unfinished(_) => is_copy || has < generation,
    };
    if yields { Ok(()) } else { Err(ReplicaError::AlreadyExists { block, generation: has }) }
}

/// The files of a new replica, not yet durable. Sums first: data without sums is set aside when the store is opened.
fn create_files(volume: &Volume, block: BlockId, name: SumName) -> Result<Files, DiskError> {
    let generation = name.generation;
    let path = volume.sums_path(block, name);
    let sums = SumFile::create(path, SumHead { block, generation, fence: generation }, false)?;
    let data_path = volume.data_path(block);
    let data = OpenOptions::new().read(true).write(true).create_new(true).open(&data_path);
    let data = data.map_err(DiskError::on("create", &data_path)).inspect_err(|_| {
        if let Err(error) = remove(&sums.path) {
            tracing::debug!("{error}");
        }
    })?;
    let mark = Mark { bytes: 0, last_sum: 0 };
    Ok(Files { data: Arc::new(data), data_path, sums, mark, written_back: 0, torn: false, named: false })
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DiskError { what: "remove", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
