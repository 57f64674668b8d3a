//! The calls by which an output takes its place and staging goes: in tests each of them can fail.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

#[cfg(test)]
use crate::failing::{around, cannot_exchange};

pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    around(|| fs::create_dir(path))
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    around(|| fs::write(path, bytes))
}

/// A second name of a file; of a symbolic link, of the link itself.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    around(|| fs::hard_link(from, to))
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    around(|| fs::rename(from, to))
}

/// Each name then has what the other one had. Some file systems cannot do that: [`is_unsupported`].
pub(super) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    if cannot_exchange() {
        return Err(rustix::io::Errno::INVAL.into());
    }
    around(|| Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?))
}

/// Whether an exchange failed because the file system knows none.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    around(|| fs::remove_file(path))
}

pub(super) fn remove_directory(path: &Path) -> io::Result<()> {
    around(|| fs::remove_dir(path))
}

pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    around(|| fs::remove_dir_all(path))
}

#[cfg(not(test))]
fn around<T>(act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

#[cfg(not(test))]
fn cannot_exchange() -> bool {
    false
}
