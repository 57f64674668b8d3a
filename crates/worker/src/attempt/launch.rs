//! Starts the program of a job as a child process.
//!
//! It gets no arguments but its name, an environment of six variables (and, in tests, one more), a socket for its stdin, and pipes for what it
//! prints. Everything else that this process has open is closed on exec.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use gristmill_dataflow::hold;
use gristmill_process::spawn;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, pidfd_open, prlimit};
use thiserror::Error;

/// Tells the child that it is an attempt, and that its stdin is a socket: its value is the descriptor.
const ATTEMPT_VARIABLE: &str = "GRISTMILL_ATTEMPT";
/// Passed on, so that whoever starts the worker sees where programs panic.
const BACKTRACE_VARIABLE: &str = "RUST_BACKTRACE";
/// Of an ELF file, to tell people why a program does not start.
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Of at most 1000: more than any daemon has. Raising it needs no right.
const OOM_SCORE: &str = "500";

/// Why there is no process.
#[derive(Debug, Error)]
pub(crate) enum LaunchError {
    #[error("{program} is no program that runs on this machine ({detail})")]
    NotAProgram { program: String, detail: &'static str },
    #[error("{program} cannot be started")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
}

/// A child that runs.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) pid: Pid,
    /// Readable when it has ended.
    pub(crate) ended: OwnedFd,
    pub(crate) socket: UnixStream,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

/// Starts `file`, which people know as `program`, in `work`, a directory of its own. The child leads a process group.
pub(crate) fn launch(file: &Path, program: &str, work: &Path) -> Result<Process, LaunchError> {
    let failed = |source| LaunchError::Start { program: program.to_owned(), source };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let mut command = Command::new(file);
    command.arg0(program).env_clear().current_dir(work).process_group(0);
    command.env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").env("TMPDIR", work).env("HOME", work);
    command.env(ATTEMPT_VARIABLE, "0");
    for passed in [BACKTRACE_VARIABLE, hold::VARIABLE] {
        if let Some(value) = std::env::var_os(passed) {
            command.env(passed, value);
        }
    }
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::piped()).stderr(Stdio::piped());

    let spawned = spawn(&mut command);
    // With it goes the child's end of the socket: the end of the child is the end of the socket.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
            let detail = what_it_is(file).map_err(failed)?;
            return Err(LaunchError::NotAProgram { program: program.to_owned(), detail });
        }
        Err(error) if error.kind() == ErrorKind::NotFound && file.exists() => {
            let detail = "its interpreter or loader is not here: link it statically or for this system";
            return Err(LaunchError::NotAProgram { program: program.to_owned(), detail });
        }
        Err(error) => return Err(failed(error)),
    };
    let watched = watch(&mut child);
    let (pid, ended, stdout, stderr) = match watched {
        Ok(watched) => watched,
        Err(source) => {
            child.kill().and_then(|()| child.wait()).map_err(failed)?;
            return Err(failed(source));
        }
    };
    Ok(Process { child, pid, ended, socket: ours, stdout, stderr })
}

fn watch(child: &mut Child) -> io::Result<(Pid, OwnedFd, ChildStdout, ChildStderr)> {
    let pid = Pid::from_child(child);
    // No memory images of it on this worker's disks.
    match prlimit(Some(pid), Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        Ok(_) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(errno.into()),
    }
    // If the machine has no memory left, an attempt goes before its worker.
    match fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let ended = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    let no_pipe = || io::Error::other("a pipe of the child is not there");
    let stdout = child.stdout.take().ok_or_else(no_pipe)?;
    let stderr = child.stderr.take().ok_or_else(no_pipe)?;
    for pipe in [stdout.as_fd(), stderr.as_fd()] {
        let flags = rustix::fs::fcntl_getfl(pipe)?;
        rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK)?;
    }
    Ok((pid, ended, stdout, stderr))
}

/// In a few words, of what the system does not execute.
fn what_it_is(file: &Path) -> io::Result<&'static str> {
    use std::io::Read;
    let mut start = Vec::new();
    File::open(file)?.take(ELF_MAGIC.len() as u64).read_to_end(&mut start)?;
    let empty = fs::metadata(file)?.len() == 0;
    Ok(match () {
        () if empty => "it is an empty file",
        () if start == ELF_MAGIC => "it was built for another kind of machine",
        () => "it is no executable file",
    })
}

/// The name of a program as its processes show it: the last part of the submitted file's, without what a name cannot have.
pub(crate) fn program_name(submitted: &str) -> String {
    let last = Path::new(submitted).file_name().map_or(&b""[..], |name| name.as_bytes());
    let name: String = String::from_utf8_lossy(last).chars().filter(|letter| !letter.is_control()).collect();
    if name.is_empty() { "the program".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_open_for_writing_starts_when_it_is_no_more() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("true");
        fs::copy("/bin/true", &program).expect("a copy");
        let held = File::options().write(true).open(&program).expect("it is ours");
        let busy = spawn(&mut Command::new(&program)).expect_err("it is open for writing");
        assert_eq!(busy.kind(), ErrorKind::ExecutableFileBusy);
        let starting = std::thread::spawn(move || {
            let process = launch(&program, "true", directory.path())?;
            let mut child = process.child;
            Ok::<_, LaunchError>(child.wait().expect("it is our child"))
        });
        drop(held);
        assert!(starting.join().expect("no panic").expect("it starts").success());
    }
}
