//! How a finished tree takes its place, and what is in its place already.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;

use super::appending::{Turn, link_all, remove_own};
use super::staging_directory::warn;
use super::{changes, is_absence};
use crate::store::{Existing, StageError};
use crate::uri::Uri;

/// Where an output will appear.
#[derive(Debug)]
pub(super) struct Place {
    /// As the user named it.
    output: Uri,
    /// As the system sees it: what the output leads to, if it is a symbolic link.
    path: PathBuf,
}

/// A place that was filled, and how to undo it.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) how: How,
    /// Directories made above it, topmost first.
    pub(super) parents: Vec<PathBuf>,
}

#[derive(Debug)]
pub(super) enum How {
    /// Nothing was there, or an empty directory.
    Renamed,
    /// What was there is where the new one was.
    Exchanged,
    /// What was there is at `old`.
    MovedAside,
    /// What was there, if anything, is there still, and the new files with it.
    Appended,
}

impl Place {
    pub(super) fn of(output: &Uri) -> Result<Place, StageError> {
        let nameless = || StageError::NamelessOutput { output: output.clone() };
        if matches!(output.name().to_str(), Some("" | "." | "..")) {
            return Err(nameless());
        }
        let path = follow_link(output.path())?;
        // A link to `/` leads here.
        path.file_name().ok_or_else(nameless)?;
        Ok(Place { output: output.clone(), path })
    }

    pub(super) fn output(&self) -> &Uri {
        &self.output
    }

    /// As the system sees it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directories above it, the lowest first.
    pub(super) fn above(&self) -> impl Iterator<Item = &Path> {
        let lowest = parent(&self.path);
        std::iter::successors(Some(lowest), |above| Some(parent(above)).filter(|next| next != above))
    }

    /// The nearest directory above the output that exists: staging in it leaves nothing else behind.
    pub(super) fn home(&self) -> Result<&Path, StageError> {
        let mut above = parent(&self.path);
        loop {
            match fs::metadata(above) {
                Ok(metadata) if metadata.is_dir() => return Ok(above),
                Ok(_) => return Err(self.unwritable(above, Errno::NOTDIR.into())),
                Err(source) if is_absence(&source) && above != parent(above) => above = parent(above),
                Err(source) => return Err(self.unwritable(above, source)),
            }
        }
    }

    /// Refuses what could only fail when all work is done.
    pub(super) fn check(&self, existing: Existing) -> Result<(), StageError> {
        if existing == Existing::Refuse && self.is_occupied()? {
            return Err(StageError::OutputExists { output: self.output.clone() });
        }
        if existing == Existing::Append && fs::metadata(&self.path).is_ok_and(|there| !there.is_dir()) {
            return Err(StageError::NotADirectory { output: self.output.clone() });
        }
        if is_mount_point(&self.path) {
            return Err(StageError::MountPoint { output: self.output.clone() });
        }
        Ok(())
    }

    /// Moves the directory `whole` to this place, with the parents it needs; what was there before is then at `whole`,
    /// or at `old` where the file system cannot exchange them. When this fails, nothing has changed.
    pub(super) fn fill(&self, whole: &Path, old: &Path, existing: Existing) -> Result<Filled, StageError> {
        let made = make_parents(&self.path)?;
        match self.rename(whole, old, existing) {
            Ok(how) => Ok(Filled { how, parents: made.into_iter().map(Path::to_path_buf).collect() }),
            Err(error) => {
                warn(remove_parents(&made));
                Err(error)
            }
        }
    }

    /// Undoes `fill`: the directory is at `whole` again, and what it replaced is at this place.
    pub(super) fn empty(
        &self,
        whole: &Path,
        old: &Path,
        filled: &Filled,
        job: &str,
    ) -> Result<(), StageError> {
        let failed = |source| move_error(&self.path, whole, source);
        match filled.how {
            How::Appended => {
                let before = [old, whole].into_iter().find(|tree| tree.is_dir());
                remove_own(&self.path, job, before)?;
            }
            How::Exchanged => {
                return changes::exchange(&self.path, whole).map_err(failed);
            }
            How::Renamed => changes::rename(&self.path, whole).map_err(failed)?,
            How::MovedAside => {
                changes::rename(&self.path, whole).map_err(failed)?;
                changes::rename(old, &self.path).map_err(|source| move_error(old, &self.path, source))?;
            }
        }
        remove_parents(&filled.parents.iter().map(PathBuf::as_path).collect::<Vec<_>>())
    }

    fn rename(&self, whole: &Path, old: &Path, existing: Existing) -> Result<How, StageError> {
        let Err(source) = changes::rename(whole, &self.path) else {
            return Ok(if existing == Existing::Append { How::Appended } else { How::Renamed });
        };
        let failed = |source| move_error(whole, &self.path, source);
        match existing {
            _ if !self.is_occupied()? => Err(failed(source)),
            Existing::Append if !self.path.is_dir() => {
                Err(StageError::NotADirectory { output: self.output.clone() })
            }
            Existing::Refuse => Err(StageError::OutputExists { output: self.output.clone() }),
            Existing::Overwrite => self.exchange(whole, old),
            Existing::Append => {
                let _turn = Turn::take(parent(&self.path))?;
                link_all(&self.output, &self.path, whole)?;
                self.exchange(whole, old).map(|_| How::Appended)
            }
        }
    }

