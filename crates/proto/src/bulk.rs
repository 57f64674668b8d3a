//! Frames of the bulk protocol (`docs/protocol.md`): a head with a protobuf header, then raw bytes.
//!
//! ```text
//!  0 "GMB" and the version, 1     4 kind u32     8 header bytes u32   12 body bytes u32
//! 16 request id u64              24 CRC32C of bytes 0..24 and the header
//! 28 header (protobuf)           then the body
//! ```
//!
//! All integers are little-endian. The CRC32C covers everything but the body: packets have chunk sums for theirs
//! ([`crate::chunks`]), blocks of run files have theirs, and no other frame has a body.

use std::io::{self, ErrorKind, IoSlice, Read, Write};

use prost::Message;
use thiserror::Error;

use crate::chunks::{self, CHUNK_BYTES};
use crate::messages::Packet;

/// Version of the frames, the last byte of their magic.
pub const FRAME_VERSION: u8 = 1;
/// Bytes of a frame before its header.
pub const HEAD_BYTES: usize = 28;
/// Most bytes of a header: a pipeline of a thousand hops still fits.
pub const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Most bytes of data in one packet: enough to make the cost of a frame vanish, little enough to buffer for many
/// transfers at once.
pub const PACKET_BYTES_MAX: u32 = 4 << 20;
/// Most bytes of a body: a packet's data, and 4 bytes for each of its chunks.
pub const BODY_BYTES_MAX: u32 = PACKET_BYTES_MAX + (4 << 10);
/// Most bytes of a run file in one frame.
pub const RUN_BYTES_MAX: u32 = 4 << 20;
/// Most entries of an index sample: with keys of 32 bytes they fit into a header.
pub const SAMPLE_ENTRIES_MAX: u32 = 1000;

const MAGIC: [u8; 3] = *b"GMB";
const _: () = assert!((PACKET_BYTES_MAX + PACKET_BYTES_MAX / CHUNK_BYTES as u32 * 4) <= BODY_BYTES_MAX);

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Asks for something; header: [`crate::messages::Request`].
    Request = 1,
    /// Answers a request, before any packet; header: [`crate::messages::Reply`].
    Reply = 2,
    /// Bytes of a block; header: [`Packet`].
    Packet = 3,
    /// Answers a packet of a write; header: [`crate::messages::Ack`].
    Ack = 4,
    /// Ends a read that cannot go on; header: [`crate::messages::Broken`].
    Broken = 5,
    /// Bytes of a run file, with nothing around them; header: [`crate::messages::RunBytes`].
    RunBytes = 6,
}

impl FrameKind {
    /// Every kind.
    pub const ALL: [FrameKind; 6] = [
        FrameKind::Request,
        FrameKind::Reply,
        FrameKind::Packet,
        FrameKind::Ack,
        FrameKind::Broken,
        FrameKind::RunBytes,
    ];

    fn from_wire(kind: u32) -> Option<FrameKind> {
        FrameKind::ALL.into_iter().find(|known| *known as u32 == kind)
    }

    /// Most bytes of a body of this kind.
    pub fn body_bytes_max(self) -> u32 {
        match self {
            FrameKind::Packet => BODY_BYTES_MAX,
            FrameKind::RunBytes => RUN_BYTES_MAX,
            FrameKind::Request | FrameKind::Reply | FrameKind::Ack | FrameKind::Broken => 0,
        }
    }
}

/// A frame as read, up to its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead<'a> {
    /// What it is.
    pub kind: FrameKind,
    /// The request that it belongs to, numbered by whoever asks, within the connection.
    pub request_id: u64,
    /// Length of the body that follows: at most [`FrameKind::body_bytes_max`].
    pub body_bytes: u32,
    header: &'a [u8],
}

impl FrameHead<'_> {
    /// The header as a message. That `M` belongs to the kind is the caller's to know.
    pub fn header<M: Message + Default>(&self) -> Result<M, FrameError> {
        M::decode(self.header).map_err(|source| FrameError::Decode { kind: self.kind, source })
    }

    /// The header of a packet, and how many bytes of the body are sums: they come first, the data is the rest.
    ///
    /// The lengths fit together, the data is at most [`PACKET_BYTES_MAX`], starts at a chunk border of the block and
    /// ends below 2^64. An error if not, or if this is no packet.
    pub fn packet(&self) -> Result<(Packet, u32), FrameError> {
        let packet: Packet = self.header()?;
        // At most 2^20, so that it fits.
        let sums_bytes = chunks::sums_bytes(u64::from(packet.bytes)) as u32;
        let fits = self.kind == FrameKind::Packet
            && packet.bytes <= PACKET_BYTES_MAX
            && self.body_bytes == sums_bytes + packet.bytes
            && packet.offset.is_multiple_of(CHUNK_BYTES)
            && packet.offset.checked_add(u64::from(packet.bytes)).is_some();
        let (offset, bytes, body_bytes) = (packet.offset, packet.bytes, self.body_bytes);
        if fits {
            Ok((packet, sums_bytes))
        } else {
            Err(FrameError::PacketShape { kind: self.kind, offset, bytes, body_bytes })
        }
    }
}

