//! The gateway: who is outside the workers' network reaches their bulk listeners through the master's port.
//!
//! ```text
//!   client ── Request { token, Passage { worker } } ──> gateway: whose token? which worker? a seat?
//!          <── Reply ───────────────────────────────────┘   └── connects ──> worker
//!          <── bytes as they are, both ways ────────────────────────────────┘   ([`crate::passage`])
//! ```
//!
//! It understands nothing of what passes: block tokens, sums and acknowledgements are between client and worker, end to
//! end. So it has to be trusted with nothing, and it leads nowhere but to registered workers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gristmill_dfs::namenode::Whereabouts;
use gristmill_process::sentence;
use gristmill_proto::auth::{Role, Secret, TokenError};
use gristmill_proto::bulk::{self, FrameKind, HEAD_BYTES};
use gristmill_proto::ids::WorkerId;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::{BulkFailure, Reply};
use gristmill_proto::passage::{GATEWAY_AUDIENCE, PASSAGE_REQUEST_ID, Passage, PassageError};
use rustix::net::sockopt;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::passage;

/// Connections to workers at a time. With two buffers each they hold 32 MiB at most; and a worker, which sees them all come
/// from one address, takes 384 from there.
pub(crate) const PASSAGES_MAX: usize = 256;
/// For the whole first frame, once its first byte is here.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// For a seat: transfers end all the time. Shorter than clients wait for an answer, with the next one.
const SEAT_TIMEOUT: Duration = Duration::from_secs(3);
/// For the TCP connection to a worker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// For a client to take an answer of a hundred bytes.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// For a client that was refused to end the connection, so that it gets to read why.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer whose machine is gone is noticed after a silence of this, and then `KEEPALIVE_PROBES` probes. One that lives
/// and is silent is for the worker to judge, which knows what it waits for.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// What all connections through the master share.
pub(crate) struct Gateway {
    whereabouts: Whereabouts,
    secret: Option<Secret>,
    seats: Arc<Semaphore>,
    passages: AtomicU64,
    refused: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// What passed, for operators.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GatewayFigures {
    /// Connections now.
    pub(crate) connections: u64,
    /// All that were led to a worker.
    pub(crate) passages: u64,
    /// All that were not.
    pub(crate) refused: u64,
    /// Both ways.
    pub(crate) bytes: u64,
}

