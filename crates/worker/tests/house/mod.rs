//! A worker's surroundings: a real namenode with the worker's own disks behind it, and a master for jobs that the story
//! plays itself, all over loopback.
#![allow(dead_code, unreachable_pub)] // Each story uses a part of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gristmill_dfs::client::{ClientOptions, CreateOptions, DfsClient};
use gristmill_dfs::namenode::{Namenode, NamenodeOptions};
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::auth::{BlockKey, TaskKey};
use gristmill_proto::ids::{AttemptId, ClusterId, JobId, TaskId};
use gristmill_proto::job::stage::{Origin, Target};
use gristmill_proto::job::{JobFile, JobSpec, Program, Stage};
use gristmill_proto::task::from_worker::Notice;
use gristmill_proto::task::order::Order as Kind;
use gristmill_proto::task::tasks_server::{Tasks, TasksServer};
use gristmill_proto::task::{
    Accepted, AttemptFailure, AttemptResult, Ended, FromWorker, Launch, LogPage, Order, ReadLog, Register,
    StartJob, ToWorker, Welcome, ended, register,
};
use gristmill_worker::{ADDRESS_FILE, CgroupUse, Role, WorkerError, WorkerOptions, run_until};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub const PATIENCE: Duration = Duration::from_secs(60);
/// What a new task worker becomes.
pub const TASK_WORKER: u64 = 1_000_001;

/// One stream of a worker, on the master's side.
pub struct Stream {
    pub register: Register,
    orders: mpsc::Sender<Result<ToWorker, Status>>,
    notices: Receiver<Notice>,
}

struct Service(Mutex<Sender<Stream>>);

#[tonic::async_trait]
impl Tasks for Service {
    type AttendStream = ReceiverStream<Result<ToWorker, Status>>;

    async fn attend(
        &self,
        request: Request<Streaming<FromWorker>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|message| message.notice);
        let Some(Notice::Register(register)) = first else {
            return Err(Status::invalid_argument("no register"));
        };
        let (orders, outbound) = mpsc::channel(64);
        let (tell, notices) = channel();
        tokio::spawn(async move {
            while let Ok(Some(FromWorker { notice: Some(notice) })) = inbound.message().await {
                if tell.send(notice).is_err() {
                    return;
                }
            }
        });
        let streams = self.0.lock().expect("no panic").clone();
        streams
            .send(Stream { register, orders, notices })
            .map_err(|_| Status::unavailable("the story is over"))?;
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

/// The namenode, and the port on which workers find it and the story.
pub struct House {
    pub dir: tempfile::TempDir,
    pub master: String,
    pub cluster: ClusterId,
    pub key: TaskKey,
    open_key: Vec<u8>,
    namenode: Option<Namenode>,
    runtime: Option<tokio::runtime::Runtime>,
    streams: Receiver<Stream>,
}

impl House {
    pub fn build() -> House {
        let dir = tempfile::tempdir().expect("a directory");
        let options = NamenodeOptions {
            superuser: "root".to_owned(),
            replication: None,
            block_bytes: 64 << 20,
            cache_bytes: 8 << 20,
            worker_lost_ms: 12_000,
            heartbeat_interval_ms: 100,
            lease_soft_limit_ms: 60_000,
            lease_hard_limit_ms: 600_000,
            safe_mode_grace_ms: 10,
            trash_age_ms: 0,
            reserve_bytes: 0,
            inside_address: String::new(),
        };
        let store = dir.path().join("namespace.redb");
        let namenode = Namenode::start(&store, options, None, BlockKey::random()).expect("a namenode");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let master = listener.local_addr().expect("an address").to_string();
        let (tell, streams) = channel();
        let server = tonic::transport::Server::builder()
            .add_service(namenode.namespace_service())
            .add_service(namenode.attendance_service())
            .add_service(TasksServer::new(Service(Mutex::new(tell))));
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let (key, open_key) = TaskKey::open_random();
        let cluster = namenode.cluster();
        let (namenode, runtime) = (Some(namenode), Some(runtime));
        House { dir, master, cluster, key, open_key, namenode, runtime, streams }
    }

    /// A worker on threads of this process, in a directory of the name.
    pub fn worker(&self, name: &str, role: Role) -> Worker {
        let home = self.dir.path().join(name);
        let options = WorkerOptions {
            master: self.master.clone(),
            role,
            data_dirs: vec![home.clone()],
            listen: "127.0.0.1:0".parse().expect("an address"),
            shuffle_listen: None,
            slots: Some(2),
            memory: Some(256 << 20),
            scratch_dirs: Vec::new(),
            program_cache_mib: 256,
            job_disk_mib: 0,
            cgroups: CgroupUse::Auto,
            host: Some("here".to_owned()),
            rack: "/r".to_owned(),
            bootstrap: None,
            secret_file: None,
            reserve_mib: 0,
            scrub_mib_per_s: 0,
            lease_ms: 12_000,
            transfers: 16,
            copy_mib_per_s: 0,
            ack_timeout_ms: 10_000,
            notice_ms: 0,
            goodbye_ms: 1_000,
        };
        Worker::start(options, home)
    }

