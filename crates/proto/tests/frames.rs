//! Bulk frames as they may arrive: whole, cut, damaged, of another version, with lengths that nobody can mean.

use std::io::{self, Read};

use gristmill_proto::bulk::{
    self, BODY_BYTES_MAX, FRAME_VERSION, FrameError, FrameKind, HEAD_BYTES, HEADER_BYTES_MAX,
    PACKET_BYTES_MAX, RUN_BYTES_MAX,
};
use gristmill_proto::chunks::{self, CHUNK_BYTES};
use gristmill_proto::messages::{Ack, BulkFailure, Packet, ReadBlock, Request, request::Operation};
use proptest::collection::vec;
use proptest::prelude::*;

fn ack(request_id: u64, sequence: u64, detail: &str) -> Vec<u8> {
    let failure = Some(BulkFailure { kind: 5, detail: detail.to_owned() });
    let mut wire = Vec::new();
    let header = Ack { sequence, failure, failed_worker: 3, ..Ack::default() };
    bulk::write_frame(&mut wire, FrameKind::Ack, request_id, &header, &[]).unwrap();
    wire
}

/// Reads one frame and gives its error.
fn error_of(wire: &[u8]) -> FrameError {
    let mut scratch = Vec::new();
    bulk::read_frame_head(&mut &*wire, &mut scratch).expect_err("a bad frame")
}

/// A frame with any head, checksummed as it should be.
fn forge(kind: u32, header_bytes: u32, body_bytes: u32, header: &[u8]) -> Vec<u8> {
    let mut wire = b"GMB\x01".to_vec();
    for number in [kind, header_bytes, body_bytes, 1, 0] {
        wire.extend(number.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&wire), header);
    wire.extend(crc.to_le_bytes());
    wire.extend(header);
    wire
}

