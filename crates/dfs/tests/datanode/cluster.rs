//! Workers with their disks in a temporary directory, and the namenode's part: tokens.

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use gristmill_dfs::datanode::block_store::{BlockStore, Change, Identity, StoreOptions};
use gristmill_dfs::datanode::{BulkOptions, BulkServer, Standing};
use gristmill_proto::auth::{BlockKey, Operation};
use gristmill_proto::ids::{BlockId, ClusterId, Epoch, Generation, WorkerId};
use gristmill_proto::messages::{BlockToken, Hop};
use tempfile::TempDir;

/// Nothing that a test waits for takes longer, on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// No master speaks in most tests: its one word holds.
const LEASE: Duration = Duration::from_secs(3600);

/// A cluster without a master.
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) key: BlockKey,
}

/// A core worker.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) store: BlockStore,
    pub(crate) standing: Arc<Standing>,
    pub(crate) server: Arc<BulkServer>,
    pub(crate) changes: Arc<Mutex<Vec<Change>>>,
    directory: TempDir,
}

/// Limits for tests: short where a test waits for the end of it.
pub(crate) fn quick() -> BulkOptions {
    BulkOptions {
        connect_timeout: Duration::from_secs(5),
        open_timeout: Duration::from_secs(3),
        ack_timeout: Duration::from_secs(3),
        ack_margin: Duration::from_secs(1),
        ..BulkOptions::default()
    }
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        Cluster { id: ClusterId::random(), key: BlockKey::random() }
    }

    pub(crate) fn worker(&self, id: u64) -> Worker {
        self.worker_with(id, quick())
    }

    pub(crate) fn worker_with(&self, id: u64, options: BulkOptions) -> Worker {
        self.worker_of(id, options, StoreOptions { reserve_bytes: 0 })
    }

    pub(crate) fn worker_of(&self, id: u64, options: BulkOptions, store: StoreOptions) -> Worker {
        let worker = Worker::start(WorkerId(id), options, store, LEASE);
        let identity = Identity { cluster: self.id, worker: worker.id };
        worker.store.adopt(identity).expect("a new store is nobody's");
        worker.standing.join(self.id, worker.id, self.key.clone());
        assert!(worker.standing.hear(Epoch(1)));
        worker
    }

    pub(crate) fn workers<const N: usize>(&self) -> [Worker; N] {
        std::array::from_fn(|index| self.worker(index as u64 + 1))
    }

    /// A token for writing, good for an hour.
    pub(crate) fn write_token(&self, block: u64, generation: u64) -> Bytes {
        self.sign(&self.token(block, generation, Operation::Write))
    }

    pub(crate) fn read_token(&self, block: u64) -> Bytes {
        self.sign(&self.token(block, 0, Operation::Read))
    }

    pub(crate) fn token(&self, block: u64, generation: u64, operation: Operation) -> BlockToken {
        BlockToken {
            cluster_id: self.id.0.to_vec().into(),
            epoch: 1,
            block,
            generation,
            operations: operation.bit(),
            expires_ms: now_ms() + 3_600_000,
            user: "tess".to_owned(),
        }
    }

    pub(crate) fn sign(&self, token: &BlockToken) -> Bytes {
        self.key.sign(token).into()
    }
}

impl Worker {
    /// A worker that is in no cluster yet.
    pub(crate) fn start(id: WorkerId, options: BulkOptions, store: StoreOptions, lease: Duration) -> Worker {
        let directory = tempfile::tempdir().expect("a directory");
        let store = BlockStore::open(&[directory.path().to_owned()], store).expect("a store");
        let changes = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&changes);
        store.set_listener(Box::new(move |change| ear.lock().expect("no panic").push(change)));
        let standing = Arc::new(Standing::new(lease));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = BulkServer::start(listener, store.clone(), Arc::clone(&standing), options);
        let server = Arc::new(server.expect("a server"));
        Worker { id, store, standing, server, changes, directory }
    }

    pub(crate) fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// As a pipeline names it.
    pub(crate) fn hop(&self) -> Hop {
        self.hop_through(self.address())
    }

    /// The same, reached in another way.
    pub(crate) fn hop_through(&self, address: String) -> Hop {
        Hop { worker: self.id.0, address }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The bytes of a replica, straight from the store: generation and content.
    pub(crate) fn replica(&self, block: u64) -> Option<(Generation, Vec<u8>)> {
        let reader = self.store.read(BlockId(block), Generation(0)).ok()?;
        let mut bytes = vec![0; reader.bytes() as usize];
        reader.read_data(0, &mut bytes).expect("the bytes are there");
        Some((reader.generation(), bytes))
    }

    /// The finished replica of a block with its generation, from the listing that block reports are made of.
    pub(crate) fn finished(&self, block: u64) -> Option<(u64, u64)> {
        let listed = self.store.replicas_after(BlockId(block - 1), 1);
        listed.first().filter(|info| info.block == block).map(|info| (info.generation, info.bytes))
    }
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// Waits until `what` holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// Bytes that differ from chunk to chunk.
pub(crate) fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((at as u64 * 0x9e37_79b9) >> 7) as u8).collect()
}
