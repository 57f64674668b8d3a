//! A replica read from its worker over TCP.

use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gristmill_process::inbound::Whole;
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::chunks::{self, CHUNK_BYTES};
use gristmill_proto::ids::WorkerId;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{Broken, Packet, ReadBlock, Reply, Request};
use gristmill_proto::namespace::{LocatedBlock, Replica};

use super::errors::TransferError;
use super::pipeline::{read_reply, refused};
use super::route::Route;
use super::verified::ChunkSource;

/// Connections of a client that wait for another read.
const IDLE_MAX: usize = 64;
/// Workers close idle connections a little later.
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes taken from the stream at a time.
const STEP_BYTES: u64 = 256 << 10;
const _: () = assert!(STEP_BYTES.is_multiple_of(CHUNK_BYTES));

const DOING: &str = "reading a replica";

/// Connections to workers between two reads.
#[derive(Default)]
pub(crate) struct IdleConnections(Mutex<Vec<Idle>>);

struct Idle {
    since: Instant,
    connection: Connection,
}

struct Connection {
    address: String,
    stream: TcpStream,
    requests: u64,
    timeout: Duration,
}

/// One read on its way: packets come until the range is done.
pub(crate) struct RemoteReplica {
    connection: Connection,
    scratch: Vec<u8>,
    /// Where the next byte of the wire is in the block, and where the last packet ends.
    at: u64,
    end: u64,
    /// Bytes of the present packet that were not taken yet, and the sums of all its chunks from there on.
    packet_left: u64,
    sums: Vec<u8>,
    sums_at: usize,
}

impl IdleConnections {
    /// One to this worker, if there is one that is still fresh.
    fn take(&self, address: &str) -> Option<Connection> {
        let mut idle = self.lock();
        idle.retain(|idle| idle.since.elapsed() < IDLE_TIME_MAX);
        let at = idle.iter().rposition(|idle| idle.connection.address == address)?;
        Some(idle.swap_remove(at).connection)
    }

    /// Keeps the connection of a read, if the read is over.
    pub(crate) fn give_back(&self, read: RemoteReplica) {
        if read.at != read.end || read.packet_left > 0 {
            return;
        }
        let mut idle = self.lock();
        if idle.len() == IDLE_MAX {
            idle.remove(0);
        }
        idle.push(Idle { since: Instant::now(), connection: read.connection });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RemoteReplica {
    /// Asks for `bytes` bytes from `offset` on, at least 1. All of them are there, or it is an error.
    pub(crate) fn open(
        idle: &IdleConnections,
        route: &Route<'_>,
        block: &LocatedBlock,
        replica: &Replica,
        offset: u64,
        bytes: u64,
        timeout: Duration,
    ) -> Result<RemoteReplica, TransferError> {
        if let Some(connection) = idle.take(&replica.address) {
            // The worker may have closed it meanwhile, or be another process now: that is nobody's failure.
            match RemoteReplica::request(connection, block, offset, bytes) {
                Err(TransferError::Io { .. } | TransferError::Frame(_)) => {}
                other => return other,
            }
        }
        let stream = route.connect(WorkerId(replica.worker), &replica.address, timeout)?;
        let connection = Connection { address: replica.address.clone(), stream, requests: 0, timeout };
        RemoteReplica::request(connection, block, offset, bytes)
    }

    fn request(
        mut connection: Connection,
        block: &LocatedBlock,
        offset: u64,
        bytes: u64,
    ) -> Result<RemoteReplica, TransferError> {
        connection.requests += 1;
        let read = ReadBlock { block: block.block, generation: block.generation, offset, bytes };
        let request = Request { token: block.token.clone(), operation: Some(Operation::ReadBlock(read)) };
        let sent = bulk::write_frame(
            &mut &connection.stream,
            FrameKind::Request,
            connection.requests,
            &request,
            &[],
        );
        sent.map_err(|error| TransferError::io(DOING, error, connection.timeout.as_millis() as u64))?;
        let reply: Reply = read_reply(&connection.stream, connection.timeout)?;
        if let Some(failure) = reply.failure {
            return Err(refused(failure));
        }
        let Some(end) = reply.offset.checked_add(reply.bytes) else {
            return Err(TransferError::Protocol("a range that ends behind 2^64"));
        };
        if u64::from(reply.chunk_bytes) != CHUNK_BYTES || reply.offset != offset - offset % CHUNK_BYTES {
            return Err(TransferError::Protocol("not the chunks that hold the range"));
        }
        if end < offset + bytes {
            return Err(TransferError::EndedEarly { offset: end });
        }
        Ok(RemoteReplica {
            connection,
            scratch: Vec::new(),
            at: reply.offset,
            end,
            packet_left: 0,
            sums: Vec::new(),
            sums_at: 0,
        })
    }

    fn next_packet(&mut self) -> Result<(), TransferError> {
        let timeout_ms = self.connection.timeout.as_millis() as u64;
        let mut stream = &self.connection.stream;
        let head = bulk::read_frame_head(&mut stream, &mut self.scratch)
            .map_err(|error| TransferError::frame(DOING, error, timeout_ms))?
            .ok_or(TransferError::EndedEarly { offset: self.at })?;
        if head.request_id != self.connection.requests {
            return Err(TransferError::Protocol("a frame of another request"));
        }
        let (packet, sums_bytes): (Packet, u32) = match head.kind {
            FrameKind::Packet => head.packet()?,
            FrameKind::Broken => {
                let broken: Broken = head.header()?;
                let reasonless = TransferError::Protocol("a break without a reason");
                return Err(broken.failure.map_or(reasonless, refused));
            }
            _ => return Err(TransferError::Protocol("another frame where a packet should be")),
        };
        let bytes = u64::from(packet.bytes);
        if packet.offset != self.at || bytes == 0 || bytes > self.end - self.at {
            return Err(TransferError::Protocol("a packet out of turn"));
        }
        self.sums.resize(sums_bytes as usize, 0);
        bulk::read_body(&mut stream, &mut self.sums)
            .map_err(|error| TransferError::frame(DOING, error, timeout_ms))?;
        self.sums_at = 0;
        self.packet_left = bytes;
        Ok(())
    }
}

impl ChunkSource for RemoteReplica {
    fn available(&mut self) -> Result<u64, TransferError> {
        if self.packet_left == 0 && self.at < self.end {
            self.next_packet()?;
        }
        Ok(self.packet_left.min(STEP_BYTES))
    }

    fn take(&mut self, into: &mut [u8]) -> Result<(), TransferError> {
        let timeout_ms = self.connection.timeout.as_millis() as u64;
        bulk::read_body(&mut Whole(&self.connection.stream), into)
            .map_err(|error| TransferError::frame(DOING, error, timeout_ms))?;
        let sums_end = self.sums_at + chunks::sums_bytes(into.len() as u64) as usize;
        chunks::verify(into, &self.sums[self.sums_at..sums_end])
            .map_err(|bad| TransferError::Corrupt { offset: self.at + bad.index * CHUNK_BYTES })?;
        self.sums_at = sums_end;
        self.at += into.len() as u64;
        self.packet_left -= into.len() as u64;
        Ok(())
    }
}
