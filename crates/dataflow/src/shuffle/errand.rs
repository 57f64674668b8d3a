//! What is asked of every map output: a part of it, or a sample of its index.

use super::fault::Fault;
use super::fetch::FetchOptions;
use super::holder::HolderConnection;
use super::intake::{Bounds, Intake, Pack};
use super::output_store::RUN;
use super::work::Wanted;
use crate::block::{self, BLOCK_BYTES, BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, BlockError, BlockHeader};
use crate::run::{Place, Run, RunBytes, RunPart};
use crate::run_file::{BlockEntry, Moved, RunError, RunFileReader, RunIndex};
use crate::scratch;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{FetchPart, KeyRange, PartFound};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A block larger than this holds one large record. One such is received at a time, so that those of several holders
/// do not add up.
const LARGE_BLOCK_BYTES: usize = 1 << 20;
/// A buffer grows by this with what has come: nothing is allocated on a length's own word.
const STEP_BYTES: usize = 1 << 20;

/// What is asked of every map output.
pub(super) trait Errand: Sync {
    /// What comes of it.
    type Got: Send;

    /// The request.
    fn operation(&self, wanted: &Wanted) -> Operation;

    /// Receives the answer to the request, and verifies all of it.
    fn receive(
        &self,
        connection: &mut HolderConnection,
        wanted: &Wanted,
        pack: &mut Pack,
    ) -> Result<Self::Got, Fault>;

    /// The same of a map output on this worker.
    fn own(&self, own: OwnOutput, wanted: &Wanted, pack: &mut Pack) -> Result<Self::Got, Fault>;
}

/// A map output of this worker, open; header, index and trailer are right.
pub(super) struct OwnOutput {
    path: PathBuf,
    reader: RunFileReader,
    pub(super) index: RunIndex,
}

impl OwnOutput {
    pub(super) fn open(options: &FetchOptions, wanted: &Wanted) -> Result<Self, Fault> {
        let name = wanted.output.name() + RUN;
        for dir in &options.own_dirs {
            let path = dir.join(&name);
            let file = match scratch::open(&path) {
                Ok(file) => file,
                Err(error) if error.source.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    let path = path.display().to_string();
                    let own = |source| Fault::Own(RunError::Io { path, offset: 0, source });
                    return Err(Fault::of_opening(error.source, own));
                }
            };
            let (reader, index) = RunFileReader::open(file, path.display().to_string())?;
            if !wanted.digest.is_empty() && wanted.digest[..] != index.digest() {
                let address = path.display().to_string();
                return Err(Fault::Mismatch { address, what: "another digest than was told the master" });
            }
            return Ok(Self { path, reader, index });
        }
        Err(Fault::NotHere)
    }
}

/// Fetches a part: the blocks of a partition, or of a range of keys.
pub(super) struct PartErrand {
    pub(super) partition: u32,
    /// Of a range shuffle.
    pub(super) keys: Option<Bounds>,
    large: Mutex<()>,
}

impl PartErrand {
    pub(super) fn new(partition: u32, keys: Option<Bounds>) -> Self {
        Self { partition, keys, large: Mutex::new(()) }
    }

    fn bounds(&self) -> Bounds {
        self.keys.clone().unwrap_or_default()
    }

