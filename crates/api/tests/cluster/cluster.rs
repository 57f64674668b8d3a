//! A namenode and a core worker within this process, and the fake service Jobs on the namenode's port.

use crate::PROGRAM_VARIABLE;
use crate::jobs::FakeJobs;
use gristmill_dfs::Uri;
use gristmill_dfs::datanode::block_store::{BlockStore, StoreOptions};
use gristmill_dfs::datanode::{Attendance, AttendanceOptions, BulkOptions, BulkServer, Standing};
use gristmill_dfs::file_system::{Access, CreateOptions};
use gristmill_dfs::namenode::{Namenode, NamenodeOptions};
use gristmill_proto::auth::BlockKey;
use gristmill_proto::job::jobs_server::JobsServer;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

/// One story's cluster.
pub(crate) struct Cluster {
    pub(crate) jobs: FakeJobs,
    pub(crate) master: String,
    dir: TempDir,
    namenode: Option<Namenode>,
    worker: Arc<BulkServer>,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

impl Cluster {
    pub(crate) fn start() -> Cluster {
        let dir = tempfile::tempdir().expect("a directory");
        let runtime = Runtime::new().expect("a runtime");
        let namenode = Namenode::start(&dir.path().join("namespace"), options(), None, BlockKey::random());
        let namenode = namenode.expect("a namenode");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let master = listener.local_addr().expect("an address").to_string();
        let jobs = FakeJobs::default();
        let server = Server::builder()
            .add_service(namenode.namespace_service())
            .add_service(namenode.attendance_service())
            .add_service(JobsServer::new(jobs.clone()));
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let (stop, stopped) = watch::channel(false);
        let worker = core_worker(&runtime, &dir.path().join("disk"), &master, stopped);
        for directory in ["/.gristmill/programs", "/.gristmill/jobs"] {
            let uri = Uri::dfs(&master, directory);
            uri.file_system().expect("the cluster's").make_directory(&uri, true).expect("made");
        }
        Cluster { jobs, master, dir, namenode: Some(namenode), worker, stop, runtime: Some(runtime) }
    }

    /// A path of the story's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn uri(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn dfs(&self, path: &str) -> Uri {
        Uri::dfs(&self.master, path)
    }

    /// Puts a file into dfs://.
    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        let uri = self.dfs(path);
        let fs = uri.file_system().expect("the cluster's");
        let mut file = fs.create(&uri, &CreateOptions::default()).expect("created");
        file.write_all(content).expect("written");
        file.finish().expect("whole");
    }

    pub(crate) fn get(&self, path: &str) -> Vec<u8> {
        let uri = self.dfs(path);
        let file = uri.file_system().expect("the cluster's").open(&uri).expect("opened");
        let mut content = vec![0; file.bytes() as usize];
        let mut read = 0;
        while read < content.len() {
            match file.read_at(&mut content[read..], read as u64).expect("read") {
                0 => panic!("{uri} ends at {read}"),
                bytes => read += bytes,
            }
        }
        content
    }

    /// Starts the program on this cluster.
    pub(crate) fn drive(&self, arguments: &[&str]) -> Driver {
        let mut command = program();
        command.args(["--master", &self.master]).args(arguments);
        Driver(Some(command.spawn().expect("the program starts")))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
        if let Some(namenode) = self.namenode.take() {
            namenode.stop();
        }
        self.worker.stop(Duration::ZERO).expect("the bulk server ends");
    }
}

/// The program, as its user runs it.
pub(crate) fn program() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this file"));
    command.env(PROGRAM_VARIABLE, "1").env_remove("GRISTMILL_MASTER");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A driver's process; killed when a story fails.
pub(crate) struct Driver(Option<Child>);

impl Driver {
    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().expect("it runs").id()
    }

    pub(crate) fn interrupt(&self) {
        let child = self.0.as_ref().expect("it runs");
        rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::INT)
            .expect("the process is there");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Output {
        self.0.take().expect("it runs").wait_with_output().expect("it is our child")
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        // It fails if the process has ended, which is as good.
        if child.kill().is_ok() {
            let ended = child.wait_with_output().expect("it is our child");
            eprintln!("the driver said: {}", String::from_utf8_lossy(&ended.stderr));
        }
    }
}

fn options() -> NamenodeOptions {
    NamenodeOptions {
        superuser: Access::from_environment().user,
        replication: Some(1),
        block_bytes: 1 << 20,
        cache_bytes: 16 << 20,
        worker_lost_ms: 30_000,
        heartbeat_interval_ms: 100,
        lease_soft_limit_ms: 10_000,
        lease_hard_limit_ms: 60_000,
        safe_mode_grace_ms: 0,
        trash_age_ms: 0,
        reserve_bytes: 0,
        inside_address: String::new(),
    }
}

fn core_worker(
    runtime: &Runtime,
    disk: &std::path::Path,
    master: &str,
    stopped: watch::Receiver<bool>,
) -> Arc<BulkServer> {
    std::fs::create_dir(disk).expect("a directory");
    let store = BlockStore::open(&[disk.to_owned()], StoreOptions { reserve_bytes: 0 });
    let store = store.expect("a store");
    let standing = Arc::new(Standing::new(Duration::from_secs(30)));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = BulkServer::start(listener, store.clone(), standing.clone(), BulkOptions::default());
    let server = Arc::new(server.expect("a server"));
    let options = AttendanceOptions {
        master: master.to_owned(),
        secret: None,
        address: server.address().to_string(),
        host: "here".to_owned(),
        rack: "/rack".to_owned(),
        socket: String::new(),
        retry: (Duration::from_millis(10), Duration::from_millis(100)),
    };
    let attendance = Attendance::new(options, store, standing, server.clone()).expect("an attendance");
    runtime.spawn(async move { attendance.run(stopped).await.expect("the worker is welcome") });
    server
}
