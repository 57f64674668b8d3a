//! The hidden directory in which one output is staged: locked while its process lives, swept by others after.
//!
//! ```text
//! .gristmill-<job id>-<output name>/
//!     lock                 held by the process that stages; it gets this name only once it is held
//!     attempts/<attempt>/  what attempts write
//!     out/                 the winners, about to appear as the output
//!     old/                 the output they replace, where it cannot be exchanged with out/
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::StageError;
use crate::uri::Uri;

pub(super) const PREFIX: &str = ".gristmill-";
const LOCK: &str = "lock";
const LOCK_TO_BE: &str = "lock.new";
const ATTEMPTS: &str = "attempts";
pub(super) const OUT: &str = "out";
pub(super) const OLD: &str = "old";

/// A process makes its lock at once after its directory; one that has not within an hour died between the two.
const STILLBORN_AGE_SECONDS: u64 = 3600;

/// A staging directory of this process.
#[derive(Debug)]
pub(super) struct StagingDirectory {
    path: PathBuf,
    /// The lock lasts as long as this is open.
    _lock: File,
}

impl StagingDirectory {
    /// Makes and locks the directory in `home` for one job's output. Its existence proves that `home` is writable.
    pub(super) fn make(home: &Path, job_id: &str, output: &Uri) -> Result<StagingDirectory, StageError> {
        let path = home.join(directory_name(job_id, output));
        fs::create_dir(&path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => {
                StageError::InUse { output: output.clone(), staging: Uri::local(&path) }
            }
            _ => StageError::Unwritable { output: output.clone(), directory: Uri::local(home), source },
        })?;
        match hold_lock(&path) {
            Ok(lock) => Ok(StagingDirectory { path, _lock: lock }),
            Err(source) => {
                warn(remove(&path));
                Err(StageError::Lock { uri: Uri::local(path.join(LOCK)), source })
            }
        }
    }

    pub(super) fn attempt(&self, attempt: &str) -> PathBuf {
        self.path.join(ATTEMPTS).join(attempt)
    }

    pub(super) fn out(&self) -> PathBuf {
        self.path.join(OUT)
    }

    pub(super) fn old(&self) -> PathBuf {
        self.path.join(OLD)
    }

    /// Removes the directory and all in it. It may be called again if it fails.
    pub(super) fn remove(&self) -> Result<(), StageError> {
        remove(&self.path)
    }
}

/// Removes what dead processes left in `home`. Best effort: it says what it cannot remove, and goes on.
pub(super) fn sweep(home: &Path) {
    let failed = |source| StageError::Look { uri: Uri::local(home), source };
    let entries = match fs::read_dir(home) {
        Ok(entries) => entries,
        Err(source) => return warn(Err(failed(source))),
    };
    for entry in entries {
        warn(entry.map_err(failed).and_then(|entry| sweep_entry(&entry)));
    }
}

/// Reports what has gone wrong where no caller can be told: tidying up after the result is settled.
pub(super) fn warn(tidied: Result<(), StageError>) {
    if let Err(error) = tidied {
        eprintln!("warning: {error}");
    }
}

fn directory_name(job_id: &str, output: &Uri) -> OsString {
    let mut name = OsString::from(format!("{PREFIX}{job_id}-"));
    name.push(output.name());
    name
}

/// Makes the lock file. It is renamed once it is held, so that nobody ever finds one that is not yet held.
fn hold_lock(directory: &Path) -> io::Result<File> {
    let to_be = directory.join(LOCK_TO_BE);
    let lock = OpenOptions::new().write(true).create_new(true).open(&to_be)?;
    lock.try_lock()?;
    fs::rename(&to_be, directory.join(LOCK))?;
    Ok(lock)
}

fn sweep_entry(entry: &DirEntry) -> Result<(), StageError> {
    if !entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
        return Ok(());
    }
    let path = entry.path();
    match take_over(&path) {
        Ok(Some(_dead)) => remove(&path),
        Ok(None) => Ok(()),
        // Somebody else swept it, or it is another user's.
        Err(gone) if matches!(gone.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(())
        }
        Err(source) => Err(StageError::Look { uri: Uri::local(path), source }),
    }
}

/// Proof that nobody uses a staging directory: its lock, now ours, if it ever had one.
struct Dead {
    _lock: Option<File>,
}

/// Makes sure that nobody uses the directory at `path`, and, if it has a lock, that nobody will.
fn take_over(path: &Path) -> io::Result<Option<Dead>> {
    if !looks_like_staging(path)? {
        return Ok(None);
    }
    match OpenOptions::new().read(true).write(true).open(path.join(LOCK)) {
        Ok(lock) => Ok(take_lock(&lock, &path.join(LOCK))?.then_some(Dead { _lock: Some(lock) })),
        Err(none) if none.kind() == io::ErrorKind::NotFound => {
            Ok(is_stillborn(path)?.then_some(Dead { _lock: None }))
        }
        Err(error) => Err(error),
    }
}

