//! A job's private directory for runs that do not fit in memory. It vanishes with the job; what a killed
//! process left is swept by the next one.

use crate::block::Codec;
use crate::memory::ResidentPool;
use gristmill_dfs::ReadAt;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use thiserror::Error;

const PREFIX: &str = "gristmill-scratch-";
const LOCK_NAME: &str = "lock";
/// A directory without a lock file may be one that is just being made; after this long it is debris.
const UNLOCKED_AGE_MIN: Duration = Duration::from_secs(3600);

/// Why scratch space cannot be used.
#[derive(Debug, Error)]
#[error("cannot {action} {} for scratch space: {source}", path.display())]
pub struct ScratchError {
    /// "create", "write", ...
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Where runs go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Scratch {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Held for as long as the directory is in use; `None` if the directory belongs to somebody else.
    _lock: File,
    next_file: AtomicU64,
    written_bytes: AtomicU64,
    resident: ResidentPool,
    codec: Codec,
}

impl Scratch {
    /// Makes a directory below `parent`, which must exist. Finished runs stay in memory while `resident` has room.
    pub fn create(parent: &Path, resident: ResidentPool, codec: Codec) -> Result<Self, ScratchError> {
        sweep(parent)?;
        let id = format!("{PREFIX}{}-{:x}", std::process::id(), nanos_now());
        let dir = parent.join(id);
        fs::create_dir(&dir).map_err(|source| error("create", &dir, source))?;
        let lock_path = dir.join(LOCK_NAME);
        let lock = File::create_new(&lock_path).map_err(|source| error("create", &lock_path, source))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| error("lock", &lock_path, errno.into()))?;
        let (next_file, written_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let inner = Inner { dir, _lock: lock, next_file, written_bytes, resident, codec };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Bytes written to disk so far, as stored.
    pub fn written_bytes(&self) -> u64 {
        self.inner.written_bytes.load(Ordering::Relaxed)
    }

    /// The memory that finished runs may use.
    pub fn resident(&self) -> &ResidentPool {
        &self.inner.resident
    }

    /// Removes the directory under the feet of whoever still uses it: for a process that is about to end.
    pub fn abandon(&self) -> Result<(), ScratchError> {
        fs::remove_dir_all(&self.inner.dir).map_err(|source| error("remove", &self.inner.dir, source))
    }

    pub(crate) fn codec(&self) -> Codec {
        self.inner.codec
    }

    pub(crate) fn count_written(&self, bytes: u64) {
        self.inner.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A new file, removed when the returned owner is dropped.
    pub(crate) fn file(&self) -> Result<(ScratchFile, File), ScratchError> {
        let id = self.inner.next_file.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.dir.join(format!("run-{id:06}"));
        let file = File::create_new(&path).map_err(|source| error("create", &path, source))?;
        Ok((ScratchFile { path, _dir: self.clone() }, file))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(source) = fs::remove_dir_all(&self.dir) {
            eprintln!("gristmill: cannot remove scratch directory {}: {source}", self.dir.display());
        }
    }
}

/// A scratch file that somebody still needs.
#[derive(Debug)]
pub struct ScratchFile {
    path: PathBuf,
    /// Keeps the directory until the last file is gone.
    _dir: Scratch,
}

impl ScratchFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn open(&self) -> Result<Box<dyn ReadAt>, ScratchError> {
        let file = File::open(&self.path).map_err(|source| self.error("open", source))?;
        let bytes = file.metadata().map_err(|source| self.error("stat", source))?.len();
        Ok(Box::new(Opened { file, bytes }))
    }

    pub(crate) fn error(&self, action: &'static str, source: io::Error) -> ScratchError {
        error(action, &self.path, source)
    }
}

struct Opened {
    file: File,
    bytes: u64,
}

impl ReadAt for Opened {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        if let Err(source) = fs::remove_file(&self.path) {
            eprintln!("gristmill: cannot remove scratch file {}: {source}", self.path.display());
        }
    }
}

fn error(action: &'static str, path: &Path, source: io::Error) -> ScratchError {
    ScratchError { action, path: path.to_owned(), source }
}

fn nanos_now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// Removes scratch directories whose process is gone: their lock can be taken.
fn sweep(parent: &Path) -> Result<(), ScratchError> {
    let entries = fs::read_dir(parent).map_err(|source| error("list", parent, source))?;
    for entry in entries {
        let path = entry.map_err(|source| error("list", parent, source))?.path();
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if ours && is_dead(&path) {
            // Another process may sweep at the same time, and other users' directories are not ours to remove.
            if let Err(source) = fs::remove_dir_all(&path)
                && !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
            {
                return Err(error("remove dead", &path, source));
            }
        }
    }
    Ok(())
}

fn is_dead(dir: &Path) -> bool {
    match File::open(dir.join(LOCK_NAME)) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => is_old(dir),
        Err(_) => false,
    }
}

fn is_old(dir: &Path) -> bool {
    let modified = fs::metadata(dir).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > UNLOCKED_AGE_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(parent: &Path) -> Scratch {
        Scratch::create(parent, ResidentPool::new(0), Codec::Lz4).expect("scratch")
    }

    #[test]
    fn the_directory_lives_until_the_last_file_is_dropped() {
        let parent = tempfile::tempdir().expect("tempdir");
        let scratch = scratch(parent.path());
        let (file, _) = scratch.file().expect("file");
        drop(scratch);
        assert!(file.path().exists());
        drop(file);
        assert_eq!(fs::read_dir(parent.path()).expect("list").count(), 0);
    }

    #[test]
    fn a_dead_process_is_swept_and_a_living_one_is_not() {
        let parent = tempfile::tempdir().expect("tempdir");
        let dead = parent.path().join(format!("{PREFIX}0-0"));
        fs::create_dir(&dead).expect("dir");
        fs::write(dead.join(LOCK_NAME), b"").expect("lock");
        fs::write(dead.join("run-000000"), b"debris").expect("run");
        let alive = scratch(parent.path());
        assert!(!dead.exists(), "nobody holds its lock");
        let other = scratch(parent.path());
        assert!(alive.inner.dir.exists() && other.inner.dir.exists());
    }
}
