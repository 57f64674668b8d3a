//! Where a test may stop an attempt, to see what becomes of one that is killed, paused or starved right there.
//!
//! With `GRISTMILL_TEST_HOLD_ATTEMPTS=DIR` in an attempt's environment (a worker passes its own on), an attempt that comes to
//! a moment waits while the file `DIR/<moment>` is there. While it waits, `DIR/<moment>.<process id>` says so. Without the
//! variable nothing is looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

/// Names the directory.
pub const VARIABLE: &str = "GRISTMILL_TEST_HOLD_ATTEMPTS";
/// Between two looks at the file: a test waits for it, and nothing else does.
const POLL: Duration = Duration::from_millis(5);

static DIR: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os(VARIABLE).map(PathBuf::from));

/// A moment in the life of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A map has read records, and not all.
    Map,
    /// A spill is half written.
    Spill,
    /// The spills of a map are half merged.
    Merge,
    /// A reduce has some of its map outputs, and not all.
    Shuffle,
    /// A reduce has all of its input, and merges it.
    ReduceMerge,
    /// A reduce has written something, and not all.
    Reduce,
    /// All is written, and nobody knows.
    Commit,
}

impl Moment {
    /// All of them, in the order in which a job comes to them.
    pub const ALL: [Moment; 7] = [
        Moment::Map,
        Moment::Spill,
        Moment::Merge,
        Moment::Shuffle,
        Moment::ReduceMerge,
        Moment::Reduce,
        Moment::Commit,
    ];

    /// The name of its file.
    pub fn name(self) -> &'static str {
        match self {
            Moment::Map => "map",
            Moment::Spill => "spill",
            Moment::Merge => "merge",
            Moment::Shuffle => "shuffle",
            Moment::ReduceMerge => "reduce-merge",
            Moment::Reduce => "reduce",
            Moment::Commit => "commit",
        }
    }
}

/// The attempt is at this moment.
///
/// # Panics
/// If a test has asked for it, and the mark cannot be written.
pub fn reach(moment: Moment) {
    if let Some(dir) = DIR.as_deref() {
        wait_in(dir, moment);
    }
}

#[cold]
fn wait_in(dir: &Path, moment: Moment) {
    let gate = dir.join(moment.name());
    if !gate.exists() {
        return;
    }
    let mark = dir.join(format!("{}.{}", moment.name(), process::id()));
    fs::write(&mark, "").expect("the directory of the test takes a mark");
    while gate.exists() {
        thread::sleep(POLL);
    }
    match fs::remove_file(&mark) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", mark.display()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_waits_while_a_file_is_there_and_says_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let gate = dir.path().join("spill");
        fs::write(&gate, "").expect("a gate");
        // Another moment's gate is open.
        wait_in(dir.path(), Moment::Map);
        let mark = dir.path().join(format!("spill.{}", process::id()));
        thread::scope(|scope| {
            let waits = scope.spawn(|| wait_in(dir.path(), Moment::Spill));
            while !mark.exists() {
                thread::yield_now();
            }
            assert!(!waits.is_finished());
            fs::remove_file(&gate).expect("our gate");
        });
        assert!(!mark.exists(), "it does not wait any more");
    }
}
