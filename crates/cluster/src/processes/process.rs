//! Processes of this machine that may end at any time, and whose numbers are then given to others.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process: its number, and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, in ticks since this machine did.
    pub started_ticks: u64,
}

impl ProcessId {
    /// The process that has the number now, if it has not ended. Fails where the system does not tell, as when this
    /// process may open no more files.
    pub fn of(pid: u32) -> io::Result<Option<ProcessId>> {
        let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            Err(error) if has_ended(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let unknown = || io::Error::new(ErrorKind::InvalidData, format!("/proc/{pid}/stat: {stat:?}"));
        let (state, started_ticks) = state_and_start(&stat).ok_or_else(unknown)?;
        // Nobody has asked a zombie how it ended: it has ended all the same.
        Ok((!matches!(state, 'Z' | 'X')).then_some(ProcessId { pid, started_ticks }))
    }

    /// This process.
    pub fn own() -> io::Result<ProcessId> {
        let pid = std::process::id();
        ProcessId::of(pid)?.ok_or_else(|| io::Error::other("/proc does not show this process"))
    }

    /// Whether it runs, and is no other that got its number. Where the system does not tell, it is taken to run: nobody is
    /// replaced or left behind for that.
    pub fn is_alive(self) -> bool {
        ProcessId::of(self.pid).map_or(true, |found| found == Some(self))
    }

    /// Sends it a signal; one that has ended needs none.
    pub(crate) fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // The descriptor keeps its process: whoever has the number now is who gets the signal.
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(&process, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What reading of a process says that is no more: before its file was opened, or after.
fn has_ended(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// The names end with the last bracket, whatever is in them.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 22 of all; the state was field 3.
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Identifies the time since this machine started: numbers and ticks begin anew with it.
pub(crate) fn boot_id() -> String {
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
}

/// All processes of this user that work in `dir`: daemons whose data directory is in it, and attempts and steps, which have
/// their private directory there.
pub(crate) fn working_in(dir: &Path) -> io::Result<Vec<ProcessId>> {
    let (user, own) = (rustix::process::geteuid().as_raw(), std::process::id());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end while it is looked at: it is not found then, which is true.
        let is_ours = entry.metadata().is_ok_and(|metadata| metadata.uid() == user) && pid != own;
        if is_ours && (is_daemon_in(pid, dir)? || is_attempt_in(pid, dir)?) {
            found.extend(ProcessId::of(pid)?);
        }
    }
    Ok(found)
}

fn is_daemon_in(pid: u32, dir: &Path) -> io::Result<bool> {
    let words = words(&format!("/proc/{pid}/cmdline"))?;
    Ok(words.windows(2).any(|pair| pair[0] == b"--data-dir" && is_below(&pair[1], dir)))
}

fn is_attempt_in(pid: u32, dir: &Path) -> io::Result<bool> {
    let variables = words(&format!("/proc/{pid}/environ"))?;
    let of = |name: &[u8]| variables.iter().find_map(|variable| variable.strip_prefix(name));
    let is_ours = of(b"GRISTMILL_ATTEMPT=").is_some() || of(b"GRISTMILL_STEP=").is_some();
    Ok(is_ours && of(b"TMPDIR=").is_some_and(|scratch| is_below(scratch, dir)))
}

/// What stands in a file of words that each end with NUL; nothing if the process has ended or is not ours to look at.
fn words(path: &str) -> io::Result<Vec<Vec<u8>>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if has_ended(&error) || error.kind() == ErrorKind::PermissionDenied => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(text.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect())
}

fn is_below(path: &[u8], dir: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path)).starts_with(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = ProcessId::of(child.id()).unwrap().unwrap();
        assert!(process.is_alive());
        let namesake = ProcessId { started_ticks: process.started_ticks + 1, ..process };
        assert!(!namesake.is_alive());
        namesake.signal(Signal::KILL).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "a namesake's signal does not reach it");
        process.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
        process.signal(Signal::TERM).unwrap();
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        while ProcessId::of(pid).unwrap().is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn names_of_programs_may_have_brackets() {
        let numbers = (4..=52).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(state_and_start(&format!("7 (a) b) S {numbers}")), Some(('S', 22)));
        assert_eq!(state_and_start("7 (a"), None);
    }

    #[test]
    fn what_works_in_a_directory_is_found_by_what_it_was_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = Command::new("sh");
        daemon.args(["-c", "read forever", "sh", "--data-dir"]).arg(dir.path().join("worker"));
        let mut attempt = Command::new("sh");
        attempt.args(["-c", "read forever"]).env("GRISTMILL_ATTEMPT", "3");
        attempt.env("TMPDIR", dir.path().join("scratch"));
        let mut stranger = Command::new("sh");
        stranger.args(["-c", "read forever"]).current_dir(dir.path());
        let mut children = [daemon, attempt, stranger]
            .map(|mut command| command.stdin(std::process::Stdio::piped()).spawn().unwrap());
        let wanted: Vec<u32> = children[..2].iter().map(std::process::Child::id).collect();
        // A child shows its own arguments once it has begun.
        loop {
            let mut found: Vec<u32> =
                working_in(dir.path()).unwrap().into_iter().map(|process| process.pid).collect();
            found.sort();
            if found.len() == 2 {
                assert_eq!(found, {
                    let mut wanted = wanted;
                    wanted.sort();
                    wanted
                });
                break;
            }
        }
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
