//! The short circuit: a reader on the same machine gets the open files of a replica, and reads them itself.
//! (Hadoop: short-circuit local reads)
//!
//! A Unix socket in the data directory, for processes of the same user. After an answer of success come two descriptors,
//! open for reading only ([`gristmill_proto::handover`]).

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use gristmill_process::inbound::{Inbound, Waited};
use gristmill_process::listener::{ACCEPT_PAUSE, THREAD_STACK_BYTES};
use gristmill_process::sentence;
use gristmill_proto::auth::Operation as Allowed;
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::chunks::CHUNK_BYTES;
use gristmill_proto::handover;
use gristmill_proto::ids::{BlockId, Generation};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{OpenLocal, Reply, Request};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::net::sockopt::{self, Timeout};
use thiserror::Error;

use super::block_store::ReplicaReader;
use super::connection::{HEAD_BUFFER_BYTES, Next, read_request, refusal};
use super::failure::TransferFailure;
use super::server::{BulkServer, Service};

/// The socket's name in the data directory.
pub const SOCKET_FILE: &str = "short-circuit";
/// Linux has room for 108 bytes in the address of a Unix socket, and a zero at their end.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why there is no short circuit. The worker serves everything over TCP then.
#[derive(Debug, Error)]
pub enum LocalSocketError {
    /// The path does not fit into the address of a socket.
    #[error("{path}: a path of {bytes} bytes is too long for a socket, of at most {SOCKET_PATH_BYTES_MAX}")]
    PathTooLong {
        /// Of the socket.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// What an earlier process left cannot be removed, or the new socket cannot be made.
    #[error("{path}: cannot make a socket")]
    Make {
        /// Of the socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Why a local reader gets no files.
#[derive(Debug, Error)]
enum OpenError {
    #[error("{block} is still being written here")]
    Unfinished { block: BlockId },
    #[error("only files are opened here")]
    NotOpen,
    #[error("too many connections and transfers")]
    Busy,
}

/// A running short circuit.
pub struct LocalSocket {
    path: PathBuf,
    listener: Arc<UnixListener>,
    thread: JoinHandle<()>,
}

impl LocalSocket {
    /// Listens in `directory`, which is locked by this process: a socket there is a dead one. Serves as part of `server`.
    pub fn start(directory: &Path, server: &BulkServer) -> Result<LocalSocket, LocalSocketError> {
        let path = directory.join(SOCKET_FILE);
        let bytes = path.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            return Err(LocalSocketError::PathTooLong { path, bytes });
        }
        let made = make(&path).and_then(|listener| {
            let listener = Arc::new(listener);
            let (ear, service) = (Arc::clone(&listener), Arc::clone(server.service()));
            let thread = Builder::new()
                .name("local listener".to_owned())
                .stack_size(THREAD_STACK_BYTES)
                .spawn(move || listen(&ear, &service))?;
            Ok((listener, thread))
        });
        match made {
            Ok((listener, thread)) => Ok(LocalSocket { path, listener, thread }),
            Err(source) => Err(LocalSocketError::Make { path, source }),
        }
    }

    /// Where readers find it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Listens no more. Its server must be told to stop first, or at once after.
    pub fn stop(self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both)?;
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(())
    }
}

fn make(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(none) if none.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn listen(listener: &UnixListener, service: &Arc<Service>) {
    loop {
        match listener.accept() {
            Ok((stream, _unnamed)) => welcome(stream, service),
            // What `stop` makes of the listener.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return,
            Err(_) if service.guests.is_ending() => return,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a local connection");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn welcome(stream: UnixStream, service: &Arc<Service>) {
    let ours = rustix::process::geteuid();
    match sockopt::socket_peercred(&stream) {
        Ok(peer) if peer.uid == ours => {}
        Ok(peer) => {
            tracing::warn!(user = peer.uid.as_raw(), "turned a local reader away: another user");
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "turned a local reader away: unknown user");
            return;
        }
    }
    let for_thread = Arc::clone(service);
    let thread = Builder::new().name("local".to_owned()).stack_size(THREAD_STACK_BYTES).spawn(move || {
        let service = for_thread;
        if let Err(error) = serve(&stream, &service) {
            tracing::debug!(%error, "a local connection has ended early");
        }
    });
    if let Err(error) = thread {
        tracing::warn!(%error, "no thread for a local connection");
    }
}

fn serve(stream: &UnixStream, service: &Arc<Service>) -> io::Result<()> {
    sockopt::set_socket_timeout(stream, Timeout::Send, Some(service.options.frame_timeout))?;
    let Some(guest) = service.guests.admit(None) else {
        return refuse(stream, 0, &TransferFailure::here(Kind::Busy, &OpenError::Busy)).map(|_| ());
    };
    let mut inbound = Inbound::new(stream, HEAD_BUFFER_BYTES).until(guest.stop());
    let mut patience = service.options.first_frame_timeout;
    while inbound.wait(patience) == Waited::Ready {
        let deadline = Instant::now() + service.options.frame_timeout;
        let next = match read_request(&mut inbound, deadline) {
            Ok(Some((request_id, request))) => answer(stream, service, request_id, &request)?,
            Ok(None) => return Ok(()),
            Err(error) => {
                refuse(stream, 0, &error.failure())?;
                Next::Close
            }
        };
        if next == Next::Close {
            return Ok(());
        }
        patience = service.options.idle_timeout;
    }
    Ok(())
}

fn answer(stream: &UnixStream, service: &Service, request_id: u64, request: &Request) -> io::Result<Next> {
    let Some(Operation::OpenLocal(open)) = &request.operation else {
        refuse(stream, request_id, &TransferFailure::here(Kind::Protocol, &OpenError::NotOpen))?;
        return Ok(Next::Close);
    };
    match open_replica(service, &request.token, open) {
        Ok(reader) => {
            let bytes = reader.bytes();
            let reply = Reply { bytes, chunk_bytes: CHUNK_BYTES as u32, ..Reply::default() };
            bulk::write_frame(&mut &*stream, FrameKind::Reply, request_id, &reply, &[])?;
            let files = (reader.data_file().as_fd(), reader.sum_file().as_fd());
            handover::send_files(stream, files.0, files.1).map_err(io::Error::other)?;
            Ok(Next::Request)
        }
        Err(failure) => refuse(stream, request_id, &failure),
    }
}

/// The replica, if the bearer may read it and it changes no more: the sums of a growing one do not hold still.
fn open_replica(service: &Service, token: &[u8], open: &OpenLocal) -> Result<ReplicaReader, TransferFailure> {
    let (block, generation) = (BlockId(open.block), Generation(open.generation));
    if let Err(error) = service.standing.check_token(token, block, generation, Allowed::Read) {
        tracing::warn!(error = %sentence(&error), "refused a local request");
        return Err(refusal(&error));
    }
    let reader =
        service.store.read(block, generation).map_err(|error| TransferFailure::of_replica(&error))?;
    // A file that could be written through is that of a writer.
    let read_only = |file: &File| Ok(fcntl_getfl(file)? & OFlags::ACCMODE == OFlags::RDONLY);
    let unchanging = reader.is_finished()
        && read_only(reader.data_file())
            .and_then(|data| Ok(data && read_only(reader.sum_file())?))
            .map_err(|error: io::Error| TransferFailure::here(Kind::Disk, &error))?;
    if !unchanging {
        return Err(TransferFailure::here(Kind::BusyReplica, &OpenError::Unfinished { block }));
    }
    Ok(reader)
}

fn refuse(mut stream: &UnixStream, request_id: u64, failure: &TransferFailure) -> io::Result<Next> {
    let reply = Reply { failure: Some(failure.clone().into_wire()), ..Reply::default() };
    bulk::write_frame(&mut stream, FrameKind::Reply, request_id, &reply, &[])?;
    Ok(Next::Request)
}
