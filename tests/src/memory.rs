//! How much memory this process has used.

use std::fs;

/// The largest resident set that this process ever had, in bytes: `VmHWM` of `/proc/self/status`.
pub fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("it names the peak");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("in KiB");
    kib * 1024
}
