//! A Docker engine of a story's own, in a network of its own: it can be restarted, and run out of addresses and of disk.
//!
//! ```text
//!   the test ── Engine::tells(story) ──> a network ──> the same program again, in there, with the story alone
//!                                                        └── Engine::start() ──> dockerd, at $DOCKER_HOST
//! ```

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::enclave::Enclave;
use crate::patience::patiently_for;
use crate::program::{Program, path_of};

/// Where the story's engine has its files.
const DIR: &str = "GRISTMILL_TEST_ENGINE_DIR";
/// Addresses for two networks; nobody outside sees them.
const POOL: &str = "base=10.199.0.0/27,size=28";
/// It starts in seconds, and gives its containers ten to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine that runs. It ends, with all its containers, when dropped.
pub struct Engine {
    dir: PathBuf,
    daemon: Child,
}

impl Engine {
    /// Runs a story of this test program, an ignored test, where it can start an engine. Where this machine cannot give
    /// it a place for one, says so and why.
    #[track_caller]
    pub fn tells(story: &str) {
        let place =
            Enclave::make().and_then(|enclave| match Command::new("dockerd").arg("--version").output() {
                Ok(_) => Ok(enclave),
                Err(error) => Err(format!("dockerd cannot be run: {error}")),
            });
        let enclave = match place {
            Ok(enclave) => enclave,
            Err(why) => return eprintln!("left out, for no engine can be started here ({why}): {story}"),
        };
        let dir = tempfile::tempdir().expect("a directory");
        let socket = format!("unix://{}", dir.path().join("docker.sock").display());
        let programs = path_of("gristmill").parent().expect("programs lie in a directory").to_owned();
        let test = std::env::current_exe().expect("a test is a file");
        let told = enclave.program(&test).args(["--ignored", "--exact", "--nocapture", story]);
        let told = told.env(DIR, dir.path()).env("DOCKER_HOST", socket).env("GRISTMILL_PROGRAMS", programs);
        let told = told.run();
        unmount_below(dir.path());
        eprint!("{}", told.stderr);
        assert!(told.status.success() && told.stdout.contains("1 passed"), "{story}: {}", told.stdout);
    }

    /// Within a story that [`Engine::tells`]: the place of the engine's data, below which nothing is yet.
    pub fn data_dir() -> PathBuf {
        dir().join("data")
    }

    /// Starts the engine of a story that [`Engine::tells`]. Says so and why where it does not start.
    pub fn start() -> Option<Engine> {
        let dir = dir();
        fs::write(dir.join("config.json"), "{}").expect("a file");
        let mut engine = Engine { daemon: daemon(&dir), dir };
        if engine.answers() {
            return Some(engine);
        }
        eprintln!("left out, for dockerd does not start here: {}", engine.last_words());
        None
    }

    /// Ends the daemon: in good order with TERM, with its containers; with KILL they run on without it.
    #[track_caller]
    pub fn stop(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.daemon), signal).expect("it runs");
        self.daemon.wait().expect("it is our child");
    }

    /// Starts it again, on what it had.
    #[track_caller]
    pub fn start_again(&mut self) {
        // Of a daemon that was killed, and of the one that went with it: where nobody collects the dead, they look alive.
        for left in ["pid", "exec/containerd/containerd.pid"] {
            match fs::remove_file(self.dir.join(left)) {
                Err(error) if error.kind() != ErrorKind::NotFound => panic!("{left}: {error}"),
                _ => {}
            }
        }
        self.daemon = daemon(&self.dir);
        assert!(self.answers(), "it does not start again: {}", self.last_words());
    }

    /// Whether it comes to take calls.
    fn answers(&mut self) -> bool {
        let mut answers = false;
        patiently_for(PATIENCE, "the engine to answer", || {
            answers = Program::at("docker").arg("info").run().status.success();
            answers || self.daemon.try_wait().expect("it is our child").is_some()
        });
        answers
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).expect("it has a log");
        log.lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let list = Program::at("docker").args(["ps", "--all", "--quiet"]).run();
        for container in list.stdout.lines() {
            Program::at("docker").args(["rm", "--force", "--volumes", container]).run();
        }
        // It fails if the daemon has ended, which is as good.
        if kill_process(Pid::from_child(&self.daemon), Signal::TERM).is_ok() {
            self.daemon.wait().ok();
        }
    }
}

/// What daemons that were killed have mounted.
fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("Linux tells");
    let places = mounts.lines().filter_map(|mount| mount.split(' ').nth(4)).map(Path::new);
    for place in places.filter(|place| place.starts_with(dir)).collect::<Vec<_>>().into_iter().rev() {
        Program::at("umount").arg(place).run().succeeded();
    }
}

fn dir() -> PathBuf {
    std::env::var_os(DIR).expect("Engine::tells runs this story").into()
}

fn daemon(dir: &Path) -> Child {
    let log = || File::options().append(true).create(true).open(dir.join("log")).expect("a log");
    let at = |name: &str| dir.join(name);
    let mut daemon = Command::new("dockerd");
    daemon.arg("--config-file").arg(at("config.json")).arg("--data-root").arg(at("data"));
    daemon.arg("--exec-root").arg(at("exec")).arg("--pidfile").arg(at("pid"));
    daemon.arg("--host").arg(std::env::var_os("DOCKER_HOST").expect("Engine::tells runs this story"));
    daemon.args(["--bridge", "none", "--default-address-pool", POOL]);
    // Containers' keepers have these open for as long as they live: no pipes.
    daemon.stdin(Stdio::null()).stdout(log()).stderr(log());
    daemon.spawn().expect("it has been run before")
}
