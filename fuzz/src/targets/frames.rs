//! Bulk frames that come over a connection, with their headers, packets and sums.

use super::Target;
use crate::input::Input;
use crate::mending;
use gristmill_proto::bulk::{
    FrameError, FrameHead, FrameKind, HEADER_BYTES_MAX, read_body, read_frame_head, write_frame_head,
};
use gristmill_proto::chunks::{self, CHUNK_BYTES};
use gristmill_proto::messages::{Ack, Broken, Packet, Reply, Request, RunBytes};
use prost::Message;
use std::fmt::Debug;

pub(super) const TARGET: Target = Target {
    name: "frames",
    input_bytes_max: 4096,
    memory_bytes: HEADER_BYTES_MAX as usize + (64 << 10),
    memory_bytes_per_byte: 400,
    run,
};

/// One byte: whether to mend the frames. The rest comes over the wire.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mend = input.byte() & 1 == 1;
    let mut wire = input.rest().to_vec();
    if mend {
        mending::frames(&mut wire);
    }
    let (mut left, mut scratch) = (&wire[..], Vec::new());
    loop {
        match read_frame_head(&mut left, &mut scratch) {
            Ok(None) => return assert!(left.is_empty()),
            Ok(Some(head)) => {
                check_header(&head);
                if !take_body(&head, &mut left) {
                    return;
                }
            }
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
        assert!(scratch.capacity() <= HEADER_BYTES_MAX as usize);
    }
}

fn check_header(head: &FrameHead) {
    assert!(head.body_bytes <= head.kind.body_bytes_max());
    match head.kind {
        FrameKind::Request => check_message::<Request>(head),
        FrameKind::Reply => check_message::<Reply>(head),
        FrameKind::Packet => check_message::<Packet>(head),
        FrameKind::Ack => check_message::<Ack>(head),
        FrameKind::Broken => check_message::<Broken>(head),
        FrameKind::RunBytes => check_message::<RunBytes>(head),
    }
}

/// A header that is understood is written and read again as the same; one that is not is said to be of its kind.
fn check_message<M: Message + Default + PartialEq + Debug>(head: &FrameHead) {
    match head.header::<M>() {
        Ok(message) => {
            let mut wire = Vec::new();
            write_frame_head(&mut wire, head.kind, head.request_id, &message, head.body_bytes)
                .expect("it fitted before");
            let mut scratch = Vec::new();
            let again = read_frame_head(&mut &wire[..], &mut scratch).expect("a frame").expect("a frame");
            assert_eq!(
                (again.kind, again.request_id, again.body_bytes),
                (head.kind, head.request_id, head.body_bytes)
            );
            assert_eq!(again.header::<M>().expect("it was written"), message);
        }
        Err(error) => {
            let kind = format!("{:?}", head.kind);
            assert!(error.to_string().contains(&kind), "{error}");
        }
    }
}

/// Takes the body of a frame as a worker would; false if it does not come.
fn take_body(head: &FrameHead, left: &mut &[u8]) -> bool {
    if head.body_bytes as usize > left.len() {
        // Those who read it have a buffer of the greatest size; a target would clear it each time.
        let mut body = vec![0; left.len() + 1];
        let error = read_body(left, &mut body).expect_err("there are not so many");
        assert!(matches!(error, FrameError::Truncated { part: "body", .. }), "{error}");
        return false;
    }
    let mut body = vec![0; head.body_bytes as usize];
    read_body(left, &mut body).expect("it is there");
    if let Ok((packet, sums_bytes)) = head.packet() {
        assert_eq!(head.kind, FrameKind::Packet);
        let (sums, data) = body.split_at(sums_bytes as usize);
        assert_eq!(data.len() as u64, u64::from(packet.bytes));
        assert!(packet.offset.is_multiple_of(CHUNK_BYTES) && packet.offset <= u64::MAX - data.len() as u64);
        let mut right = Vec::new();
        chunks::append_sums(data, &mut right);
        assert_eq!(chunks::verify(data, sums).is_ok(), right == sums);
    }
    true
}
