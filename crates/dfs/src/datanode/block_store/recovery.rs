//! What is found in a volume when it is opened.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gristmill_proto::chunks::{CHUNK_BYTES, SUM_BYTES};
use gristmill_proto::ids::BlockId;

use super::error::{DiskError, Fault, Trouble};
use super::index::{Entry, Finished};
use super::names::{Name, State, SumName, directory_named, directory_of};
use super::sum_file::{Mark, SUMS_START, SumFile};
use super::unfinished::{Files, Unfinished};
use super::volume::Volume;

/// What opening a store found. A change that a crash cut short is one of: not begun, or done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Finished replicas.
    pub finished: u64,
    /// Unfinished replicas, read and measured.
    pub unfinished: u64,
    /// Their bytes that are proved good.
    pub unfinished_bytes: u64,
    /// Files that a change left which is done, and half copies: removed.
    pub removed: u64,
    /// Files nobody knows a use for, moved to the directory `aside` of their volume.
    pub set_aside: u64,
    /// Finished replicas without data: bad.
    pub without_data: u64,
    /// Files that are not ours, left alone.
    pub strange: u64,
}

impl Recovery {
    pub(super) fn add(&mut self, other: &Recovery) {
        self.finished += other.finished;
        self.unfinished += other.unfinished;
        self.unfinished_bytes += other.unfinished_bytes;
        self.removed += other.removed;
        self.set_aside += other.set_aside;
        self.without_data += other.without_data;
        self.strange += other.strange;
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} replicas, {} of them without data, and {} unfinished with {} bytes; {} files removed, {} set aside, {} strange",
            self.finished,
            self.without_data,
            self.unfinished,
            self.unfinished_bytes,
            self.removed,
            self.set_aside,
            self.strange
        )
    }
}

/// The replicas of a volume.
pub(super) struct Scan {
    pub(super) entries: Vec<(BlockId, Entry)>,
    pub(super) recovery: Recovery,
    volume: Arc<Volume>,
}

/// Lists the volume, and mends what a crash left.
pub(super) fn scan(volume: &Arc<Volume>) -> Result<Scan, DiskError> {
    let mut scan = Scan { entries: Vec::new(), recovery: Recovery::default(), volume: volume.clone() };
    for low_byte in 0..=u8::MAX {
        let files = scan.list(&directory_named(low_byte))?;
        for of_block in files.chunk_by(|one, next| one.0 == next.0) {
            let block = of_block[0].0;
            // None, the data file, sorts before the checksum files.
            let has_data = of_block[0].1.is_none();
            scan.resolve(block, has_data, of_block.iter().filter_map(|file| file.1))?;
        }
    }
    Ok(scan)
}

