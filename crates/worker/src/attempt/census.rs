//! The processes of this machine, looked at for all attempts of a worker at once.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Pid;

/// A census this old serves who asks next: many attempts cost no more looks than one.
const AGE_MAX: Duration = Duration::from_millis(500);
/// Where things stand in `/proc/PID/stat`, counted from behind the name of the program.
const PARENT_FIELD: usize = 1;
const GROUP_FIELD: usize = 2;
const THREADS_FIELD: usize = 17;

/// All processes, as they were a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Census {
    taken: Mutex<Option<(Instant, HashMap<i32, Entry>)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    parent: i32,
    group: i32,
    threads: u64,
}

/// What the processes of one attempt use together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) processes: Vec<i32>,
    /// Threads of all of them; a process has one at least.
    pub(crate) threads: u64,
}

impl Census {
    /// Of the group that `leader` leads, and of what descends from its members.
    pub(crate) fn usage(&self, leader: Pid) -> io::Result<Usage> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.as_ref().is_none_or(|(at, _)| at.elapsed() >= AGE_MAX) {
            *taken = Some((Instant::now(), take()?));
        }
        let (_, entries) = taken.as_ref().expect("it was just taken");
        Ok(usage(entries, leader.as_raw_nonzero().get()))
    }
}

fn usage(entries: &HashMap<i32, Entry>, leader: i32) -> Usage {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (process, entry) in entries {
        children.entry(entry.parent).or_default().push(*process);
    }
    let mut found: Vec<i32> =
        entries.iter().filter(|(_, entry)| entry.group == leader).map(|(process, _)| *process).collect();
    let mut known: HashSet<i32> = found.iter().copied().collect();
    let mut at = 0;
    while let Some(process) = found.get(at) {
        let born = children.get(process).into_iter().flatten();
        let born: Vec<i32> = born.copied().filter(|child| known.insert(*child)).collect();
        found.extend(born);
        at += 1;
    }
    let threads = found.iter().map(|process| entries[process].threads).sum();
    Usage { processes: found, threads }
}

/// The most that a process ever had in memory; 0 once it has given all back.
pub(crate) fn peak_bytes(process: Pid) -> io::Result<u64> {
    number_in(&format!("/proc/{process}/status"), "VmHWM:")
}

/// What these processes have in memory; pages that several of them share count for each.
pub(crate) fn resident_bytes(processes: &[i32]) -> io::Result<u64> {
    processes.iter().map(|process| number_in(&format!("/proc/{process}/status"), "VmRSS:")).sum()
}

/// The same, with shared pages divided among all that share them. It takes longer, and is never more.
pub(crate) fn proportional_bytes(processes: &[i32]) -> io::Result<u64> {
    processes.iter().map(|process| number_in(&format!("/proc/{process}/smaps_rollup"), "Pss:")).sum()
}

/// Bytes in a line of a file of /proc, in which they are KiB; 0 without such a line, as of a process that ends.
fn number_in(path: &str, name: &str) -> io::Result<u64> {
    let Some(text) = read(path)? else { return Ok(0) };
    let Some(line) = text.lines().find_map(|line| line.strip_prefix(name)) else { return Ok(0) };
    let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(makes_no_sense)
}

fn take() -> io::Result<HashMap<i32, Entry>> {
    let mut entries = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if let Some(stat) = read(&format!("/proc/{process}/stat"))? {
            entries.insert(process, parse(&stat).ok_or_else(makes_no_sense)?);
        }
    }
    Ok(entries)
}

fn parse(stat: &str) -> Option<Entry> {
    // The name stands in brackets and may hold any.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(Entry {
        parent: fields.get(PARENT_FIELD)?.parse().ok()?,
        group: fields.get(GROUP_FIELD)?.parse().ok()?,
        threads: fields.get(THREADS_FIELD)?.parse().ok()?,
    })
}

/// A file of /proc; `None` if its process is gone, or not to be looked at.
fn read(path: &str) -> io::Result<Option<String>> {
    match fs::read(path) {
        // A name of a program is whatever it likes.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn makes_no_sense() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "a line of /proc makes no sense")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn a_group_and_its_descendants_are_counted_once() {
        let entry = |parent, group| Entry { parent, group, threads: 2 };
        // 5 leads; 6 is its child in the group, 7 a child of that in a session of its own, 8 an orphan in the group.
        let all = [
            (1, entry(0, 1)),
            (5, entry(1, 5)),
            (6, entry(5, 5)),
            (7, entry(6, 7)),
            (8, entry(1, 5)),
            (9, entry(1, 9)),
        ];
        let usage = usage(&all.into_iter().collect(), 5);
        let mut processes = usage.processes.clone();
        processes.sort_unstable();
        assert_eq!((processes, usage.threads), (vec![5, 6, 7, 8], 8));
    }

    #[test]
    fn a_name_cannot_fake_the_numbers_behind_it() {
        let line =
            "12 (a) R 1 1 1 (x) S 3 4 5 0 -1 0 0 0 0 0 1 1 0 0 20 0 7 0 99 1000 25 18446744073709551615\n";
        let entry = parse(line).expect("a line");
        assert_eq!((entry.parent, entry.group, entry.threads), (3, 4, 7));
        assert_eq!(parse("12 (short) S 1 2"), None);
    }

    #[test]
    fn real_processes_are_seen() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & wait"]).process_group(0).stdin(Stdio::null());
        let mut shell = command.spawn().expect("a shell");
        let leader = Pid::from_child(&shell);
        let deadline = Instant::now() + Duration::from_secs(30);
        let usage = loop {
            let usage = Census::default().usage(leader).expect("looked");
            if usage.processes.len() == 2 {
                break usage;
            }
            assert!(Instant::now() < deadline, "{usage:?}");
        };
        assert_eq!(usage.threads, 2);
        let resident = resident_bytes(&usage.processes).expect("looked");
        let proportional = proportional_bytes(&usage.processes).expect("looked");
        assert!(0 < proportional && proportional <= resident, "{proportional} of {resident}");
        assert!(peak_bytes(leader).expect("looked") > 0);
        crate::reap::signal_group(leader, rustix::process::Signal::KILL).expect("killed");
        shell.wait().expect("it ended");
        assert_eq!(peak_bytes(leader).expect("looked"), 0);
    }
}
