//! The first frame of a connection that goes to a worker through the master's port (`docs/protocol.md`, section 14).
//!
//! ```text
//!   client ── Request { token, Passage { worker } } ──> master ── connects ──> worker
//!          <───────────────── Reply ────────────────────┘
//!          <──────────────── bytes, as they are ───────────────────────────────┘
//! ```

use std::io::{self, Write};

use prost::bytes::Bytes;
use thiserror::Error;

use crate::bulk::{self, FrameError, FrameKind, HEAD_BYTES};
use crate::ids::WorkerId;
use crate::messages;
use crate::messages::Request;
use crate::messages::request::Operation;

/// The service that a caller token for a passage names.
pub const GATEWAY_AUDIENCE: &str = "gateway";
/// Most bytes of the header of such a frame: a token of the longest kind and the number of a worker fit twice. Whoever
/// connects costs the master no more until the token was checked.
pub const PASSAGE_HEADER_BYTES_MAX: u32 = 2 << 10;
/// The id of the request: it is the only one of its connection that the master sees.
pub const PASSAGE_REQUEST_ID: u64 = 1;

/// Which worker is wanted, and what proves that the caller may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The worker whose bulk listener is wanted.
    pub worker: WorkerId,
    /// An encoded caller token for [`GATEWAY_AUDIENCE`]; empty where the cluster has no secret.
    pub token: Bytes,
}

/// Why the first frame of a connection opens no passage.
#[derive(Debug, Error)]
pub enum PassageError {
    /// It is no frame.
    #[error("no frame")]
    Frame(#[from] FrameError),
    /// It is one, and asks for something else.
    #[error(
        "this port leads to workers and does nothing else with bulk frames: a request for a passage comes first"
    )]
    NoPassage,
}

impl Passage {
    /// Writes the frame.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let passage = messages::Passage { worker: self.worker.0 };
        let request = Request { token: self.token.clone(), operation: Some(Operation::Passage(passage)) };
        bulk::write_frame(out, FrameKind::Request, PASSAGE_REQUEST_ID, &request, &[])
    }

    /// How many bytes follow the head of the frame: read them, then [`Passage::decode`] head and header.
    pub fn header_bytes(head: &[u8; HEAD_BYTES]) -> Result<usize, PassageError> {
        Ok(bulk::header_bytes(head, PASSAGE_HEADER_BYTES_MAX)? as usize)
    }

    /// What a whole frame says.
    pub fn decode(frame: &[u8]) -> Result<Passage, PassageError> {
        let (mut left, mut scratch) = (frame, Vec::new());
        let head = bulk::read_frame_head(&mut left, &mut scratch)?.ok_or(PassageError::NoPassage)?;
        if head.kind != FrameKind::Request || head.request_id != PASSAGE_REQUEST_ID || !left.is_empty() {
            return Err(PassageError::NoPassage);
        }
        match head.header::<Request>()? {
            Request { token, operation: Some(Operation::Passage(passage)) } => {
                Ok(Passage { worker: WorkerId(passage.worker), token })
            }
            _ => Err(PassageError::NoPassage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TOKEN_BYTES_MAX;
    use crate::messages::{ReadBlock, Reply};

    fn passage() -> Passage {
        Passage { worker: WorkerId(u64::MAX), token: vec![7; TOKEN_BYTES_MAX].into() }
    }

    fn written(passage: &Passage) -> Vec<u8> {
        let mut frame = Vec::new();
        passage.write(&mut frame).unwrap();
        frame
    }

    #[test]
    fn the_longest_passage_comes_back_as_it_was_asked_for() {
        let frame = written(&passage());
        let header_bytes = Passage::header_bytes(frame.first_chunk().unwrap()).unwrap();
        assert_eq!(frame.len(), HEAD_BYTES + header_bytes);
        assert_eq!(Passage::decode(&frame).unwrap(), passage());
    }

    #[test]
    fn a_long_header_is_refused_by_its_head() {
        let too_long = Passage { token: vec![7; PASSAGE_HEADER_BYTES_MAX as usize].into(), ..passage() };
        let error = Passage::header_bytes(written(&too_long).first_chunk().unwrap()).unwrap_err();
        let PassageError::Frame(FrameError::HeaderTooLong { max, .. }) = error else { panic!("{error}") };
        assert_eq!(max, PASSAGE_HEADER_BYTES_MAX);
    }

    #[test]
    fn nothing_else_opens_a_passage() {
        let mut frames = vec![Vec::new(), b"GET / HTTP/1.1\r\nHost: here.example\r\n\r\n".to_vec()];
        let read =
            Request { operation: Some(Operation::ReadBlock(ReadBlock::default())), ..Request::default() };
        for (kind, id) in
            [(FrameKind::Request, PASSAGE_REQUEST_ID), (FrameKind::Request, 2), (FrameKind::Reply, 1)]
        {
            let mut frame = Vec::new();
            bulk::write_frame(&mut frame, kind, id, &read, &[]).unwrap();
            frames.push(frame);
        }
        let mut reply = Vec::new();
        bulk::write_frame(&mut reply, FrameKind::Reply, PASSAGE_REQUEST_ID, &Reply::default(), &[]).unwrap();
        frames.push(reply);
        let mut with_more = written(&passage());
        with_more.push(0);
        frames.push(with_more);
        for frame in frames {
            assert!(Passage::decode(&frame).is_err(), "{}", frame.escape_ascii());
        }
    }

    #[test]
    fn every_bit_of_the_frame_counts() {
        let frame = written(&Passage { worker: WorkerId(3), token: vec![9; 40].into() });
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Passage::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
