//! Workers with shuffle listeners, map outputs on their disks, and attempts that read them.

use gristmill_dataflow::block::Codec;
use gristmill_dataflow::idle::IdleBuffers;
use gristmill_dataflow::map_output::{MapOutput, ShuffleRule};
use gristmill_dataflow::memory::{ResidentPool, TaskMemory};
use gristmill_dataflow::partition::Partitioner;
use gristmill_dataflow::run::{Run, RunPart};
use gristmill_dataflow::scratch::Scratch;
use gristmill_dataflow::shuffle::{
    FetchError, FetchOptions, OutputStore, ServeOptions, ShuffleKeys, ShuffleServer, Sources, fetch,
    group_parts,
};
use gristmill_proto::auth::{ShuffleOperation, TaskKey};
use gristmill_proto::ids::{AttemptId, ClusterId, Epoch, JobId, TaskId, WorkerId};
use gristmill_proto::task::{FetchFailed, Holder, OutputEntry, Outputs};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

pub(crate) const JOB: JobId = JobId([3; 16]);
pub(crate) const CLUSTER: ClusterId = ClusterId([7; 16]);
pub(crate) const MEMORY: TaskMemory = TaskMemory { bytes: 4 << 20 };
pub(crate) const ROOMY: usize = 1 << 30;
pub(crate) const PARTITIONS: u32 = 3;
const GOODBYE: Duration = Duration::from_secs(5);

pub(crate) type Records = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) fn hash() -> ShuffleRule {
    ShuffleRule { partitioner: Partitioner::Hash, partitions: PARTITIONS, fold: None }
}

pub(crate) fn range() -> ShuffleRule {
    ShuffleRule { partitioner: Partitioner::Range, ..hash() }
}

/// Some records of one map task; tasks have keys in common.
pub(crate) fn records(task: u32, count: u32) -> Records {
    let key = |n: u32| format!("key {:05}", n.wrapping_mul(7919).wrapping_add(task) % 10_007);
    (0..count).map(|n| (key(n).into_bytes(), format!("value {n} of {task}").into_bytes())).collect()
}

/// Bytes that no codec makes fewer.
pub(crate) fn noise(words: u64) -> Vec<u8> {
    (0..words).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).to_le_bytes()).collect()
}

