//! A master and its workers as real processes on loopback, in a directory of the story's own.
//!
//! Workers are numbered from 0: first core workers, then task workers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gristmill_dfs::client::{ClientOptions, DfsClient};
use gristmill_proto::auth::Secret;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::enclave::Enclave;
use crate::mount::SmallDisk;
use crate::patience::patiently;
use crate::program::{Ended, Program, Running, path_of};

/// How a cluster is to be.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Core workers.
    pub workers: usize,
    /// Task workers.
    pub task_workers: usize,
    /// Slots of each worker; 0: one.
    pub slots: u32,
    /// The rack of each worker, in turn; empty: all on one.
    pub racks: Vec<&'static str>,
    /// Further arguments of the master.
    pub master_args: Vec<&'static str>,
    /// Further arguments of each worker.
    pub worker_args: Vec<&'static str>,
    /// Variables of the environment of all daemons.
    pub env: Vec<(&'static str, String)>,
    /// Whether the cluster has a secret.
    pub secret: bool,
    /// Whether each daemon has a wall clock of its own, which [`Cluster::set_clock`] turns.
    pub clocks: bool,
    /// Who starves: `master` or `worker-0`, and the MiB of its disk. Only for processes that may mount.
    pub small_disks: Vec<(&'static str, u64)>,
    /// Where the clients of the story are.
    pub clients: Clients,
}

/// Where the clients of a story are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clients {
    /// In the workers' network; but in a test program whose name begins with `gateway_` they are told that they are
    /// outside. So a file of stories that is included there has all its bytes go through the master's port.
    #[default]
    Default,
    /// The master tells them that they are outside, though they could reach the workers.
    Outside,
    /// No address of a worker leads there. Only for processes that may make networks; the cluster has a secret.
    Elsewhere,
}

/// A running cluster. All its processes end with it.
pub struct Cluster {
    options: ClusterOptions,
    master: Option<Running>,
    address: String,
    workers: Vec<Option<Running>>,
    /// Daemons that were killed or ended, as they ended.
    ended: Vec<Ended>,
    // After the processes in it.
    enclave: Option<Enclave>,
    // After the processes that write to them, before the directory they are mounted in.
    _disks: Vec<SmallDisk>,
    dir: TempDir,
}

/// Nobody is given up because the machine is slow: a worker is lost after fifty heartbeats, and who writes has ten times
/// longer than the slowest disk has ever taken. A story that waits for a loss says that it is to come sooner.
const MASTER_ARGS: [&str; 11] = [
    "--worker=never",
    "--http=127.0.0.1:0",
    "--heartbeat-interval-ms=100",
    "--worker-lost-ms=5000",
    // A story that waits has slow attempts: twins only where they are wanted.
    "--straggler-behind-ms=3600000",
    "--safe-mode-grace-ms=100",
    "--lease-soft-limit-ms=5000",
    "--lease-hard-limit-ms=20000",
    "--reserve-mib=1",
    "--cache-mib=32",
    "--block-mib=1",
];

/// The lease is at most the time after which a worker is lost.
const WORKER_ARGS: [&str; 2] = ["--reserve-mib=1", "--lease-ms=5000"];

/// The master and its port in a network of their own, where no other port is taken.
const LISTEN_ELSEWHERE: &str = "0.0.0.0:7070";
const MASTER_ELSEWHERE: &str = "127.0.0.1:7070";
/// A name that no client of a story calls the master by.
const MASTER_INSIDE: &str = "master.inside:7070";

/// Whether the stories of this test program are told again, with clients outside.
fn is_for_the_gateway() -> bool {
    let program = std::env::current_exe().expect("a test is a file");
    program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("gateway_"))
}

impl Cluster {
    /// A master and `workers` core workers, ready to keep files.
    pub fn start(workers: usize) -> Cluster {
        Cluster::with(ClusterOptions { workers, ..ClusterOptions::default() })
    }

