//! One block on its way through this worker: from upstream to its disk and to the next worker. (Hadoop: BlockReceiver)

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gristmill_process::inbound::Waited;
use gristmill_proto::bulk::{FrameError, FrameKind};
use gristmill_proto::chunks::{self, CHUNK_BYTES};
use gristmill_proto::ids::{BlockId, Generation, WorkerId};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::write_block::Stage;
use gristmill_proto::messages::{Packet, Reply, WriteBlock};
use thiserror::Error;

use super::acks::{AckSender, Acks, Done, Outcome, Times};
use super::block_store::{ReplicaError, ReplicaWriter, WriteStage};
use super::connection::{Connection, Next};
use super::failure::TransferFailure;
use super::hop::{Hop, HopAcks, HopSender};
use super::server::{Service, Tally};

/// Workers of one pipeline: more than any file has replicas.
const HOPS_MAX: usize = 64;

/// Why a writer is refused by this worker, beyond what its store says.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    #[error("a pipeline of {hops} further workers, of at most {HOPS_MAX}")]
    TooLong { hops: usize },
    #[error("{block}: stage {stage} of a write is unknown")]
    UnknownStage { block: BlockId, stage: i32 },
    #[error("{block}: a {found:?} frame in the middle of a write")]
    NoPacket { block: BlockId, found: FrameKind },
    #[error("{block}: packet {found} where packet {wanted} should be")]
    OutOfOrder { block: BlockId, found: u64, wanted: u64 },
    #[error("{block}: the packet at offset {offset} has changed on its way")]
    Damaged {
        block: BlockId,
        offset: u64,
        #[source]
        source: chunks::BadChunk,
    },
    #[error("{block}: no packet")]
    Frame {
        block: BlockId,
        #[source]
        source: FrameError,
    },
}

/// Serves one [`WriteBlock`], whose token is checked already.
pub(crate) fn serve_write(
    connection: &mut Connection,
    request_id: u64,
    token: &Bytes,
    write: &WriteBlock,
) -> Next {
    let service = Arc::clone(connection.service());
    let Opened { worker, writer, hop } = match open(&service, token, write) {
        Ok(opened) => opened,
        Err(failure) => return connection.refuse(request_id, &failure),
    };
    let _tally = Tally::of(&service.writers);
    let (sender, hop_acks) = hop.unzip();
    let upstream = Arc::clone(connection.stream());
    let timeout = service.options.pipeline_ack_timeout(write.next.len());
    let acks = match Acks::start(AckSender { upstream, request_id, worker }, hop_acks, timeout) {
        Ok(acks) => acks,
        Err(error) => {
            return connection.refuse(request_id, &TransferFailure::of(Kind::Busy, worker, &error));
        }
    };
    let reply = Reply { offset: write.offset, chunk_bytes: CHUNK_BYTES as u32, ..Reply::default() };
    if !connection.reply(request_id, &reply) {
        return Next::Close;
    }
    let mut reception = Reception {
        connection,
        request_id,
        block: BlockId(write.block),
        writer: Some(writer),
        sender,
        next_sequence: None,
    };
    let end = reception.run(&acks);
    if let (End::Lost | End::Failed, Some(sender)) = (&end, &reception.sender) {
        sender.end();
    }
    // The replica is let go before the acks are awaited: a rebuilt pipeline may want it.
    drop(reception.writer.take());
    let acked = acks.finish();
    match end {
        End::Finished if acked => Next::Request,
        End::Lost => Next::Close,
        End::Finished | End::Failed => {
            connection.drain();
            Next::Close
        }
    }
}

/// A block that packets may come for.
struct Opened {
    /// This one.
    worker: WorkerId,
    writer: ReplicaWriter,
    hop: Option<(HopSender, HopAcks)>,
}

/// Opens the replica here and the rest of the pipeline, at the same time.
fn open(service: &Service, token: &Bytes, write: &WriteBlock) -> Result<Opened, TransferFailure> {
    let contact = service.standing.check_contact();
    let worker = contact.map_err(|error| TransferFailure::here(Kind::Busy, &error))?;
    let hops = write.next.len();
    if hops > HOPS_MAX {
        return Err(TransferFailure::here(Kind::Protocol, &WriteError::TooLong { hops }));
    }
    let hop = match hops {
        0 => None,
        _ => Some(Hop::open(token, write, &service.options)?),
    };
    let writer = open_replica(service, write)?;
    Ok(Opened { worker, writer, hop: hop.map(Hop::ready).transpose()? })
}

fn open_replica(service: &Service, write: &WriteBlock) -> Result<ReplicaWriter, TransferFailure> {
    let (block, generation) = (BlockId(write.block), Generation(write.generation));
    let before = Generation(write.generation_before);
    let store = &service.store;
    let opened = match Stage::try_from(write.stage) {
        Ok(Stage::Create) => store.create(block, generation, WriteStage::Create, write.block_bytes),
        Ok(Stage::Copy) => store.create(block, generation, WriteStage::Copy, write.block_bytes),
        Ok(Stage::Rebuild | Stage::Append) => {
            store.reopen(block, before, generation, write.offset, write.block_bytes)
        }
        Err(_unknown) => {
            let error = WriteError::UnknownStage { block, stage: write.stage };
            return Err(TransferFailure::here(Kind::Protocol, &error));
        }
    };
    opened.map_err(|error| TransferFailure::of_replica(&error))
}

