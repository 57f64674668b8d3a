//! What a core worker has and a task worker has not: disks with blocks, and an attendance in the file system.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use gristmill_dfs::datanode::block_store::{BlockStore, StoreOptions};
use gristmill_dfs::datanode::scrub::Scrubber;
use gristmill_dfs::datanode::{
    Attendance, AttendanceError, AttendanceOptions, BulkOptions, BulkServer, LocalSocket, Standing,
};
use gristmill_proto::auth::Secret;
use tokio::sync::watch;

use crate::attendant::Identity;
use crate::options::{MIB, WorkerOptions};
use crate::run::{RETRY, WorkerError, listener, told_address};

/// The part of a worker that keeps blocks.
pub(crate) struct CoreRole {
    store: BlockStore,
    server: Arc<BulkServer>,
    socket: Option<LocalSocket>,
    attendance: Attendance,
    scrubbing: Scrubbing,
}

impl CoreRole {
    /// Opens the disks.
    pub(crate) fn open_store(options: &WorkerOptions) -> Result<BlockStore, WorkerError> {
        let reserve_bytes = options.reserve_bytes();
        Ok(BlockStore::open(&options.data_dirs, StoreOptions { reserve_bytes })?)
    }

    /// Serves what is on them.
    pub(crate) fn start(
        options: &WorkerOptions,
        store: BlockStore,
        secret: Option<Secret>,
    ) -> Result<CoreRole, WorkerError> {
        let listener = listener(options.listen)?;
        let standing = Arc::new(Standing::new(Duration::from_millis(options.lease_ms)));
        let server = BulkServer::start(listener, store.clone(), Arc::clone(&standing), bulk_options(options));
        let server = Arc::new(server.map_err(WorkerError::Start)?);
        let socket = short_circuit(&options.data_dirs[0], &server);
        let attendance = attendance_options(options, secret, server.address(), socket.as_ref());
        let attendance = Attendance::new(attendance, store.clone(), standing, Arc::clone(&server))?;
        let scrubbing =
            Scrubbing::start(options.scrub_mib_per_s, store.clone()).map_err(WorkerError::Start)?;
        Ok(CoreRole { store, server, socket, attendance, scrubbing })
    }

    /// Where its blocks are served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Tells who the worker is, once its disks know.
    pub(crate) fn who(&self) -> impl Fn() -> Option<Identity> + Send + 'static {
        let store = self.store.clone();
        move || store.identity().map(|known| Identity { cluster: known.cluster, worker: known.worker })
    }

    /// Attends until `stop` is true, or until the master refuses it.
    pub(crate) async fn attend(&self, stop: watch::Receiver<bool>) -> Result<(), AttendanceError> {
        self.attendance.run(stop).await
    }

    /// Ends everything.
    pub(crate) fn stop(self, goodbye: Duration) -> Result<(), WorkerError> {
        let left = self.server.stop(goodbye).map_err(WorkerError::End)?;
        if left > 0 {
            tracing::warn!(connections = left, "ends in the middle of their blocks");
        }
        self.socket.map_or(Ok(()), LocalSocket::stop).map_err(WorkerError::End)?;
        self.scrubbing.stop();
        Ok(())
    }
}

fn bulk_options(options: &WorkerOptions) -> BulkOptions {
    BulkOptions {
        transfers_max: options.transfers,
        // As many again may be idle.
        connections_max: options.transfers * 2,
        peer_connections_max: options.transfers * 3 / 2,
        ack_timeout: Duration::from_millis(options.ack_timeout_ms),
        copy_bytes_per_s: options.copy_mib_per_s.saturating_mul(MIB),
        ..BulkOptions::default()
    }
}

/// The short circuit, unless there can be none: everything is served over TCP as well.
fn short_circuit(home: &Path, server: &BulkServer) -> Option<LocalSocket> {
    let started = std::path::absolute(home).map(|home| LocalSocket::start(&home, server));
    match started {
        Ok(Ok(socket)) => Some(socket),
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "local readers have no short circuit");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "local readers have no short circuit");
            None
        }
    }
}

fn attendance_options(
    options: &WorkerOptions,
    secret: Option<Secret>,
    address: SocketAddr,
    socket: Option<&LocalSocket>,
) -> AttendanceOptions {
    AttendanceOptions {
        master: options.master.clone(),
        secret,
        address: told_address(address),
        host: options.host(),
        rack: options.rack.clone(),
        socket: socket.map_or_else(String::new, |socket| socket.path().display().to_string()),
        retry: RETRY,
    }
}

/// The scrubber's thread.
struct Scrubbing {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubbing {
    /// Scrubs `store`, or not at all at a rate of 0.
    fn start(mib_per_s: u64, store: BlockStore) -> io::Result<Scrubbing> {
        let stop = Arc::new(AtomicBool::new(false));
        if mib_per_s == 0 {
            return Ok(Scrubbing { stop, thread: None });
        }
        let scrubber = Scrubber { bytes_per_s: mib_per_s.saturating_mul(MIB), ..Scrubber::default() };
        let stopped = Arc::clone(&stop);
        let thread =
            Builder::new().name("scrubber".to_owned()).spawn(move || scrubber.run(&store, &stopped))?;
        Ok(Scrubbing { stop, thread: Some(thread) })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}
