//! Every file that a pattern names, found by several threads.

use std::path::PathBuf;

use crate::file_system::{Cause, FileSystem, FsError, Kind, entries};
use crate::glob::Pattern;
use crate::store::{FileInfo, ListError};
use crate::uri::Uri;
use crate::walk::{Directory, Found, walk};

pub(crate) fn list(fs: &dyn FileSystem, pattern: &Uri, threads: usize) -> Result<Vec<FileInfo>, ListError> {
    let uri = pattern.clone();
    match fs.stat(pattern) {
        Ok(status) => match status.kind {
            Kind::Directory => {
                let walk = Walk { fs, uri, pattern: Pattern::everything() };
                Ok(walk.files(pattern.path().to_path_buf(), threads)?.unwrap_or_default())
            }
            Kind::File => Ok(vec![FileInfo { uri, bytes: status.bytes, stamp: status.stamp }]),
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

/// One listing: what does not change while it goes down, level by level.
struct Walk<'a> {
    fs: &'a dyn FileSystem,
    uri: Uri,
    pattern: Pattern,
}

impl Walk<'_> {
    /// The files below `base`; `None` if the pattern names nothing at all.
    fn files(&self, base: PathBuf, threads: usize) -> Result<Option<Vec<FileInfo>>, ListError> {
        let read = |directory: &Directory, found: &mut Found| self.read_directory(directory, found);
        let found = walk(base, &self.pattern, threads, read)?;
        Ok(found.named.then_some(found.files))
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
                found.files.push(FileInfo { bytes: status.bytes, stamp: status.stamp, uri: status.uri });
            }
        }
        Ok(())
    }
}