/// Why a frame cannot be read. After any of these the connection is of no use: where the next frame starts is not known.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The bytes are no frame: another protocol, or the connection is out of step.
    #[error("not a bulk frame: it starts with {}", .found.escape_ascii())]
    BadMagic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The other side is of another version.
    #[error("the other side speaks version {theirs} of the bulk protocol, this side version {ours}")]
    WrongVersion {
        /// In the frame.
        theirs: u8,
        /// [`FRAME_VERSION`].
        ours: u8,
    },
    /// A kind of frame that this version does not have.
    #[error("a bulk frame of unknown kind {kind}")]
    UnknownKind {
        /// In the frame.
        kind: u32,
    },
    /// The header is said, or would be, longer than allowed. Nothing was allocated for it.
    #[error("the header of a bulk frame has {bytes} bytes, of at most {max}")]
    HeaderTooLong {
        /// Its length.
        bytes: u64,
        /// [`HEADER_BYTES_MAX`], or less where only short ones come.
        max: u32,
    },
    /// The body is said, or would be, longer than allowed.
    #[error("the body of a bulk frame has {bytes} bytes, of at most {max}")]
    BodyTooLong {
        /// Its length.
        bytes: u64,
        /// For its kind.
        max: u32,
    },
    /// Bits of the head or the header are not as they were sent.
    #[error(
        "the head of a bulk frame is damaged: its CRC32C is {found:08x}, that of its bytes {computed:08x}"
    )]
    HeaderChecksum {
        /// In the frame.
        found: u32,
        /// Of what arrived.
        computed: u32,
    },
    /// The connection ended inside a frame.
    #[error("the connection ended after {got} of {wanted} bytes of the {part} of a bulk frame")]
    Truncated {
        /// Head, header or body.
        part: &'static str,
        /// Bytes that came.
        got: u64,
        /// Bytes that were to come.
        wanted: u64,
    },
    /// The header, though undamaged, is not the message that it should be.
    #[error("the header of a bulk frame of kind {kind:?} cannot be decoded")]
    Decode {
        /// Of the frame.
        kind: FrameKind,
        /// What protobuf says.
        #[source]
        source: prost::DecodeError,
    },
    /// Offset and lengths of a packet do not fit together.
    #[error("no packet: a {kind:?} frame, {bytes} bytes at offset {offset} in a body of {body_bytes} bytes")]
    PacketShape {
        /// Of the frame.
        kind: FrameKind,
        /// In the block.
        offset: u64,
        /// Of data.
        bytes: u32,
        /// Of sums and data.
        body_bytes: u32,
    },
    /// The connection failed, or its time-out passed.
    #[error("cannot read a bulk frame")]
    Io(#[from] io::Error),
}

/// Reads a frame up to its body; `scratch` holds its header. `None`: the input ended, cleanly, before a frame.
///
/// The caller reads the body next: exactly `body_bytes` bytes, with [`read_body`] or straight to where they belong.
pub fn read_frame_head<'a>(
    input: &mut impl Read,
    scratch: &'a mut Vec<u8>,
) -> Result<Option<FrameHead<'a>>, FrameError> {
    let mut head = [0; HEAD_BYTES];
    match read_fully(input, &mut head)? {
        0 => return Ok(None),
        HEAD_BYTES => {}
        got => return Err(truncated("head", got, HEAD_BYTES)),
    }
    let header_bytes = header_bytes(&head, HEADER_BYTES_MAX)?;
    let (kind, body_bytes, found) = (number(&head, 4), number(&head, 12), number(&head, 24));

    scratch.clear();
    scratch.resize(header_bytes as usize, 0);
    let got = read_fully(input, scratch)?;
    if got < scratch.len() {
        return Err(truncated("header", got, scratch.len()));
    }
    let computed = crc32c::crc32c_append(crc32c::crc32c(&head[..24]), scratch);
    if found != computed {
        return Err(FrameError::HeaderChecksum { found, computed });
    }
    let kind = FrameKind::from_wire(kind).ok_or(FrameError::UnknownKind { kind })?;
    check_body_bytes(kind, u64::from(body_bytes))?;
    let request_id = u64::from(number(&head, 16)) | u64::from(number(&head, 20)) << 32;
    Ok(Some(FrameHead { kind, request_id, body_bytes, header: scratch }))
}

