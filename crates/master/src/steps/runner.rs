//! One try of a step: a thread, a program in a process group of its own, and what it writes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gristmill_process::spawn;
use gristmill_proto::cluster::Step;
use gristmill_proto::ids::JobId;
use rustix::process::{Pid, Signal, kill_process_group};

use super::StepsOptions;
use super::core::{Outcome, spec};
use super::program::{self, ProgramError};
use super::shell::Shell;

/// Between two looks at the process: so late is its end noticed, at most.
const POLL: Duration = Duration::from_millis(10);
/// How long a step that was told to end may take over it: its job is killed meanwhile.
const GRACE: Duration = Duration::from_secs(10);
/// How long a try that was killed holds up the master's end.
const GOODBYE: Duration = Duration::from_secs(2);
/// Of each of its logs. What is more is counted, not kept.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// Of what it wrote last to stderr: what its message holds.
const TAIL_BYTES_MAX: usize = 2 << 10;
const COPY_BYTES: usize = 16 << 10;
/// Where a step finds programs.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Variables of the master that its steps get: how a driver reaches the object store from which it lists inputs.
const STORE_VARIABLES: &str = "AWS_";

/// What a try is to do.
pub(super) struct Work {
    pub(super) step: Step,
    pub(super) try_number: u32,
    pub(super) job: JobId,
}

impl Work {
    pub(super) fn new(step: Step, try_number: u32) -> Work {
        let job = JobId::from_wire(&step.job).expect("a try has a job's id");
        Work { step, try_number, job }
    }
}

/// What a try is told.
pub(super) enum Control {
    /// End, in good order.
    Stop,
    /// End at once.
    Kill,
}

/// A try that runs.
pub(super) struct Runner {
    control: Sender<Control>,
    running: JoinHandle<()>,
}

impl Runner {
    pub(super) fn start(shell: Arc<Shell>, work: Work) -> Runner {
        let (control, told) = mpsc::channel();
        let name = format!("step-{}", work.step.number);
        let run = move || {
            let (log, outcome) = Attempt::new(&shell, &work).run(&told);
            shell.try_ended(&work, log, outcome);
        };
        // Without threads a master does nothing else either.
        let running = thread::Builder::new().name(name).spawn(run).expect("the system gives a thread");
        Runner { control, running }
    }

    /// A try that has just ended needs to be told nothing.
    pub(super) fn tell(&self, control: Control) {
        if self.control.send(control).is_err() {
            tracing::debug!("a try of a step has ended before it was told to");
        }
    }

    /// Waits a moment for its end. Without its process it does no harm, and ends with the master's.
    pub(super) fn wait(&self) {
        let started = Instant::now();
        while !self.running.is_finished() && started.elapsed() < GOODBYE {
            thread::sleep(POLL);
        }
    }
}

/// Why a try came to nothing.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("cannot use {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("cannot start the program {}: {source}", path.display())]
    Start { path: PathBuf, source: io::Error },
    #[error("cannot wait for the program: {0}")]
    Wait(#[source] io::Error),
}

struct Attempt<'a> {
    shell: &'a Arc<Shell>,
    options: &'a StepsOptions,
    work: &'a Work,
    directory: PathBuf,
}

