//! A master and its workers as real processes on loopback, in a directory of the story's own.

use std::fs;
use std::path::{Path, PathBuf};

use gristmill_dfs::client::{ClientOptions, DfsClient};
use gristmill_proto::auth::Secret;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::mount::SmallDisk;
use crate::patience::patiently;
use crate::program::{Ended, Program, Running};

/// How a cluster is to be.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Core workers.
    pub workers: usize,
    /// The rack of each worker, in turn; empty: all on one.
    pub racks: Vec<&'static str>,
    /// Further arguments of the master.
    pub master_args: Vec<&'static str>,
    /// Further arguments of each worker.
    pub worker_args: Vec<&'static str>,
    /// Whether the cluster has a secret.
    pub secret: bool,
    /// Who starves: `master` or `worker-0`, and the MiB of its disk. Only for processes that may mount.
    pub small_disks: Vec<(&'static str, u64)>,
}

/// A running cluster. All its processes end with it.
pub struct Cluster {
    options: ClusterOptions,
    master: Option<Running>,
    address: String,
    workers: Vec<Option<Running>>,
    // After the processes that write to them, before the directory they are mounted in.
    _disks: Vec<SmallDisk>,
    dir: TempDir,
}

/// Failures are noticed quickly: a story should not wait for the twelve seconds of a real cluster.
const MASTER_ARGS: [&str; 8] = [
    "--heartbeat-interval-ms=100",
    "--worker-lost-ms=2000",
    "--safe-mode-grace-ms=100",
    "--lease-soft-limit-ms=2000",
    "--lease-hard-limit-ms=4000",
    "--reserve-mib=1",
    "--cache-mib=32",
    "--block-mib=1",
];

const WORKER_ARGS: [&str; 3] = ["--reserve-mib=1", "--lease-ms=2000", "--ack-timeout-ms=1000"];

impl Cluster {
    /// A master and `workers` core workers, ready to be used.
    pub fn start(workers: usize) -> Cluster {
        Cluster::with(ClusterOptions { workers, ..ClusterOptions::default() })
    }

    /// As `options` say.
    pub fn with(options: ClusterOptions) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary directory");
        if options.secret {
            write_secret(&dir.path().join("secret"));
        }
        let workers = options.workers;
        let disks = options.small_disks.iter().map(|&(who, mib)| {
            let path = dir.path().join(who);
            fs::create_dir(&path).expect("a directory");
            SmallDisk::of_mib(&path, mib).expect("whoever asks for small disks may mount")
        });
        let _disks = disks.collect();
        let (master, address) = (None, String::new());
        let mut cluster = Cluster { options, master, address, workers: Vec::new(), _disks, dir };
        cluster.start_master();
        for index in 0..workers {
            cluster.workers.push(None);
            cluster.start_worker(index);
        }
        cluster.wait_for_workers(workers);
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

    /// The worker's data directory.
    pub fn worker_dir(&self, index: usize) -> PathBuf {
        self.path(&format!("worker-{index}"))
    }

    /// Starts the master, on the address it had before if it ran before, and waits until it takes calls.
    pub fn start_master(&mut self) {
        let listen = if self.address.is_empty() { "127.0.0.1:0" } else { &self.address };
        let data_dir = self.path("master");
        let mut program = Program::gristmill().arg("master").arg("--listen").arg(listen);
        program = program.arg("--data-dir").arg(&data_dir).args(MASTER_ARGS).args(&self.options.master_args);
        self.master = Some(self.with_secret(program).start());
        let said = data_dir.join("address");
        patiently("the master to listen", || said.exists());
        self.address = fs::read_to_string(&said).expect("the address").trim().to_owned();
    }

    /// Starts a worker that does not run, on its own directory.
    pub fn start_worker(&mut self, index: usize) {
        let mut program =
            Program::gristmill().arg("worker").args(["--role", "core", "--master", &self.address]);
        program = program.arg("--data-dir").arg(self.worker_dir(index)).args(WORKER_ARGS);
        if !self.options.racks.is_empty() {
            program = program.args(["--rack", self.options.racks[index % self.options.racks.len()]]);
        }
        program = program.args(&self.options.worker_args);
        self.workers[index] = Some(self.with_secret(program).start());
    }

    /// kill -9. The system forgets what the process had in memory, and keeps what it wrote.
    pub fn kill_master(&mut self) {
        let master = self.master.take().expect("the master runs");
        master.signal(Signal::KILL);
        master.end();
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
        worker.end();
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

    /// Waits until the master counts exactly `count` live workers.
    pub fn wait_for_workers(&self, count: usize) {
        let client = self.client();
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

    /// A client of this process, as `user` of the tests.
    pub fn client(&self) -> DfsClient {
        self.client_as(&ClientOptions::new(&self.address).user)
    }

    /// A client as another user.
    pub fn client_as(&self, user: &str) -> DfsClient {
        let options = ClientOptions { user: user.to_owned(), ..self.client_options() };
        DfsClient::connect(options).expect("the master takes clients")
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

    fn with_secret(&self, program: Program) -> Program {
        match self.options.secret {
            true => program.env("GRISTMILL_SECRET_FILE", self.path("secret")),
            false => program,
        }
    }
}

fn write_secret(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, "a secret of the tests: 0123456789abcdef0123456789abcdef\n").expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its owner's alone");
}
