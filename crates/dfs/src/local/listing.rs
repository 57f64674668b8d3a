//! Every file that a pattern names, found by several threads.

use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{is_absence, stamp};
use crate::glob::Pattern;
use crate::store::{FileInfo, ListError};
use crate::uri::Uri;
use crate::walk::{self, Directory, Found};

pub(super) fn list(pattern: &Uri, threads: usize) -> Result<Vec<FileInfo>, ListError> {
    let path = pattern.path();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            Ok(below(path.to_path_buf(), Pattern::everything(), threads)?.files)
        }
        Ok(metadata) if metadata.is_file() => {
            Ok(vec![FileInfo { uri: pattern.clone(), bytes: metadata.len(), stamp: stamp(&metadata) }])
        }
        Ok(_) => Err(ListError::NotAFile { uri: pattern.clone() }),
        Err(source) => list_glob(pattern, threads, source),
    }
}

/// Lists a pattern that is not itself the name of something, for the reason `source`.
fn list_glob(pattern: &Uri, threads: usize, source: io::Error) -> Result<Vec<FileInfo>, ListError> {
    let uri = pattern.clone();
    match Pattern::parse(pattern.path()) {
        Err(source) => Err(ListError::BadPattern { pattern: uri, source }),
        Ok(None) if is_absence(&source) => Err(ListError::NotFound { uri }),
        Ok(None) => Err(ListError::Look { uri, source }),
        Ok(Some((base, glob))) if is_directory(&base)? => match below(base, glob, threads)? {
            Found { named: true, files, .. } => Ok(files),
            _ => Err(ListError::NoMatch { pattern: uri }),
        },
        Ok(Some(_)) => Err(ListError::NoMatch { pattern: uri }),
    }
}

/// One listing: what does not change while it goes down, level by level.
struct Walk {
    base: PathBuf,
    pattern: Pattern,
}

fn below(base: PathBuf, pattern: Pattern, threads: usize) -> Result<Found, ListError> {
    let walk = Walk { base: base.clone(), pattern };
    walk::walk(base, &walk.pattern, threads, |directory, found| walk.read_directory(directory, found))
}

impl Walk {
    fn read_directory(&self, directory: &Directory, found: &mut Found) -> Result<(), ListError> {
        let failed = |source| ListError::Directory { uri: Uri::local(&directory.path), source };
        for entry in fs::read_dir(or_here(&directory.path)).map_err(failed)? {
            self.read_entry(directory, &entry.map_err(failed)?, found)?;
        }
        Ok(())
    }

    fn read_entry(
        &self,
        directory: &Directory,
        entry: &DirEntry,
        found: &mut Found,
    ) -> Result<(), ListError> {
        let cursor = self.pattern.enter(&directory.cursor, &entry.file_name());
        if cursor.is_astray() {
            return Ok(());
        }
        // Not `entry.path()`: below an empty base, that has a `./` which the user did not write.
        let path = directory.path.join(entry.file_name());
        let failed = |source| ListError::Look { uri: Uri::local(&path), source };
        let mut kind = entry.file_type().map_err(failed)?;
        let is_link = kind.is_symlink();
        if is_link {
            kind = fs::metadata(&path).map_err(failed)?.file_type();
        }
        if kind.is_dir() {
            if is_link && self.pattern.is_endless(&cursor) {
                self.refuse_loop(&path)?;
            }
            found.named |= cursor.named;
            found.directories.push(Directory { path, cursor });
        } else if kind.is_file() && cursor.named {
            let metadata = if is_link { fs::metadata(&path) } else { entry.metadata() };
            let metadata = metadata.map_err(failed)?;
            found.named = true;
            let (bytes, stamp) = (metadata.len(), stamp(&metadata));
            found.files.push(FileInfo { uri: Uri::local(&path), bytes, stamp });
        }
        Ok(())
    }

    /// Refuses a link to a directory through which the listing came to the link: following it would never end.
    fn refuse_loop(&self, link: &Path) -> Result<(), ListError> {
        let target = look(link)?;
        for directory in link.ancestors().skip(1).take_while(|above| above.starts_with(&self.base)) {
            let above = look(directory)?;
            if (above.dev(), above.ino()) == (target.dev(), target.ino()) {
                return Err(ListError::Loop { link: Uri::local(link), directory: Uri::local(directory) });
            }
        }
        Ok(())
    }
}

fn look(path: &Path) -> Result<Metadata, ListError> {
    fs::metadata(or_here(path)).map_err(|source| ListError::Look { uri: Uri::local(path), source })
}

fn is_directory(path: &Path) -> Result<bool, ListError> {
    match fs::metadata(or_here(path)) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(source) if is_absence(&source) => Ok(false),
        Err(source) => Err(ListError::Look { uri: Uri::local(path), source }),
    }
}

/// An empty path names the current directory to us, but nothing to the system.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
