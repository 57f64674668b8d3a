//! A replica on this machine, read from its files: the worker only opens them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::chunks::{self, CHUNK_BYTES, SUM_BYTES};
use gristmill_proto::handover::{self, ReplicaFiles};
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{OpenLocal, Request};
use gristmill_proto::namespace::LocatedBlock;

use super::errors::TransferError;
use super::pipeline::{read_reply, refused};
use super::verified::ChunkSource;
use crate::datanode::block_store::SUMS_START;

/// Replicas kept open: two descriptors each, and the checksums.
const OPEN_MAX: usize = 64;

/// Bytes read from the file at a time. The kernel copies them half as fast again as it does 256 KiB (Linux 6.18, AMD Zen 4).
const STEP_BYTES: u64 = 1 << 20;
const _: () = assert!(STEP_BYTES.is_multiple_of(CHUNK_BYTES));

const DOING: &str = "opening a replica of this machine";

/// The replicas of this machine that were read lately, the latest last.
#[derive(Default)]
pub(crate) struct LocalReplicas(Mutex<Vec<Arc<LocalReplica>>>);

/// The open files of a replica.
pub(crate) struct LocalReplica {
    block: u64,
    generation: u64,
    bytes: u64,
    data: File,
    /// Of all chunks.
    sums: Vec<u8>,
}

/// One read of a local replica.
pub(crate) struct LocalRead {
    replica: Arc<LocalReplica>,
    at: u64,
    end: u64,
}

impl LocalReplicas {
    /// The chunks of `bytes` bytes from `offset` on, from an open replica or one that the worker at `socket` opens.
    pub(crate) fn open(
        &self,
        block: &LocatedBlock,
        socket: &str,
        offset: u64,
        bytes: u64,
        timeout: Duration,
    ) -> Result<LocalRead, TransferError> {
        let replica = match self.take(block) {
            Some(replica) => replica,
            None => Arc::new(LocalReplica::open(block, socket, timeout)?),
        };
        let wanted = offset + bytes;
        if replica.bytes < wanted {
            return Err(TransferError::EndedEarly { offset: replica.bytes });
        }
        // To the end of the last chunk, which is verified whole.
        let end = wanted.next_multiple_of(CHUNK_BYTES).min(replica.bytes);
        self.keep(replica.clone());
        Ok(LocalRead { replica, at: offset - offset % CHUNK_BYTES, end })
    }

    /// Closes the files of a block that could not be read.
    pub(crate) fn forget(&self, block: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|replica| replica.block != block);
    }

    fn take(&self, block: &LocatedBlock) -> Option<Arc<LocalReplica>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |replica: &Arc<LocalReplica>| {
            (replica.block, replica.generation) == (block.block, block.generation)
        };
        let at = open.iter().rposition(is)?;
        Some(open.remove(at))
    }

    fn keep(&self, replica: Arc<LocalReplica>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| other.block != replica.block);
        if open.len() == OPEN_MAX {
            open.remove(0);
        }
        open.push(replica);
    }
}

impl LocalReplica {
    fn open(block: &LocatedBlock, socket: &str, timeout: Duration) -> Result<LocalReplica, TransferError> {
        let stream = UnixStream::connect(socket).map_err(TransferError::Connect)?;
        let failed = |source| TransferError::Io { doing: DOING, source };
        stream.set_read_timeout(Some(timeout)).map_err(failed)?;
        stream.set_write_timeout(Some(timeout)).map_err(failed)?;
        let open = OpenLocal { block: block.block, generation: block.generation };
        let request = Request { token: block.token.clone(), operation: Some(Operation::OpenLocal(open)) };
        bulk::write_frame(&mut &stream, FrameKind::Request, 1, &request, &[]).map_err(failed)?;
        let reply = read_reply(&stream, timeout)?;
        if let Some(failure) = reply.failure {
            return Err(refused(failure));
        }
        if u64::from(reply.chunk_bytes) != CHUNK_BYTES {
            return Err(TransferError::Protocol("another size of chunks"));
        }
        let ReplicaFiles { data, sums: sum_file } =
            handover::receive_files(&stream).map_err(|error| failed(io::Error::other(error)))?;
        // The memory for the sums is 4096 times less than what is really in the data file.
        if data.metadata().map_err(failed)?.len() < reply.bytes {
            return Err(TransferError::EndedEarly { offset: reply.bytes });
        }
        let mut sums = vec![0; chunks::sums_bytes(reply.bytes) as usize];
        sum_file.read_exact_at(&mut sums, SUMS_START).map_err(failed)?;
        Ok(LocalReplica { block: block.block, generation: block.generation, bytes: reply.bytes, data, sums })
    }
}

impl ChunkSource for LocalRead {
    fn available(&mut self) -> Result<u64, TransferError> {
        Ok((self.end - self.at).min(STEP_BYTES))
    }

    fn take(&mut self, into: &mut [u8]) -> Result<(), TransferError> {
        let read = self.replica.data.read_exact_at(into, self.at);
        read.map_err(|source| TransferError::Io { doing: "reading a replica of this machine", source })?;
        let first = (self.at / CHUNK_BYTES * SUM_BYTES) as usize;
        let count = chunks::sums_bytes(into.len() as u64) as usize;
        chunks::verify(into, &self.replica.sums[first..first + count])
            .map_err(|bad| TransferError::Corrupt { offset: self.at + bad.index * CHUNK_BYTES })?;
        self.at += into.len() as u64;
        Ok(())
    }
}
