//! The file system of this machine as a [`Store`].

mod appending;
mod changes;
mod listing;
mod publication;
mod shared;
mod staging;
mod staging_directory;

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::stamp::Stamp;
use crate::store::{
    Existing, FileInfo, ListError, OpenError, ReadAt, ResolveError, StageError, Staging, Store,
};
use crate::uri::Uri;
pub(crate) use shared::SharedLocal;

/// The files of this machine.
///
/// Output is staged in a hidden directory beside where it will be, and appears by one rename. So it is atomic
/// against the death of the process at any moment, and of other processes too; it is **not** synced to the disk,
/// so a loss of power just after it may lose it. Overwriting takes two renames on a file system that cannot exchange
/// two names; a process that dies between them leaves the old output as `old` in its staging directory.
#[derive(Clone, Copy, Debug)]
pub struct LocalStore;

impl Store for LocalStore {
    fn list(&self, pattern: &Uri, threads: usize) -> Result<Vec<FileInfo>, ListError> {
        listing::list(pattern, threads)
    }

    fn open(&self, file: &Uri) -> Result<Box<dyn ReadAt>, OpenError> {
        let failed = |source| OpenError::Open { uri: file.clone(), source };
        // Without NONBLOCK a pipe would hold us here until somebody writes to it. Files do not know the flag.
        let nonblocking = OFlags::NONBLOCK.bits() as i32;
        let opened =
            OpenOptions::new().read(true).custom_flags(nonblocking).open(file.path()).map_err(failed)?;
        let metadata = opened.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(OpenError::NotAFile { uri: file.clone() });
        }
        Ok(Box::new(LocalFile { file: opened, bytes: metadata.len(), stamp: stamp(&metadata) }))
    }

    fn resolve(&self, uri: &Uri) -> Result<Uri, ResolveError> {
        resolve(uri.path()).map(Uri::local).map_err(|source| ResolveError { uri: uri.clone(), source })
    }

    fn stage(&self, output: &Uri, job_id: &str, existing: Existing) -> Result<Box<dyn Staging>, StageError> {
        Ok(Box::new(staging::LocalStaging::begin(output, job_id, existing)?))
    }
}

/// Resolves as much of `path` as exists; the rest is taken as it is written.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if is_absence(&error) => {}
        resolved => return resolved,
    }
    let (parent, name) = (path.parent().unwrap_or(path), path.file_name());
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let mut resolved = if parent == path { path.to_path_buf() } else { resolve(parent)? };
    match name {
        Some(name) => resolved.push(name),
        // `..` of something that does not exist.
        None => drop(resolved.pop()),
    }
    Ok(resolved)
}

/// The clock tells contents apart: of a file that was renamed to here, too.
pub(crate) fn stamp(metadata: &Metadata) -> Stamp {
    Stamp::of_numbers([metadata.mtime() as u64, metadata.mtime_nsec() as u64])
}

struct LocalFile {
    file: File,
    bytes: u64,
    stamp: Stamp,
}

impl ReadAt for LocalFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn stamp(&self) -> Stamp {
        self.stamp
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

/// Whether the system says that there is no such thing.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_read_at_any_offset() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("f"), "hello, world").unwrap();
        let file = LocalStore.open(&Uri::local(home.path().join("f"))).unwrap();
        let mut buffer = [0; 5];
        assert_eq!(file.bytes(), 12);
        assert_eq!(file.read_at(&mut buffer, 7).unwrap(), 5);
        assert_eq!(&buffer, b"world");
        assert_eq!(file.read_at(&mut buffer, 12).unwrap(), 0);
    }

    #[test]
    fn a_place_has_one_name_whether_it_exists_or_not() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("there")).unwrap();
        std::os::unix::fs::symlink("there", home.path().join("link")).unwrap();
        let resolve = |path: &str| LocalStore.resolve(&Uri::local(home.path().join(path))).unwrap();
        assert_eq!(resolve("there/../link/new/below"), resolve("there/new/below"));
        assert_eq!(resolve("new/../there"), resolve("link"));
        assert_ne!(resolve("there/new"), resolve("there/old"));
        let here = std::env::current_dir().unwrap();
        assert_eq!(LocalStore.resolve(&Uri::local("absent/x")).unwrap(), Uri::local(here.join("absent/x")));
    }

    #[test]
    fn what_cannot_be_opened_is_named_with_its_cause() {
        let home = tempfile::tempdir().unwrap();
        let absent = Uri::local(home.path().join("absent"));
        let said = LocalStore.open(&absent).err().unwrap().to_string();
        assert_eq!(said, format!("cannot open {absent}: No such file or directory (os error 2)"));
    }

    #[test]
    fn a_directory_or_a_pipe_is_not_opened() {
        let home = tempfile::tempdir().unwrap();
        let pipe = home.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [home.path(), &pipe] {
            let refused = LocalStore.open(&Uri::local(path));
            assert!(matches!(refused, Err(OpenError::NotAFile { .. })), "{}", path.display());
        }
    }
}
