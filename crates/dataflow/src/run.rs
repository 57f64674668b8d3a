//! A run: a sorted sequence of records, in memory while there is room, else in a run file.

use crate::block::{BLOCK_BYTES, Codec};
use crate::memory::Reservation;
use crate::run_file::{BlockEntry, Moved, RunError, RunFileReader, RunFileWriter, RunIndex};
use crate::scratch::{self, ScratchError, ScratchFile};
use std::io::{self, BufWriter};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Why a run could not be opened or read.
#[derive(Debug, Error)]
pub enum ReadRunError {
    /// Its file cannot be opened.
    #[error(transparent)]
    Open(#[from] ScratchError),
    /// Its file cannot be read, or is damaged.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A finished run. Its file or its memory is given back when it is dropped.
#[derive(Debug)]
pub struct Run {
    /// What it holds, and where.
    pub index: RunIndex,
    pub(crate) bytes: RunBytes,
}

/// Where a run's blocks are.
#[derive(Debug)]
pub(crate) enum RunBytes {
    Resident {
        blocks: Vec<Arc<Vec<u8>>>,
        _held: Reservation,
        /// For when it goes to a file after all.
        codec: Codec,
    },
    Stored {
        file: ScratchFile,
        stored_bytes: u64,
    },
    /// Blocks of a map output, fetched into memory as they were stored; the index has these blocks only, and no segments.
    Held {
        blocks: Vec<Box<[u8]>>,
        _held: Reservation,
    },
    /// Blocks of a map output, fetched; the index has these blocks only, and no segments.
    Fetched {
        place: Place,
        moved: Moved,
    },
}

/// Where fetched blocks are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a scratch file, with blocks of other map outputs.
    Packed(Arc<ScratchFile>),
    /// Where this worker's own attempt left them: not this process's to remove.
    Own(PathBuf),
}

impl Place {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Place::Packed(file) => file.path(),
            Place::Own(path) => path,
        }
    }
}

impl Run {
    /// Bytes as they would cross a network: compressed if the run is in a file.
    pub fn stored_bytes(&self) -> u64 {
        match &self.bytes {
            RunBytes::Resident { .. } => self.index.raw_bytes(),
            RunBytes::Stored { stored_bytes, .. } => *stored_bytes,
            RunBytes::Held { .. } | RunBytes::Fetched { .. } => {
                self.index.blocks.iter().map(|block| u64::from(block.stored_bytes)).sum()
            }
        }
    }

    /// 16 bytes that stand for all its records and the partitions they are in, whatever their order, the borders of blocks,
    /// and the attempt.
    pub fn digest(&self) -> [u8; 16] {
        self.index.digest()
    }

    /// Makes a whole run file of it at `to`, where nothing is, and which outlives the scratch directory. Returns its
    /// bytes. The name appears when the file is complete.
    pub fn detach(self, to: &Path) -> Result<u64, ScratchError> {
        match self.bytes {
            RunBytes::Stored { file, stored_bytes } => {
                file.move_to(to)?;
                Ok(stored_bytes)
            }
            RunBytes::Resident { blocks, codec, .. } => {
                let index = &self.index;
                scratch::write_whole(to, |file| {
                    let mut out = RunFileWriter::new(BufWriter::new(file), codec)?;
                    out.resident_blocks(index, &blocks)?;
                    out.finish()?.0.into_inner().map_err(io::IntoInnerError::into_error)
                })
            }
            RunBytes::Held { .. } | RunBytes::Fetched { .. } => {
                unreachable!("a map output is made here, not fetched")
            }
        }
    }

    /// A reader of its blocks, unless they are in memory.
    pub(crate) fn open(&self) -> Result<Option<Box<RunFileReader>>, ScratchError> {
        let (file, path, moved) = match &self.bytes {
            RunBytes::Resident { .. } | RunBytes::Held { .. } => return Ok(None),
            RunBytes::Stored { file, .. } => (file.open()?, file.path(), Moved::default()),
            RunBytes::Fetched { place, moved } => (scratch::open(place.path())?, place.path(), *moved),
        };
        Ok(Some(Box::new(RunFileReader::with_moved_blocks(file, path.display().to_string(), moved))))
    }
}

/// Some blocks of a run, and optionally a range of keys within them: what one reduce reads of one map output.
#[derive(Clone, Debug)]
pub struct RunPart {
    pub(crate) run: Arc<Run>,
    pub(crate) blocks: Range<u32>,
    /// Keys from this one on.
    pub(crate) from: Option<Arc<[u8]>>,
    /// Keys before this one.
    pub(crate) until: Option<Arc<[u8]>>,
}

impl RunPart {
    /// The segment of `partition`, unless it is empty.
    pub fn partition(run: &Arc<Run>, partition: u32) -> Option<Self> {
        let blocks = run.index.segment(partition)?.blocks.clone();
        Some(Self { run: run.clone(), blocks, from: None, until: None })
    }

    /// The whole run.
    pub fn whole(run: &Arc<Run>) -> Self {
        Self { run: run.clone(), blocks: 0..run.index.blocks.len() as u32, from: None, until: None }
    }

    /// No records.
    pub fn none(run: &Arc<Run>) -> Self {
        Self { run: run.clone(), blocks: 0..0, from: None, until: None }
    }

    /// The records with `from <= key < until`, found by the keys in the index.
    pub fn keys(run: &Arc<Run>, from: Option<Arc<[u8]>>, until: Option<Arc<[u8]>>) -> Self {
        let blocks = run.index.blocks_of_keys(from.as_deref(), until.as_deref());
        Self { run: run.clone(), blocks, from, until }
    }

    fn entries(&self) -> &[BlockEntry] {
        &self.run.index.blocks[self.blocks.start as usize..self.blocks.end as usize]
    }

    /// Memory that reading it takes: its largest block decompressed, and as it is stored if it is in a file.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let largest = self.entries().iter().map(|block| block.raw_bytes as usize).max().unwrap_or(0);
        match self.run.bytes {
            RunBytes::Resident { .. } => 0,
            RunBytes::Held { .. } => largest,
            RunBytes::Stored { .. } | RunBytes::Fetched { .. } => 2 * largest.max(BLOCK_BYTES / 4),
        }
    }

    /// Bytes as they would cross a network.
    pub fn stored_bytes(&self) -> u64 {
        self.entries().iter().map(|block| u64::from(block.stored_bytes)).sum()
    }

    /// Records, at most (a range of keys may hold fewer).
    pub(crate) fn records(&self) -> u64 {
        self.entries().iter().map(|block| u64::from(block.records)).sum()
    }
}