    fn exchange(&self, whole: &Path, old: &Path) -> Result<How, StageError> {
        match changes::exchange(whole, &self.path) {
            Err(error) if changes::is_unsupported(&error) => {
                replace(whole, &self.path, old).map(|()| How::MovedAside)
            }
            exchanged => {
                exchanged.map(|()| How::Exchanged).map_err(|source| move_error(whole, &self.path, source))
            }
        }
    }

    /// Whether anything is here that is not an empty directory.
    fn is_occupied(&self) -> Result<bool, StageError> {
        let failed = |source| StageError::Look { uri: Uri::local(&self.path), source };
        match fs::symlink_metadata(&self.path) {
            Err(source) if is_absence(&source) => Ok(false),
            Err(source) => Err(failed(source)),
            Ok(metadata) if metadata.is_dir() => {
                Ok(fs::read_dir(&self.path).map_err(failed)?.next().transpose().map_err(failed)?.is_some())
            }
            Ok(_) => Ok(true),
        }
    }

    fn unwritable(&self, directory: &Path, source: io::Error) -> StageError {
        StageError::Unwritable { output: self.output.clone(), directory: Uri::local(directory), source }
    }
}

/// Replaces `place` where the file system cannot exchange two names. It is empty for a moment between two renames.
fn replace(whole: &Path, place: &Path, old: &Path) -> Result<(), StageError> {
    changes::rename(place, old).map_err(|source| move_error(place, old, source))?;
    changes::rename(whole, place).map_err(|source| {
        warn(changes::rename(old, place).map_err(|source| move_error(old, place, source)));
        move_error(whole, place, source)
    })
}

/// Makes the directories above `path` that are missing, and returns them, topmost first.
fn make_parents(path: &Path) -> Result<Vec<&Path>, StageError> {
    let mut missing = Vec::new();
    let mut above = parent(path);
    while matches!(fs::metadata(above), Err(source) if is_absence(&source)) && above != parent(above) {
        missing.push(above);
        above = parent(above);
    }
    let mut made = Vec::new();
    for directory in missing.into_iter().rev() {
        match changes::create_directory(directory) {
            Ok(()) => made.push(directory),
            // `a/..` exists once `a` does, and another process may want the same directory.
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                warn(remove_parents(&made));
                return Err(StageError::Create { uri: Uri::local(directory), source });
            }
        }
    }
    Ok(made)
}

/// Removes the directories that `make_parents` made, unless another process has come to use them.
pub(super) fn remove_parents(made: &[&Path]) -> Result<(), StageError> {
    for directory in made.iter().rev() {
        match changes::remove_directory(directory) {
            Err(source) if source.kind() == io::ErrorKind::DirectoryNotEmpty => break,
            Err(source) if is_absence(&source) => {}
            removed => {
                removed.map_err(|source| StageError::Remove { uri: Uri::local(directory), source })?;
            }
        }
    }
    Ok(())
}

/// The directory that holds `path`; of `/` and `.`, themselves.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) if path != Path::new(".") => parent,
        _ => path,
    }
}

/// What `path` leads to, if it is a symbolic link to anything.
fn follow_link(path: &Path) -> Result<PathBuf, StageError> {
    let followed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => fs::canonicalize(path),
        _ => return Ok(path.to_path_buf()),
    };
    match followed {
        Err(source) if is_absence(&source) => Ok(path.to_path_buf()),
        followed => followed.map_err(|source| StageError::Look { uri: Uri::local(path), source }),
    }
}

/// Whether the system says so. Where it cannot say, publishing will find out.
fn is_mount_point(path: &Path) -> bool {
    statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|status| status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

pub(super) fn move_error(from: &Path, to: &Path, source: io::Error) -> StageError {
    StageError::Move { from: Uri::local(from), to: Uri::local(to), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_exchange_the_old_output_is_moved_aside() {
        let home = tempfile::tempdir().unwrap();
        let [whole, place, old] = ["whole", "place", "old"].map(|name| home.path().join(name));
        fs::write(&whole, "new").unwrap();
        fs::write(&place, "before").unwrap();
        replace(&whole, &place, &old).unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "new");
        assert_eq!(fs::read_to_string(&old).unwrap(), "before");
    }

    #[test]
    fn without_exchange_a_failure_puts_the_old_output_back() {
        let home = tempfile::tempdir().unwrap();
        let [absent, place, old] = ["absent", "place", "old"].map(|name| home.path().join(name));
        fs::write(&place, "before").unwrap();
        assert!(matches!(replace(&absent, &place, &old), Err(StageError::Move { .. })));
        assert_eq!(fs::read_to_string(&place).unwrap(), "before");
        assert!(!old.exists());
    }

    #[test]
    fn parents_made_for_nothing_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let place = Place::of(&Uri::local(home.path().join("a/b/out"))).unwrap();
        let absent = home.path().join("absent");
        assert!(matches!(place.fill(&absent, &absent, Existing::Refuse), Err(StageError::Move { .. })));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn parents_that_others_use_stay() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b/out");
        let made = make_parents(&path).unwrap();
        fs::write(home.path().join("a/other"), "").unwrap();
        remove_parents(&made).unwrap();
        assert!(!home.path().join("a/b").exists());
        assert!(home.path().join("a/other").exists());
    }

    #[test]
    fn the_parent_of_a_bare_name_is_here() {
        assert_eq!(parent(Path::new("out")), Path::new("."));
        assert_eq!(parent(Path::new("./out")), Path::new("."));
        assert_eq!(parent(Path::new("/out")), Path::new("/"));
        assert_eq!(parent(Path::new("/")), Path::new("/"));
        assert_eq!(parent(Path::new(".")), Path::new("."));
    }
}
