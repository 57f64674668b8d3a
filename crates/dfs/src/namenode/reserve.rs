//! The reserve of disk space under the namespace: below it nothing new is taken in, but things can be deleted.

use std::io;
use std::path::{Path, PathBuf};

/// Free space is asked for at most this often: the reserve is far more than can be written in between.
const ASK_INTERVAL_MS: u64 = 200;

/// Watches the free space of one directory's file system.
#[derive(Debug)]
pub(crate) struct Reserve {
    directory: PathBuf,
    reserve_bytes: u64,
    asked_ms: Option<u64>,
    read_only: bool,
}

impl Reserve {
    pub(crate) fn new(directory: &Path, reserve_bytes: u64) -> Reserve {
        Reserve { directory: directory.to_owned(), reserve_bytes, asked_ms: None, read_only: false }
    }

    /// Whether less than the reserve is free. Leaving the read-only mode takes half a reserve more, so that it does
    /// not flap.
    pub(crate) fn is_read_only(&mut self, now_ms: u64) -> io::Result<bool> {
        if self.asked_ms.is_some_and(|asked| now_ms < asked + ASK_INTERVAL_MS) {
            return Ok(self.read_only);
        }
        let free = free_bytes(&self.directory)?;
        let wanted =
            if self.read_only { self.reserve_bytes + self.reserve_bytes / 2 } else { self.reserve_bytes };
        let read_only = free < wanted;
        if read_only != self.read_only {
            let directory = self.directory.display();
            match read_only {
                true => {
                    tracing::error!(%directory, free_bytes = free, "disk nearly full: namespace is read-only")
                }
                false => {
                    tracing::info!(%directory, free_bytes = free, "disk has space again: namespace is writable")
                }
            }
        }
        self.read_only = read_only;
        self.asked_ms = Some(now_ms);
        Ok(read_only)
    }
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(found.f_bavail * found.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_larger_than_the_disk_makes_it_read_only() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Reserve::new(dir.path(), 0).is_read_only(0).unwrap());
        assert!(Reserve::new(dir.path(), u64::MAX / 4).is_read_only(0).unwrap());
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error_not_free_space() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::new(&dir.path().join("gone"), 1);
        assert!(reserve.is_read_only(0).is_err());
    }
}