    /// The next stream that a worker opens, before it is welcomed.
    pub fn stream(&self) -> Stream {
        self.streams.recv_timeout(PATIENCE).expect("a worker registers")
    }

    /// The next stream, welcomed: a task worker that is new becomes worker 1000001.
    pub fn welcome(&self) -> Stream {
        let stream = self.stream();
        let known = stream.register.worker;
        assert!(known > 0 || stream.register.role() == register::Role::Task, "a core worker knows who it is");
        stream.order(Kind::Welcome(Welcome {
            version: PROTOCOL_VERSION,
            cluster_id: self.cluster.0.to_vec().into(),
            worker: if known == 0 { TASK_WORKER } else { known },
            heartbeat_interval_ms: 50,
            lost_ms: 12_000,
            open_key: self.open_key.clone().into(),
            log_place: String::new(),
        }));
        stream
    }

    /// A core worker that has been welcomed, and its stream.
    pub fn core(&self) -> (Worker, Stream) {
        let worker = self.worker("core", Role::Core);
        let stream = self.welcome();
        assert_eq!(stream.register.role(), register::Role::Core);
        (worker, stream)
    }

    pub fn client(&self) -> DfsClient {
        let options = ClientOptions { user: "root".to_owned(), ..ClientOptions::new(&self.master) };
        DfsClient::connect(options).expect("the namenode answers")
    }

    fn put(&self, path: &str, content: &[u8]) {
        let options = CreateOptions { parents: true, overwrite: true, ..CreateOptions::default() };
        let mut file = self.client().create(path, options).expect("created");
        file.write_whole(content).expect("written");
        file.finish().expect("closed");
    }

    /// A job whose program behaves in this way: a map stage, and a stage that reads what it leaves.
    pub fn job(&self, behaviour: &str) -> JobSpec {
        self.job_of(behaviour, "child", &fs::read(child()).expect("the program"))
    }

    /// The same with any program.
    pub fn job_of(&self, behaviour: &str, name: &str, program: &[u8]) -> JobSpec {
        let job = JobId::random();
        let file = JobFile { arguments: vec![behaviour.as_bytes().to_vec().into()], ..JobFile::default() };
        let (file, job_file) = (file.encode_to_vec(), format!("/.gristmill/jobs/{job}/job"));
        self.put(&job_file, &file);
        let sha256: [u8; 32] = Sha256::digest(program).into();
        let path = format!("/.gristmill/programs/{name}-{}", program.len());
        if self.client().stat(&path).is_err() {
            self.put(&path, program);
        }
        let program = Program {
            sha256: sha256.to_vec().into(),
            bytes: program.len() as u64,
            path,
            name: format!("/home/ann/{name}"),
        };
        let target = if behaviour.starts_with("map") { Target::ToShuffle } else { Target::ToOutput };
        let map = Stage { tasks: 4, target: target as i32, ..Stage::default() };
        let reduce = Stage { origin: Origin::Shuffle as i32, tasks: 2, ..Stage::default() };
        JobSpec {
            job: job.0.to_vec().into(),
            user: "root".to_owned(),
            program: Some(program),
            job_file,
            job_file_sha256: Sha256::digest(&file).to_vec().into(),
            fingerprint: "plan-1".to_owned(),
            stages: vec![map, reduce],
            ..JobSpec::default()
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        if let Some(namenode) = self.namenode.take() {
            namenode.stop();
        }
    }
}

impl Stream {
    pub fn order(&self, order: Kind) {
        let message = ToWorker { epoch: 1, orders: vec![Order { order: Some(order) }] };
        self.orders.blocking_send(Ok(message)).expect("the worker listens");
    }

    /// Starts the job and one attempt of it.
    pub fn launch(&self, spec: &JobSpec, stage: u32) -> AttemptId {
        self.launch_with(spec, stage, Launch::default(), Vec::new())
    }

    pub fn launch_with(
        &self,
        spec: &JobSpec,
        stage: u32,
        launch: Launch,
        shuffle_token: Vec<u8>,
    ) -> AttemptId {
        let job = JobId::from_wire(&spec.job).expect("an id");
        let attempt = TaskId { job, stage, task: 0 }.attempt(0);
        let shuffle_token = shuffle_token.into();
        self.order(Kind::StartJob(StartJob {
            spec: Some(spec.clone()),
            shuffle_token,
            ..StartJob::default()
        }));
        self.order(Kind::Launch(Launch { attempt: Some(attempt.to_wire()), ..launch }));
        attempt
    }

    /// The first notice that `wanted` takes. Others are passed over.
    pub fn expect<T>(&self, what: &str, wanted: impl Fn(&Notice) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(notice) = self.notices.recv_timeout(left) else { panic!("never: {what}") };
            if let Some(found) = wanted(&notice) {
                return found;
            }
        }
    }