/// How many bytes of header follow this head, at most `max`. Its magic and version are checked, and nothing else is.
/// For who does not block: once so many bytes more are here, [`read_frame_head`] takes them with the head.
pub fn header_bytes(head: &[u8; HEAD_BYTES], max: u32) -> Result<u32, FrameError> {
    if head[..3] != MAGIC {
        return Err(FrameError::BadMagic { found: number(head, 0).to_le_bytes() });
    }
    if head[3] != FRAME_VERSION {
        return Err(FrameError::WrongVersion { theirs: head[3], ours: FRAME_VERSION });
    }
    let bytes = number(head, 8);
    check_header_bytes(u64::from(bytes), max)?;
    Ok(bytes)
}

fn number(head: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

/// Reads a body, or the next part of one: fills `body`, or says after how many bytes the input ended.
pub fn read_body(input: &mut impl Read, body: &mut [u8]) -> Result<(), FrameError> {
    let got = read_fully(input, body)?;
    if got < body.len() { Err(truncated("body", got, body.len())) } else { Ok(()) }
}

/// Writes a frame, the pieces of its body in order: with one system call if the output takes it whole.
///
/// A header or body over its limit is an [`ErrorKind::InvalidInput`] with a [`FrameError`] inside; nothing is written.
pub fn write_frame(
    out: &mut impl Write,
    kind: FrameKind,
    request_id: u64,
    header: &impl Message,
    body: &[&[u8]],
) -> io::Result<()> {
    let body_bytes = body.iter().map(|piece| piece.len() as u64).sum();
    let head = encode_head(kind, request_id, header, body_bytes)?;
    let mut pieces = Vec::with_capacity(1 + body.len());
    pieces.push(IoSlice::new(&head));
    pieces.extend(body.iter().map(|piece| IoSlice::new(piece)));
    write_all_vectored(out, &mut pieces)
}

/// Writes a frame up to its body, of which the caller sends `body_bytes` bytes next, as by `sendfile`.
///
/// Errors as in [`write_frame`].
pub fn write_frame_head(
    out: &mut impl Write,
    kind: FrameKind,
    request_id: u64,
    header: &impl Message,
    body_bytes: u32,
) -> io::Result<()> {
    out.write_all(&encode_head(kind, request_id, header, u64::from(body_bytes))?)
}

fn encode_head(
    kind: FrameKind,
    request_id: u64,
    header: &impl Message,
    body_bytes: u64,
) -> io::Result<Vec<u8>> {
    let header_bytes = header.encoded_len();
    check_header_bytes(header_bytes as u64, HEADER_BYTES_MAX)
        .and_then(|()| check_body_bytes(kind, body_bytes))
        .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;

    let mut head = Vec::with_capacity(HEAD_BYTES + header_bytes);
    head.extend(MAGIC);
    head.push(FRAME_VERSION);
    // Both lengths were checked: they fit.
    for number in [kind as u32, header_bytes as u32, body_bytes as u32] {
        head.extend(number.to_le_bytes());
    }
    head.extend(request_id.to_le_bytes());
    head.extend([0; 4]);
    header.encode(&mut head).expect("a vector has room");
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..24]), &head[HEAD_BYTES..]);
    head[24..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    Ok(head)
}

fn check_header_bytes(bytes: u64, max: u32) -> Result<(), FrameError> {
    if bytes > u64::from(max) {
        return Err(FrameError::HeaderTooLong { bytes, max });
    }
    Ok(())
}

fn check_body_bytes(kind: FrameKind, bytes: u64) -> Result<(), FrameError> {
    let max = kind.body_bytes_max();
    if bytes > u64::from(max) {
        return Err(FrameError::BodyTooLong { bytes, max });
    }
    Ok(())
}

