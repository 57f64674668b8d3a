//! A bounded listener for bulk frames: each connection gets a thread, and one too many is told so.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::{BulkFailure, Reply};

use crate::connect;
use crate::guests::{Guest, Guests};

/// Stack of a connection's thread. All its buffers are on the heap.
pub const THREAD_STACK_BYTES: usize = 256 << 10;
/// After an error of a listener itself, such as too many open files: it must not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection that has come in, with its seat.
#[derive(Debug)]
pub struct Visit {
    /// Fit for frames.
    pub stream: Arc<TcpStream>,
    /// Whose it is.
    pub peer: SocketAddr,
    /// Freed when the visit is over.
    pub guest: Arc<Guest>,
}

/// A running listener. Dropped without [`Listener::stop`], it listens on until the process ends.
#[derive(Debug)]
pub struct Listener {
    guests: Arc<Guests>,
    address: SocketAddr,
    socket: Arc<TcpListener>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Listener {
    /// Has each connection to `socket` served in a thread called `name`, as far as `guests` admits it. A write on it
    /// fails when nothing moves for `send_timeout`.
    pub fn start(
        name: &'static str,
        socket: TcpListener,
        guests: Arc<Guests>,
        send_timeout: Duration,
        serve: impl Fn(Visit) + Send + Sync + 'static,
    ) -> io::Result<Listener> {
        let address = socket.local_addr()?;
        let socket = Arc::new(socket);
        let (ear, serve) = (Arc::clone(&socket), Arc::new(serve));
        let host = Host { name, guests: Arc::clone(&guests), send_timeout, serve };
        let thread = Builder::new()
            .name(format!("{name} listener"))
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || host.listen(&ear))?;
        Ok(Listener { guests, address, socket, thread: Mutex::new(Some(thread)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and requests, lets go of idle ones, and gives those at work `grace` to end. What is
    /// unfinished then stays so. Returns how many connections do not end.
    pub fn stop(&self, grace: Duration) -> io::Result<u32> {
        self.guests.end();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Wakes the accept call.
            rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        Ok(self.guests.see_off(grace))
    }
}

/// What the listening thread has.
struct Host<F> {
    name: &'static str,
    guests: Arc<Guests>,
    send_timeout: Duration,
    serve: Arc<F>,
}

impl<F: Fn(Visit) + Send + Sync + 'static> Host<F> {
    fn listen(&self, socket: &TcpListener) {
        while !self.guests.is_ending() {
            match socket.accept() {
                Ok((stream, peer)) => self.welcome(stream, peer),
                Err(_) if self.guests.is_ending() => {}
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "cannot accept a connection");
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = connect::prepare(&stream, self.send_timeout) {
            tracing::debug!(listener = self.name, %peer, %error, "a connection ended at once");
            return;
        }
        let stream = Arc::new(stream);
        let Some(guest) = self.guests.admit(Some(peer.ip())) else {
            return self.turn_away(&stream, peer);
        };
        let (visit, serve) = (Visit { stream: Arc::clone(&stream), peer, guest }, Arc::clone(&self.serve));
        let thread = Builder::new()
            .name(self.name.to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || serve(visit));
        if let Err(error) = thread {
            tracing::warn!(listener = self.name, %peer, %error, "no thread for a connection");
            self.turn_away(&stream, peer);
        }
    }

    /// Tells one connection too many that this worker is busy. It has no thread, so this must not wait: a new connection
    /// has room for a short frame.
    fn turn_away(&self, stream: &TcpStream, peer: SocketAddr) {
        let detail = "too many connections".to_owned();
        let failure = Some(BulkFailure { kind: Kind::Busy as i32, detail });
        let reply = Reply { failure, ..Reply::default() };
        let told = bulk::write_frame(&mut &*stream, FrameKind::Reply, 0, &reply, &[])
            .and_then(|()| stream.shutdown(Shutdown::Write));
        let told = told.is_ok();
        tracing::warn!(listener = self.name, %peer, told, "turned a connection away: there are too many");
    }
}