    /// Receives all blocks of a part.
    fn receive_blocks(
        &self,
        connection: &mut HolderConnection,
        wanted: &Wanted,
        part: &PartFound,
        intake: &mut Intake<'_>,
    ) -> Result<(), Fault> {
        let address = connection.address().to_owned();
        let mut stream = connection.run_bytes(part.offset, part.bytes);
        let damaged = |offset, source| {
            let path = format!("the map output of {}", wanted.output);
            let source = RunError::Block { path, offset, source };
            Fault::Run { address: address.clone(), source }
        };
        let failed = |source| Fault::Bytes { address: address.clone(), source };
        let mut offset = part.offset;
        let mut stored = Vec::new();
        for _ in 0..part.blocks {
            let mut header = [0; BLOCK_HEADER_BYTES];
            let left = stream.left().checked_sub(BLOCK_HEADER_BYTES as u64);
            let left = left.ok_or_else(|| damaged(offset, BlockError::Record))?;
            stream.read(&mut header).map_err(failed)?;
            let said = BlockHeader::of(&header);
            let (bytes, raw_bytes) = (said.stored_bytes as usize, said.raw_bytes as usize);
            let most = left.min(BLOCK_BYTES_MAX as u64);
            if bytes as u64 > most || raw_bytes > BLOCK_BYTES_MAX {
                let found = (bytes as u64).max(u64::from(said.raw_bytes));
                return Err(damaged(offset, BlockError::Length { expected: most, found }));
            }
            let is_large = bytes.max(raw_bytes) > LARGE_BLOCK_BYTES;
            let _alone = is_large.then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
            stored.clear();
            stored.extend_from_slice(&header);
            while stored.len() < BLOCK_HEADER_BYTES + bytes {
                let start = stored.len();
                stored.resize((start + STEP_BYTES).min(BLOCK_HEADER_BYTES + bytes), 0);
                stream.read(&mut stored[start..]).map_err(failed)?;
            }
            block::check(&stored, offset).map_err(|source| damaged(offset, source))?;
            let entry = BlockEntry::of_header(offset, &said);
            if !intake.keep(&entry, &stored) {
                intake.store(&entry, &stored)?;
            }
            offset += entry.file_bytes();
            stored.shrink_to(4 * BLOCK_BYTES);
        }
        let counts =
            [("bytes", part.bytes, part.bytes - stream.left()), ("records", part.records, intake.records())];
        match counts.into_iter().find(|(_, expected, found)| expected != found) {
            Some((what, expected, found)) => Err(Fault::Count { address, what, expected, found }),
            None => Ok(()),
        }
    }
}

impl Errand for PartErrand {
    type Got = Vec<RunPart>;

    fn operation(&self, wanted: &Wanted) -> Operation {
        let wire = |bound: &Option<std::sync::Arc<[u8]>>| bound.as_ref().map(|key| key.to_vec().into());
        let keys =
            self.keys.as_ref().map(|keys| KeyRange { from: wire(&keys.from), until: wire(&keys.until) });
        let output = Some(wanted.output.to_wire());
        Operation::FetchPart(FetchPart { output, partition: self.partition, keys })
    }

    fn receive(
        &self,
        connection: &mut HolderConnection,
        wanted: &Wanted,
        pack: &mut Pack,
    ) -> Result<Vec<RunPart>, Fault> {
        let nothing = |address: &str| Fault::Mismatch { address: address.to_owned(), what: "no part" };
        let part = connection.answer()?.part.ok_or_else(|| nothing(connection.address()))?;
        connection.check_output(wanted, part.output.as_ref(), &part.digest)?;
        if part.partition != self.partition || part.offset.checked_add(part.bytes).is_none() {
            let address = connection.address().to_owned();
            return Err(Fault::Mismatch { address, what: "another partition" });
        }
        let mut intake = Intake::new(pack);
        match self.receive_blocks(connection, wanted, &part, &mut intake) {
            Ok(()) => Ok(intake.finish(&self.bounds())),
            Err(fault) => {
                intake.discard()?;
                Err(fault)
            }
        }
    }

    /// Takes blocks into memory as long as it has room; the others are verified and stay where they are.
    fn own(&self, own: OwnOutput, _wanted: &Wanted, pack: &mut Pack) -> Result<Vec<RunPart>, Fault> {
        let OwnOutput { path, reader, index } = own;
        let blocks = match &self.keys {
            Some(keys) => index.blocks_of_keys(keys.from.as_deref(), keys.until.as_deref()),
            None => index.segment(self.partition).map_or(0..0, |segment| segment.blocks.clone()),
        };
        let mut intake = Intake::new(pack);
        let mut stored = Vec::new();
        let mut kept = blocks.start;
        for number in blocks.clone() {
            let entry = &index.blocks[number as usize];
            let is_large = entry.stored_bytes.max(entry.raw_bytes) as usize > LARGE_BLOCK_BYTES;
            let _alone = is_large.then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
            reader.stored_block(entry, &mut stored)?;
            block::check(&stored, entry.offset).map_err(|source| reader.malformed(entry, source))?;
            if kept == number && intake.keep(entry, &stored) {
                kept += 1;
            }
            stored.clear();
            stored.shrink_to(4 * BLOCK_BYTES);
        }
        let bounds = self.bounds();
        let mut parts: Vec<RunPart> = intake.into_resident(&bounds).into_iter().collect();
        if kept < blocks.end {
            parts.push(bounds.part(in_place(&path, index.of_blocks(kept..blocks.end))));
        }
        Ok(parts)
    }
}

fn in_place(path: &Path, index: RunIndex) -> Run {
    let bytes = RunBytes::Fetched { place: Place::Own(path.to_owned()), moved: Moved::default() };
    Run { index, bytes }
}