impl Attempt<'_> {
    fn new<'a>(shell: &'a Arc<Shell>, work: &'a Work) -> Attempt<'a> {
        let options = shell.options();
        let directory = options.directory.join(format!("step-{}", work.step.number));
        Attempt { shell, options, work, directory }
    }

    /// Runs it to its end; says where its logs are, and how it ended.
    fn run(&self, told: &Receiver<Control>) -> (String, Outcome) {
        let outcome = match self.conduct(told) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed { reason: "PROGRAM", message: error.to_string() },
        };
        // What it has started and left is nobody's now.
        if let Err(error) = self.shell.kill_in(&self.directory) {
            tracing::warn!(step = self.work.step.number, %error, "processes of a step are left");
        }
        let log = self.shell.archive().push_step(self.work.step.number, &self.directory);
        (log, outcome)
    }

    fn conduct(&self, told: &Receiver<Control>) -> Result<Outcome, RunError> {
        self.make_directories()?;
        let program = program::fetch(self.options, &self.work.step, &self.directory)?;
        if matches!(told.try_recv(), Ok(Control::Stop | Control::Kill)) {
            let message = "it was told to end before it began".to_owned();
            return Ok(Outcome::Failed { reason: "SIGNALLED", message });
        }
        let mut command = self.command(&program);
        let failed = |source| RunError::Start { path: program.clone(), source };
        let mut child = spawn(&mut command).map_err(failed)?;
        let stdout = self.copy(child.stdout.take(), "stdout")?;
        let stderr = self.copy(child.stderr.take(), "stderr")?;
        let status = watch(&mut child, told)?;
        // Whoever holds the pipes would hold up the end.
        if let Err(error) = self.shell.kill_in(&self.directory) {
            tracing::warn!(step = self.work.step.number, %error, "processes of a step are left");
        }
        stdout.join().expect("copying a log does not panic");
        let tail = stderr.join().expect("copying a log does not panic");
        Ok(outcome(status, &tail))
    }

    fn make_directories(&self) -> Result<(), RunError> {
        for directory in [self.directory.clone(), self.directory.join("tmp"), self.directory.join("program")]
        {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.map_err(|source| RunError::File { path: directory, source })?;
        }
        Ok(())
    }

    /// A clean environment: what the step needs to reach its cluster, and object stores.
    fn command(&self, program: &Path) -> Command {
        let step = &self.work.step;
        let mut command = Command::new(program);
        let name = &spec(step).program_name;
        if !name.is_empty() {
            command.arg0(name);
        }
        command.args(&spec(step).arguments).env_clear().current_dir(&self.directory);
        command.envs(
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(STORE_VARIABLES)),
        );
        command.env("PATH", PATH).env("HOME", &self.directory).env("TMPDIR", self.directory.join("tmp"));
        command.env("LANG", "C.UTF-8").env("GRISTMILL_MASTER", &self.options.own_address);
        command.env("GRISTMILL_USER", &step.user).env("GRISTMILL_STEP", format!("step-{}", step.number));
        command.env("GRISTMILL_STEP_TRY", self.work.try_number.to_string());
        command.env("GRISTMILL_STEP_JOB", self.work.job.to_string());
        if let Some(file) = &self.options.secret_file {
            command.env("GRISTMILL_SECRET_FILE", file);
        }
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Copies what the program writes into a file, as far as that may grow; returns the end of it.
    fn copy(
        &self,
        pipe: Option<impl Read + Send + 'static>,
        name: &str,
    ) -> Result<JoinHandle<Vec<u8>>, RunError> {
        let mut pipe = pipe.expect("it is piped");
        let path = self.directory.join(name);
        let mut options = OpenOptions::new();
        // A later try goes on in the same file: what failed before is worth reading.
        let file = options.create(true).append(true).mode(0o600).open(&path);
        let mut file = file.map_err(|source| RunError::File { path: path.clone(), source })?;
        if self.work.try_number > 1 {
            let heading = format!("--- try {} ---\n", self.work.try_number);
            file.write_all(heading.as_bytes())
                .map_err(|source| RunError::File { path: path.clone(), source })?;
        }
        let copying = move || {
            let mut log = Log { file, path, kept: 0, cut: 0, tail: Vec::new() };
            let mut buffer = vec![0; COPY_BYTES];
            loop {
                match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(bytes) => log.take(&buffer[..bytes]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        tracing::warn!(path = %log.path.display(), %error, "cannot read what a step writes");
                        break;
                    }
                }
            }
            log.end()
        };
        Ok(thread::spawn(copying))
    }
}

/// A log that does not grow for ever.
struct Log {
    file: File,
    path: PathBuf,
    kept: u64,
    cut: u64,
    tail: Vec<u8>,
}