/// How the packets ended.
enum End {
    /// The last one is written.
    Finished,
    /// Upstream is gone, or this worker stops: nobody is there to be told.
    Lost,
    /// The acks say why.
    Failed,
}

/// Why a packet is not written.
enum Bad {
    Lost,
    /// Upstream is told.
    Outcome(Outcome),
}

/// The packets of one block coming in.
struct Reception<'a> {
    connection: &'a mut Connection,
    request_id: u64,
    block: BlockId,
    /// None once the block is finished.
    writer: Option<ReplicaWriter>,
    sender: Option<HopSender>,
    /// None before the first packet: a writer numbers them from where it likes.
    next_sequence: Option<u64>,
}

impl Reception<'_> {
    fn run(&mut self, acks: &Acks) -> End {
        let service = Arc::clone(self.connection.service());
        loop {
            let stop = || acks.is_broken();
            match self.connection.inbound.wait_unless(service.options.writer_idle_timeout, stop) {
                Waited::Ready => {}
                Waited::Stopped if acks.is_broken() => return End::Failed,
                Waited::Ended | Waited::Silent | Waited::Stopped => return End::Lost,
            }
            let mut times =
                Times { forwarded: Instant::now(), receiving: Duration::ZERO, storing: Duration::ZERO };
            let (last, outcome) = match self.packet(&mut times) {
                Ok(last) => (last, Outcome::Written),
                Err(Bad::Lost) => return End::Lost,
                Err(Bad::Outcome(outcome)) => (false, outcome),
            };
            let written = matches!(outcome, Outcome::Written);
            let sequence = self.next_sequence.unwrap_or(0);
            let told = acks.give(Done { sequence, times, outcome });
            if !written || !told {
                return End::Failed;
            }
            self.next_sequence = Some(sequence + 1);
            if last {
                return End::Finished;
            }
        }
    }

    /// Takes one packet: checked, sent on, written. True if it is the last.
    fn packet(&mut self, times: &mut Times) -> Result<bool, Bad> {
        let block = self.block;
        let Reception { connection, writer, sender, next_sequence, request_id, .. } = self;
        let Connection { inbound, buffer, service, .. } = &mut **connection;
        let head = match inbound.frame(Instant::now() + service.options.frame_timeout) {
            Ok(Some(head)) => head,
            Ok(None) | Err(FrameError::Io(_) | FrameError::Truncated { .. }) => return Err(Bad::Lost),
            Err(source) => return Err(protocol(&WriteError::Frame { block, source })),
        };
        if head.kind != FrameKind::Packet || head.request_id != *request_id {
            return Err(protocol(&WriteError::NoPacket { block, found: head.kind }));
        }
        let body_bytes = head.body_bytes as usize;
        let (packet, sums_bytes) =
            head.packet().map_err(|source| protocol(&WriteError::Frame { block, source }))?;
        let wanted = *next_sequence.get_or_insert(packet.sequence);
        // The sequence goes on below without an overflow.
        if packet.sequence != wanted || wanted == u64::MAX {
            return Err(protocol(&WriteError::OutOfOrder { block, found: packet.sequence, wanted }));
        }
        if buffer.len() < body_bytes {
            buffer.resize(body_bytes, 0);
        }
        let body = &mut buffer[..body_bytes];
        inbound.body(body).map_err(|_lost| Bad::Lost)?;
        let (sums, data) = body.split_at(sums_bytes as usize);
        times.receiving = times.forwarded.elapsed();
        times.forwarded = Instant::now();
        if let Some(sender) = sender {
            // Damage is not sent on. The store looks for itself before it writes.
            chunks::verify(data, sums).map_err(|source| {
                let error = WriteError::Damaged { block, offset: packet.offset, source };
                Bad::Outcome(Outcome::Failed(TransferFailure::here(Kind::Corrupt, &error)))
            })?;
            sender.send(&packet, body).map_err(|error| Bad::Outcome(Outcome::NotForwarded(error)))?;
        }
        let storing = Instant::now();
        let written = store_packet(writer, &packet, data, sums);
        times.storing = storing.elapsed();
        written.map_err(|error| Bad::Outcome(Outcome::Failed(TransferFailure::of_replica(&error))))?;
        Ok(packet.last)
    }
}

/// Writes a packet, and syncs or finishes as it says. The writer is gone once the block is finished.
fn store_packet(
    slot: &mut Option<ReplicaWriter>,
    packet: &Packet,
    data: &[u8],
    sums: &[u8],
) -> Result<(), ReplicaError> {
    let mut writer = slot.take().expect("no packet is taken after the last");
    if !data.is_empty() {
        writer.write(packet.offset, data, sums)?;
    }
    if packet.last {
        writer.finish()?;
        return Ok(());
    }
    if packet.sync {
        writer.sync()?;
    }
    *slot = Some(writer);
    Ok(())
}

fn protocol(error: &WriteError) -> Bad {
    Bad::Outcome(Outcome::Failed(TransferFailure::here(Kind::Protocol, error)))
}
