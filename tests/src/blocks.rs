//! The files in which workers keep blocks, for stories that damage them.

use std::fs;
use std::path::{Path, PathBuf};

/// The data files of finished blocks below a worker's data directory, sorted by name.
pub fn block_files(worker_dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    gather(worker_dir, &mut files);
    files.retain(|path| {
        let finished = path.components().any(|part| part.as_os_str() == "finished");
        finished && path.extension().is_none_or(|extension| extension != "sum")
    });
    files.sort();
    files
}

/// The file of checksums beside a data file.
pub fn sums_of(data: &Path) -> PathBuf {
    let name = data.file_name().expect("a block has a name").to_string_lossy().into_owned();
    let id = name.split('_').next().expect("there is a first part").to_owned();
    let dir = data.parent().expect("it lies in a directory");
    let is_sums = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.ends_with(".sum") && name.split(['_', '.']).next() == Some(&id)
    };
    let entries = fs::read_dir(dir).expect("a directory");
    let found = entries.map(|entry| entry.expect("an entry").path()).find(is_sums);
    found.expect("each block has its sums")
}

/// Turns over one bit of a file.
pub fn flip_bit(file: &Path, byte: usize) {
    let mut bytes = fs::read(file).expect("the file");
    bytes[byte] ^= 1;
    fs::write(file, bytes).expect("the file is ours");
}

fn gather(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            gather(&entry.path(), files);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
}