/// Why a connection is not led to a worker.
#[derive(Debug, Error)]
enum Refusal {
    #[error("no request for a passage")]
    Frame(#[from] PassageError),
    #[error("the connection ended, or was silent, before it said where to")]
    Unsaid(#[source] io::Error),
    #[error("not allowed through the master's port")]
    Token(#[from] TokenError),
    #[error("no {worker} is registered")]
    Unknown { worker: WorkerId },
    #[error("{PASSAGES_MAX} connections to workers are open, the most there may be")]
    Busy,
    #[error("cannot connect to {worker} at {address}")]
    Unreachable {
        worker: WorkerId,
        address: String,
        #[source]
        source: io::Error,
    },
}

impl Gateway {
    /// Leads to the workers that `whereabouts` knows whoever has a token of `secret`; everyone where there is none, as
    /// then the listener is on loopback only.
    pub(crate) fn new(whereabouts: Whereabouts, secret: Option<Secret>) -> Gateway {
        Gateway {
            whereabouts,
            secret,
            seats: Arc::new(Semaphore::new(PASSAGES_MAX)),
            passages: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// What passed until now.
    pub(crate) fn figures(&self) -> GatewayFigures {
        GatewayFigures {
            connections: (PASSAGES_MAX - self.seats.available_permits()) as u64,
            passages: self.passages.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Serves a connection that begins with a bulk frame, to its end.
    pub(crate) async fn serve(&self, client: &mut TcpStream) {
        let peer = client.peer_addr().ok();
        match self.open(client).await {
            Ok((mut worker, _seat)) => {
                self.passages.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = answer(client, None).await {
                    tracing::debug!(?peer, %error, "a client is gone before its way was open");
                    return;
                }
                passage::serve(client, &mut worker, &self.bytes).await;
            }
            Err(refusal) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                refuse(client, peer, &refusal).await;
            }
        }
    }

    /// A connection to the worker that the client asks for, and a seat for it.
    async fn open(&self, client: &mut TcpStream) -> Result<(TcpStream, OwnedSemaphorePermit), Refusal> {
        let passage = timeout(FIRST_FRAME_TIMEOUT, read_passage(client))
            .await
            .map_err(|elapsed| Refusal::Unsaid(elapsed.into()))??;
        if let Some(secret) = &self.secret {
            secret.check_caller_bytes(&passage.token, Role::Client, GATEWAY_AUDIENCE, wall_ms())?;
        }
        let seat = timeout(SEAT_TIMEOUT, self.seats.clone().acquire_owned()).await;
        let seat = seat.map_err(|_| Refusal::Busy)?.expect("the semaphore is never closed");
        let worker = passage.worker;
        let address = self.whereabouts.of(worker).ok_or(Refusal::Unknown { worker })?;
        let connected = timeout(CONNECT_TIMEOUT, connect(&address)).await;
        let connected = connected.unwrap_or_else(|elapsed| Err(elapsed.into()));
        let stream = connected.and_then(|stream| prepare(client).map(|()| stream));
        let stream = stream.map_err(|source| Refusal::Unreachable { worker, address, source })?;
        Ok((stream, seat))
    }
}

/// The first frame of a connection, and not a byte more.
async fn read_passage(client: &mut TcpStream) -> Result<Passage, Refusal> {
    let mut frame = vec![0; HEAD_BYTES];
    client.read_exact(&mut frame).await.map_err(Refusal::Unsaid)?;
    let head = frame.first_chunk().expect("it has the bytes of a head");
    let header_bytes = Passage::header_bytes(head)?;
    frame.resize(HEAD_BYTES + header_bytes, 0);
    client.read_exact(&mut frame[HEAD_BYTES..]).await.map_err(Refusal::Unsaid)?;
    Ok(Passage::decode(&frame)?)
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    prepare(&stream)?;
    Ok(stream)
}

/// No waiting for more to send, and dead peers are noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

/// Tells the client why, and waits a little for it to end, so that it gets to read that.
async fn refuse(client: &mut TcpStream, peer: Option<SocketAddr>, refusal: &Refusal) {
    let detail = sentence(refusal);
    tracing::warn!(?peer, error = %detail, "no way to a worker");
    let said = answer(client, Some(BulkFailure { kind: refusal.kind().into(), detail })).await;
    let ended = match said {
        Ok(()) => client.shutdown().await,
        failed => failed,
    };
    if let Err(error) = ended {
        tracing::debug!(?peer, %error, "a client does not hear why it was refused");
        return;
    }
    passage::drain(client, DRAIN_TIMEOUT).await;
}

impl Refusal {
    fn kind(&self) -> Kind {
        match self {
            Refusal::Frame(_) | Refusal::Unsaid(_) => Kind::Protocol,
            Refusal::Token(_) => Kind::Token,
            Refusal::Unknown { .. } => Kind::NotFound,
            Refusal::Busy => Kind::Busy,
            Refusal::Unreachable { .. } => Kind::Hop,
        }
    }
}

async fn answer(client: &mut TcpStream, failure: Option<BulkFailure>) -> io::Result<()> {
    let mut frame = Vec::new();
    let reply = Reply { failure, ..Reply::default() };
    bulk::write_frame(&mut frame, FrameKind::Reply, PASSAGE_REQUEST_ID, &reply, &[])?;
    timeout(REPLY_TIMEOUT, client.write_all(&frame)).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
}

/// Milliseconds since 1970. Before 1970 it stands at 0, and no token is good.
fn wall_ms() -> u64 {
    gristmill_proto::wall_clock::now_ms()
}