impl Log {
    fn take(&mut self, bytes: &[u8]) {
        let room = usize::try_from(LOG_BYTES_MAX - self.kept).unwrap_or(usize::MAX).min(bytes.len());
        match self.file.write_all(&bytes[..room]) {
            Ok(()) => self.kept += room as u64,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot keep what a step writes");
                self.cut += room as u64;
            }
        }
        self.cut += (bytes.len() - room) as u64;
        self.tail.extend_from_slice(bytes);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..surplus);
    }

    fn end(mut self) -> Vec<u8> {
        if self.cut > 0
            && let Err(error) = writeln!(self.file, "\n[{} more bytes were not kept]", self.cut)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot end the log of a step");
        }
        self.tail
    }
}

/// Waits for the program's end, and tells it what is to be told.
fn watch(child: &mut Child, told: &Receiver<Control>) -> Result<ExitStatus, RunError> {
    let mut stopped: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait().map_err(RunError::Wait)? {
            return Ok(status);
        }
        match told.recv_timeout(POLL) {
            Ok(Control::Stop) if stopped.is_none() => {
                stopped = Some(Instant::now());
                signal(child, Signal::TERM);
            }
            Ok(Control::Kill) => signal(child, Signal::KILL),
            Ok(Control::Stop) | Err(RecvTimeoutError::Timeout) => {}
            // Nobody can tell it anything any more.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(POLL),
        }
        if stopped.is_some_and(|since| since.elapsed() > GRACE) {
            signal(child, Signal::KILL);
        }
    }
}

/// To its whole group. It has not been waited for, so the number is still its own.
fn signal(child: &Child, signal: Signal) {
    if let Err(error) = kill_process_group(Pid::from_child(child), signal) {
        tracing::debug!(%error, "a step's processes have ended before the signal");
    }
}

fn outcome(status: ExitStatus, stderr: &[u8]) -> Outcome {
    if status.success() {
        return Outcome::Completed;
    }
    let said = String::from_utf8_lossy(stderr);
    let said = said.trim();
    let with = |how: String| if said.is_empty() { how } else { format!("{how}: {said}") };
    let (reason, how) = match (status.signal(), status.code()) {
        (Some(9), _) => {
            let how = "it was killed (signal 9), perhaps by the system for want of memory";
            ("SIGNALLED", how.to_owned())
        }
        (Some(signal), _) => ("SIGNALLED", format!("it was ended by signal {signal}")),
        (None, Some(code)) => ("EXITED", format!("it ended with status {code}")),
        (None, None) => ("EXITED", format!("it ended: {status}")),
    };
    Outcome::Failed { reason, message: with(how) }
}

/// The logs of a step, by name; those that are not there were never begun.
pub(super) fn logs(directory: &Path) -> Vec<(&'static str, PathBuf)> {
    let paths = ["stdout", "stderr"].map(|name| (name, directory.join(name)));
    paths.into_iter().filter(|(_, path)| fs::exists(path).is_ok_and(|exists| exists)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, tell: Option<Control>) -> Outcome {
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (control, told) = mpsc::channel();
        tell.into_iter().for_each(|each| control.send(each).unwrap());
        let status = watch(&mut child, &told).unwrap();
        let mut stderr = Vec::new();
        child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        outcome(status, &stderr)
    }

    #[test]
    fn how_a_program_ends_is_said() {
        assert_eq!(run("exit 0", None), Outcome::Completed);
        let failed = |reason, message: &str| Outcome::Failed { reason, message: message.to_owned() };
        assert_eq!(
            run("echo so it is >&2; exit 7", None),
            failed("EXITED", "it ended with status 7: so it is")
        );
        assert_eq!(
            run("exec sleep 600", Some(Control::Stop)),
            failed("SIGNALLED", "it was ended by signal 15")
        );
        assert_eq!(
            run("sleep 600; true", Some(Control::Kill)),
            failed("SIGNALLED", "it was killed (signal 9), perhaps by the system for want of memory")
        );
    }

    #[test]
    fn a_log_is_cut_and_its_end_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let file = File::create(&path).unwrap();
        let mut log = Log { file, path: path.clone(), kept: LOG_BYTES_MAX - 3, cut: 0, tail: Vec::new() };
        log.take(b"abcde");
        log.take(b"f");
        assert_eq!(log.end(), b"abcdef");
        assert_eq!(fs::read(&path).unwrap(), b"abc\n[3 more bytes were not kept]\n");
    }
}
