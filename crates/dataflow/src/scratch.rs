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
/// Ends the name of a file that is being written.
pub(crate) const UNFINISHED: &str = ".new";
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
    lock: Option<File>,
    next_file: AtomicU64,
    written_bytes: AtomicU64,
    resident: ResidentPool,
    codec: Codec,
}

impl Scratch {
    /// Makes a directory below `parent`, which must exist. Finished runs stay in memory while `resident` has room.
    pub fn create(parent: &Path, resident: ResidentPool, codec: Codec) -> Result<Self, ScratchError> {
        sweep(parent)?;
        // The time tells processes apart that had the same number, and is too coarse for threads of one.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("{PREFIX}{}-{:x}-{nth}", std::process::id(), nanos_now()));
        fs::create_dir(&dir).map_err(|source| error("create", &dir, source))?;
        let lock_path = dir.join(LOCK_NAME);
        let lock = File::create_new(&lock_path).map_err(|source| error("create", &lock_path, source))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| error("lock", &lock_path, errno.into()))?;
        Ok(Self::new(dir, Some(lock), resident, codec))
    }

    /// Uses a directory that is this process's alone already, and that somebody else removes afterwards. Map outputs are
    /// made as files, to be handed on.
    pub fn private(dir: &Path, resident: ResidentPool, codec: Codec) -> Result<Self, ScratchError> {
        let found = fs::metadata(dir).map_err(|source| error("use", dir, source))?;
        if !found.is_dir() {
            return Err(error("use", dir, io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self::new(dir.to_owned(), None, resident, codec))
    }

    fn new(dir: PathBuf, lock: Option<File>, resident: ResidentPool, codec: Codec) -> Self {
        let (next_file, written_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { inner: Arc::new(Inner { dir, lock, next_file, written_bytes, resident, codec }) }
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
        if self.inner.lock.is_none() {
            return Ok(());
        }
        fs::remove_dir_all(&self.inner.dir).map_err(|source| error("remove", &self.inner.dir, source))
    }

    /// Whether map outputs outlive the process.
    pub(crate) fn hands_outputs_on(&self) -> bool {
        self.inner.lock.is_none()
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
        Ok((ScratchFile { path, moved: false, _dir: self.clone() }, file))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.lock.is_some()
            && let Err(source) = fs::remove_dir_all(&self.dir)
        {
            eprintln!("gristmill: cannot remove scratch directory {}: {source}", self.dir.display());
        }
    }
}

/// A scratch file that somebody still needs.
#[derive(Debug)]
pub struct ScratchFile {
    path: PathBuf,
    moved: bool,
    /// Keeps the directory until the last file is gone.
    _dir: Scratch,
}

impl ScratchFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn open(&self) -> Result<Box<dyn ReadAt>, ScratchError> {
        open(&self.path)
    }

    /// Moves it out of the directory, to where nothing is.
    pub(crate) fn move_to(mut self, to: &Path) -> Result<(), ScratchError> {
        match fs::rename(&self.path, to) {
            Ok(()) => {
                self.moved = true;
                Ok(())
            }
            // Another disk: the copy is whole before it has the name.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                write_whole(to, |mut copy| {
                    io::copy(&mut File::open(&self.path)?, &mut copy)?;
                    Ok(copy)
                })?;
                Ok(())
            }
            Err(source) => Err(error("move a run to", to, source)),
        }
    }

    pub(crate) fn error(&self, action: &'static str, source: io::Error) -> ScratchError {
        error(action, &self.path, source)
    }
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> Result<Box<dyn ReadAt>, ScratchError> {
    let file = File::open(path).map_err(|source| error("open", path, source))?;
    let bytes = file.metadata().map_err(|source| error("stat", path, source))?.len();
    Ok(Box::new(Opened { file, bytes }))
}

/// Makes a file that has its name only when `write` is through. Returns its bytes.
pub(crate) fn write_whole(
    to: &Path,
    write: impl FnOnce(File) -> io::Result<File>,
) -> Result<u64, ScratchError> {
    let mut name = to.as_os_str().to_owned();
    name.push(UNFINISHED);
    let unfinished = PathBuf::from(name);
    let failed = |source| error("write", &unfinished, source);
    let file = File::create(&unfinished).map_err(failed)?;
    let written = write(file).and_then(|file| {
        fs::rename(&unfinished, to)?;
        Ok(file.metadata()?.len())
    });
    written.map_err(|source| match fs::remove_file(&unfinished) {
        Err(left) if left.kind() != io::ErrorKind::NotFound => error("write and remove", &unfinished, source),
        Ok(()) | Err(_) => failed(source),
    })
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
        if !self.moved
            && let Err(source) = fs::remove_file(&self.path)
        {
            eprintln!("gristmill: cannot remove scratch file {}: {source}", self.path.display());
        }
    }
}

pub(crate) fn error(action: &'static str, path: &Path, source: io::Error) -> ScratchError {
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
    fn a_private_directory_is_left_where_it_was() {
        let dir = tempfile::tempdir().expect("tempdir");
        let scratch = Scratch::private(dir.path(), ResidentPool::new(0), Codec::Lz4).expect("scratch");
        let (file, _) = scratch.file().expect("file");
        scratch.abandon().expect("nothing is removed");
        assert!(file.path().exists());
        drop((scratch, file));
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0, "its files go");
        let missing = dir.path().join("missing");
        let error = Scratch::private(&missing, ResidentPool::new(0), Codec::Lz4).expect_err("nothing there");
        assert!(error.to_string().contains("missing"), "{error}");
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
