//! The bulk server of a worker: gives each connection a thread. (Hadoop: DataXceiverServer)

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gristmill_process::guests::{GuestLimits, Guests};
use gristmill_process::listener::Listener;
use gristmill_process::sentence;
use gristmill_proto::ids::{BlockId, Generation};

use super::block_store::BlockStore;
use super::connection::Connection;
use super::options::BulkOptions;
use super::standing::Standing;

/// What all connections share.
pub(crate) struct Service {
    pub(crate) store: BlockStore,
    pub(crate) standing: Arc<Standing>,
    pub(crate) options: BulkOptions,
    /// Its connections, those of readers on this machine among them.
    pub(crate) guests: Arc<Guests>,
    /// Blocks being written.
    pub(crate) writers: AtomicU32,
    /// Blocks being written or read.
    pub(crate) transfers: AtomicU32,
}

/// A running server. Dropped without [`BulkServer::stop`], it serves on until the process ends.
pub struct BulkServer {
    service: Arc<Service>,
    listener: Listener,
}

impl BulkServer {
    /// Serves the blocks of `store` to whoever connects to `listener` and has a token that `standing` honours.
    pub fn start(
        listener: TcpListener,
        store: BlockStore,
        standing: Arc<Standing>,
        options: BulkOptions,
    ) -> io::Result<BulkServer> {
        let BulkOptions { connections_max, peer_connections_max, send_timeout, .. } = options;
        let guests = Guests::new(GuestLimits { connections_max, peer_connections_max });
        let (writers, transfers) = (AtomicU32::new(0), AtomicU32::new(0));
        let host = Arc::clone(&guests);
        let service = Arc::new(Service { store, standing, options, guests, writers, transfers });
        let shared = Arc::clone(&service);
        let serve = move |visit| Connection::new(Arc::clone(&shared), visit).serve();
        let listener = Listener::start("bulk", listener, host, send_timeout, serve)?;
        Ok(BulkServer { service, listener })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Blocks being written now.
    pub fn writers(&self) -> u32 {
        self.service.writers.load(Ordering::Relaxed)
    }

    /// Blocks being written or read now.
    pub fn transfers(&self) -> u32 {
        self.service.transfers.load(Ordering::Relaxed)
    }

    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Takes no more connections and requests, lets go of idle ones, and gives those at work `grace` to end. What is
    /// unfinished then stays so. Returns how many connections do not end.
    pub fn stop(&self, grace: Duration) -> io::Result<u32> {
        self.listener.stop(grace)
    }
}

impl Service {
    /// A seat for a block to be written or read, or none if there are too many.
    pub(crate) fn begin_transfer(&self) -> Option<Tally<'_>> {
        let tally = Tally::of(&self.transfers);
        (tally.before < self.options.transfers_max).then_some(tally)
    }

    /// A replica did not give what it promised: it is looked at now, and announced if it is bad.
    pub(crate) fn doubt(&self, block: BlockId, generation: Generation) {
        if let Err(error) = self.store.check(block, generation) {
            tracing::warn!(%block, error = %sentence(&error), "a replica in doubt");
        }
    }
}

/// One more, for as long as it lives.
pub(crate) struct Tally<'a> {
    count: &'a AtomicU32,
    before: u32,
}

impl Tally<'_> {
    pub(crate) fn of(count: &AtomicU32) -> Tally<'_> {
        Tally { count, before: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
