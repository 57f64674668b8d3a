//! `docs/protocol.md` stays true: its dumps are what this crate writes and reads, its limits are the constants.

use std::fs;
use std::path::Path;

use gristmill_proto::auth::{
    BLOCK_TOKEN_LIFETIME_MS, BlockKey, CALLER_TOKEN_LIFETIME_MS, CALLER_TOKEN_METADATA,
    JOB_TOKEN_LIFETIME_MS, Operation, Role, SHUFFLE_TOKEN_LIFETIME_MS, Secret, TOKEN_BYTES_MAX, Wanted,
};
use gristmill_proto::bulk::{
    self, BODY_BYTES_MAX, FRAME_VERSION, FrameKind, HEAD_BYTES, HEADER_BYTES_MAX, PACKET_BYTES_MAX,
    RUN_BYTES_MAX, SAMPLE_ENTRIES_MAX,
};
use gristmill_proto::chunks::{self, CHUNK_BYTES};
use gristmill_proto::ids::{BlockId, ClusterId, Generation, WorkerId};
use gristmill_proto::messages::write_block::Stage;
use gristmill_proto::messages::{Ack, BlockToken, Hop, Packet, Reply, Request, WriteBlock, request};
use gristmill_proto::passage::{GATEWAY_AUDIENCE, PASSAGE_HEADER_BYTES_MAX, Passage};
use gristmill_proto::{PROTOCOL_VERSION, handover};
use prost::Message;

