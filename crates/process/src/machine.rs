//! What this machine, or the container around this process, has for it.

use std::fs;
use std::io::ErrorKind;

/// Assumed where the system does not say.
const UNKNOWN_MEMORY_BYTES: u64 = 2 << 30;
/// The limit of the process's group, in the second and the first version of cgroups.
const MEMORY_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Cores that this process may use: at least 1.
pub fn cores() -> u32 {
    match std::thread::available_parallelism() {
        Ok(cores) => u32::try_from(cores.get()).unwrap_or(u32::MAX),
        Err(error) => {
            tracing::warn!(%error, "the system does not say how many cores there are: one is used");
            1
        }
    }
}

/// Memory that this process and its children may use: the machine's, or less if its cgroup has a limit.
pub fn memory_bytes() -> u64 {
    let machine = text_of("/proc/meminfo").and_then(|text| total_bytes(&text)).unwrap_or_else(|| {
        tracing::warn!(bytes = UNKNOWN_MEMORY_BYTES, "the system does not say how much memory there is");
        UNKNOWN_MEMORY_BYTES
    });
    // `max`: no limit.
    let limit = |path: &str| text_of(path)?.trim().parse().ok();
    MEMORY_LIMITS.iter().filter_map(|path| limit(path)).fold(machine, u64::min)
}

/// Name of this machine.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `MemTotal` of `/proc/meminfo`.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What the system says in a file; `None` where it has no such file.
fn text_of(path: &str) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path, %error, "cannot read what the system says of this machine");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_it_has() {
        assert!(cores() >= 1);
        let told = fs::read_to_string("/proc/meminfo").expect("Linux has it");
        assert!(memory_bytes() <= total_bytes(&told).expect("a total"));
        assert!(!host().is_empty());
    }

    #[test]
    fn the_total_is_in_kibibytes() {
        assert_eq!(total_bytes("MemFree: 1 kB\nMemTotal:     24680 kB\n"), Some(24680 << 10));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
        assert_eq!(total_bytes("MemTotal: much\n"), None);
    }
}
