//! One file: made of one or several, and whole when it has its name.

use std::io::Write;

use gristmill_dfs::file_system::{Cause, CreateOptions, DeleteOptions, FileSystem, FsError};
use gristmill_dfs::{Place, Uri};

use super::job::Existing;
use crate::fs::failure::Failure;
use crate::fs::read::Pieces;

/// What all copies of a job have in common.
pub(super) struct Copying {
    pub(super) to: Uri,
    /// Where files are until they are whole, if their file system renames.
    pub(super) unfinished: Uri,
    pub(super) existing: Existing,
    pub(super) compares_sums: bool,
}

/// A file that is copied.
pub(super) struct Source {
    pub(super) uri: Uri,
    /// How long it was when it was listed.
    pub(super) bytes: u64,
}

/// A copy that is there.
pub(super) struct Made {
    /// CRC32C of each source; none if nobody looked.
    pub(super) sums: Vec<u32>,
    pub(super) was_there: bool,
}

/// Copies, and says at each step how many bytes it has moved; false: it is to stop.
pub(super) struct Copier<'c> {
    pub(super) copying: &'c Copying,
    pub(super) advance: &'c mut dyn FnMut(u64) -> bool,
}

impl Copier<'_> {
    /// Makes the file `to` of the bytes of `sources`, one after the other.
    pub(super) fn copy(&mut self, sources: &[Source], to: &Uri) -> Result<Made, Failure> {
        let fs = to.file_system()?;
        let existing = self.copying.existing;
        if existing != Existing::Overwrite {
            match self.compare(&*fs, sources, to)? {
                Found::Equal(sums) => return Ok(Made { sums, was_there: true }),
                Found::Different if existing == Existing::Refuse => return Err(occupied(to)),
                Found::Different | Found::Nothing => {}
            }
        }
        let sums = match to.place() {
            // An object appears when it is complete.
            Place::S3 { .. } => self.write(&*fs, sources, to)?,
            _ => self.write_aside(&*fs, sources, to)?,
        };
        Ok(Made { sums, was_there: false })
    }

    /// Writes under another name, and renames what is right.
    fn write_aside(
        &mut self,
        fs: &dyn FileSystem,
        sources: &[Source],
        to: &Uri,
    ) -> Result<Vec<u32>, Failure> {
        // No two attempts write to one file.
        let unfinished = self.copying.unfinished.join(uuid::Uuid::new_v4().to_string());
        let replaces = self.copying.existing != Existing::Refuse;
        let written = self.write(fs, sources, &unfinished).and_then(|sums| {
            if let Some(parent) = to.parent() {
                fs.make_directory(&parent, true)?;
            }
            match fs.rename(&unfinished, to, replaces) {
                // A twin of this attempt was faster, or a stranger.
                Err(FsError { cause: Cause::AlreadyExists, .. }) if !replaces => {
                    match self.compare(fs, sources, to)? {
                        Found::Equal(_) => remove(fs, &unfinished),
                        _ => return Err(occupied(to)),
                    }
                }
                renamed => renamed?,
            }
            Ok(sums)
        });
        if written.is_err() {
            remove(fs, &unfinished);
        }
        written
    }

    /// Writes `to`, and reads it again.
    fn write(&mut self, fs: &dyn FileSystem, sources: &[Source], to: &Uri) -> Result<Vec<u32>, Failure> {
        let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
        let mut out = fs.create(to, &options)?;
        let mut sums = Vec::with_capacity(sources.len());
        let mut offset = 0;
        for source in sources {
            let sum = self.read(source, |piece| {
                out.write_all(piece).map_err(|error| Failure::Write {
                    uri: to.clone(),
                    offset,
                    source: error,
                })?;
                offset += piece.len() as u64;
                Ok(())
            })?;
            sums.push(sum);
        }
        out.finish()?;
        if self.copying.compares_sums {
            let (found, wanted) = (self.sum_of(fs, to)?, whole_sum(sources, &sums));
            if found != (wanted, offset) {
                let (from, (sum, bytes)) = (&sources[0].uri, found);
                let why = format!(
                    "its copy {to} has {bytes} bytes with CRC32C {sum:08x}, and not {offset} with {wanted:08x}"
                );
                return Err(Failure::refused("copy", from, why));
            }
        }
        Ok(sums)
    }

    /// What is at `to`, in comparison with what is to be there.
    fn compare(&mut self, fs: &dyn FileSystem, sources: &[Source], to: &Uri) -> Result<Found, Failure> {
        let there = match fs.open(to) {
            Err(error) if error.is_absence() => return Ok(Found::Nothing),
            opened => opened?.bytes(),
        };
        if there != sources.iter().map(|source| source.bytes).sum::<u64>() {
            return Ok(Found::Different);
        }
        if !self.copying.compares_sums {
            return Ok(Found::Equal(Vec::new()));
        }
        let mut sums = Vec::with_capacity(sources.len());
        for source in sources {
            sums.push(self.read(source, |_| Ok(()))?);
        }
        let found = self.sum_of(fs, to)?;
        Ok(if found == (whole_sum(sources, &sums), there) { Found::Equal(sums) } else { Found::Different })
    }

    /// Hands the bytes of a source to `take`; their CRC32C.
    fn read(
        &mut self,
        source: &Source,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<u32, Failure> {
        let mut pieces = Pieces::of(&*source.uri.file_system()?, &source.uri)?;
        let mut sum = 0;
        while let Some(piece) = pieces.next_piece()? {
            sum = crc32c::crc32c_append(sum, piece);
            take(piece)?;
            self.go_on(&source.uri, piece.len())?;
        }
        if pieces.offset != source.bytes {
            let (now, then) = (pieces.offset, source.bytes);
            let why = format!("it has changed: {now} bytes, and {then} when it was listed");
            return Err(Failure::refused("copy", &source.uri, why));
        }
        Ok(sum)
    }

    /// CRC32C and length of a file.
    fn sum_of(&mut self, fs: &dyn FileSystem, uri: &Uri) -> Result<(u32, u64), Failure> {
        let mut pieces = Pieces::of(fs, uri)?;
        let mut sum = 0;
        while let Some(piece) = pieces.next_piece()? {
            sum = crc32c::crc32c_append(sum, piece);
            self.go_on(uri, piece.len())?;
        }
        Ok((sum, pieces.offset))
    }

    fn go_on(&mut self, uri: &Uri, bytes: usize) -> Result<(), Failure> {
        if (self.advance)(bytes as u64) {
            return Ok(());
        }
        Err(Failure::refused("copy", uri, "the job has ended"))
    }
}

/// What is where a copy goes.
enum Found {
    Nothing,
    /// The CRC32C of each source, if anybody looked.
    Equal(Vec<u32>),
    Different,
}

/// The CRC32C of all sources together.
fn whole_sum(sources: &[Source], sums: &[u32]) -> u32 {
    let each = sources.iter().zip(sums);
    each.fold(0, |whole, (source, sum)| crc32c::crc32c_combine(whole, *sum, source.bytes as usize))
}

fn occupied(to: &Uri) -> Failure {
    Failure::refused("write", to, "another file is there (--update or --overwrite replaces it)")
}

/// Removes a file that nobody needs: what stays is removed with its directory when the job has ended.
fn remove(fs: &dyn FileSystem, uri: &Uri) {
    let options = DeleteOptions { recursive: false, skip_trash: true };
    match fs.delete(uri, options) {
        Err(error) if !error.is_absence() => tracing::warn!(%error, "an unfinished copy stays"),
        _ => {}
    }
}
