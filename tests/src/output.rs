//! What a job has written.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A committed output.
pub struct Output {
    /// Part files by name.
    pub parts: BTreeMap<String, Vec<u8>>,
    /// The body of `_SUCCESS`.
    pub manifest: Value,
}

impl Output {
    /// Reads an output; it must have a `_SUCCESS` that is JSON, and nothing but files.
    #[track_caller]
    pub fn read(dir: impl AsRef<Path>) -> Self {
        let mut parts = bytes_of(dir);
        let manifest = parts.remove("_SUCCESS").expect("a committed output has a _SUCCESS");
        let manifest = serde_json::from_slice(&manifest).expect("_SUCCESS is JSON");
        Self { parts, manifest }
    }

    /// The lines of each part, without their ends; a part that does not end with LF is refused.
    pub fn lines(&self) -> impl Iterator<Item = Vec<&[u8]>> {
        self.parts.values().map(|part| {
            assert!(part.is_empty() || part.ends_with(b"\n"), "a part file ends with a whole line");
            part.split_inclusive(|&byte| byte == b'\n').map(|line| &line[..line.len() - 1]).collect()
        })
    }

    /// Key and count of each line of each part.
    pub fn counts(&self) -> Vec<Vec<(&[u8], u64)>> {
        self.lines().map(|lines| lines.into_iter().map(count).collect()).collect()
    }

    /// All lines as they are, sorted: a multiset.
    pub fn sorted_lines(&self) -> Vec<String> {
        let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
        let mut lines: Vec<String> = self.lines().flatten().map(text).collect();
        lines.sort();
        lines
    }
}

fn count(line: &[u8]) -> (&[u8], u64) {
    let tab = line.iter().rposition(|&byte| byte == b'\t').expect("key, TAB, count");
    let digits = std::str::from_utf8(&line[tab + 1..]).expect("digits");
    (&line[..tab], digits.parse().expect("a count"))
}

/// The bytes of each file of a directory, by name.
#[track_caller]
pub fn bytes_of(dir: impl AsRef<Path>) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(&dir).expect("the output can be listed");
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("a plain name");
        (name, fs::read(entry.path()).expect("a file"))
    };
    entries.map(|entry| file(entry.expect("an entry"))).collect()
}
