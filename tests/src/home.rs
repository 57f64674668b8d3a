//! A directory of a story's own.

use gristmill::LocalOptions;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory that vanishes with the story. Inputs, outputs and scratch space live side by side in it.
pub struct Home {
    dir: TempDir,
}

impl Home {
    /// An empty one, with an empty directory `scratch` in it.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("scratch")).expect("a scratch directory");
        Self { dir }
    }

    /// The place of `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The place of `name`, as a job program takes it.
    pub fn uri(&self, name: &str) -> String {
        self.path(name).to_str().expect("temporary directories have plain names").to_owned()
    }

    /// Writes a file, with the directories above it, and returns its place.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is below the home")).expect("directories");
        fs::write(path, bytes).expect("a file");
        self.uri(name)
    }

    /// Options for a job in this process: two threads, scratch space here.
    pub fn options(&self) -> LocalOptions {
        let scratch = self.path("scratch");
        LocalOptions { threads: 2, memory_bytes: 256 << 20, scratch, ..LocalOptions::default() }
    }

    /// The names of what is here, or in the directory `name` of it, hidden or not, sorted.
    pub fn names(&self, name: &str) -> Vec<String> {
        names(&self.path(name))
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory can be listed");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.map(|entry| name(entry.expect("an entry"))).collect();
    names.sort();
    names
}
