//! Walks down a tree of directories, level by level, and finds every file that a pattern names: with several threads, as
//! most of the time goes into waiting for a disk or a master.

use std::panic;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::glob::{Cursor, Pattern};
use crate::store::{FileInfo, ListError};

/// A directory to read, and how far its path has come in the pattern.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) cursor: Cursor,
}

/// What some directories hold.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) files: Vec<FileInfo>,
    pub(crate) directories: Vec<Directory>,
    /// Whether the pattern names anything at all: an empty directory too.
    pub(crate) named: bool,
}

impl Found {
    fn add(&mut self, more: Found) {
        self.files.extend(more.files);
        self.directories.extend(more.directories);
        self.named |= more.named;
    }
}

/// All that `pattern` names below `base`, in the order of its names; `read` adds what one directory holds.
pub(crate) fn walk(
    base: PathBuf,
    pattern: &Pattern,
    threads: usize,
    read: impl Fn(&Directory, &mut Found) -> Result<(), ListError> + Sync,
) -> Result<Found, ListError> {
    let cursor = pattern.start();
    let named = cursor.named;
    let mut found = Found { named, directories: vec![Directory { path: base, cursor }], ..Found::default() };
    while !found.directories.is_empty() {
        let level = std::mem::take(&mut found.directories);
        found.add(read_level(&level, threads, &read)?);
    }
    found.files.sort_unstable_by(|one, other| one.uri.cmp(&other.uri));
    Ok(found)
}

/// Reads the directories of one level; each thread takes the next one that nobody has.
fn read_level(
    level: &[Directory],
    threads: usize,
    read: &(impl Fn(&Directory, &mut Found) -> Result<(), ListError> + Sync),
) -> Result<Found, ListError> {
    let next = AtomicUsize::new(0);
    let read_some = || {
        let mut found = Found::default();
        while let Some(directory) = level.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = read(directory, &mut found) {
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
