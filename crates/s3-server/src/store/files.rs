//! Data files: written once, named by numbers, and meaningless unless the index names them.
//!
//! ```text
//!   incoming/<number>            being written
//!   objects/<xx>/<number>        whole, and on disk before the index names it; xx are the last two digits of the number,
//!                                which is in hex
//! ```
//!
//! A file of an object is removed after the change that takes it out of the index, and not before its last reader is
//! done. What a crash leaves of either kind is swept at the next start.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::failure::StoreError;
use super::records::DataFile;

const INCOMING: &str = "incoming";
const OBJECTS: &str = "objects";
/// Directories below `objects`, so that none of them gets long.
const SHARDS: u64 = 256;

/// The data files of a store.
pub(crate) struct Files {
    root: PathBuf,
    next: AtomicU64,
    pins: Mutex<HashMap<u64, Pin>>,
}

/// An object that is being read, by the number of its first file.
#[derive(Default)]
struct Pin {
    readers: usize,
    /// Its files, when it is no more: the last reader removes them.
    doomed: Vec<DataFile>,
}

impl Files {
    /// Makes the directories, and removes all files that are not in `named`, which is sorted.
    pub(crate) fn open(root: &Path, named: &[u64]) -> Result<Files, StoreError> {
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::File { path, source }
        };
        let incoming = root.join(INCOMING);
        fs::create_dir_all(&incoming).map_err(file_error(&incoming))?;
        sweep(&incoming, &[]).map_err(file_error(&incoming))?;
        let objects = root.join(OBJECTS);
        let mut present = 0;
        for shard in 0..SHARDS {
            let directory = objects.join(format!("{shard:02x}"));
            fs::create_dir_all(&directory).map_err(file_error(&directory))?;
            present += sweep(&directory, named).map_err(file_error(&directory))?;
        }
        for directory in [&objects, root] {
            sync_directory(directory).map_err(file_error(directory))?;
        }
        if present < named.len() {
            tracing::error!(
                missing = named.len() - present,
                "data files are missing: their objects cannot be read"
            );
        }
        let next = AtomicU64::new(named.last().map_or(1, |last| last + 1));
        Ok(Files { root: root.to_owned(), next, pins: Mutex::default() })
    }

    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.root.join(OBJECTS).join(format!("{:02x}", number % SHARDS)).join(format!("{number:016x}"))
    }

    /// A new file to write.
    pub(crate) fn create(self: &Arc<Files>) -> Result<NewFile, StoreError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(INCOMING).join(format!("{number:016x}"));
        let file =
            File::create_new(&path).map_err(|source| StoreError::File { path: path.clone(), source })?;
        Ok(NewFile { files: Arc::clone(self), number, bytes: 0, file, path, kept: false })
    }

    /// Looks something up, and pins the object it has found: its files stay until the pin is dropped.
    ///
    /// Lookup and pin are one step to [`Files::remove`], so that no file vanishes between them.
    pub(crate) fn pin<T, E>(
        self: &Arc<Files>,
        look_up: impl FnOnce() -> Result<(T, u64), E>,
    ) -> Result<(T, PinGuard), E> {
        let mut pins = self.pins();
        let (found, first) = look_up()?;
        pins.entry(first).or_default().readers += 1;
        Ok((found, PinGuard { files: Arc::clone(self), first }))
    }

    /// Removes the files of what the index no longer names, now or after the last reader.
    pub(crate) fn remove(&self, data: Vec<DataFile>) {
        let Some(first) = data.first() else { return };
        if let Some(pin) = self.pins().get_mut(&first.number) {
            pin.doomed = data;
            return;
        }
        self.unlink(&data);
    }

    fn unlink(&self, data: &[DataFile]) {
        for file in data {
            let path = self.path(file.number);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a data file; the next start will");
            }
        }
    }

    fn pins(&self) -> MutexGuard<'_, HashMap<u64, Pin>> {
        self.pins.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Keeps the files of an object that is being read.
pub(crate) struct PinGuard {
    files: Arc<Files>,
    first: u64,
}

impl Drop for PinGuard {
    fn drop(&mut self) {
        let mut pins = self.files.pins();
        let Some(pin) = pins.get_mut(&self.first) else { return };
        pin.readers -= 1;
        if pin.readers == 0 {
            let doomed = std::mem::take(&mut pin.doomed);
            pins.remove(&self.first);
            drop(pins);
            self.files.unlink(&doomed);
        }
    }
}

/// A file that no change has named yet. It is removed when it is dropped, unless it was kept.
pub(crate) struct NewFile {
    files: Arc<Files>,
    number: u64,
    bytes: u64,
    file: File,
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    pub(crate) fn data(&self) -> DataFile {
        DataFile { number: self.number, bytes: self.bytes }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| self.error(source))
    }

    /// Puts the file at its place, and on disk. In this order a file system with a journal has one entry to write and not two:
    /// syncing the file writes the new name as well, and its directory has nothing left.
    pub(crate) fn finish(&mut self) -> Result<(), StoreError> {
        let place = self.files.path(self.number);
        fs::rename(&self.path, &place).map_err(|source| self.error(source))?;
        self.path = place;
        self.file.sync_all().map_err(|source| self.error(source))?;
        let directory = self.path.parent().expect("it is in a directory");
        sync_directory(directory).map_err(|source| self.error(source))
    }

    /// Leaves the file to the index, or, when nobody knows whether that names it, to the sweep of the next start.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }

    fn error(&self, source: io::Error) -> StoreError {
        StoreError::File { path: self.path.clone(), source }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a data file; the next start will");
        }
    }
}

/// Removes all files of a directory that are not in `named`; says how many are left.
fn sweep(directory: &Path, named: &[u64]) -> io::Result<usize> {
    let mut left = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| u64::from_str_radix(name, 16).ok());
        let is_named = number.is_some_and(|number| named.binary_search(&number).is_ok());
        if is_named {
            left += 1;
            continue;
        }
        match fs::remove_file(entry.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(left)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