    pub fn ended(&self, attempt: AttemptId) -> ended::Outcome {
        self.expect("the end of the attempt", |notice| match notice {
            Notice::Ended(Ended { attempt: id, outcome, .. }) if *id == Some(attempt.to_wire()) => {
                outcome.clone()
            }
            _ => None,
        })
    }

    pub fn done(&self, attempt: AttemptId) -> AttemptResult {
        match self.ended(attempt) {
            ended::Outcome::Done(result) => result,
            ended::Outcome::Failed(failure) => panic!("{attempt} failed: {failure:?}"),
        }
    }

    pub fn failed(&self, attempt: AttemptId) -> AttemptFailure {
        match self.ended(attempt) {
            ended::Outcome::Failed(failure) => failure,
            ended::Outcome::Done(_) => panic!("{attempt} is done"),
        }
    }

    /// All that is kept of a log, and how much is missing.
    pub fn log(&self, attempt: AttemptId, stderr: bool) -> (String, u64) {
        let read = ReadLog { request: 5, attempt: Some(attempt.to_wire()), stderr, offset: 0, bytes_max: 0 };
        self.order(Kind::ReadLog(read));
        let (mut text, mut dropped) = (Vec::new(), 0);
        loop {
            let LogPage { bytes, last, failure, dropped_bytes, .. } =
                self.expect("a page of a log", |notice| match notice {
                    Notice::LogPage(page) if page.request == 5 => Some(page.clone()),
                    _ => None,
                });
            assert_eq!(failure, "");
            text.extend_from_slice(&bytes);
            dropped += dropped_bytes;
            if last {
                return (String::from_utf8(text).expect("text"), dropped);
            }
        }
    }

    pub fn accept(&self, attempt: AttemptId, winner: bool) {
        self.order(Kind::Accepted(Accepted { attempt: Some(attempt.to_wire()), winner }));
    }
}

/// A worker on threads of this process.
pub struct Worker {
    pub home: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), WorkerError>>>,
}

impl Worker {
    fn start(options: WorkerOptions, home: PathBuf) -> Worker {
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = Arc::new(Mutex::new(Some(stopped)));
        let thread = std::thread::spawn(move || {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let stop = Arc::clone(&stopped);
                let stop = async move {
                    let stopped = stop.lock().expect("no panic").take().expect("once");
                    stopped.await.unwrap_or_default();
                };
                match run_until(options.clone(), stop) {
                    // In one process the threads of an earlier worker let go of its disks a moment after it.
                    Err(WorkerError::Store(_) | WorkerError::Scratch(_)) if Instant::now() < deadline => {
                        std::thread::yield_now();
                    }
                    ended => return ended,
                }
            }
        });
        Worker { home, stop: Some(stop), thread: Some(thread) }
    }

    pub fn scratch(&self) -> PathBuf {
        self.home.join("scratch")
    }

    /// How it ended, without having been told to.
    pub fn ended(mut self) -> Result<(), WorkerError> {
        self.thread.take().expect("it runs").join().expect("no panic")
    }

    /// Tells it to end, and waits.
    pub fn stop(mut self) {
        drop(self.stop.take());
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("no panic").expect("it ends well");
        assert!(!self.home.join(ADDRESS_FILE).exists());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the worker panicked");
        }
    }
}

/// The example `child`, made if it is not there yet: `cargo test --test NAME` does not make it.
pub fn child() -> PathBuf {
    static MADE: Once = Once::new();
    let test = std::env::current_exe().expect("a path");
    let profile = test.ancestors().nth(2).expect("a test is in target/PROFILE/deps");
    MADE.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        // Of the whole workspace: its features are those of the test run, and nothing is compiled once more.
        cargo.args(["build", "--quiet", "--offline", "--workspace", "--example", "child"]);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "the program of the stories cannot be built");
    });
    profile.join("examples").join("child")
}

/// Processes whose environment began with a TMPDIR below `directory`.
pub fn processes_in(directory: &Path) -> usize {
    let mark = format!("TMPDIR={}", directory.display());
    let processes = fs::read_dir("/proc").expect("a list");
    let environments = processes.filter_map(|entry| fs::read(entry.ok()?.path().join("environ")).ok());
    environments
        .filter(|text| String::from_utf8_lossy(text).split('\0').any(|line| line.starts_with(&mark)))
        .count()
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// Descriptors beyond stderr that this process was started with, and that its children inherit.
pub fn inherited() -> usize {
    let close_on_exec = 0o2_000_000;
    let descriptors = fs::read_dir("/proc/self/fdinfo").expect("a list").filter_map(|entry| {
        let entry = entry.ok()?;
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let text = fs::read_to_string(entry.path()).ok()?;
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
        Some(number > 2 && flags & close_on_exec == 0)
    });
    descriptors.filter(|inherited| *inherited).count()
}
