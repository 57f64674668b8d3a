//! The next worker of a pipeline, as the one before sees it: asked to write a block, sent packets, heard for acks.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gristmill_process::connect::{connect, shut};
use gristmill_process::inbound::Inbound;
use gristmill_proto::bulk::{self, FrameError, FrameKind};
use gristmill_proto::ids::{BlockId, WorkerId};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::{Ack, Packet, Reply, Request, Spent, WriteBlock, request};
use thiserror::Error;

use super::connection::HEAD_BUFFER_BYTES;
use super::failure::TransferFailure;
use super::options::BulkOptions;

/// A connection to a hop carries one block.
const REQUEST_ID: u64 = 1;

/// The connection to the next worker.
pub(crate) struct Hop {
    sender: HopSender,
    acks: HopAcks,
    block: BlockId,
    deadline: Instant,
}

/// Where packets go.
pub(crate) struct HopSender {
    stream: Arc<TcpStream>,
}

/// Where their acks come from.
pub(crate) struct HopAcks {
    worker: WorkerId,
    inbound: Inbound<Arc<TcpStream>>,
}

/// What went wrong between this worker and the next.
#[derive(Debug, Error)]
pub(crate) enum HopError {
    #[error("cannot connect to {worker} at {address} for {block}")]
    Connect {
        worker: WorkerId,
        address: String,
        block: BlockId,
        #[source]
        source: io::Error,
    },
    #[error("cannot send to {worker}")]
    Send {
        worker: WorkerId,
        #[source]
        source: io::Error,
    },
    #[error("no answer from {worker}")]
    Answer {
        worker: WorkerId,
        #[source]
        source: FrameError,
    },
    #[error("{worker} has ended the connection")]
    Ended { worker: WorkerId },
    #[error("{worker} has sent {found:?} where {wanted:?} {sequence} should be")]
    OutOfStep { worker: WorkerId, found: FrameKind, wanted: FrameKind, sequence: u64 },
}

impl HopError {
    /// The failure that is told: it is the next worker's, as far as can be seen from here.
    pub(crate) fn failure(&self) -> TransferFailure {
        let worker = match self {
            HopError::Connect { worker, .. }
            | HopError::Send { worker, .. }
            | HopError::Answer { worker, .. }
            | HopError::Ended { worker }
            | HopError::OutOfStep { worker, .. } => *worker,
        };
        TransferFailure::of(Kind::Hop, worker, self)
    }
}

impl Hop {
    /// Connects to the first worker of `write.next` and asks it, and so the rest, for the same. It is not [`Hop::ready`].
    pub(crate) fn open(
        token: &Bytes,
        write: &WriteBlock,
        options: &BulkOptions,
    ) -> Result<Hop, TransferFailure> {
        let next = &write.next[0];
        let (worker, block) = (WorkerId(next.worker), BlockId(write.block));
        let deadline = Instant::now() + options.pipeline_open_timeout(write.next.len());
        let ack_timeout = options.pipeline_ack_timeout(write.next.len());
        let connected = connect(&next.address, Instant::now() + options.connect_timeout, ack_timeout);
        let stream = Arc::new(connected.map_err(|source| {
            HopError::Connect { worker, address: next.address.clone(), block, source }.failure()
        })?);

        let rest = WriteBlock { next: write.next[1..].to_vec(), ..write.clone() };
        let operation = Some(request::Operation::WriteBlock(rest));
        let request = Request { token: token.clone(), operation };
        bulk::write_frame(&mut &*stream, FrameKind::Request, REQUEST_ID, &request, &[])
            .map_err(|source| HopError::Send { worker, source }.failure())?;
        let acks = HopAcks { worker, inbound: Inbound::new(Arc::clone(&stream), HEAD_BUFFER_BYTES) };
        Ok(Hop { sender: HopSender { stream }, acks, block, deadline })
    }

    /// Waits until the rest of the pipeline is ready for packets.
    pub(crate) fn ready(mut self) -> Result<(HopSender, HopAcks), TransferFailure> {
        let worker = self.acks.worker;
        let reply: Reply =
            self.acks.answer(FrameKind::Reply, 0, self.deadline).map_err(|error| error.failure())?;
        match reply.failure {
            None => {
                tracing::trace!(block = %self.block, %worker, "the next worker is ready");
                Ok((self.sender, self.acks))
            }
            Some(failure) => Err(TransferFailure::from_wire(failure, reply.failed_worker, worker)),
        }
    }
}

impl HopSender {
    /// Sends a packet; `body` is its sums and its data.
    pub(crate) fn send(&self, packet: &Packet, body: &[u8]) -> io::Result<()> {
        bulk::write_frame(&mut &*self.stream, FrameKind::Packet, REQUEST_ID, packet, &[body])
    }

    /// Sends no more: the next worker still gets what is under way.
    pub(crate) fn end(&self) {
        shut(&self.stream, Shutdown::Write);
    }
}

impl HopAcks {
    /// The worker that acknowledges.
    pub(crate) fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Waits for the ack of packet `sequence`, or for any word of failure. The answer is what the packet has cost there.
    pub(crate) fn wait(&mut self, sequence: u64, deadline: Instant) -> Result<Vec<Spent>, TransferFailure> {
        let ack: Ack = self.answer(FrameKind::Ack, sequence, deadline).map_err(|error| error.failure())?;
        if let Some(failure) = ack.failure {
            return Err(TransferFailure::from_wire(failure, ack.failed_worker, self.worker));
        }
        if ack.sequence != sequence {
            let (worker, kind) = (self.worker, FrameKind::Ack);
            return Err(HopError::OutOfStep { worker, found: kind, wanted: kind, sequence }.failure());
        }
        Ok(ack.spent)
    }

    /// Has nothing more to do with the next worker: whoever is sending to it is woken.
    pub(crate) fn abandon(&self) {
        shut(self.inbound.socket(), Shutdown::Both);
    }

    fn answer<M: prost::Message + Default>(
        &mut self,
        wanted: FrameKind,
        sequence: u64,
        deadline: Instant,
    ) -> Result<M, HopError> {
        let worker = self.worker;
        let head = self.inbound.frame(deadline).map_err(|source| HopError::Answer { worker, source })?;
        let head = head.ok_or(HopError::Ended { worker })?;
        if head.kind != wanted {
            return Err(HopError::OutOfStep { worker, found: head.kind, wanted, sequence });
        }
        head.header().map_err(|source| HopError::Answer { worker, source })
    }
}
