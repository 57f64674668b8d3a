//! Where a test may stop the publication of jobs, to see what becomes of one whose master dies right there.
//!
//! `GRISTMILL_TEST_HOLD_PUBLISH=DIR` in the master's environment: while `DIR/before` exists, no publication begins; while
//! `DIR/after` exists, none of those that have come to their end is told of. A job that is held stays COMMITTING, and nothing
//! else changes. Without the variable nothing is looked at.

use std::path::{Path, PathBuf};

/// Names the directory.
const VARIABLE: &str = "GRISTMILL_TEST_HOLD_PUBLISH";

/// The directory, if a test has named one.
pub(super) struct Hold {
    dir: Option<PathBuf>,
}

/// A moment of a publication.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// The decision is durable, and nothing is visible.
    Before,
    /// All is visible, and nobody knows.
    After,
}

impl Hold {
    /// As the environment says.
    pub(super) fn from_environment() -> Hold {
        let dir = std::env::var_os(VARIABLE).map(PathBuf::from);
        if let Some(dir) = &dir {
            tracing::warn!(dir = %dir.display(), "publications of jobs can be held there, for a test");
        }
        Hold { dir }
    }

    /// Whether a publication is to go no further for now.
    pub(super) fn holds(&self, moment: Moment) -> bool {
        let name = match moment {
            Moment::Before => "before",
            Moment::After => "after",
        };
        self.dir.as_deref().is_some_and(|dir: &Path| dir.join(name).exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_held_while_a_file_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let hold = Hold { dir: Some(dir.path().to_owned()) };
        assert!(!hold.holds(Moment::Before));
        std::fs::write(dir.path().join("before"), "").unwrap();
        assert!(hold.holds(Moment::Before) && !hold.holds(Moment::After));
        assert!(!Hold { dir: None }.holds(Moment::Before));
    }
}