impl Scan {
    /// The files of a directory, by block.
    fn list(&mut self, directory: &str) -> Result<Vec<(BlockId, Option<SumName>)>, DiskError> {
        let path = self.volume.blocks().join(directory);
        let mut files = Vec::new();
        for entry in fs::read_dir(&path).map_err(DiskError::on("list", &path))? {
            let name = entry.map_err(DiskError::on("list", &path))?.file_name();
            match name.to_str().map_or(Name::Strange, Name::parse) {
                Name::Data(block) if directory_of(block) == directory => files.push((block, None)),
                Name::Sums(block, sums) if directory_of(block) == directory => {
                    files.push((block, Some(sums)))
                }
                Name::Temporary => self.remove(&path.join(&name))?,
                Name::Data(_) | Name::Sums(..) | Name::Strange => {
                    tracing::warn!("{} is not a file of ours", path.join(&name).display());
                    self.recovery.strange += 1;
                }
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// Decides what the files of one block are: the greatest name counts, unless there is nothing behind it. `names`
    /// rise.
    fn resolve(
        &mut self,
        block: BlockId,
        has_data: bool,
        names: impl DoubleEndedIterator<Item = SumName>,
    ) -> Result<(), DiskError> {
        let volume = self.volume.clone();
        let mut found = None;
        let mut copied = false;
        for name in names.rev() {
            let path = volume.sums_path(block, name);
            if found.is_some() || copied {
                self.remove(&path)?;
                continue;
            }
            match name.state {
                State::Finished { bytes } => found = Some(self.finished(name, bytes, has_data)),
                State::Written if has_data => found = self.unfinished(block, name)?,
                State::Written => self.remove(&path)?,
                State::Copied => {
                    self.remove(&path)?;
                    copied = true;
                }
            }
        }
        match found {
            Some(entry) => self.entries.push((block, entry)),
            None if has_data && copied => self.remove(&volume.data_path(block))?,
            None if has_data => self.orphan(&volume.data_path(block))?,
            None => {}
        }
        Ok(())
    }

    fn finished(&mut self, name: SumName, bytes: u64, has_data: bool) -> Entry {
        self.recovery.finished += 1;
        self.recovery.without_data += u64::from(!has_data);
        let volume = self.volume.number;
        Entry::Finished(Finished { generation: name.generation, bytes, volume, bad: !has_data })
    }

    /// An unfinished replica, unless its checksum file is useless.
    fn unfinished(&mut self, block: BlockId, name: SumName) -> Result<Option<Entry>, DiskError> {
        match measure(&self.volume, block, name) {
            Ok(files) => {
                self.recovery.unfinished += 1;
                self.recovery.unfinished_bytes += files.bytes();
                let replica = Unfinished::new(self.volume.clone(), name.state, files, false);
                Ok(Some(Entry::Unfinished(Arc::new(replica))))
            }
            Err(Trouble::Fault { path, fault }) => {
                tracing::warn!("{}: {fault}", path.display());
                self.set_aside(&self.volume.sums_path(block, name))?;
                Ok(None)
            }
            Err(Trouble::Disk(error)) => Err(error),
        }
    }

    /// Data without sums proves nothing, but may be all that is left of a block.
    fn orphan(&mut self, path: &Path) -> Result<(), DiskError> {
        let bytes = fs::metadata(path).map_err(DiskError::on("stat", path))?.len();
        if bytes == 0 { self.remove(path) } else { self.set_aside(path) }
    }

    fn set_aside(&mut self, path: &Path) -> Result<(), DiskError> {
        let to = self.volume.set_aside(path)?;
        tracing::warn!("{} was moved to {}", path.display(), to.display());
        self.recovery.set_aside += 1;
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<(), DiskError> {
        fs::remove_file(path).map_err(DiskError::on("remove", path))?;
        tracing::info!("{} was left by a crash and is removed", path.display());
        self.recovery.removed += 1;
        Ok(())
    }
}

/// Finds out how much of an unfinished replica is good. Nothing is changed on the disk: what follows the good bytes is
/// cut off when somebody takes the replica over.
fn measure(volume: &Volume, block: BlockId, name: SumName) -> Result<Files, Trouble> {
    let sums = SumFile::open(volume.sums_path(block, name), block, name.generation)?;
    let data_path: PathBuf = volume.data_path(block);
    let data = File::open(&data_path).map_err(|source| Trouble::reading("open", &data_path, source))?;
    let mark = good_bytes(&data, &data_path, &sums)?;
    let files = Files {
        data: Arc::new(data),
        data_path,
        sums,
        mark,
        written_back: mark.bytes,
        torn: true,
        named: false,
    };
    Ok(files)
}

/// The longest start of the data all chunks of which match a sum; of the last one a mark's will do.
pub(super) fn good_bytes(data: &File, data_path: &Path, sums: &SumFile) -> Result<Mark, Trouble> {
    let marks = sums.marks()?;
    let length = sums.file.metadata().map_err(|source| Trouble::reading("stat", &sums.path, source))?.len();
    let sum_count = length.saturating_sub(SUMS_START) / SUM_BYTES;
    let mut buffer = [0; CHUNK_BYTES as usize];
    let mut good = Mark { bytes: 0, last_sum: 0 };
    while !good.is_partial() {
        let start = good.bytes;
        let read = match read_up_to(data, &mut buffer, start) {
            Ok(read) => read,
            Err(source) => match Trouble::reading("read", data_path, source) {
                // What the disk cannot read is as good as not there.
                Trouble::Fault { fault: Fault::Unreadable, .. } => break,
                trouble => return Err(trouble),
            },
        };
        let chunk = start / CHUNK_BYTES;
        let own = if chunk < sum_count {
            Some(Mark { bytes: start + read as u64, last_sum: sums.sum(chunk)? })
        } else {
            None
        };
        let fits = |mark: &Mark| {
            let bytes = mark.bytes.checked_sub(start).filter(|bytes| (1..=read as u64).contains(bytes));
            bytes.is_some_and(|bytes| crc32c::crc32c(&buffer[..bytes as usize]) == mark.last_sum)
        };
        let best = marks.into_iter().flatten().chain(own).filter(fits).max_by_key(|mark| mark.bytes);
        match best {
            Some(mark) => good = mark,
            None => break,
        }
    }
    Ok(good)
}

/// Reads until `buffer` is full or the file ends.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
