//! Every file that a pattern names, found by several threads.

use std::panic;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::file_system::{Cause, FileSystem, FsError, Kind, entries};
use crate::glob::{Cursor, Pattern};
use crate::store::{FileInfo, ListError};
use crate::uri::Uri;

pub(super) fn list(fs: &dyn FileSystem, pattern: &Uri, threads: usize) -> Result<Vec<FileInfo>, ListError> {
    let uri = pattern.clone();
    match fs.stat(pattern) {
        Ok(status) => match status.kind {
            Kind::Directory => {
                let walk = Walk { fs, uri, pattern: Pattern::everything() };
                Ok(walk.files(pattern.path().to_path_buf(), threads)?.unwrap_or_default())
            }
            Kind::File => Ok(vec![FileInfo { uri, bytes: status.bytes }]),
            Kind::Other => Err(ListError::NotAFile { uri }),
        },
        Err(error) => list_glob(fs, pattern, threads, error),
    }
}

/// Lists a pattern that is not itself the name of something, for the reason `error`.
fn list_glob(
    fs: &dyn FileSystem,
    pattern: &Uri,
    threads: usize,
    error: FsError,
) -> Result<Vec<FileInfo>, ListError> {
    let uri = pattern.clone();
    match Pattern::parse(pattern.path()) {
        Err(source) => Err(ListError::BadPattern { pattern: uri, source }),
        Ok(None) if error.is_absence() => Err(ListError::NotFound { uri }),
        Ok(None) => Err(ListError::Look { uri, source: error.into() }),
        Ok(Some((base, glob))) => {
            let files = Walk { fs, uri: uri.clone(), pattern: glob }.files(base, threads)?;
            files.ok_or(ListError::NoMatch { pattern: uri })
        }
    }
}

/// A directory to read, and how far its path has come in the pattern.
struct Directory {
    path: PathBuf,
    cursor: Cursor,
}

/// What some directories hold.
#[derive(Default)]
struct Found {
    files: Vec<FileInfo>,
    directories: Vec<Directory>,
    /// Whether the pattern names anything at all: an empty directory too.
    named: bool,
}

impl Found {
    fn add(&mut self, more: Found) {
        self.files.extend(more.files);
        self.directories.extend(more.directories);
        self.named |= more.named;
    }
}

/// One listing: what does not change while it goes down, level by level.
struct Walk<'a> {
    fs: &'a dyn FileSystem,
    uri: Uri,
    pattern: Pattern,
}

impl Walk<'_> {
    /// The files below `base`; `None` if the pattern names nothing at all.
    fn files(&self, base: PathBuf, threads: usize) -> Result<Option<Vec<FileInfo>>, ListError> {
        let cursor = self.pattern.start();
        let named = cursor.named;
        let mut found =
            Found { named, directories: vec![Directory { path: base, cursor }], ..Found::default() };
        while !found.directories.is_empty() {
            let level = std::mem::take(&mut found.directories);
            found.add(self.read_level(&level, threads)?);
        }
        found.files.sort_unstable_by(|one, other| one.uri.cmp(&other.uri));
        Ok(found.named.then_some(found.files))
    }

    /// Reads the directories of one level; each thread takes the next one that nobody has.
    fn read_level(&self, level: &[Directory], threads: usize) -> Result<Found, ListError> {
        let next = AtomicUsize::new(0);
        let read_some = || {
            let mut found = Found::default();
            while let Some(directory) = level.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.read_directory(directory, &mut found) {
                    // Nobody need go on.
                    next.store(level.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
            Ok(found)
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads.min(level.len())).map(|_| scope.spawn(read_some)).collect();
            let mut found = read_some()?;
            for other in others {
                found.add(other.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))?);
            }
            Ok(found)
        })
    }

    fn read_directory(&self, directory: &Directory, found: &mut Found) -> Result<(), ListError> {
        let read = entries(self.fs, &self.uri, &directory.path, &self.pattern, &directory.cursor);
        let entries = match read {
            Ok(entries) => entries,
            // The base of a glob need not exist, and others delete while this goes on.
            Err(FsError { cause: Cause::NotFound | Cause::NotADirectory, .. }) => return Ok(()),
            Err(error) => {
                let uri = Uri::of(self.uri.place().clone(), &directory.path);
                return Err(ListError::Directory { uri, source: error.into() });
            }
        };
        for (status, cursor) in entries {
            if status.is_directory() {
                found.named |= cursor.named;
                found.directories.push(Directory { path: status.uri.path().to_path_buf(), cursor });
            } else if status.is_file() && cursor.named {
                found.named = true;
                found.files.push(FileInfo { bytes: status.bytes, uri: status.uri });
            }
        }
        Ok(())
    }
}
