//! Names that others give: of staged files, of listeners, of versions of objects.

use super::Target;
use gristmill_dfs::fuzzing::{is_staged_name, parse_e_tag};
use gristmill_dfs::is_host_and_port;
use std::path::{Component, Path};

pub(super) const TARGET: Target =
    Target { name: "names", input_bytes_max: 256, memory_bytes: 4 << 10, memory_bytes_per_byte: 40, run };

/// The first line is one name, the second another.
fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, "attempt"));
    if is_staged_name(second, first) {
        let path = Path::new("/staging").join(second).join(first);
        let names = path.components().filter(|part| matches!(part, Component::Normal(_))).count();
        assert_eq!(names, 2 + first.split('/').count(), "{path:?} is not below");
        assert!(path.starts_with("/staging") && !path.components().any(|part| part == Component::ParentDir));
    }
    if let Some((inode, version)) = parse_e_tag(first) {
        assert_eq!(format!("{inode:x}-{version:x}"), first);
    }
    if is_host_and_port(first) {
        let (host, port) = first.rsplit_once(':').expect("a host and a port");
        assert!(!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0), "{first}");
        assert!(!first.contains(['/', ' ', '@', '\0']), "{first}");
    }
}