pub(crate) fn attempt(task: u32, number: u32) -> AttemptId {
    TaskId { job: JOB, stage: 0, task }.attempt(number)
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// The key of all workers here.
pub(crate) fn key() -> TaskKey {
    TaskKey::from_open(&[5; 32]).expect("32 bytes")
}

pub(crate) fn token_of(job: JobId) -> Vec<u8> {
    let operations = [ShuffleOperation::Fetch, ShuffleOperation::Keep];
    key().shuffle_token(CLUSTER, Epoch(1), job, &operations, now_ms())
}

pub(crate) fn token() -> Vec<u8> {
    token_of(JOB)
}

/// The run that a map task makes of records.
pub(crate) fn run(rule: &ShuffleRule, records: &Records, resident_bytes: usize) -> (Run, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("tempdir");
    let scratch =
        Scratch::create(dir.path(), ResidentPool::new(resident_bytes), Codec::Lz4).expect("scratch");
    let memory = TaskMemory { bytes: 32 << 20 };
    let mut output = MapOutput::new(rule.clone(), memory, scratch, IdleBuffers::default());
    records.iter().for_each(|(key, value)| output.collect(key, value).expect("it fits"));
    (output.finish().expect("a run"), dir)
}

/// A worker with one scratch disk.
pub(crate) struct Worker {
    pub(crate) id: u64,
    pub(crate) store: OutputStore,
    pub(crate) keys: ShuffleKeys,
    pub(crate) dir: tempfile::TempDir,
    server: Option<ShuffleServer>,
    address: SocketAddr,
}

impl Worker {
    pub(crate) fn start(id: u64) -> Self {
        Self::with_options(id, ServeOptions::default())
    }

    pub(crate) fn with_options(id: u64, options: ServeOptions) -> Self {
        let worker = Self::with_keys(id, ShuffleKeys::new(), options);
        worker.keys.set(CLUSTER, key());
        worker
    }

    pub(crate) fn with_keys(id: u64, keys: ShuffleKeys, options: ServeOptions) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = OutputStore::open(&[dir.path().to_owned()]).expect("a store");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = ShuffleServer::start(listener, store.clone(), keys.clone(), options).expect("a server");
        let address = server.address();
        Self { id, store, keys, dir, server: Some(server), address }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn holder(&self) -> Holder {
        Holder { worker: self.id, address: self.address() }
    }

    /// Its shuffle listener is gone.
    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            assert_eq!(server.stop(GOODBYE).expect("it stops"), 0, "connections are left");
        }
    }

    /// Runs a map attempt here; what the master is told of its output.
    pub(crate) fn map(&self, rule: &ShuffleRule, attempt: AttemptId, records: &Records) -> OutputEntry {
        // Each other one is made in memory and written at its end.
        let resident_bytes = if attempt.task.task.is_multiple_of(2) { ROOMY } else { 0 };
        let (run, _dir) = run(rule, records, resident_bytes);
        let digest = run.digest().to_vec().into();
        let bytes = run.detach(&self.store.place(0, attempt).expect("a place")).expect("it is moved");
        assert_eq!(self.store.add(0, attempt).expect("it is whole"), bytes);
        let TaskId { stage, task, .. } = attempt.task;
        OutputEntry { stage, task, number: attempt.number, holder: self.id, digest }
    }

    /// The file of a map output.
    pub(crate) fn file(&self, attempt: AttemptId) -> PathBuf {
        self.store.path(attempt).expect("it is here")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

pub(crate) fn outputs(holders: &[&Worker], entries: Vec<OutputEntry>, expected: u32) -> Outputs {
    let holders = holders.iter().map(|worker| worker.holder()).collect();
    Outputs { job: JOB.0.to_vec().into(), holders, entries, expected, ..Outputs::default() }
}

/// An attempt that reduces.
pub(crate) struct Reader {
    pub(crate) options: FetchOptions,
    pub(crate) sources: Sources,
    pub(crate) reports: Arc<Mutex<Vec<FetchFailed>>>,
    pub(crate) dir: tempfile::TempDir,
}

impl Reader {
    /// On a worker that holds nothing.
    pub(crate) fn elsewhere(resident_bytes: usize) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let scratch =
            Scratch::private(dir.path(), ResidentPool::new(resident_bytes), Codec::Lz4).expect("scratch");
        let reports = Arc::new(Mutex::new(Vec::new()));
        let told = reports.clone();
        let options = FetchOptions {
            job: JOB,
            shuffle: 0,
            token: token(),
            worker: WorkerId(1000),
            own_dirs: Vec::new(),
            memory: MEMORY,
            scratch,
            cancel: Arc::new(AtomicBool::new(false)),
            reader: TaskId { job: JOB, stage: 1, task: 0 }.attempt(0),
            report: Arc::new(move |report| told.lock().expect("no panic").push(report)),
        };
        Self { options, sources: Sources::new(), reports, dir }
    }

    /// On this worker.
    pub(crate) fn on(worker: &Worker, resident_bytes: usize) -> Self {
        let mut reader = Self::elsewhere(resident_bytes);
        reader.options.worker = WorkerId(worker.id);
        reader.options.own_dirs = worker.store.job_dirs(JOB);
        reader
    }

    /// Whatever is reported is answered by `answer`, as the master does for all readers.
    pub(crate) fn answer_reports(
        &mut self,
        answer: impl Fn(&FetchFailed) -> Option<Outputs> + Send + Sync + 'static,
    ) {
        let (told, sources) = (self.reports.clone(), self.sources.clone());
        self.options.report = Arc::new(move |report| {
            let answer = answer(&report);
            told.lock().expect("no panic").push(report);
            answer.iter().for_each(|news| sources.learn(news));
        });
    }

    pub(crate) fn fetch(&self, rule: &ShuffleRule, partition: u32) -> Result<Vec<RunPart>, FetchError> {
        Ok(fetch(&self.options, &self.sources, rule, partition)?.parts)
    }

    /// Fetches and merges.
    pub(crate) fn read(&self, rule: &ShuffleRule, partition: u32) -> Records {
        self.merge(self.fetch(rule, partition).expect("everything is there"))
    }

    pub(crate) fn merge(&self, parts: Vec<RunPart>) -> Records {
        merged(parts, &self.options.scratch)
    }

    pub(crate) fn reports(&self) -> Vec<FetchFailed> {
        self.reports.lock().expect("no panic").clone()
    }

    /// Files in its scratch directory.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(self.dir.path()).expect("a directory").count()
    }
}

pub(crate) fn merged(parts: Vec<RunPart>, scratch: &Scratch) -> Records {
    let mut groups = group_parts(parts, MEMORY, scratch).expect("a merge");
    let mut records = Vec::new();
    while groups.next_group().expect("a group") {
        let key = groups.key().to_vec();
        while let Some(value) = groups.next_value().expect("a value") {
            records.push((key.clone(), value.to_vec()));
        }
    }
    records
}
