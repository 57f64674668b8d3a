//! A range of a replica on its way out: sums and some of the data through memory, the rest straight from the file.
//! (Hadoop: BlockSender)

use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use gristmill_process::outbound::{in_full_segments, send_file, send_more};
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::chunks::{self, CHUNK_BYTES};
use gristmill_proto::ids::{BlockId, Generation};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::{Broken, Packet, ReadBlock, Reply};
use thiserror::Error;

use super::block_store::ReplicaReader;
use super::connection::{Connection, Next};
use super::failure::TransferFailure;

/// Data of one packet: the cost of its head vanishes, and a reader can buffer it.
pub(crate) const READ_PACKET_BYTES: u64 = 1 << 20;
const _: () = assert!(READ_PACKET_BYTES.is_multiple_of(CHUNK_BYTES));
const _: () = assert!(READ_PACKET_BYTES <= bulk::PACKET_BYTES_MAX as u64);

/// Of each packet so much goes through memory, in one call; the rest is `sendfile`'s, which hands over 64 KiB at a time. With
/// those alone never more than a segment waits to be sent, a system that paces (BBR) takes that for what the network can
/// do, and keeps to it. Half and half is 1.4 times as fast there, and no slower elsewhere (`docs/performance.md`).
const COPIED_BYTES: u64 = READ_PACKET_BYTES / 2;

/// Why bytes of a replica cannot be had, beyond what the store says.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    #[error("{block}: offset {offset} is behind the end of the replica, which has {bytes} bytes")]
    BehindEnd { block: BlockId, offset: u64, bytes: u64 },
    #[error("{block}: this worker is ending")]
    Ending { block: BlockId },
}

/// Serves one [`ReadBlock`], whose token is checked already. The range is made larger, to whole chunks, as only whole
/// chunks can be verified.
pub(crate) fn serve_read(connection: &mut Connection, request_id: u64, read: &ReadBlock) -> Next {
    let (block, generation) = (BlockId(read.block), Generation(read.generation));
    let reader = match connection.service.store.read(block, generation) {
        Ok(reader) => reader,
        Err(error) => return connection.refuse(request_id, &TransferFailure::of_replica(&error)),
    };
    let bytes = reader.bytes();
    if read.offset > bytes {
        let error = ReadError::BehindEnd { block, offset: read.offset, bytes };
        return connection.refuse(request_id, &TransferFailure::here(Kind::NotFound, &error));
    }
    let start = read.offset - read.offset % CHUNK_BYTES;
    let end = match read.offset.saturating_add(read.bytes).min(bytes) {
        // Nothing is wanted, or nothing is there: no chunk is needed for it.
        end if end == read.offset => start,
        end => end.checked_next_multiple_of(CHUNK_BYTES).map_or(bytes, |end| end.min(bytes)),
    };
    let stream = Arc::clone(connection.stream());
    match in_full_segments(&stream, || send_chunks(connection, request_id, &reader, start..end)) {
        Ok(next) => next,
        Err(error) => {
            tracing::debug!(%block, %error, "a connection can send nothing more");
            Next::Close
        }
    }
}

/// Sends whole chunks of a replica, in packets.
fn send_chunks(
    connection: &mut Connection,
    request_id: u64,
    reader: &ReplicaReader,
    range: Range<u64>,
) -> Next {
    let Range { start, end } = range;
    let reply =
        Reply { offset: start, bytes: end - start, chunk_bytes: CHUNK_BYTES as u32, ..Reply::default() };
    if !connection.reply(request_id, &reply) {
        return Next::Close;
    }
    let mut copied = vec![0; COPIED_BYTES.min(end - start) as usize];
    let mut sequence = 0;
    let mut offset = start;
    while offset < end {
        let bytes = READ_PACKET_BYTES.min(end - offset) as u32;
        let packet = Packet { sequence, offset, bytes, last: offset + u64::from(bytes) == end, sync: false };
        if let Next::Close = send_packet(connection, request_id, reader, &packet, &mut copied) {
            return Next::Close;
        }
        offset += u64::from(bytes);
        sequence += 1;
    }
    Next::Request
}

fn send_packet(
    connection: &mut Connection,
    request_id: u64,
    reader: &ReplicaReader,
    packet: &Packet,
    copied: &mut [u8],
) -> Next {
    let block = reader.block();
    let bytes = u64::from(packet.bytes);
    let of_packet = copied.len().min(packet.bytes as usize);
    let copied = &mut copied[..of_packet];
    let buffer = &mut connection.buffer;
    buffer.clear();
    let body_bytes = packet.bytes + chunks::sums_bytes(bytes) as u32;
    let head = bulk::write_frame_head(buffer, FrameKind::Packet, request_id, packet, body_bytes);
    let filled = head.map_err(|error| TransferFailure::here(Kind::Protocol, &error)).and_then(|()| {
        let first = packet.offset / CHUNK_BYTES;
        let sums = reader.read_sums(first, bytes.div_ceil(CHUNK_BYTES), buffer);
        let filled = sums.and_then(|()| reader.read_data(packet.offset, copied));
        filled.map_err(|error| TransferFailure::of_replica(&error))
    });
    let filled = match filled {
        Ok(()) if connection.service.guests.is_stopped() => {
            Err(TransferFailure::here(Kind::Busy, &ReadError::Ending { block }))
        }
        filled => filled,
    };
    if let Err(failure) = filled {
        return broken(connection, request_id, &failure, packet.offset);
    }
    let stream = connection.stream();
    let (rest_at, rest) = (packet.offset + of_packet as u64, bytes - of_packet as u64);
    let sent = send_more(stream, &connection.buffer)
        .and_then(|()| send_more(stream, copied))
        .and_then(|()| send_file(stream, reader.data_file(), rest_at, rest));
    match sent {
        Ok(()) => Next::Request,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            // The packet was promised whole: all that can be said now is the end of the connection.
            tracing::warn!(%block, offset = packet.offset, "a replica is shorter than it was");
            connection.service.doubt(block, reader.generation());
            Next::Close
        }
        Err(error) => {
            tracing::debug!(%block, %error, "a read has ended early");
            Next::Close
        }
    }
}

/// Ends a read between two packets. The connection could go on; that the reader goes elsewhere is more likely.
fn broken(connection: &Connection, request_id: u64, failure: &TransferFailure, offset: u64) -> Next {
    tracing::warn!(error = %failure, offset, "a read cannot go on");
    let broken = Broken { failure: Some(failure.clone().into_wire()), offset };
    let sent = bulk::write_frame(&mut &**connection.stream(), FrameKind::Broken, request_id, &broken, &[]);
    if sent.is_ok() { Next::Request } else { Next::Close }
}
