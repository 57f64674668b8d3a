//! Job programs as processes.

use crate::patience::{patiently, patiently_for};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A job program and its arguments.
pub struct Program {
    command: Command,
}

impl Program {
    /// The `word_count` of the crate `jobs`, as users run it.
    pub fn word_count() -> Self {
        Self::job("word_count")
    }

    /// A job program of the crate `jobs`, or of these tests.
    pub fn job(name: &str) -> Self {
        Self::at(path_of(name))
    }

    /// The `gristmill` command.
    pub fn gristmill() -> Self {
        Self::at(path_of("gristmill"))
    }

    /// The program at `path`.
    pub fn at(path: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(path);
        command.env_remove("GRISTMILL_MASTER").stdin(Stdio::null());
        Self { command }
    }

    /// With one more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// With more arguments.
    pub fn args(mut self, args: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// With a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// In another directory.
    pub fn in_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Reading from there.
    pub fn stdin(mut self, from: impl Into<Stdio>) -> Self {
        self.command.stdin(from);
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Ended {
        self.start().end()
    }

    /// Runs it, and leaves it running.
    pub fn start(mut self) -> Running {
        let spawned = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("the program starts");
        let stdout = Printed::gather(child.stdout.take());
        let stderr = Printed::gather(child.stderr.take());
        Running { child, printed: Some((stdout, stderr)) }
    }
}

/// What comes out of a pipe, read while the process runs: a full one would stop it.
struct Printed {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

/// What is read at a time.
const PIPE_BUFFER_BYTES: usize = 8 << 10;

impl Printed {
    fn gather(pipe: Option<impl Read + Send + 'static>) -> Printed {
        let mut pipe = pipe.expect("it is piped");
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let gathered = Arc::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut buffer = [0; PIPE_BUFFER_BYTES];
            loop {
                let read = pipe.read(&mut buffer).expect("a pipe can be read");
                if read == 0 {
                    return;
                }
                gathered.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
            }
        });
        Printed { bytes, thread }
    }

    fn so_far(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn whole(self) -> String {
        self.thread.join().expect("the pipe was read");
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A process that has not been waited for. Killed when dropped, so that a failed story leaves nothing running.
pub struct Running {
    child: Child,
    printed: Option<(Printed, Printed)>,
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Whether it runs still.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// What it has said until now, on standard error.
    pub fn said(&self) -> String {
        self.printed.as_ref().map_or_else(String::new, |(_, stderr)| stderr.so_far())
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let status = self.child.wait().expect("it is our child");
        self.ended(status)
    }

    /// Waits for its end, which must come within `patience`.
    pub fn end_within(mut self, patience: Duration) -> Ended {
        patiently_for(patience, "the program to end", || !self.is_running());
        self.end()
    }

    /// Waits until `holds`, as long as the program runs.
    #[track_caller]
    pub fn runs_until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        patiently(what, || {
            if !self.is_running() {
                let status = self.child.wait().expect("it is our child");
                panic!("the program ended before {what}: {:?}", self.ended(status));
            }
            holds()
        });
    }

    fn ended(&mut self, status: ExitStatus) -> Ended {
        let (stdout, stderr) = self.printed.take().expect("it ends once");
        Ended { status, stdout: stdout.whole(), stderr: stderr.whole() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails if the process has ended, which is as good.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Ended {
    /// It did what it should.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{:?}: {}", self.status, self.stderr);
        self
    }

    /// Its report, as `--json` prints it.
    #[track_caller]
    pub fn report(self) -> serde_json::Value {
        serde_json::from_str(&self.succeeded().stdout).expect("--json prints JSON and nothing else")
    }

    /// The one sentence with which it failed, after its name: status 1, and not a word on standard output.
    #[track_caller]
    pub fn sentence(self) -> String {
        assert_eq!(self.status.code(), Some(1), "signal {:?}: {}", self.status.signal(), self.stderr);
        assert_eq!(self.stdout, "", "a failed job prints no result");
        let line = self.stderr.strip_suffix('\n').expect("a sentence ends its line");
        assert!(!line.contains('\n'), "one sentence, not {line:?}");
        line.split_once(": ").expect("the program's name comes first").1.to_owned()
    }
}

/// Where a program of the workspace is.
pub fn path_of(program: &str) -> PathBuf {
    binaries().join(program)
}

/// The directory with the workspace's programs, built as this test is, once for each process. The whole workspace is
/// built: single packages would get other features of the dependencies, and compile them again. Or the programs in
/// `$GRISTMILL_PROGRAMS`, for long runs with the release build.
fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        if let Some(built) = std::env::var_os("GRISTMILL_PROGRAMS") {
            return PathBuf::from(built);
        }
        let test = std::env::current_exe().expect("a test is a file");
        let dir = test.parent().expect("a program lies in a directory");
        if !dir.ends_with("deps") {
            // No test, but a program of these tests: the others lie beside it.
            return dir.to_owned();
        }
        // target/debug/deps/test
        let profile = dir.parent().expect("a test lies in deps").to_owned();
        let target = profile.parent().expect("a profile's directory lies in the target directory");
        let mut build = Command::new(env!("CARGO"));
        // With examples the features are those of a test run: no library is compiled once more.
        build.args(["build", "--quiet", "--workspace", "--bins", "--examples", "--target-dir"]).arg(target);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let built = build.output().expect("cargo runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        profile
    })
}
