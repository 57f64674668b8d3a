//! Processes of this machine: what they are doing, who has started them, and which have to do with a directory.

use std::fs;
use std::path::Path;

/// Processes that this one has started and that have not ended.
pub fn children_of(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("processes can be listed").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| stat(*id).is_some_and(|(state, of)| of == parent && state != 'Z')).collect()
}

/// What a process is doing, by the letter that ps shows: `T` stands still. None: there is no such process.
pub fn state_of(id: u32) -> Option<char> {
    stat(id).map(|(state, _)| state)
}

/// State and parent of a process.
fn stat(id: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before may have blanks and brackets in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Command lines of the processes that were told of a place below `dir`: in their arguments, in their environment, or as
/// their working directory. Zombies have ended.
pub fn processes_of(dir: &Path) -> Vec<String> {
    let name = dir.to_str().expect("temporary directories have plain names");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("processes can be listed").flatten() {
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        if !is_process || entry.file_name().to_str() == Some(&std::process::id().to_string()) {
            continue;
        }
        // What ends while it is looked at says nothing, and is not there.
        let text = |file: &str| {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let works_there = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        let is_zombie = text("stat").rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"));
        if !is_zombie && (works_there || text("cmdline").contains(name) || text("environ").contains(name)) {
            found.push(text("cmdline"));
        }
    }
    found
}
