//! Fetched blocks on their way to the merge: into memory while the resident pool has room, else into scratch files,
//! where blocks of many map outputs stand one after the other. They stay as they were stored: memory holds more of them
//! than it would decompressed, and the merge decompresses each into memory that is in the cache.

use crate::memory::Reservation;
use crate::run::{Place, Run, RunBytes, RunPart};
use crate::run_file::{BlockEntry, Moved, RunIndex};
use crate::scratch::{Scratch, ScratchError, ScratchFile};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

/// A scratch file is removed when nobody reads any of its blocks: smaller files are gone sooner, larger are fewer.
const PACK_BYTES: u64 = 256 << 20;

/// Keys that a part is about; `None`: no bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    pub(super) from: Option<Arc<[u8]>>,
    pub(super) until: Option<Arc<[u8]>>,
}

impl Bounds {
    /// A part of all blocks of `run`.
    pub(super) fn part(&self, run: Run) -> RunPart {
        let mut part = RunPart::whole(&Arc::new(run));
        part.from.clone_from(&self.from);
        part.until.clone_from(&self.until);
        part
    }
}

/// The scratch file that one thread appends to.
pub(super) struct Pack {
    scratch: Scratch,
    open: Option<(Arc<ScratchFile>, File)>,
    bytes: u64,
}

impl Pack {
    pub(super) fn new(scratch: &Scratch) -> Self {
        Self { scratch: scratch.clone(), open: None, bytes: 0 }
    }

    /// The file to append to, and where it ends.
    fn end(&mut self) -> Result<(Arc<ScratchFile>, u64), ScratchError> {
        if self.bytes >= PACK_BYTES {
            self.open = None;
        }
        if self.open.is_none() {
            let (file, handle) = self.scratch.file()?;
            self.open = Some((Arc::new(file), handle));
            self.bytes = 0;
        }
        let file = self.open.as_ref().map(|(file, _)| file.clone()).expect("it is open");
        Ok((file, self.bytes))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), ScratchError> {
        let (file, handle) = self.open.as_mut().expect("its end is known");
        handle.write_all(bytes).map_err(|source| file.error("write", source))?;
        self.bytes += bytes.len() as u64;
        self.scratch.count_written(bytes.len() as u64);
        Ok(())
    }

    /// Forgets what came after `bytes`.
    fn rewind(&mut self, bytes: u64) -> Result<(), ScratchError> {
        if let Some((file, handle)) = &mut self.open {
            let rewound = handle.set_len(bytes).and_then(|()| handle.seek(SeekFrom::Start(bytes)));
            rewound.map_err(|source| file.error("cut", source))?;
            self.bytes = bytes;
        }
        Ok(())
    }
}

/// Takes the blocks of one part, in order.
pub(super) struct Intake<'p> {
    pack: &'p mut Pack,
    held: Reservation,
    blocks: Vec<Box<[u8]>>,
    resident: RunIndex,
    /// Blocks that memory had no room for: once there is one, the rest follows it.
    stored: Option<Stored>,
    records: u64,
}

struct Stored {
    index: RunIndex,
    file: Arc<ScratchFile>,
    moved: Moved,
}

impl<'p> Intake<'p> {
    pub(super) fn new(pack: &'p mut Pack) -> Self {
        let held = pack.scratch.resident().reserve_none();
        let (blocks, resident) = (Vec::new(), RunIndex::default());
        Self { pack, held, blocks, resident, stored: None, records: 0 }
    }

    /// Records so far.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Takes a block as it is stored, verified, into memory; false if that has no room, now or before.
    pub(super) fn keep(&mut self, entry: &BlockEntry, stored: &[u8]) -> bool {
        if self.stored.is_some() || !self.held.grow(stored.len()) {
            return false;
        }
        self.resident.add_block(*entry, &[]);
        self.blocks.push(stored.into());
        self.records += u64::from(entry.records);
        true
    }

    /// Appends a verified block to a scratch file, as all of this part that come after it.
    pub(super) fn store(&mut self, entry: &BlockEntry, stored: &[u8]) -> Result<(), ScratchError> {
        if self.stored.is_none() {
            let (file, to) = self.pack.end()?;
            let moved = Moved { from: entry.offset, to };
            self.stored = Some(Stored { index: RunIndex::default(), file, moved });
        }
        self.pack.append(stored)?;
        if let Some(stored) = &mut self.stored {
            stored.index.add_block(*entry, &[]);
        }
        self.records += u64::from(entry.records);
        Ok(())
    }

    /// What is in memory, if anything.
    pub(super) fn into_resident(self, bounds: &Bounds) -> Option<RunPart> {
        let bytes = RunBytes::Held { blocks: self.blocks, _held: self.held };
        let resident = Run { index: self.resident, bytes };
        (!resident.index.blocks.is_empty()).then(|| bounds.part(resident))
    }

    /// All blocks are there.
    pub(super) fn finish(mut self, bounds: &Bounds) -> Vec<RunPart> {
        let stored = self.stored.take().map(|stored| {
            let Stored { index, file, moved } = stored;
            bounds.part(Run { index, bytes: RunBytes::Fetched { place: Place::Packed(file), moved } })
        });
        self.into_resident(bounds).into_iter().chain(stored).collect()
    }

    /// They will not all come: nothing is left of those that did.
    pub(super) fn discard(self) -> Result<(), ScratchError> {
        match &self.stored {
            Some(stored) => self.pack.rewind(stored.moved.to),
            None => Ok(()),
        }
    }
}
