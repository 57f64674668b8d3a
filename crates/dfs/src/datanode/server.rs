//! The bulk server of a worker: listens, and gives each connection a thread. (Hadoop: DataXceiverServer)

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::ids::{BlockId, Generation};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::{BulkFailure, Reply};

use super::block_store::BlockStore;
use super::connection::Connection;
use super::failure::sentence;
use super::options::BulkOptions;
use super::socket;
use super::standing::Standing;

/// Stack of a connection's thread. All its buffers are on the heap.
pub(crate) const THREAD_STACK_BYTES: usize = 256 << 10;
/// After an error of the listener itself, such as too many open files: it must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long connections may take to notice that they are to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What all connections share.
pub(crate) struct Service {
    pub(crate) store: BlockStore,
    pub(crate) standing: Arc<Standing>,
    pub(crate) options: BulkOptions,
    /// Set when the worker ends: nothing new is begun,
    pub(crate) ending: AtomicBool,
    /// and later, what is still under way is left.
    pub(crate) stop: AtomicBool,
    /// Blocks being written.
    pub(crate) writers: AtomicU32,
    /// Blocks being written or read.
    pub(crate) transfers: AtomicU32,
    guests: Mutex<Guests>,
    /// Told when a guest leaves.
    left: Condvar,
}

/// Connections open now.
#[derive(Default)]
struct Guests {
    total: u32,
    by_peer: HashMap<Option<IpAddr>, u32>,
}

/// A running server. Dropped without [`BulkServer::stop`], it serves on until the process ends.
pub struct BulkServer {
    service: Arc<Service>,
    address: SocketAddr,
    listener: Arc<TcpListener>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl BulkServer {
    /// Serves the blocks of `store` to whoever connects to `listener` and has a token that `standing` honours.
    pub fn start(
        listener: TcpListener,
        store: BlockStore,
        standing: Arc<Standing>,
        options: BulkOptions,
    ) -> io::Result<BulkServer> {
        let service = Arc::new(Service {
            store,
            standing,
            options,
            ending: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            writers: AtomicU32::new(0),
            transfers: AtomicU32::new(0),
            guests: Mutex::default(),
            left: Condvar::new(),
        });
        let address = listener.local_addr()?;
        let listener = Arc::new(listener);
        let (ear, shared) = (Arc::clone(&listener), Arc::clone(&service));
        let thread = Builder::new()
            .name("bulk listener".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || listen(&ear, &shared))?;
        Ok(BulkServer { service, address, listener, thread: Mutex::new(Some(thread)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
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
        self.service.ending.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Wakes the accept call.
            rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        let working = self.service.wait_until_empty(grace);
        self.service.stop.store(true, Ordering::Release);
        Ok(if working > 0 { self.service.wait_until_empty(STOP_TIMEOUT) } else { 0 })
    }
}

impl Service {
    /// A seat for a connection, or none if there are too many.
    pub(crate) fn admit(self: &Arc<Service>, peer: Option<IpAddr>) -> Option<Guest> {
        let mut guests = self.guests();
        let of_peer = guests.by_peer.get(&peer).copied().unwrap_or(0);
        if guests.total >= self.options.connections_max || of_peer >= self.options.peer_connections_max {
            return None;
        }
        guests.total += 1;
        guests.by_peer.insert(peer, of_peer + 1);
        Some(Guest { service: Arc::clone(self), peer })
    }

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

    /// Waits until no connection is left, no longer than `patience`. Returns how many there are.
    fn wait_until_empty(&self, patience: Duration) -> u32 {
        let deadline = Instant::now() + patience;
        let mut guests = self.guests();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if guests.total == 0 || left.is_zero() {
                return guests.total;
            }
            guests = self.left.wait_timeout(guests, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The seat of a connection.
pub(crate) struct Guest {
    service: Arc<Service>,
    peer: Option<IpAddr>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.service.guests();
        guests.total -= 1;
        if let Some(of_peer) = guests.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                guests.by_peer.remove(&self.peer);
            }
        }
        self.service.left.notify_all();
    }
}

fn listen(listener: &TcpListener, service: &Arc<Service>) {
    while !service.ending.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, peer)) => welcome(stream, peer, service),
            Err(_) if service.ending.load(Ordering::Acquire) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a bulk connection");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn welcome(stream: TcpStream, peer: SocketAddr, service: &Arc<Service>) {
    if let Err(error) = socket::prepare(&stream, service.options.send_timeout) {
        tracing::debug!(%peer, %error, "a bulk connection ended at once");
        return;
    }
    let stream = Arc::new(stream);
    let Some(guest) = service.admit(Some(peer.ip())) else {
        return turn_away(&stream, peer);
    };
    let for_thread = (Arc::clone(service), Arc::clone(&stream));
    let thread = Builder::new().name("bulk".to_owned()).stack_size(THREAD_STACK_BYTES).spawn(move || {
        let _guest = guest;
        let (service, stream) = for_thread;
        Connection::new(service, stream).serve();
    });
    if let Err(error) = thread {
        tracing::warn!(%peer, %error, "no thread for a bulk connection");
        turn_away(&stream, peer);
    }
}

/// Tells one connection too many that this worker is busy. It has no thread, so this must not wait: a new connection
/// has room for a short frame.
fn turn_away(stream: &TcpStream, peer: SocketAddr) {
    let detail = "too many connections".to_owned();
    let failure = Some(BulkFailure { kind: Kind::Busy as i32, detail });
    let reply = Reply { failure, ..Reply::default() };
    let told = bulk::write_frame(&mut &*stream, FrameKind::Reply, 0, &reply, &[])
        .and_then(|()| stream.shutdown(Shutdown::Write));
    tracing::warn!(%peer, told = told.is_ok(), "turned a bulk connection away: there are too many");
}
