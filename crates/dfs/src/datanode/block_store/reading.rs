//! What reads replicas.

use gristmill_proto::attendance::ReplicaInfo;
use gristmill_proto::ids::{BlockId, Generation};

use super::Inner;
use super::announcer::Change;
use super::error::{Fault, ReplicaError, Trouble};
use super::index::{Entry, Finished};
use super::names::State;
use super::reader::ReplicaReader;

impl Inner {
    pub(super) fn read(&self, block: BlockId, at_least: Generation) -> Result<ReplicaReader, ReplicaError> {
        let entry = self.readable(block, at_least)?;
        match self.open(block, &entry) {
            Ok(reader) if self.is_still(block, &entry) => Ok(reader),
            // It changed meanwhile, or it is bad. Nothing changes at the gate, so there it shows.
            Ok(_) | Err(_) => {
                let _gate = self.gates.enter(block);
                let entry = self.readable(block, at_least)?;
                let opened = self.open(block, &entry);
                opened
                    .map_err(|trouble| self.trouble(self.volume(&entry), block, entry.generation(), trouble))
            }
        }
    }

    pub(super) fn check(&self, block: BlockId, generation: Generation) -> Result<ReplicaInfo, ReplicaError> {
        let checked = self.verify(block, generation, &mut |_| true).map(|(info, _)| info);
        if let Err(ReplicaError::Corrupt { fault: Fault::Known, .. }) = checked
            && let Some(entry) = self.index().get(block)
        {
            self.announcer.note(Change::Bad(entry.info(block)));
        }
        checked
    }

    /// Verifies all bytes of a replica that has exactly this generation. Returns whether it came to the end: `pace` may
    /// stop it.
    pub(super) fn verify(
        &self,
        block: BlockId,
        generation: Generation,
        pace: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(ReplicaInfo, bool), ReplicaError> {
        let entry = self.readable(block, generation)?;
        let has = entry.generation();
        if has != generation {
            return Err(ReplicaError::Stale { block, asked: generation, has });
        }
        if let Ok(Ok(whole)) = self.open(block, &entry).map(|reader| reader.verify_cold(pace)) {
            return Ok((entry.info(block), whole));
        }
        // The verdict is reached at the gate, where nothing changes.
        let _gate = self.gates.enter(block);
        let entry = self.readable(block, generation)?;
        let verified = self.open(block, &entry).and_then(|reader| reader.verify_cold(&mut |_| true));
        verified.map_err(|trouble| self.trouble(self.volume(&entry), block, entry.generation(), trouble))?;
        Ok((entry.info(block), true))
    }

    /// What may be read.
    fn readable(&self, block: BlockId, at_least: Generation) -> Result<Entry, ReplicaError> {
        let entry = self.index().get(block).filter(|entry| entry.name().state != State::Copied);
        let entry = entry.ok_or(ReplicaError::NotFound { block })?;
        let has = entry.generation();
        if has < at_least {
            return Err(ReplicaError::TooOld { block, has, wanted: at_least });
        }
        if let Entry::Finished(Finished { bad: true, generation, .. }) = entry {
            let path = self.volume(&entry).data_path(block);
            return Err(ReplicaError::Corrupt { block, generation, path, fault: Fault::Known });
        }
        Ok(entry)
    }

    fn open(&self, block: BlockId, entry: &Entry) -> Result<ReplicaReader, Trouble> {
        match entry {
            Entry::Finished(finished) => ReplicaReader::open(self.volume(entry), block, finished),
            Entry::Unfinished(replica) => Ok(ReplicaReader::of_unfinished(replica.visible())),
        }
    }

    fn is_still(&self, block: BlockId, entry: &Entry) -> bool {
        self.index().get(block).is_some_and(|now| now.is_same(entry))
    }
}