    /// As `options` say.
    pub fn with(options: ClusterOptions) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut options = options;
        options.secret |= options.clients == Clients::Elsewhere;
        if options.secret {
            write_secret(&dir.path().join("secret"));
        }
        let (core, all) = (options.workers, options.workers + options.task_workers);
        let disks = options.small_disks.iter().map(|&(who, mib)| {
            let path = dir.path().join(who);
            fs::create_dir(&path).expect("a directory");
            SmallDisk::of_mib(&path, mib).expect("whoever asks for small disks may mount")
        });
        let _disks = disks.collect();
        let (master, address) = (None, String::new());
        let enclave = (options.clients == Clients::Elsewhere)
            .then(|| Enclave::make().expect("whoever asks for networks may make them"));
        let (workers, ended) = (Vec::new(), Vec::new());
        let mut cluster = Cluster { options, master, address, workers, ended, enclave, _disks, dir };
        cluster.start_master();
        for index in 0..all {
            cluster.workers.push(None);
            cluster.start_worker(index);
        }
        cluster.wait_for_workers(core);
        cluster
    }

    /// A place in the cluster's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// HOST:PORT of the master.
    pub fn master(&self) -> &str {
        &self.address
    }

    /// The master's process id.
    pub fn master_id(&self) -> u32 {
        self.master.as_ref().expect("the master runs").id()
    }

    /// A worker's process id.
    pub fn worker_id(&self, index: usize) -> u32 {
        self.workers[index].as_ref().expect("the worker runs").id()
    }

    /// What a worker has said in this life.
    pub fn said_by_worker(&self, index: usize) -> String {
        self.workers[index].as_ref().expect("the worker runs").said()
    }

    /// What the master has said in this life.
    pub fn said_by_master(&self) -> String {
        self.master.as_ref().expect("the master runs").said()
    }

    /// The worker's data directory.
    pub fn worker_dir(&self, index: usize) -> PathBuf {
        self.path(&format!("worker-{index}"))
    }

    /// Starts the master, on the address it had before if it ran before, and waits until it takes calls.
    pub fn start_master(&mut self) {
        let said = self.path("master/address");
        let mut master = self.master_program().start();
        master.runs_until("the master to listen", || said.exists());
        self.master = Some(master);
        let said = fs::read_to_string(&said).expect("the address").trim().to_owned();
        self.address = match &self.enclave {
            Some(enclave) => said.replace("0.0.0.0", enclave.address()),
            None => said,
        };
    }

    /// Starts a master that does not live long: kill -9 after `life`, whatever it was doing.
    pub fn start_master_in_vain(&mut self, life: Duration) {
        let master = self.master_program().start();
        let begun = Instant::now();
        patiently("its time", || begun.elapsed() >= life);
        master.signal(Signal::KILL);
        master.end();
        match fs::remove_file(self.path("master/address")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                panic!("the address of a dead master: {error}")
            }
            _ => {}
        }
    }

    fn master_program(&self) -> Program {
        let data_dir = self.path("master");
        let listen = match (&self.enclave, self.address.as_str()) {
            (Some(_), _) => LISTEN_ELSEWHERE,
            (None, "") => "127.0.0.1:0",
            (None, before) => before,
        };
        let mut program = self.daemon().arg("master").arg("--listen").arg(listen);
        if let Some(inside) = self.inside_address() {
            program = program.args(["--advertise", inside]);
        }
        program =
            program.arg("--data-dir").arg(&data_dir).args(defaults(&MASTER_ARGS, &self.options.master_args));
        self.as_daemon("master", program.args(&self.options.master_args))
    }

    /// Starts a worker that does not run, on its own directory.
    pub fn start_worker(&mut self, index: usize) {
        let role = if index < self.options.workers { "core" } else { "task" };
        let slots = self.options.slots.max(1).to_string();
        let master = if self.enclave.is_some() { MASTER_ELSEWHERE } else { &self.address };
        let mut program = self.daemon().arg("worker").args(["--role", role, "--master", master]);
        program = program
            .args(["--slots", &slots])
            .arg("--data-dir")
            .arg(self.worker_dir(index))
            .args(defaults(&WORKER_ARGS, &self.options.worker_args));
        if !self.options.racks.is_empty() {
            program = program.args(["--rack", self.options.racks[index % self.options.racks.len()]]);
        }
        program = program.args(&self.options.worker_args);
        self.workers[index] = Some(self.as_daemon(&format!("worker-{index}"), program).start());
    }

    /// kill -9. The system forgets what the process had in memory, and keeps what it wrote.
    pub fn kill_master(&mut self) {
        let master = self.master.take().expect("the master runs");
        master.signal(Signal::KILL);
        self.ended.push(master.end());
        fs::remove_file(self.path("master/address")).expect("a killed master cannot take its address back");
    }

    /// Ends the master as an operator does.
    pub fn stop_master(&mut self) -> Ended {
        let master = self.master.take().expect("the master runs");
        master.signal(Signal::TERM);
        master.end()
    }

    /// kill -9.
    pub fn kill_worker(&mut self, index: usize) {
        let worker = self.workers[index].take().expect("the worker runs");
        worker.signal(Signal::KILL);
        self.ended.push(worker.end());
    }

    /// Starts what has ended by itself. Returns how many that were.
    pub fn revive(&mut self) -> u64 {
        let before = self.ended.len();
        if self.master.as_mut().is_some_and(|master| !master.is_running()) {
            self.ended.extend(self.master.take().map(Running::end));
            let address = self.path("master/address");
            if address.exists() {
                fs::remove_file(address).expect("it is nobody's address any more");
            }
            self.start_master();
        }
        for index in 0..self.workers.len() {
            if self.workers[index].as_mut().is_some_and(|worker| !worker.is_running()) {
                self.ended.extend(self.workers[index].take().map(Running::end));
                self.start_worker(index);
            }
        }
        (self.ended.len() - before) as u64
    }

    /// Daemons that were killed, or revived, since this was asked last: as they ended, with all that they said.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// Ends a worker as an operator does.
    pub fn stop_worker(&mut self, index: usize) -> Ended {
        let worker = self.workers[index].take().expect("the worker runs");
        worker.signal(Signal::TERM);
        worker.end()
    }

    /// SIGSTOP: the process is there, its connections are open, and it says nothing.
    pub fn pause_worker(&self, index: usize) {
        self.workers[index].as_ref().expect("the worker runs").signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume_worker(&self, index: usize) {
        self.workers[index].as_ref().expect("the worker runs").signal(Signal::CONT);
    }

    /// SIGSTOP for the master.
    pub fn pause_master(&self) {
        self.master.as_ref().expect("the master runs").signal(Signal::STOP);
    }

    /// SIGCONT for the master.
    pub fn resume_master(&self) {
        self.master.as_ref().expect("the master runs").signal(Signal::CONT);
    }

    /// A process of the cluster that ended by itself, as it ended.
    pub fn ended_worker(&mut self, index: usize) -> Ended {
        self.workers[index].take().expect("the worker ran").end()
    }

    /// Waits until the master counts exactly `count` live workers, and all core workers that run know that they are welcome:
    /// before that they take no blocks, and a writer would leave them out.
    pub fn wait_for_workers(&self, count: usize) {
        let client = self.client();
        for worker in self.workers.iter().take(self.options.workers).flatten() {
            patiently("the worker to be welcomed", || worker.said().contains(" attends"));
        }
        patiently(&format!("{count} live workers"), || {
            let report = client.report().expect("a report");
            report.workers.iter().filter(|worker| worker.state == "live").count() == count
        });
    }

    /// Waits until no block lacks a copy, and none is left over.
    pub fn wait_until_healed(&self) {
        let client = self.client();
        patiently("the cluster to heal", || {
            let report = client.report().expect("a report");
            let space = report.space.expect("a report says the space");
            let safe = report.safe_mode.expect("a report says the safe mode");
            !safe.on
                && space.under_replicated
                    + space.missing
                    + report.pending_replication
                    + report.pending_deletion
                    == 0
        });
    }

    /// Turns the wall clock of `who`, `master` or `worker-0`: from now on it is off by so much.
    pub fn set_clock(&self, who: &str, off_s: i64) {
        // It is looked at at any moment: there is never half a number in it.
        let (clock, next) = (self.clock_of(who), self.path("next-clock"));
        fs::write(&next, off_s.to_string()).and_then(|()| fs::rename(&next, &clock)).expect("our own files");
    }

    /// The file that turns the wall clock of `who`.
    pub fn clock_of(&self, who: &str) -> PathBuf {
        self.path(&format!("clock-of-{who}"))
    }

    /// A client of this process, as `user` of the tests.
    pub fn client(&self) -> DfsClient {
        self.client_as(&ClientOptions::new(&self.address).user)
    }

    /// A client as another user.
    pub fn client_as(&self, user: &str) -> DfsClient {
        let options = ClientOptions { user: user.to_owned(), ..self.client_options() };
        DfsClient::connect(options).expect("the master takes clients")
    }

    /// How many workers of either role the cluster was made with.
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Where the cluster's secret is, if it has one.
    pub fn secret_file(&self) -> Option<PathBuf> {
        self.options.secret.then(|| self.path("secret"))
    }

    /// How a client of this process reaches the cluster.
    pub fn client_options(&self) -> ClientOptions {
        let secret = self.options.secret.then(|| Secret::read(&self.path("secret")).expect("the secret"));
        ClientOptions { secret, ..ClientOptions::new(&self.address) }
    }

    /// `gristmill fs`, to be given arguments.
    pub fn fs(&self) -> Program {
        let program = Program::gristmill().arg("fs").env("GRISTMILL_MASTER", &self.address);
        self.with_secret(program)
    }

    fn as_daemon(&self, who: &str, program: Program) -> Program {
        let env = |program: Program, (name, value): &(&'static str, String)| program.env(name, value);
        let program = self.options.env.iter().fold(self.with_secret(program), env);
        if !self.options.clocks {
            return program;
        }
        if !self.clock_of(who).exists() {
            self.set_clock(who, 0);
        }
        program.env("GRISTMILL_TEST_CLOCK", self.clock_of(who))
    }

    /// `gristmill`, where the daemons of the cluster are.
    fn daemon(&self) -> Program {
        match &self.enclave {
            Some(enclave) => enclave.program(&path_of("gristmill")),
            None => Program::gristmill(),
        }
    }

    /// How the master says that it is called in the workers' network.
    fn inside_address(&self) -> Option<&'static str> {
        match self.options.clients {
            Clients::Elsewhere => Some(MASTER_ELSEWHERE),
            Clients::Outside => Some(MASTER_INSIDE),
            Clients::Default => is_for_the_gateway().then_some(MASTER_INSIDE),
        }
    }

    fn with_secret(&self, program: Program) -> Program {
        match self.secret_file() {
            Some(file) => program.env("GRISTMILL_SECRET_FILE", file),
            None => program,
        }
    }
}

/// The arguments of every story that this one does not set itself.
fn defaults(all: &[&'static str], own: &[&str]) -> Vec<&'static str> {
    let name = |arg: &str| arg.split('=').next().map(str::to_owned);
    all.iter().copied().filter(|arg| !own.iter().any(|own| name(own) == name(arg))).collect()
}

fn write_secret(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, "a secret of the tests: 0123456789abcdef0123456789abcdef\n").expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its owner's alone");
}
