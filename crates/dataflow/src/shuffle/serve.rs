//! The shuffle listener of a worker: gives each connection a thread. (Hadoop: ShuffleHandler)

use super::connection::Connection;
use super::keys::ShuffleKeys;
use super::output_store::OutputStore;
use super::run_bytes::FRAME_TIMEOUT;
use gristmill_process::guests::{GuestLimits, Guests};
use gristmill_process::listener::Listener;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// Limits of a shuffle listener.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Connections at once: an attempt has one to each worker at most.
    pub connections_max: u32,
    /// Of them from one address, which may be that of a machine with many attempts.
    pub peer_connections_max: u32,
    /// From the connection to the first byte of its first request.
    pub first_frame_timeout: Duration,
    /// From one request to the next.
    pub idle_timeout: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            peer_connections_max: 512,
            first_frame_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// What all connections share.
pub(super) struct Service {
    pub(super) store: OutputStore,
    pub(super) keys: ShuffleKeys,
    pub(super) options: ServeOptions,
    pub(super) guests: Arc<Guests>,
}

/// Serves map outputs to attempts, and takes those of task workers. Dropped without [`ShuffleServer::stop`], it serves
/// on until the process ends.
pub struct ShuffleServer {
    listener: Listener,
}

impl ShuffleServer {
    /// Serves the map outputs of `store` to whoever connects to `listener` with a token that `keys` honours.
    pub fn start(
        listener: TcpListener,
        store: OutputStore,
        keys: ShuffleKeys,
        options: ServeOptions,
    ) -> io::Result<Self> {
        let ServeOptions { connections_max, peer_connections_max, .. } = options;
        let guests = Guests::new(GuestLimits { connections_max, peer_connections_max });
        let host = Arc::clone(&guests);
        let service = Arc::new(Service { store, keys, options, guests });
        let serve = move |visit| Connection::new(Arc::clone(&service), visit).serve();
        let listener = Listener::start("shuffle", listener, host, FRAME_TIMEOUT, serve)?;
        Ok(Self { listener })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Takes no more connections and requests, lets go of idle ones, and gives those at work `goodbye` to end. Returns
    /// how many connections do not end.
    pub fn stop(self, goodbye: Duration) -> io::Result<u32> {
        self.listener.stop(goodbye)
    }
}
