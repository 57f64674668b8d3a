//! Processes of steps, whoever started them: they have a variable GRISTMILL_STEP, and TMPDIR is in their step's directory.
//!
//! Process groups do not tell: a script's children may leave theirs, and a master that was killed remembers none.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// For the system to end what was killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks.
const POLL: Duration = Duration::from_millis(5);

/// Why processes of steps go on.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    /// The system does not show its processes.
    #[error("cannot look for processes of steps")]
    Look(#[source] io::Error),
    /// One cannot be killed.
    #[error("cannot kill process {pid} of a step")]
    Kill {
        /// Which.
        pid: u32,
        /// The system's reason.
        source: io::Error,
    },
    /// SIGKILL does not end them, as of a disk that does not answer.
    #[error("processes of steps in {} do not end: {pids:?}", directory.display())]
    Survivors {
        /// Where they work.
        directory: PathBuf,
        /// Which.
        pids: Vec<u32>,
    },
}

/// Kills all processes of steps that work in `directory`, and waits for their ends.
pub(super) fn kill(directory: &Path) -> Result<(), LeftoverError> {
    let started = Instant::now();
    loop {
        let pids = find(directory).map_err(LeftoverError::Look)?;
        if pids.is_empty() {
            return Ok(());
        }
        if started.elapsed() > KILL_LIMIT {
            return Err(LeftoverError::Survivors { directory: directory.to_owned(), pids });
        }
        for pid in pids {
            kill_one(pid, directory).map_err(|source| LeftoverError::Kill { pid, source })?;
        }
        thread::sleep(POLL);
    }
}

fn kill_one(pid: u32, directory: &Path) -> io::Result<()> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let process = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // The descriptor keeps its process: whoever has the number now is who gets the signal.
    if !is_of_step(pid, directory) {
        return Ok(());
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn find(directory: &Path) -> io::Result<Vec<u32>> {
    let own = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // A process may end while it is looked at: it is not found then, which is true.
        let Ok(entry) = entry else { continue };
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let is_ours = entry.metadata().is_ok_and(|metadata| metadata.uid() == own);
        found.extend(pid.filter(|&pid| is_ours && is_of_step(pid, directory)));
    }
    Ok(found)
}

/// A zombie shows no variables: it has ended.
fn is_of_step(pid: u32, directory: &Path) -> bool {
    let Ok(variables) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let of =
        |name: &[u8]| variables.split(|&byte| byte == 0).find_map(|variable| variable.strip_prefix(name));
    let below = |value: &[u8]| Path::new(std::ffi::OsStr::from_bytes(value)).starts_with(directory);
    of(b"GRISTMILL_STEP=").is_some() && of(b"TMPDIR=").is_some_and(below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_what_works_in_the_directory_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let start = |tmp: &Path, step: bool| {
            let mut command = Command::new("sleep");
            command.arg("600").env("TMPDIR", tmp).stdin(Stdio::null());
            if step {
                command.env("GRISTMILL_STEP", "step-1");
            }
            command.spawn().unwrap()
        };
        let (one, two) = (dir.path().join("step-1"), dir.path().join("step-2"));
        let mut ours = start(&one.join("tmp"), true);
        let mut others = [start(&two.join("tmp"), true), start(&one.join("tmp"), false)];
        // A child shows its own variables once it has begun.
        while find(dir.path()).unwrap().len() < 2 {
            thread::yield_now();
        }
        kill(&one).unwrap();
        assert!(!ours.wait().unwrap().success());
        for other in &mut others {
            assert!(other.try_wait().unwrap().is_none(), "it is none of that directory");
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }
}
