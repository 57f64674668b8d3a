//! A connection to the shuffle listener of a worker that has map outputs.

use super::fault::Fault;
use super::keep::CONNECT_TIMEOUT;
use super::run_bytes::{BUFFER_BYTES, FRAME_TIMEOUT, RunBytesReader};
use super::work::Wanted;
use gristmill_process::connect::connect;
use gristmill_process::inbound::{Inbound, Stop};
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{Reply, Request};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// Requests are numbered; answers come in their order.
pub(super) struct HolderConnection {
    address: String,
    stream: Arc<TcpStream>,
    inbound: Inbound<Arc<TcpStream>>,
    asked: u64,
    answered: u64,
}

impl HolderConnection {
    pub(super) fn connect(address: String, stop: Stop) -> Result<Self, Fault> {
        match connect(&address, Instant::now() + CONNECT_TIMEOUT, FRAME_TIMEOUT) {
            Ok(stream) => {
                let stream = Arc::new(stream);
                let inbound = Inbound::new(Arc::clone(&stream), BUFFER_BYTES).until(stop);
                Ok(Self { address, stream, inbound, asked: 0, answered: 0 })
            }
            Err(source) => Err(Fault::of_opening(source, |source| Fault::Connect { address, source })),
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request, ahead of the answers to those before.
    pub(super) fn ask(&mut self, token: &[u8], operation: Operation) -> Result<(), Fault> {
        self.asked += 1;
        let request = Request { token: token.to_vec().into(), operation: Some(operation) };
        bulk::write_frame(&mut &*self.stream, FrameKind::Request, self.asked, &request, &[])
            .map_err(|source| Fault::Ask { address: self.address.clone(), source })
    }

    /// The answer to the oldest request without one; a failure in it is an error.
    pub(super) fn answer(&mut self) -> Result<Reply, Fault> {
        self.answered += 1;
        let address = || self.address.clone();
        let failed = |source| Fault::Answer { address: address(), source };
        let head = self.inbound.frame(Instant::now() + FRAME_TIMEOUT).map_err(failed)?;
        let head = head.ok_or_else(|| Fault::Ended { address: address() })?;
        let reply: Reply = match head.kind {
            FrameKind::Reply => head.header().map_err(failed)?,
            _ => return Err(Fault::Mismatch { address: address(), what: "another kind of frame" }),
        };
        let ours = head.request_id == self.answered;
        match reply.failure {
            // A listener that refuses the connection itself knows of no request.
            Some(failure) if ours || head.request_id == 0 => {
                Err(Fault::Refused { address: address(), failure })
            }
            None if ours => Ok(reply),
            _ => Err(Fault::Mismatch { address: address(), what: "another request" }),
        }
    }

    /// Receives bytes of a run file that a reply has announced.
    pub(super) fn run_bytes(&mut self, offset: u64, bytes: u64) -> RunBytesReader<'_> {
        RunBytesReader::new(&mut self.inbound, self.answered, offset, bytes)
    }

    /// That a reply is about what was asked, and the same as what the map attempt has told the master.
    pub(super) fn check_output(
        &self,
        wanted: &Wanted,
        output: Option<&gristmill_proto::task::AttemptId>,
        digest: &[u8],
    ) -> Result<(), Fault> {
        let mismatch = |what| Err(Fault::Mismatch { address: self.address.clone(), what });
        if output != Some(&wanted.output.to_wire()) {
            return mismatch("another map output");
        }
        if !wanted.digest.is_empty() && wanted.digest != digest {
            return mismatch("another digest than the map attempt has told the master");
        }
        Ok(())
    }

    /// Ends it: the other side need not wait.
    pub(super) fn close(self) {
        if let Err(error) = self.stream.shutdown(Shutdown::Both) {
            tracing::debug!(address = self.address, %error, "a shuffle connection was over already");
        }
    }
}
