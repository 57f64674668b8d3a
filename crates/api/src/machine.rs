//! What this machine, or the container around this process, offers.

use std::fs;
use std::path::Path;

/// Assumed where the system does not say.
const UNKNOWN_MEMORY_BYTES: u64 = 2 << 30;

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Memory that this process may use: the machine's, or less if its cgroup has a limit.
pub(crate) fn memory_bytes() -> u64 {
    let machine = meminfo_total().unwrap_or(UNKNOWN_MEMORY_BYTES);
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    limits.iter().filter_map(|path| number_in(Path::new(path))).fold(machine, u64::min)
}

fn meminfo_total() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The number in a file; `None` if there is no such file or it says `max`.
fn number_in(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
