//! Bytes of a run file on their way: frames of kind RunBytes, one after the other, without a gap.

use gristmill_process::inbound::Inbound;
use gristmill_process::outbound::{send_file, send_more};
use gristmill_proto::bulk::{self, FrameError, FrameKind};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::{Broken, BulkFailure, RunBytes};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Bytes of one frame: the cost of its head vanishes, and a broken one says so soon.
const FRAME_BYTES: u64 = 1 << 20;
const _: () = assert!(FRAME_BYTES <= bulk::RUN_BYTES_MAX as u64);

/// One frame of at most 4 MiB must have come by then, or a byte be taken.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// What comes from a connection goes through a buffer of this, which holds many small parts: a call for each would cost
/// more than they do.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// Why bytes of a run file do not come.
#[derive(Debug, Error)]
pub(super) enum RunBytesError {
    #[error("the connection failed")]
    Frame(#[from] FrameError),
    #[error("the connection ended")]
    Ended,
    #[error("bytes of a run file that do not follow the ones before: {what}")]
    OutOfStep { what: &'static str },
    #[error("the other side cannot go on: {}", .0.detail)]
    Broken(BulkFailure),
}

/// Receives so many bytes of a run file, from an offset on.
pub(super) struct RunBytesReader<'a> {
    inbound: &'a mut Inbound<Arc<TcpStream>>,
    request_id: u64,
    offset: u64,
    left: u64,
    left_in_frame: u32,
}

impl<'a> RunBytesReader<'a> {
    pub(super) fn new(
        inbound: &'a mut Inbound<Arc<TcpStream>>,
        request_id: u64,
        offset: u64,
        bytes: u64,
    ) -> Self {
        Self { inbound, request_id, offset, left: bytes, left_in_frame: 0 }
    }

    /// What is still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Fills `buffer`, which is no longer than what is left.
    pub(super) fn read(&mut self, mut buffer: &mut [u8]) -> Result<(), RunBytesError> {
        while !buffer.is_empty() {
            if self.left_in_frame == 0 {
                self.next_frame()?;
            }
            let now = buffer.len().min(self.left_in_frame as usize);
            let (piece, rest) = buffer.split_at_mut(now);
            self.inbound.body(piece)?;
            self.left_in_frame -= now as u32;
            self.offset += now as u64;
            self.left -= now as u64;
            buffer = rest;
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Result<(), RunBytesError> {
        let head = self.inbound.frame(Instant::now() + FRAME_TIMEOUT)?.ok_or(RunBytesError::Ended)?;
        let out_of_step = |what| Err(RunBytesError::OutOfStep { what });
        if head.request_id != self.request_id {
            return out_of_step("they belong to another request");
        }
        match head.kind {
            FrameKind::RunBytes => {}
            FrameKind::Broken => {
                let broken: Broken = head.header()?;
                return match broken.failure {
                    Some(failure) => Err(RunBytesError::Broken(failure)),
                    None => out_of_step("a break without a reason"),
                };
            }
            _ => return out_of_step("another kind of frame"),
        }
        let header: RunBytes = head.header()?;
        let bytes = u64::from(head.body_bytes);
        if header.offset != self.offset {
            return out_of_step("another offset");
        }
        if bytes == 0 || bytes > self.left || header.last != (bytes == self.left) {
            return out_of_step("another length");
        }
        self.left_in_frame = head.body_bytes;
        Ok(())
    }
}

/// Sends a range of a file as it is, after `first` (frames that go before it), to whoever asked with `request_id`. `go_on` is asked
/// before each frame; if it refuses, that is what the receiver is told, and the connection is as good as before.
pub(super) fn send_run_bytes(
    stream: &Arc<TcpStream>,
    request_id: u64,
    first: Vec<u8>,
    (file, mut offset, bytes): (&File, u64, u64),
    go_on: impl Fn() -> Result<(), BulkFailure>,
) -> io::Result<()> {
    let end = offset + bytes;
    let mut out = first;
    while offset < end {
        if let Err(failure) = go_on() {
            let broken = Broken { failure: Some(failure), offset };
            bulk::write_frame(&mut out, FrameKind::Broken, request_id, &broken, &[])?;
            break;
        }
        let now = FRAME_BYTES.min(end - offset);
        let header = RunBytes { offset, last: offset + now == end };
        bulk::write_frame_head(&mut out, FrameKind::RunBytes, request_id, &header, now as u32)?;
        send_more(stream, &out)?;
        out.clear();
        send_file(stream, file, offset, now)?;
        offset += now;
    }
    (&mut &**stream).write_all(&out)
}

/// Why a file ends before its end, if `error` is that.
pub(super) fn is_short_file(error: &io::Error) -> bool {
    error.kind() == ErrorKind::UnexpectedEof
}

/// What kind of failure `failure` tells of.
pub(super) fn kind_of(failure: &BulkFailure) -> Kind {
    Kind::try_from(failure.kind).unwrap_or(Kind::Unspecified)
}