/// Whether a directory holds nothing but what a staging directory does: nothing else is ours to remove. With `old`
/// in it, its process died while it replaced an output, and that may be the only copy.
fn looks_like_staging(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return Ok(false);
    }
    for entry in fs::read_dir(path)? {
        let known = [LOCK, LOCK_TO_BE, ATTEMPTS, OUT].map(OsStr::new);
        if !known.contains(&entry?.file_name().as_os_str()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether `lock` could be taken and still is the file at `path`. If it is not, another process has swept the
/// directory, and a new one may be there.
fn take_lock(lock: &File, path: &Path) -> io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let (ours, there) = (lock.metadata()?, fs::metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

/// Whether a directory without a lock is too old to be still in the making. A time in the future is not old.
fn is_stillborn(path: &Path) -> io::Result<bool> {
    let modified = fs::metadata(path)?.modified()?;
    Ok(modified.elapsed().is_ok_and(|age| age > Duration::from_secs(STILLBORN_AGE_SECONDS)))
}

/// Removes a staging directory, the lock last: when this stops half way, the rest still shows as dead.
fn remove(directory: &Path) -> Result<(), StageError> {
    for name in [ATTEMPTS, OUT, OLD, LOCK_TO_BE, LOCK] {
        remove_whatever(&directory.join(name))?;
    }
    gone(fs::remove_dir(directory), directory)
}

fn remove_whatever(path: &Path) -> Result<(), StageError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => gone(fs::remove_dir_all(path), path),
        Ok(_) => gone(fs::remove_file(path), path),
        Err(source) => gone(Err(source), path),
    }
}

/// A removal succeeds too when there was nothing to remove.
pub(super) fn gone(removal: io::Result<()>, path: &Path) -> Result<(), StageError> {
    match removal {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StageError::Remove { uri: Uri::local(path), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn leave_behind(home: &Path, name: &str, files: &[&str]) -> PathBuf {
        let directory = home.join(name);
        fs::create_dir_all(directory.join(ATTEMPTS).join("a1")).unwrap();
        for file in files {
            fs::write(directory.join(file), "").unwrap();
        }
        directory
    }

    fn make_old(directory: &Path) {
        let long_ago = SystemTime::now() - Duration::from_secs(2 * STILLBORN_AGE_SECONDS);
        File::open(directory).unwrap().set_modified(long_ago).unwrap();
    }

    #[test]
    fn what_a_dead_process_left_is_swept() {
        let home = tempfile::tempdir().unwrap();
        let dead = leave_behind(home.path(), ".gristmill-j1-out", &[LOCK, "attempts/a1/part", OUT]);
        sweep(home.path());
        assert!(!dead.exists());
    }

    #[test]
    fn what_a_live_process_stages_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let output = Uri::local(home.path().join("out"));
        let live = StagingDirectory::make(home.path(), "j1", &output).unwrap();
        sweep(home.path());
        assert!(live.path.join(LOCK).exists());
        let again = StagingDirectory::make(home.path(), "j1", &output).unwrap_err();
        let said = format!("cannot write {output}: {} is in use", live.path.display());
        assert_eq!(again.to_string(), said);
    }

    #[test]
    fn a_directory_without_a_lock_has_an_hour_to_get_one() {
        let home = tempfile::tempdir().unwrap();
        let young = leave_behind(home.path(), ".gristmill-j1-out", &[LOCK_TO_BE]);
        let old = leave_behind(home.path(), ".gristmill-j2-out", &[LOCK_TO_BE]);
        make_old(&old);
        sweep(home.path());
        assert!(young.exists());
        assert!(!old.exists());
    }

    #[test]
    fn what_only_has_such_a_name_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let other = leave_behind(home.path(), ".gristmill-data", &[LOCK, "precious"]);
        let file = home.path().join(".gristmill-notes");
        fs::write(&file, "").unwrap();
        sweep(home.path());
        for kept in [LOCK, ATTEMPTS, "precious"] {
            assert!(other.join(kept).exists(), "{kept}");
        }
        assert!(file.exists());
    }

    #[test]
    fn an_old_output_moved_aside_outlives_a_dead_process() {
        let home = tempfile::tempdir().unwrap();
        let dead = leave_behind(home.path(), ".gristmill-j1-out", &[LOCK, OLD]);
        sweep(home.path());
        assert!(dead.join(OLD).exists());
    }

    #[test]
    fn a_lock_that_was_replaced_meanwhile_is_not_ours() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(LOCK);
        let opened_before = File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(!take_lock(&opened_before, &path).unwrap());
    }

    #[test]
    fn removing_twice_is_removing_once() {
        let home = tempfile::tempdir().unwrap();
        let output = Uri::local(home.path().join("out"));
        let staging = StagingDirectory::make(home.path(), "j1", &output).unwrap();
        staging.remove().unwrap();
        staging.remove().unwrap();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
