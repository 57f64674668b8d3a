//! A cluster small enough to break on purpose: a master with its namespace in memory, and workers with their
//! replicas in memory (or in files, for readers on the same machine). They speak the real protocols.
#![allow(dead_code, unreachable_pub)] // Each story uses a part of it.

pub mod master;
pub mod namespace;
pub mod replicas;
pub mod worker;

use std::time::{Duration, Instant};

use gristmill_dfs::client::{ClientOptions, DfsClient};
use master::FakeMaster;
use worker::FakeWorker;

/// A master and its workers.
pub struct FakeCluster {
    pub master: FakeMaster,
    pub workers: Vec<FakeWorker>,
}

/// Small enough that stories have several blocks, and a multiple of a chunk.
pub const BLOCK_BYTES: u64 = 4 << 20;

impl FakeCluster {
    pub fn start(workers: usize) -> FakeCluster {
        let workers: Vec<FakeWorker> = (1..=workers as u64).map(FakeWorker::start).collect();
        let master = FakeMaster::start(&workers);
        FakeCluster { master, workers }
    }

    pub fn client(&self) -> DfsClient {
        DfsClient::connect(self.options()).expect("the fake master answers")
    }

    /// Impatient: stories with a silent side must end.
    pub fn options(&self) -> ClientOptions {
        let mut options = ClientOptions::new(self.master.address());
        options.user = "ann".to_owned();
        options.host = "here".to_owned();
        options.pipeline_timeout = Duration::from_millis(2500);
        options.read_timeout = Duration::from_millis(2500);
        options.retry_timeout = Duration::from_secs(5);
        options.connect_timeout = Duration::from_secs(10);
        options
    }

    pub fn worker(&self, id: u64) -> &FakeWorker {
        &self.workers[id as usize - 1]
    }
}

/// Bytes that are nowhere the same.
pub fn content(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}

/// Waits until `condition` holds; a story that waits for ten seconds has failed.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}
