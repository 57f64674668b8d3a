//! The files in which workers keep blocks, for stories that damage them.

use std::fs;
use std::path::{Path, PathBuf};

/// The data files of finished blocks below a worker's data directory, by block.
pub fn block_files(worker_dir: &Path) -> Vec<PathBuf> {
    let mut blocks: Vec<(u64, PathBuf)> = Vec::new();
    for shelf in paths(&worker_dir.join("blocks")) {
        for sums in paths(&shelf).into_iter().filter(|path| path.extension().is_some_and(|end| end == "sum"))
        {
            let name = name(&sums);
            let id = name.split('_').next().expect("there is a first part");
            blocks.push((id.parse().expect("a block's number"), shelf.join(id)));
        }
    }
    // A data file may be missing: that is one of the damages.
    blocks.retain(|(_, data)| data.exists());
    blocks.sort();
    blocks.into_iter().map(|(_, data)| data).collect()
}

/// The file of checksums beside a data file.
pub fn sums_of(data: &Path) -> PathBuf {
    let id = name(data);
    let beside = paths(data.parent().expect("it lies in a directory"));
    let is_sums = |path: &PathBuf| name(path).ends_with(".sum") && name(path).split('_').next() == Some(&id);
    beside.into_iter().find(is_sums).expect("each block has its sums")
}

/// Turns over one bit of a file.
pub fn flip_bit(file: &Path, byte: usize) {
    let mut bytes = fs::read(file).expect("the file");
    bytes[byte] ^= 1;
    fs::write(file, bytes).expect("the file is ours");
}

fn name(path: &Path) -> String {
    path.file_name().expect("it has a name").to_string_lossy().into_owned()
}

/// What is in a directory; nothing if there is none yet.
fn paths(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").path()).collect()
}
