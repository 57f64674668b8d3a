//! Gives a map output to a worker that will still be there when this one is gone.

use super::run_bytes::{BUFFER_BYTES, FRAME_TIMEOUT, send_run_bytes};
use gristmill_process::connect::connect;
use gristmill_process::inbound::Inbound;
use gristmill_proto::bulk::{self, FrameError, FrameKind};
use gristmill_proto::ids::AttemptId;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{Ack, BulkFailure, KeepOutput, Reply, Request};
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// To the first packet of the other machine.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_ID: u64 = 1;

/// Why a worker does not keep a map output.
#[derive(Debug, Error)]
pub enum KeepError {
    /// The map output cannot be read here.
    #[error("cannot read {}", .path.display())]
    File {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The worker cannot be reached.
    #[error("cannot connect to {address}")]
    Connect {
        /// Of the worker.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection does not take the bytes.
    #[error("cannot send to {address}")]
    Send {
        /// Of the worker.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer does not come.
    #[error("no answer from {address}")]
    Answer {
        /// Of the worker.
        address: String,
        /// Why.
        #[source]
        source: FrameError,
    },
    /// The answer is none.
    #[error("{address} answers with something else")]
    NoAnswer {
        /// Of the worker.
        address: String,
    },
    /// The worker says no.
    #[error("{address} refuses: {}", .failure.detail)]
    Refused {
        /// Of the worker.
        address: String,
        /// What it says.
        failure: BulkFailure,
    },
}

/// Gives the map output `file` of `attempt` to the worker at `address`, which verifies every block and syncs before it
/// answers. Nothing takes longer than `timeout`. Blocking.
pub fn keep(
    address: &str,
    token: &[u8],
    attempt: AttemptId,
    file: &Path,
    timeout: Duration,
) -> Result<(), KeepError> {
    let unreadable = |source| KeepError::File { path: file.to_owned(), source };
    let open = File::open(file).map_err(unreadable)?;
    let bytes = open.metadata().map_err(unreadable)?.len();
    let address = address.to_owned();
    let mut giver = Giver::connect(address, Instant::now() + timeout)?;
    let output = Some(attempt.to_wire());
    let operation = Some(Operation::KeepOutput(KeepOutput { output, bytes }));
    giver.send_request(&Request { token: token.to_vec().into(), operation })?;
    let reply: Reply = giver.answer(FrameKind::Reply)?;
    giver.check(reply.failure)?;
    if reply.kept {
        return Ok(());
    }
    giver.send_file(&open, bytes)?;
    let ack: Ack = giver.answer(FrameKind::Ack)?;
    giver.check(ack.failure)
}

struct Giver {
    address: String,
    stream: Arc<TcpStream>,
    inbound: Inbound<Arc<TcpStream>>,
    deadline: Instant,
}

impl Giver {
    fn connect(address: String, deadline: Instant) -> Result<Self, KeepError> {
        match connect(&address, deadline.min(Instant::now() + CONNECT_TIMEOUT), FRAME_TIMEOUT) {
            Ok(stream) => {
                let stream = Arc::new(stream);
                let inbound = Inbound::new(Arc::clone(&stream), BUFFER_BYTES);
                Ok(Self { address, stream, inbound, deadline })
            }
            Err(source) => Err(KeepError::Connect { address, source }),
        }
    }

    fn send_request(&self, request: &Request) -> Result<(), KeepError> {
        bulk::write_frame(&mut &*self.stream, FrameKind::Request, REQUEST_ID, request, &[])
            .map_err(|source| KeepError::Send { address: self.address.clone(), source })
    }

    fn send_file(&mut self, file: &File, bytes: u64) -> Result<(), KeepError> {
        let on_time = || match Instant::now() < self.deadline {
            true => Ok(()),
            false => Err(BulkFailure { detail: "the time is over".to_owned(), ..BulkFailure::default() }),
        };
        let sent = send_run_bytes(&self.stream, REQUEST_ID, Vec::new(), (file, 0, bytes), on_time);
        match sent {
            Ok(()) => Ok(()),
            // If it has refused, its reason says more than the broken connection.
            Err(source) => match self.answer::<Ack>(FrameKind::Ack) {
                Ok(Ack { failure: Some(failure), .. }) => self.check(Some(failure)),
                Ok(_) | Err(_) => Err(KeepError::Send { address: self.address.clone(), source }),
            },
        }
    }

    /// The next frame, which is to be of this kind; a receiver that is slow to sync may take until the deadline.
    fn answer<M: prost::Message + Default>(&mut self, kind: FrameKind) -> Result<M, KeepError> {
        let address = &self.address;
        let failed = |source| KeepError::Answer { address: address.clone(), source };
        match self.inbound.frame(self.deadline).map_err(failed)? {
            Some(head) if head.kind == kind && matches!(head.request_id, 0 | REQUEST_ID) => {
                head.header().map_err(failed)
            }
            Some(_) | None => Err(KeepError::NoAnswer { address: address.clone() }),
        }
    }

    fn check(&self, failure: Option<BulkFailure>) -> Result<(), KeepError> {
        failure.map_or(Ok(()), |failure| Err(KeepError::Refused { address: self.address.clone(), failure }))
    }
}
