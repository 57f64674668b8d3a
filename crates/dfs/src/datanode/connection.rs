//! One connection to the bulk server: requests, one after the other. (Hadoop: DataXceiver)

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gristmill_process::connect::shut;
use gristmill_process::guests::Guest;
use gristmill_process::inbound::{Inbound, Waited};
use gristmill_process::listener::Visit;
use gristmill_process::sentence;
use gristmill_proto::auth::Operation as Allowed;
use gristmill_proto::bulk::{self, FrameError, FrameKind};
use gristmill_proto::ids::{BlockId, Generation};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{Reply, Request};
use thiserror::Error;

use super::failure::TransferFailure;
use super::pipeline::serve_write;
use super::serve_read::serve_read;
use super::server::Service;
use super::standing::StandingError;

/// How long a peer that was told of a failure may take to end the connection.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Heads of frames come through a buffer of this; bodies mostly pass by it.
pub(crate) const HEAD_BUFFER_BYTES: usize = 8 << 10;
/// A packet buffer larger than this is not kept between requests.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

/// A connection, served by the thread that has it.
pub(crate) struct Connection {
    pub(crate) service: Arc<Service>,
    pub(crate) inbound: Inbound<Arc<TcpStream>>,
    /// Of a packet, or of the sums of one: reused.
    pub(crate) buffer: Vec<u8>,
    stream: Arc<TcpStream>,
    guest: Arc<Guest>,
}

/// What comes after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another request may come.
    Request,
    /// The connection is of no more use.
    Close,
}

/// Why a request is not served at all.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    #[error("a {found:?} frame where a request should be")]
    NoRequest { found: FrameKind },
    #[error("a request for nothing that this listener does")]
    Unknown,
    #[error("{transfers_max} blocks are being written and read here, the most there may be")]
    Busy { transfers_max: u32 },
    #[error("this worker is ending")]
    Ending,
    #[error("no request")]
    Frame(#[from] FrameError),
}

impl RequestError {
    pub(crate) fn failure(&self) -> TransferFailure {
        let kind = match self {
            RequestError::Busy { .. } | RequestError::Ending => Kind::Busy,
            RequestError::NoRequest { .. } | RequestError::Unknown | RequestError::Frame(_) => Kind::Protocol,
        };
        TransferFailure::here(kind, self)
    }
}

/// The failure that a bearer who is not to be served is told.
pub(crate) fn refusal(error: &StandingError) -> TransferFailure {
    let kind = match error {
        StandingError::Token { .. } => Kind::Token,
        StandingError::NoMember | StandingError::Isolated { .. } => Kind::Busy,
    };
    TransferFailure::here(kind, error)
}

impl Connection {
    pub(crate) fn new(service: Arc<Service>, visit: Visit) -> Connection {
        let Visit { stream, guest, .. } = visit;
        let inbound = Inbound::new(Arc::clone(&stream), HEAD_BUFFER_BYTES).until(guest.stop());
        Connection { service, inbound, buffer: Vec::new(), stream, guest }
    }

    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    pub(crate) fn stream(&self) -> &Arc<TcpStream> {
        &self.stream
    }

    /// Serves requests until the peer ends the connection, is silent for too long, or breaks the rules.
    pub(crate) fn serve(mut self) {
        let service = Arc::clone(&self.service);
        let mut patience = service.options.first_frame_timeout;
        while self.inbound.wait(patience) == Waited::Ready {
            self.guest.set_at_work(true);
            if self.request() == Next::Close {
                return;
            }
            self.guest.set_at_work(false);
            if self.buffer.len() > KEPT_BUFFER_BYTES {
                self.buffer = Vec::new();
            }
            patience = service.options.idle_timeout;
        }
    }

    fn request(&mut self) -> Next {
        let deadline = Instant::now() + self.service.options.frame_timeout;
        let (request_id, request) = match read_request(&mut self.inbound, deadline) {
            Ok(Some(request)) => request,
            Ok(None) | Err(RequestError::Frame(FrameError::Io(_) | FrameError::Truncated { .. })) => {
                return Next::Close;
            }
            Err(error) => return self.rebuff(&error),
        };
        let Some(operation) = request.operation else { return self.rebuff(&RequestError::Unknown) };
        let service = Arc::clone(&self.service);
        let allowed = match &operation {
            Operation::WriteBlock(write) => (write.block, write.generation, Allowed::Write),
            Operation::ReadBlock(read) => (read.block, read.generation, Allowed::Read),
            _ => return self.rebuff(&RequestError::Unknown),
        };
        let (block, generation) = (BlockId(allowed.0), Generation(allowed.1));
        if let Err(error) = service.standing.check_token(&request.token, block, generation, allowed.2) {
            tracing::warn!(peer = ?self.stream.peer_addr().ok(), error = %sentence(&error), "refused a request");
            return self.refuse(request_id, &refusal(&error));
        }
        if service.guests.is_ending() {
            return self.refuse(request_id, &RequestError::Ending.failure());
        }
        let Some(_transfer) = service.begin_transfer() else {
            let transfers_max = service.options.transfers_max;
            return self.refuse(request_id, &RequestError::Busy { transfers_max }.failure());
        };
        let token: Bytes = request.token;
        match operation {
            Operation::WriteBlock(write) => serve_write(self, request_id, &token, &write),
            Operation::ReadBlock(read) => serve_read(self, request_id, &read),
            _ => Next::Close,
        }
    }

    /// Answers a request; false if the peer does not take it.
    pub(crate) fn reply(&self, request_id: u64, reply: &Reply) -> bool {
        let sent = bulk::write_frame(&mut &*self.stream, FrameKind::Reply, request_id, reply, &[]);
        if let Err(error) = &sent {
            tracing::debug!(%error, "a reply is not taken");
        }
        sent.is_ok()
    }

    /// Answers a request with a failure. The connection is as good as before.
    pub(crate) fn refuse(&self, request_id: u64, failure: &TransferFailure) -> Next {
        let failed_worker = failure.worker().0;
        let reply = Reply { failure: Some(failure.clone().into_wire()), failed_worker, ..Reply::default() };
        if self.reply(request_id, &reply) { Next::Request } else { Next::Close }
    }

    /// Answers what is no request, and ends: where the next frame would start is not known.
    fn rebuff(&mut self, error: &RequestError) -> Next {
        tracing::warn!(peer = ?self.stream.peer_addr().ok(), error = %sentence(error), "not a request");
        self.refuse(0, &error.failure());
        self.drain();
        Next::Close
    }

    /// Says that nothing more comes, and waits a little for the peer to end, so that it gets what was said last.
    pub(crate) fn drain(&mut self) {
        shut(&self.stream, Shutdown::Write);
        self.inbound.drain(DRAIN_TIMEOUT);
    }
}

/// The next request with its id, which must have come by `deadline`; `None` if the connection ended instead.
pub(crate) fn read_request<S: std::os::fd::AsFd>(
    inbound: &mut Inbound<S>,
    deadline: Instant,
) -> Result<Option<(u64, Request)>, RequestError> {
    let Some(head) = inbound.frame(deadline)? else { return Ok(None) };
    if head.kind != FrameKind::Request {
        return Err(RequestError::NoRequest { found: head.kind });
    }
    Ok(Some((head.request_id, head.header()?)))
}
