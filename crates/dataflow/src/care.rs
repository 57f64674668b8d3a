//! An attempt that is careful, because others at its task have ended without a word: it notes before each record which one it
//! takes, so that the record which ends it is known; and it knows those that have ended others.
//!
//! The note is eight bytes in a file of the attempt's own directory: the number of the record in the task's input, counted
//! from 1, little-endian; 0 where it works on none. What a process has written is there when it has died.

use crate::scratch::ScratchError;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The name of the note.
const NOTE: &str = ".record";

/// Where an attempt notes its record, and which records it must not take.
#[derive(Debug)]
pub struct Care {
    note: File,
    path: PathBuf,
    deadly: Vec<u64>,
}

impl Care {
    /// A note in `dir` that says 1. `deadly` are numbers of records.
    pub fn begin(dir: &Path, deadly: Vec<u64>) -> Result<Care, ScratchError> {
        let path = dir.join(NOTE);
        let created = File::options().create(true).truncate(true).write(true).open(&path);
        let note = created.map_err(|source| ScratchError { action: "create", path: path.clone(), source })?;
        let care = Care { note, path, deadly };
        care.note(1)?;
        Ok(care)
    }

    /// The attempt takes the record of this number; 0: none any more.
    pub(crate) fn note(&self, record: u64) -> Result<(), ScratchError> {
        let written = self.note.write_all_at(&record.to_le_bytes(), 0);
        written.map_err(|source| ScratchError { action: "write", path: self.path.clone(), source })
    }

    /// Whether this record has ended attempts.
    pub(crate) fn is_deadly(&self, record: u64) -> bool {
        self.deadly.contains(&record)
    }
}

/// What the note in `dir` says, for who has seen the attempt end: 0 if there is none.
pub fn noted_record(dir: &Path) -> io::Result<u64> {
    match std::fs::read(dir.join(NOTE)) {
        Ok(bytes) => Ok(<[u8; 8]>::try_from(&bytes[..]).map_or(0, u64::from_le_bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_the_record_until_there_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(noted_record(dir.path()).expect("no note is no error"), 0);
        let care = Care::begin(dir.path(), vec![7]).expect("a note");
        assert_eq!(noted_record(dir.path()).expect("a note"), 1);
        care.note(6).expect("written");
        assert_eq!(noted_record(dir.path()).expect("a note"), 6);
        assert!(care.is_deadly(7) && !care.is_deadly(6));
        std::fs::write(dir.path().join(NOTE), "torn").expect("a program may do that");
        assert_eq!(noted_record(dir.path()).expect("it says nothing"), 0);
    }
}
