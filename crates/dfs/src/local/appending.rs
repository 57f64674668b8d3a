//! An output whose files appear among those that are there.
//!
//! The new tree gets hard links to all files of the old one, and then the two change places in one call: so the new files
//! appear together, and what reads the old tree loses nothing. Two jobs that append at the same time take turns.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{changes, is_absence};
use crate::staged_name::is_of_job;
use crate::store::{SUCCESS_FILE, StageError};
use crate::uri::Uri;

/// A turn at appending to outputs in one directory. It ends with this, or with the process.
pub(super) struct Turn {
    _directory: File,
}

impl Turn {
    /// Waits until nobody else appends in `directory`.
    pub(super) fn take(directory: &Path) -> Result<Turn, StageError> {
        let opened = File::open(directory).and_then(|opened| opened.lock().map(|()| opened));
        let failed = |source| StageError::Lock { uri: Uri::local(directory), source };
        Ok(Turn { _directory: opened.map_err(failed)? })
    }
}

/// Gives the tree `whole` links to all files of the tree `there`. Doing it again adds what has come since.
pub(super) fn link_all(output: &Uri, there: &Path, whole: &Path) -> Result<(), StageError> {
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let directory = there.join(&below);
        let entries = fs::read_dir(&directory).map_err(|source| look(&directory, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| look(&directory, source))?;
            let name = below.join(entry.file_name());
            let kind = entry.file_type().map_err(|source| look(&entry.path(), source))?;
            if kind.is_dir() {
                make_like(&there.join(&name), &whole.join(&name))?;
                waiting.push(name);
            } else {
                link(output, &name, &there.join(&name), &whole.join(&name))?;
            }
        }
    }
    Ok(())
}

/// A directory with the rights of another one.
fn make_like(like: &Path, directory: &Path) -> Result<(), StageError> {
    let failed = |source| StageError::Create { uri: Uri::local(directory), source };
    match changes::create_directory(directory) {
        Err(there) if there.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(failed)?,
    }
    let rights = fs::metadata(like).map_err(|source| look(like, source))?.permissions();
    fs::set_permissions(directory, rights).map_err(failed)
}

fn link(output: &Uri, name: &Path, from: &Path, to: &Path) -> Result<(), StageError> {
    match changes::link(from, to) {
        Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {
            let id = |path: &Path| {
                let found = fs::symlink_metadata(path).map_err(|source| look(path, source))?;
                Ok::<_, StageError>((found.dev(), found.ino()))
            };
            if id(from)? == id(to)? {
                return Ok(());
            }
            Err(StageError::NameTaken { output: output.clone(), name: name.to_owned() })
        }
        linked => {
            linked.map_err(|source| StageError::Move { from: Uri::local(from), to: Uri::local(to), source })
        }
    }
}

/// Removes the files that `job` has added to `output`: first the one that says that they are whole. Then the directories that
/// are empty and were not in the tree `before`; without one, `output` too.
pub(super) fn remove_own(output: &Path, job: &str, before: Option<&Path>) -> Result<(), StageError> {
    let remove = |path: &Path| match changes::remove_file(path) {
        Err(source) if !is_absence(&source) => Err(StageError::Remove { uri: Uri::local(path), source }),
        _ => Ok(()),
    };
    remove(&output.join(OsString::from(format!("{SUCCESS_FILE}-{job}"))))?;
    let (mut waiting, mut seen) = (vec![PathBuf::new()], Vec::new());
    while let Some(below) = waiting.pop() {
        let directory = output.join(&below);
        let entries = match fs::read_dir(&directory) {
            Err(absent) if is_absence(&absent) => continue,
            entries => entries.map_err(|source| look(&directory, source))?,
        };
        for entry in entries {
            let entry = entry.map_err(|source| look(&directory, source))?;
            let kind = entry.file_type().map_err(|source| look(&entry.path(), source))?;
            if kind.is_dir() {
                waiting.push(below.join(entry.file_name()));
            } else if is_of_job(&entry.file_name(), job) {
                remove(&entry.path())?;
            }
        }
        seen.push(below);
    }
    for below in seen.iter().rev() {
        if before.is_some_and(|before| before.join(below).is_dir()) {
            continue;
        }
        match changes::remove_directory(&output.join(below)) {
            Err(source) if source.kind() != io::ErrorKind::DirectoryNotEmpty && !is_absence(&source) => {
                return Err(StageError::Remove { uri: Uri::local(output.join(below)), source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn look(path: &Path, source: io::Error) -> StageError {
    StageError::Look { uri: Uri::local(path), source }
}