const CLUSTER: ClusterId = ClusterId([0x00, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
const DATA: &[u8; 17] = b"Gristmill grinds\n";
const EXPIRES_MS: u64 = 1_900_000_000_000;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    fs::read_to_string(path).expect("the page is there")
}

/// The bytes of a dump, the block of the page that begins with "```text NAME". A line is the offset, the bytes, and
/// after a bar what they mean.
fn dump(name: &str) -> Vec<u8> {
    let page = page();
    let fence = format!("```text {name}\n");
    let (_, after) = page.split_once(&fence).unwrap_or_else(|| panic!("the page has no dump {name}"));
    let (lines, _) = after.split_once("```").expect("it ends");
    let mut bytes = Vec::new();
    for line in lines.lines() {
        let mut words = line.split('|').next().unwrap_or_default().split_whitespace();
        let offset = words.next().unwrap_or_default();
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{name}: {line}");
        bytes.extend(words.map(|byte| u8::from_str_radix(byte, 16).expect("a byte")));
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).enumerate();
    lines.map(|(line, bytes)| format!("{:04x} {bytes:02x?}\n", line * 16)).collect()
}

#[track_caller]
fn assert_dump(name: &str, bytes: &[u8]) {
    assert_eq!(hex(&dump(name)), hex(bytes), "docs/protocol.md, dump {name}");
}

fn secret() -> Secret {
    Secret::from_bytes(b"0123456789abcdef0123456789abcdef").unwrap()
}

fn token() -> BlockToken {
    BlockToken {
        cluster_id: CLUSTER.0.to_vec().into(),
        epoch: 7,
        block: 1001,
        generation: 2002,
        operations: Operation::Write.bit(),
        expires_ms: EXPIRES_MS,
        user: "ann".to_owned(),
    }
}

fn request() -> Request {
    let next = vec![Hop { worker: 2, address: "10.0.0.2:7072".to_owned() }];
    let write = WriteBlock {
        block: 1001,
        generation: 2002,
        stage: Stage::Create.into(),
        next,
        ..WriteBlock::default()
    };
    let token = BlockKey::from_secret(&secret(), CLUSTER).sign(&token());
    Request { token: token.into(), operation: Some(request::Operation::WriteBlock(write)) }
}

fn frame(kind: FrameKind, header: &impl Message, body: &[&[u8]]) -> Vec<u8> {
    let mut wire = Vec::new();
    bulk::write_frame(&mut wire, kind, 1, header, body).unwrap();
    wire
}

#[test]
fn the_write_is_as_the_page_shows_it() {
    assert_dump("request", &frame(FrameKind::Request, &request(), &[]));
    let reply = Reply { chunk_bytes: CHUNK_BYTES as u32, ..Reply::default() };
    assert_dump("reply", &frame(FrameKind::Reply, &reply, &[]));
    let mut sums = Vec::new();
    chunks::append_sums(DATA, &mut sums);
    let packet = Packet { sequence: 1, bytes: DATA.len() as u32, last: true, ..Packet::default() };
    assert_dump("packet", &frame(FrameKind::Packet, &packet, &[&sums, DATA]));
    let ack = Ack { sequence: 1, ..Ack::default() };
    assert_dump("ack", &frame(FrameKind::Ack, &ack, &[]));
}

#[test]
fn the_token_on_the_page_allows_the_write() {
    let wire = dump("request");
    let mut scratch = Vec::new();
    let head = bulk::read_frame_head(&mut &wire[..], &mut scratch).unwrap().unwrap();
    let found: Request = head.header().unwrap();
    let (block, generation) = (BlockId(1001), Generation(2002));
    let operation = Operation::Write;
    let want = Wanted { cluster: CLUSTER, block, generation, operation, now_ms: EXPIRES_MS - 1 };
    let key = BlockKey::from_secret(&secret(), CLUSTER);
    assert_eq!(key.verify(&found.token, &want).unwrap(), token());
}

#[test]
fn the_caller_token_on_the_page_opens_a_stream() {
    let page = page();
    let (_, after) = page.split_once("gristmill-token: ").expect("the page has a caller token");
    let token = after.split_whitespace().next().unwrap();
    secret().check_caller(token, Role::Client, "namespace", EXPIRES_MS - 1).unwrap();
    assert_eq!(CALLER_TOKEN_METADATA, "gristmill-token");
}

#[test]
fn the_passage_on_the_page_opens_a_way() {
    let wire = dump("passage");
    let passage = Passage::decode(&wire).unwrap();
    assert_eq!(passage.worker, WorkerId(2));
    secret().check_caller_bytes(&passage.token, Role::Client, GATEWAY_AUDIENCE, EXPIRES_MS - 1).unwrap();
    let mut written = Vec::new();
    passage.write(&mut written).unwrap();
    assert_dump("passage", &written);
    assert_dump("passage-reply", &frame(FrameKind::Reply, &Reply::default(), &[]));
    let page = page();
    assert!(
        page.contains(&format!("at most {} bytes of header", shown(u64::from(PASSAGE_HEADER_BYTES_MAX))))
    );
}

/// A number as the page writes it.
fn shown(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[test]
fn the_numbers_on_the_page_are_those_of_the_code() {
    let page = page();
    for (what, number) in [
        ("version of the frames", u64::from(FRAME_VERSION)),
        ("version of the messages", u64::from(PROTOCOL_VERSION)),
        ("head of a frame, bytes", HEAD_BYTES as u64),
        ("header of a frame, bytes at most", u64::from(HEADER_BYTES_MAX)),
        ("body of a packet, bytes at most", u64::from(BODY_BYTES_MAX)),
        ("data in a packet, bytes at most", u64::from(PACKET_BYTES_MAX)),
        ("bytes of a run file in a frame, at most", u64::from(RUN_BYTES_MAX)),
        ("entries of an index sample, at most", u64::from(SAMPLE_ENTRIES_MAX)),
        ("chunk, bytes", CHUNK_BYTES),
        ("token, bytes at most", TOKEN_BYTES_MAX as u64),
        ("life of a block token, ms", BLOCK_TOKEN_LIFETIME_MS),
        ("life of a caller token, ms", CALLER_TOKEN_LIFETIME_MS),
        ("life of a job token, ms", JOB_TOKEN_LIFETIME_MS),
        ("life of a shuffle token, ms", SHUFFLE_TOKEN_LIFETIME_MS),
        ("byte that carries descriptors", u64::from(handover::MARK)),
    ] {
        let row = format!("| {what} | {} |", shown(number));
        assert!(page.contains(&row), "docs/protocol.md has no row {row:?}");
    }
    for kind in FrameKind::ALL {
        let row = format!("| {} | {kind:?} | `{kind:?}` |", kind as u32);
        assert!(page.contains(&row), "docs/protocol.md has no row {row:?}");
    }
}
