//! Paths of the distributed file system.

use super::Target;
use gristmill_dfs::namenode::namespace::{FsPath, NAME_BYTES_MAX, PATH_DEPTH_MAX};

pub(super) const TARGET: Target = Target {
    name: "fs_path",
    input_bytes_max: 4096,
    memory_bytes: 8 << 10,
    // Most characters of a name that is refused are shown as six.
    memory_bytes_per_byte: 60,
    run,
};

/// The first line is a path, the second another.
fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, "/a"));
    let path = match FsPath::parse(first) {
        Ok(path) => path,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    check(path, first);
    if let Ok(other) = FsPath::parse(second) {
        let names: Vec<&str> = path.names().collect();
        let starts = other.names().enumerate().all(|(index, name)| names.get(index) == Some(&name));
        assert_eq!(path.is_at_or_below(other), starts, "{path} and {other}");
    }
}

fn check(path: FsPath, text: &str) {
    assert!(path.as_str() == text || Some(path.as_str()) == text.strip_suffix('/'), "{text}");
    assert_eq!(FsPath::parse(path.as_str()).expect("it is a path"), path);
    let joined: String = path.names().flat_map(|name| ["/", name]).collect();
    assert_eq!(path.as_str(), if path.is_root() { "/" } else { &joined });
    assert!(path.names().count() <= PATH_DEPTH_MAX);
    for name in path.names() {
        let plain = !matches!(name, "" | "." | "..") && !name.chars().any(|c| c == '/' || c.is_control());
        assert!(plain && name.len() <= NAME_BYTES_MAX, "{name:?}");
    }
    assert_eq!(path.names().next_back().unwrap_or(""), path.name());
    let above = path.parent();
    assert_eq!(above.names().count(), path.names().count().saturating_sub(1));
    assert!(path.is_at_or_below(above) && (path.is_root() || !above.is_at_or_below(path)));
}