proptest! {
    #[test]
    fn a_packet_comes_back(
        request_id: u64,
        sequence: u64,
        chunk in 0..1_u64 << 40,
        last: bool,
        sync: bool,
        data in vec(any::<u8>(), 0..70_000),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut sums = Vec::new();
        chunks::append_sums(&data, &mut sums);
        let header =
            Packet { sequence, offset: chunk * CHUNK_BYTES, bytes: data.len() as u32, last, sync };
        let (front, back) = data.split_at(cut.index(data.len() + 1));
        let mut wire = Vec::new();
        bulk::write_frame(&mut wire, FrameKind::Packet, request_id, &header, &[&sums, front, back]).unwrap();

        let (mut input, mut scratch) = (&wire[..], Vec::new());
        let head = bulk::read_frame_head(&mut input, &mut scratch).unwrap().unwrap();
        prop_assert_eq!((head.kind, head.request_id), (FrameKind::Packet, request_id));
        let (packet, sums_bytes) = head.packet().unwrap();
        prop_assert_eq!(packet, header);
        let mut body = vec![0; head.body_bytes as usize];
        bulk::read_body(&mut input, &mut body).unwrap();
        let (found_sums, found_data) = body.split_at(sums_bytes as usize);
        prop_assert_eq!(found_data, &data[..]);
        prop_assert_eq!(chunks::verify(found_data, found_sums), Ok(()));
        prop_assert!(input.is_empty());
    }

    #[test]
    fn every_flipped_bit_of_a_head_is_found(request_id: u64, sequence: u64, detail in "[a-z]{0,40}") {
        let wire = ack(request_id, sequence, &detail);
        for bit in 0..wire.len() * 8 {
            let mut bad = wire.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            match (bit / 8, error_of(&bad)) {
                (0..3, FrameError::BadMagic { .. }) | (3, FrameError::WrongVersion { .. }) => {}
                (8..12, FrameError::HeaderTooLong { .. } | FrameError::Truncated { part: "header", .. }) => {}
                (4.., FrameError::HeaderChecksum { .. }) => {}
                (byte, error) => prop_assert!(false, "bit {bit} in byte {byte}: {error}"),
            }
        }
    }

    #[test]
    fn every_truncation_is_named(request_id: u64, detail in "[a-z]{0,40}") {
        let wire = ack(request_id, 1, &detail);
        let mut scratch = Vec::new();
        prop_assert!(bulk::read_frame_head(&mut &b""[..], &mut scratch).unwrap().is_none());
        for length in 1..wire.len() {
            match error_of(&wire[..length]) {
                FrameError::Truncated { part: "head", got, wanted: 28 } => {
                    prop_assert_eq!(got as usize, length);
                    prop_assert!(length < HEAD_BYTES);
                }
                FrameError::Truncated { part: "header", got, wanted } => {
                    prop_assert_eq!(HEAD_BYTES + got as usize, length);
                    prop_assert_eq!(HEAD_BYTES + wanted as usize, wire.len());
                }
                error => prop_assert!(false, "{length} bytes: {error}"),
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        start in prop_oneof![Just(&b""[..]), Just(&b"GMB"[..]), Just(&b"GMB\x01"[..])],
        rest in vec(any::<u8>(), 0..200),
    ) {
        let wire = [start, &rest[..]].concat();
        let mut scratch = Vec::new();
        let outcome = bulk::read_frame_head(&mut &wire[..], &mut scratch);
        // By chance no bytes have the right checksum: a frame was made, or none.
        prop_assert!(outcome.is_err() || wire.is_empty());
        prop_assert!(scratch.capacity() <= HEADER_BYTES_MAX as usize);
    }

    #[test]
    fn any_header_of_any_kind_is_taken_or_refused(
        kind in 1..=5_u32,
        header in vec(any::<u8>(), 0..60),
        body_bytes in prop_oneof![Just(0), 0..40_000_u32, any::<u32>()],
    ) {
        let wire = forge(kind, header.len() as u32, body_bytes, &header);
        let mut scratch = Vec::new();
        match bulk::read_frame_head(&mut &wire[..], &mut scratch) {
            Ok(Some(head)) => {
                prop_assert!(head.body_bytes <= head.kind.body_bytes_max());
                if let Ok((packet, sums_bytes)) = head.packet() {
                    prop_assert_eq!(head.kind, FrameKind::Packet);
                    prop_assert_eq!(packet.bytes + sums_bytes, body_bytes);
                }
                // It decodes, or the error says what did not.
                if let Err(error) = head.header::<Request>() {
                    let (shown, named) = (error.to_string(), format!("{:?}", head.kind));
                    prop_assert!(shown.contains(&named), "{}", shown);
                }
            }
            Err(FrameError::BodyTooLong { bytes, max }) => prop_assert!(bytes > u64::from(max)),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

#[test]
fn impossible_lengths_are_refused_before_anything_is_allocated() {
    for header_bytes in [HEADER_BYTES_MAX + 1, 1 << 31, u32::MAX] {
        let wire = forge(1, header_bytes, 0, b"");
        let mut scratch = Vec::new();
        let error = bulk::read_frame_head(&mut &wire[..], &mut scratch).unwrap_err();
        assert!(
            matches!(error, FrameError::HeaderTooLong { bytes, .. } if bytes == u64::from(header_bytes)),
            "{error}"
        );
        assert_eq!(scratch.capacity(), 0);
    }
    for (kind, body_bytes) in [
        (3, BODY_BYTES_MAX + 1),
        (3, u32::MAX),
        (1, 1),
        (2, 1),
        (4, 1),
        (5, u32::MAX),
        (6, RUN_BYTES_MAX + 1),
        (6, u32::MAX),
    ] {
        let error = error_of(&forge(kind, 0, body_bytes, b""));
        assert!(
            matches!(error, FrameError::BodyTooLong { bytes, .. } if bytes == u64::from(body_bytes)),
            "{error}"
        );
    }
    // A length inside the header: the detail of a failure said to have 2^63 bytes.
    let header = b"\x12\x0c\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f..";
    let wire = forge(4, header.len() as u32, 0, header);
    let mut scratch = Vec::new();
    let head = bulk::read_frame_head(&mut &wire[..], &mut scratch).unwrap().unwrap();
    let error = head.header::<Ack>().unwrap_err();
    assert!(matches!(error, FrameError::Decode { kind: FrameKind::Ack, .. }), "{error}");
}

#[test]
fn the_longest_header_and_body_pass() {
    let mut packet = Packet { bytes: PACKET_BYTES_MAX, ..Packet::default() };
    packet.offset = u64::MAX / CHUNK_BYTES * CHUNK_BYTES - u64::from(PACKET_BYTES_MAX);
    let body_bytes = PACKET_BYTES_MAX + chunks::sums_bytes(u64::from(PACKET_BYTES_MAX)) as u32;
    let mut wire = Vec::new();
    bulk::write_frame_head(&mut wire, FrameKind::Packet, 1, &packet, body_bytes).unwrap();
    let mut scratch = Vec::new();
    let head = bulk::read_frame_head(&mut &wire[..], &mut scratch).unwrap().unwrap();
    assert_eq!(head.packet().unwrap(), (packet, 1024));

    let room = HEADER_BYTES_MAX as usize - 4;
    let operation = Some(Operation::ReadBlock(ReadBlock::default()));
    let longest = Request { token: vec![1; room - 2].into(), operation };
    let mut wire = Vec::new();
    bulk::write_frame(&mut wire, FrameKind::Request, 1, &longest, &[]).unwrap();
    assert_eq!(wire.len(), HEAD_BYTES + HEADER_BYTES_MAX as usize);
    let head = bulk::read_frame_head(&mut &wire[..], &mut scratch).unwrap().unwrap();
    assert_eq!(head.header::<Request>().unwrap(), longest);
}

#[test]
fn another_version_is_named() {
    let mut wire = ack(1, 1, "");
    for theirs in [0, 2, 255] {
        wire[3] = theirs;
        let error = error_of(&wire);
        assert!(
            matches!(error, FrameError::WrongVersion { theirs: found, ours: FRAME_VERSION } if found == theirs)
        );
        let said =
            format!("the other side speaks version {theirs} of the bulk protocol, this side version 1");
        assert_eq!(error.to_string(), said);
    }
}

#[test]
fn another_protocol_is_shown() {
    let error = error_of(b"GET / HTTP/1.1\r\nHost: worker\r\n\r\n");
    assert_eq!(error.to_string(), r"not a bulk frame: it starts with GET ");
    let error = error_of(&[0xff; 28]);
    assert_eq!(error.to_string(), r"not a bulk frame: it starts with \xff\xff\xff\xff");
}

#[test]
fn unknown_kinds_are_refused() {
    for kind in [0, 7, 0x0100, 0x0101, u32::MAX] {
        let error = error_of(&forge(kind, 0, 0, b""));
        assert!(matches!(error, FrameError::UnknownKind { kind: found } if found == kind), "{error}");
    }
}

#[test]
fn a_time_out_of_the_socket_is_told_apart() {
    struct Stuck(usize);
    impl Read for Stuck {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = self.0.min(buffer.len());
            self.0 -= bytes;
            if bytes == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(bytes) }
        }
    }
    let mut scratch = Vec::new();
    for bytes in [0, 5, 27] {
        let error = bulk::read_frame_head(&mut Stuck(bytes), &mut scratch).unwrap_err();
        assert!(
            matches!(&error, FrameError::Io(io) if io.kind() == io::ErrorKind::WouldBlock),
            "{bytes} bytes: {error}"
        );
    }
}
