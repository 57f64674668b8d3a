//! Where a test may break a disk, or slow it down, under a worker that runs.
//!
//! With GRISTMILL_TEST_DISK_FAULTS in the worker's environment, writes to replicas of a volume fail with EIO while the file
//! `fail-writes` is in its directory, and reads while `fail-reads` is; each of them takes as many milliseconds longer as
//! the file `slow-writes`, or `slow-reads`, says. Without the variable nothing is looked at.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

static MAY_BREAK: LazyLock<bool> = LazyLock::new(|| std::env::var_os("GRISTMILL_TEST_DISK_FAULTS").is_some());
/// A replica's file is three directories below its volume: `blocks`, two digits, the file.
const DEPTH: usize = 4;

/// What fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Read,
    Write,
}

/// Waits as long as a test wants this file of a volume to be slow, and gives the error that it wants of it, if any.
pub(super) fn heed(access: Access, path: &Path) -> io::Result<()> {
    if !*MAY_BREAK {
        return Ok(());
    }
    std::thread::sleep(delay(access, path));
    match is_broken(access, path) {
        true => Err(rustix::io::Errno::IO.into()),
        false => Ok(()),
    }
}

fn is_broken(access: Access, path: &Path) -> bool {
    let name = match access {
        Access::Read => "fail-reads",
        Access::Write => "fail-writes",
    };
    path.ancestors().take(DEPTH).any(|directory| directory.join(name).exists())
}

/// # Panics
/// If a file is there and has no number in it: the test is wrong.
fn delay(access: Access, path: &Path) -> Duration {
    let name = match access {
        Access::Read => "slow-reads",
        Access::Write => "slow-writes",
    };
    let found = path.ancestors().take(DEPTH).find_map(|directory| {
        match std::fs::read_to_string(directory.join(name)) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
            text => Some(text.expect("a file of the test")),
        }
    });
    found.map_or(Duration::ZERO, |text| {
        Duration::from_millis(text.trim().parse().expect("a number of milliseconds in a file of the test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_broken_while_a_file_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let replica = dir.path().join("blocks/00/7");
        assert!(!is_broken(Access::Write, &replica));
        std::fs::write(dir.path().join("fail-writes"), "").unwrap();
        assert!(is_broken(Access::Write, &replica) && !is_broken(Access::Read, &replica));
        heed(Access::Write, &replica).expect("no test has asked for it");
    }

    #[test]
    fn a_volume_is_as_slow_as_a_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let replica = dir.path().join("blocks/00/7");
        assert_eq!(delay(Access::Read, &replica), Duration::ZERO);
        std::fs::write(dir.path().join("slow-reads"), "250\n").unwrap();
        assert_eq!(delay(Access::Read, &replica), Duration::from_millis(250));
        assert_eq!(delay(Access::Write, &replica), Duration::ZERO);
    }
}
