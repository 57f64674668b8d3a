//! One connection to a shuffle listener: requests, one after the other.

use super::failure::{failure, of_store};
use super::keys::KeyError;
use super::output_store::OpenOutput;
use super::run_bytes::{BUFFER_BYTES, FRAME_TIMEOUT, is_short_file, send_run_bytes};
use super::serve::Service;
use super::serve_keep::serve_keep;
use crate::run_file::RunIndex;
use gristmill_process::guests::Guest;
use gristmill_process::inbound::{Inbound, Waited};
use gristmill_process::listener::Visit;
use gristmill_proto::auth::ShuffleOperation;
use gristmill_proto::bulk::{self, FrameError, FrameKind, SAMPLE_ENTRIES_MAX};
use gristmill_proto::ids::{AttemptId, BadAttemptId};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{
    BulkFailure, FetchPart, IndexSample, PartFound, Reply, Request, SampleEntry, SampleIndex,
};
use gristmill_proto::task;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long a peer that was told of a failure may take to end the connection.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection, served by the thread that has it.
pub(super) struct Connection {
    pub(super) service: Arc<Service>,
    pub(super) inbound: Inbound<Arc<TcpStream>>,
    pub(super) stream: Arc<TcpStream>,
    peer: SocketAddr,
    guest: Arc<Guest>,
}

/// What comes after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another request may come.
    Request,
    /// The connection is of no more use.
    Close,
}

