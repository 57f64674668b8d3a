//! Ends processes: those of an attempt, and those that an attempt or an earlier life of this worker left behind.
//!
//! An attempt's processes are its group. One that left the group (a daemon's double fork) is found by the environment it
//! began with: `TMPDIR` there is a directory of the attempt's own. One that left the group *and* was executed with
//! another environment is not found; nothing short of a cgroup would.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

/// A process that forks while it is looked for is found in one of so many rounds.
const ROUNDS_MAX: usize = 8;
/// How long a killed process may take to be gone, all of a round together.
const DEATH_PATIENCE: Duration = Duration::from_secs(2);
/// Where the start time stands in `/proc/PID/stat`, counted from behind the name of the program.
const START_TIME_FIELD: usize = 19;

/// Sends a signal to a process group. False if there is no such group.
pub(crate) fn signal_group(group: Pid, signal: Signal) -> io::Result<bool> {
    match kill_process_group(group, signal) {
        Ok(()) => Ok(true),
        // PERM: only zombies, or what changed its user, are left of it.
        Err(Errno::SRCH | Errno::PERM) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// When a process started, in ticks since the machine did: with its id, the name of a process for ever. `None` if there
/// is no such process.
pub(crate) fn start_time(pid: Pid) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    // The name stands in brackets and may hold any.
    let behind = stat.rsplit_once(") ").map(|(_, behind)| behind);
    let field = behind.and_then(|fields| fields.split(' ').nth(START_TIME_FIELD));
    let ticks = field.and_then(|field| field.parse().ok());
    ticks.map(Some).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "a line of /proc makes no sense"))
}

/// Kills all processes of this user that began with a `TMPDIR` in `directory`. Returns how many.
pub(crate) fn kill_marked(directory: &Path) -> io::Result<usize> {
    let mut killed = 0;
    for _round in 0..ROUNDS_MAX {
        let found = marked(directory)?;
        if found.is_empty() {
            return Ok(killed);
        }
        for process in &found {
            match pidfd_send_signal(process, Signal::KILL) {
                Ok(()) => killed += 1,
                Err(Errno::SRCH) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let deadline = Instant::now() + DEATH_PATIENCE;
        for process in &found {
            wait_for_end(process, deadline)?;
        }
    }
    Ok(killed)
}

/// Waits until the process is gone, or until the deadline. True if it is gone.
pub(crate) fn wait_for_end(process: &OwnedFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A span of time for `poll`.
pub(crate) fn timespec(span: Duration) -> Timespec {
    let tv_sec = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: span.subsec_nanos().into() }
}

fn marked(directory: &Path) -> io::Result<Vec<OwnedFd>> {
    let user = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.uid() == user => {}
            Ok(_) => continue,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        }
        if !is_marked(pid, directory)? {
            continue;
        }
        // The number may be another process's by now: looked at again once it is held.
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) if is_marked(pid, directory)? => found.push(process),
            Ok(_) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(found)
}

fn is_marked(pid: Pid, directory: &Path) -> io::Result<bool> {
    let environment = match fs::read(format!("/proc/{pid}/environ")) {
        Ok(environment) => environment,
        // Gone, or not to be looked at: then it is no attempt, which are of this user and have no privileges.
        Err(error) if is_gone(&error) || error.kind() == ErrorKind::PermissionDenied => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut variables = environment.split(|byte| *byte == 0);
    Ok(variables.any(|variable| {
        let value = variable.strip_prefix(b"TMPDIR=");
        value.is_some_and(|value| Path::new(OsStr::from_bytes(value)).starts_with(directory))
    }))
}

/// What /proc says of a process that ends while it is read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sleeper(tmp: &Path) -> std::process::Child {
        let mut command = Command::new("sleep");
        command.arg("600").env_clear().env("TMPDIR", tmp).stdin(Stdio::null());
        let process = command.spawn().expect("a process");
        // The new program is on its way a moment before its environment is seen.
        while fs::read(format!("/proc/{}/environ", process.id())).expect("it lives").is_empty() {
            std::thread::yield_now();
        }
        process
    }

    #[test]
    fn processes_are_found_by_the_directory_they_began_with() {
        let directory = tempfile::tempdir().expect("a directory");
        let (ours, other) = (directory.path().join("a"), directory.path().join("ab"));
        let mut found = sleeper(&ours.join("work"));
        let mut spared = sleeper(&other);
        assert_eq!(kill_marked(&ours).expect("looked"), 1);
        assert!(!found.wait().expect("it ended").success());
        assert!(spared.try_wait().expect("asked").is_none(), "a name that begins alike is another");
        assert_eq!(kill_marked(&ours).expect("looked"), 0);
        assert_eq!(kill_marked(directory.path()).expect("looked"), 1);
        spared.wait().expect("it ended");
    }

    #[test]
    fn a_process_is_told_from_a_later_one_by_its_start() {
        let mut process = sleeper(Path::new("/nowhere"));
        let pid = Pid::from_child(&process);
        let start = start_time(pid).expect("read");
        assert!(start.is_some());
        assert_eq!(start_time(pid).expect("read"), start);
        process.kill().expect("killed");
        process.wait().expect("it ended");
        assert_eq!(start_time(pid).expect("read"), None);
    }
}