/// Fills `buffer` as far as the input goes, and says how far that was.
fn read_fully(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn truncated(part: &'static str, got: usize, wanted: usize) -> FrameError {
    FrameError::Truncated { part, got: got as u64, wanted: wanted as u64 }
}

fn write_all_vectored(out: &mut impl Write, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Empty pieces at the front would make a write of nothing look like the end of the output.
    IoSlice::advance_slices(&mut pieces, 0);
    while !pieces.is_empty() {
        match out.write_vectored(pieces) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(bytes) => IoSlice::advance_slices(&mut pieces, bytes),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Ack, Reply};

    #[test]
    fn frames_come_back_as_they_were_written() {
        let packet = Packet { sequence: 7, offset: CHUNK_BYTES, bytes: 5, last: true, sync: false };
        let mut wire = Vec::new();
        write_frame(&mut wire, FrameKind::Packet, 3, &packet, &[b"sums", b"", b"hello"]).unwrap();
        write_frame(&mut wire, FrameKind::Ack, u64::MAX, &Ack::default(), &[]).unwrap();

        let (mut input, mut scratch) = (&wire[..], Vec::new());
        let head = read_frame_head(&mut input, &mut scratch).unwrap().unwrap();
        assert_eq!((head.kind, head.request_id, head.body_bytes), (FrameKind::Packet, 3, 9));
        assert_eq!(head.packet().unwrap(), (packet, 4));
        let mut body = [0; 9];
        read_body(&mut input, &mut body).unwrap();
        assert_eq!(&body, b"sumshello");

        let head = read_frame_head(&mut input, &mut scratch).unwrap().unwrap();
        assert_eq!((head.kind, head.request_id, head.body_bytes), (FrameKind::Ack, u64::MAX, 0));
        assert_eq!(head.header::<Ack>().unwrap(), Ack::default());
        assert!(read_frame_head(&mut input, &mut scratch).unwrap().is_none());
    }

    #[test]
    fn a_head_alone_promises_a_body() {
        let mut wire = Vec::new();
        let packet = Packet { bytes: 1 << 20, ..Packet::default() };
        let body_bytes = (1 << 20) + 64 * 4;
        write_frame_head(&mut wire, FrameKind::Packet, 1, &packet, body_bytes).unwrap();
        let mut scratch = Vec::new();
        let head = read_frame_head(&mut &wire[..], &mut scratch).unwrap().unwrap();
        assert_eq!((head.body_bytes, head.packet().unwrap().1), (body_bytes, 256));
        let ended = read_body(&mut &b"abc"[..], &mut [0; 8]).unwrap_err();
        assert_eq!(ended.to_string(), "the connection ended after 3 of 8 bytes of the body of a bulk frame");
    }

    #[test]
    fn limits_hold_for_the_writer_too() {
        let detail = "x".repeat(HEADER_BYTES_MAX as usize);
        let failure = Some(crate::messages::BulkFailure { detail, ..Default::default() });
        let mut wire = Vec::new();
        let too_long = Reply { failure, ..Reply::default() };
        let error = write_frame(&mut wire, FrameKind::Reply, 1, &too_long, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let half = vec![0; BODY_BYTES_MAX as usize / 2 + 1];
        let error = write_frame(&mut wire, FrameKind::Packet, 1, &Packet::default(), &[&half, &half]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "the body of a bulk frame has 4198402 bytes, of at most 4198400"
        );
        let error = write_frame(&mut wire, FrameKind::Reply, 1, &Reply::default(), &[b"x"]).unwrap_err();
        assert_eq!(error.to_string(), "the body of a bulk frame has 1 bytes, of at most 0");
        assert!(wire.is_empty());
    }

    #[test]
    fn a_packet_fits_into_its_body() {
        let refused = |packet: Packet, body_bytes| {
            let mut wire = Vec::new();
            write_frame_head(&mut wire, FrameKind::Packet, 1, &packet, body_bytes).unwrap();
            let mut scratch = Vec::new();
            let head = read_frame_head(&mut &wire[..], &mut scratch).unwrap().unwrap();
            matches!(head.packet(), Err(FrameError::PacketShape { .. }))
        };
        let chunk = CHUNK_BYTES as u32;
        assert!(!refused(Packet::default(), 0));
        assert!(!refused(Packet { bytes: chunk + 1, ..Packet::default() }, chunk + 1 + 8));
        assert!(refused(Packet { bytes: chunk + 1, ..Packet::default() }, chunk + 1 + 4));
        assert!(refused(Packet { offset: 1, bytes: 1, ..Packet::default() }, 5));
        assert!(refused(Packet { bytes: u32::MAX, ..Packet::default() }, 3));
        let last_chunk = u64::MAX - (CHUNK_BYTES - 1);
        assert!(!refused(Packet { offset: last_chunk, bytes: chunk - 1, ..Packet::default() }, chunk + 3));
        assert!(refused(Packet { offset: last_chunk, bytes: chunk, ..Packet::default() }, chunk + 4));
    }

    /// Takes and gives a byte at a time, and is interrupted each other time.
    struct Trickle(Vec<u8>, bool);

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            self.0.push(bytes[0]);
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            if self.0.is_empty() {
                return Ok(0);
            }
            buffer[0] = self.0.remove(0);
            Ok(1)
        }
    }

    #[test]
    fn frames_pass_in_small_pieces() {
        let mut slow = Trickle(Vec::new(), false);
        let packet = Packet { bytes: 3, ..Packet::default() };
        write_frame(&mut slow, FrameKind::Packet, 9, &packet, &[b"", b"1234", b"", b"abc"]).unwrap();
        let mut scratch = Vec::new();
        let head = read_frame_head(&mut slow, &mut scratch).unwrap().unwrap();
        assert_eq!((head.request_id, head.packet().unwrap()), (9, (packet, 4)));
        let mut body = [0; 7];
        read_body(&mut slow, &mut body).unwrap();
        assert_eq!(&body, b"1234abc");
    }
}