/// Why a request is not served.
#[derive(Debug, Error)]
pub(super) enum RequestError {
    #[error("a {found:?} frame where a request should be")]
    NoRequest { found: FrameKind },
    #[error("a request for nothing that this listener does")]
    Unknown,
    #[error(transparent)]
    NoAttempt(#[from] BadAttemptId),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("this worker is ending")]
    Ending,
    #[error("no request")]
    Frame(#[from] FrameError),
}

impl RequestError {
    fn failure(&self) -> BulkFailure {
        let kind = match self {
            Self::Key(KeyError::Token(_)) => Kind::Token,
            Self::Key(KeyError::NotYet) | Self::Ending => Kind::Busy,
            Self::NoRequest { .. } | Self::Unknown | Self::NoAttempt(_) | Self::Frame(_) => Kind::Protocol,
        };
        failure(kind, self)
    }
}

impl Connection {
    pub(super) fn new(service: Arc<Service>, visit: Visit) -> Self {
        let Visit { stream, peer, guest } = visit;
        let inbound = Inbound::new(Arc::clone(&stream), BUFFER_BYTES).until(guest.stop());
        Self { service, inbound, stream, peer, guest }
    }

    /// Serves requests until the peer ends the connection, is silent for too long, or breaks the rules.
    pub(super) fn serve(mut self) {
        let mut patience = self.service.options.first_frame_timeout;
        while self.inbound.wait(patience) == Waited::Ready {
            self.guest.set_at_work(true);
            if self.request() == Next::Close {
                return;
            }
            self.guest.set_at_work(false);
            patience = self.service.options.idle_timeout;
        }
    }

    fn request(&mut self) -> Next {
        let (request_id, request) = match self.read_request() {
            Ok(Some(request)) => request,
            Ok(None) | Err(RequestError::Frame(FrameError::Io(_) | FrameError::Truncated { .. })) => {
                return Next::Close;
            }
            Err(error) => return self.rebuff(&error),
        };
        let wanted = match request.operation {
            Some(Operation::FetchPart(wanted)) => Wanted::Part(wanted),
            Some(Operation::SampleIndex(wanted)) => Wanted::Sample(wanted),
            Some(Operation::KeepOutput(wanted)) => Wanted::Keep(wanted.output, wanted.bytes),
            _ => return self.rebuff(&RequestError::Unknown),
        };
        let output = match self.allowed(&request.token, &wanted) {
            Ok(output) => output,
            Err(error) => {
                tracing::warn!(peer = %self.peer, %error, "refused a request for a map output");
                return self.refuse(request_id, error.failure());
            }
        };
        match wanted {
            Wanted::Part(wanted) => self.serve_part(request_id, output, &wanted),
            Wanted::Sample(wanted) => self.serve_sample(request_id, output, wanted.entries_max),
            Wanted::Keep(_, bytes) => serve_keep(self, request_id, output, bytes),
        }
    }

    /// The next request with its id; `None` if the connection ended instead.
    fn read_request(&mut self) -> Result<Option<(u64, Request)>, RequestError> {
        let Some(head) = self.inbound.frame(Instant::now() + FRAME_TIMEOUT)? else { return Ok(None) };
        if head.kind != FrameKind::Request {
            return Err(RequestError::NoRequest { found: head.kind });
        }
        Ok(Some((head.request_id, head.header()?)))
    }

    fn allowed(&self, token: &[u8], wanted: &Wanted) -> Result<AttemptId, RequestError> {
        let (output, operation) = match wanted {
            Wanted::Part(wanted) => (&wanted.output, ShuffleOperation::Fetch),
            Wanted::Sample(wanted) => (&wanted.output, ShuffleOperation::Fetch),
            Wanted::Keep(output, _) => (output, ShuffleOperation::Keep),
        };
        let output = AttemptId::from_wire(output.as_ref().ok_or(BadAttemptId)?)?;
        self.service.keys.check(token, output.task.job, operation)?;
        if self.service.guests.is_ending() {
            return Err(RequestError::Ending);
        }
        Ok(output)
    }

    /// One part: its place in the file, and then these bytes as they are. The reader verifies them.
    fn serve_part(&mut self, request_id: u64, output: AttemptId, wanted: &FetchPart) -> Next {
        let open = match self.service.store.open_output(output) {
            Ok(open) => open,
            Err(error) => return self.refuse(request_id, of_store(&error)),
        };
        let part = part_found(output, wanted, &open.index);
        let (offset, bytes) = (part.offset, part.bytes);
        let mut first = Vec::new();
        let reply = Reply { part: Some(part), ..Reply::default() };
        if let Err(error) = bulk::write_frame(&mut first, FrameKind::Reply, request_id, &reply, &[]) {
            return self.refuse(request_id, failure(Kind::Protocol, &error));
        }
        let service = Arc::clone(&self.service);
        let go_on = || match service.guests.is_stopped() {
            true => Err(RequestError::Ending.failure()),
            false => Ok(()),
        };
        let OpenOutput { file, .. } = open;
        match send_run_bytes(&self.stream, request_id, first, (&file, offset, bytes), go_on) {
            Ok(()) => Next::Request,
            Err(error) => {
                // A frame was promised whole: all that can be said now is the end of the connection.
                let short = is_short_file(&error);
                tracing::warn!(attempt = %output, peer = %self.peer, %error, short, "a part has ended early");
                Next::Close
            }
        }
    }

    fn serve_sample(&mut self, request_id: u64, output: AttemptId, entries_max: u32) -> Next {
        let index = match self.service.store.open_output(output) {
            Ok(open) => open.index,
            Err(error) => return self.refuse(request_id, of_store(&error)),
        };
        let entries = index.sample(entries_max.clamp(1, SAMPLE_ENTRIES_MAX));
        let entries = entries.into_iter().map(|(key, bytes)| SampleEntry { key: key.to_vec().into(), bytes });
        let sample = IndexSample {
            output: Some(output.to_wire()),
            digest: index.digest().to_vec().into(),
            entries: entries.collect(),
        };
        self.reply(request_id, &Reply { sample: Some(sample), ..Reply::default() })
    }

    /// Answers a request.
    pub(super) fn reply(&self, request_id: u64, reply: &Reply) -> Next {
        match bulk::write_frame(&mut &*self.stream, FrameKind::Reply, request_id, reply, &[]) {
            Ok(()) => Next::Request,
            Err(error) => {
                tracing::debug!(peer = %self.peer, %error, "a reply is not taken");
                Next::Close
            }
        }
    }

    /// Answers a request with a failure. The connection is as good as before.
    pub(super) fn refuse(&self, request_id: u64, failure: BulkFailure) -> Next {
        self.reply(request_id, &Reply { failure: Some(failure), ..Reply::default() })
    }

    /// Answers what is no request, and ends: where the next frame would start is not known.
    fn rebuff(&mut self, error: &RequestError) -> Next {
        tracing::warn!(peer = %self.peer, %error, "not a request to a shuffle listener");
        self.refuse(0, error.failure());
        self.drain();
        Next::Close
    }

    /// Says that nothing more comes, and waits a little for the peer to end, so that it gets what was said last.
    pub(super) fn drain(&mut self) {
        if self.stream.shutdown(Shutdown::Write).is_ok() {
            self.inbound.drain(DRAIN_TIMEOUT);
        }
    }
}

/// What a request is for.
enum Wanted {
    Part(FetchPart),
    Sample(SampleIndex),
    Keep(Option<task::AttemptId>, u64),
}

fn part_found(output: AttemptId, wanted: &FetchPart, index: &RunIndex) -> PartFound {
    let blocks = match &wanted.keys {
        Some(keys) => index.blocks_of_keys(keys.from.as_deref(), keys.until.as_deref()),
        None => index.segment(wanted.partition).map_or(0..0, |segment| segment.blocks.clone()),
    };
    let (offset, bytes, records) = extent(index, &blocks);
    PartFound {
        output: Some(output.to_wire()),
        partition: wanted.partition,
        digest: index.digest().to_vec().into(),
        offset,
        bytes,
        blocks: blocks.end - blocks.start,
        records,
    }
}

/// Where blocks are in the file, and how many bytes and records they have. They stand next to each other.
fn extent(index: &RunIndex, blocks: &Range<u32>) -> (u64, u64, u64) {
    let entries = &index.blocks[blocks.start as usize..blocks.end as usize];
    let offset = entries.first().map_or(0, |first| first.offset);
    let bytes = entries.iter().map(|entry| entry.file_bytes()).sum();
    (offset, bytes, entries.iter().map(|entry| u64::from(entry.records)).sum())
}
