//! A replica copied to other workers, by order of the master: verified as it is read, so that damage does not spread.
//! (Hadoop: DataTransfer)

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gristmill_proto::attendance::Replicate;
use gristmill_proto::chunks::{self, BadChunk, CHUNK_BYTES};
use gristmill_proto::ids::{BlockId, Generation};
use gristmill_proto::messages::write_block::Stage;
use gristmill_proto::messages::{self, Packet, WriteBlock};
use thiserror::Error;

use super::block_store::{ReplicaError, ReplicaReader};
use super::failure::TransferFailure;
use super::hop::{Hop, HopAcks, HopSender};
use super::serve_read::READ_PACKET_BYTES;
use super::server::Service;

/// Packets sent and not yet acked: enough for the network and the disk at the other end to work at once.
const IN_FLIGHT_MAX: usize = 8;

/// Why a replica was not copied.
#[derive(Debug, Error)]
pub(crate) enum CopyError {
    #[error("an order to copy {block} to nobody")]
    NoTargets { block: BlockId },
    #[error("cannot open the replica to copy")]
    Open(#[source] ReplicaError),
    #[error(
        "the replica of {block} here has {bytes} bytes under {generation}, the one to copy {wanted_bytes} under {wanted}"
    )]
    Another { block: BlockId, generation: Generation, bytes: u64, wanted: Generation, wanted_bytes: u64 },
    #[error("cannot read the sums of {block}")]
    Sums {
        block: BlockId,
        #[source]
        source: ReplicaError,
    },
    #[error("cannot read {block} at offset {offset}")]
    Data {
        block: BlockId,
        offset: u64,
        #[source]
        source: ReplicaError,
    },
    #[error("{block} is damaged behind offset {offset}")]
    Damaged {
        block: BlockId,
        offset: u64,
        #[source]
        source: BadChunk,
    },
    #[error("cannot send a packet of {block}")]
    Send {
        block: BlockId,
        #[source]
        source: io::Error,
    },
    #[error("{block} is not taken")]
    Target {
        block: BlockId,
        #[source]
        source: TransferFailure,
    },
}

/// Keeps all copies of a worker together below a rate.
pub(crate) struct Pace {
    bytes_per_s: u64,
    next: Mutex<Instant>,
}

impl Pace {
    /// 0: no limit.
    pub(crate) fn new(bytes_per_s: u64) -> Pace {
        Pace { bytes_per_s, next: Mutex::new(Instant::now()) }
    }

    /// When `bytes` more may go: the caller waits until then.
    fn reserve(&self, bytes: u64, now: Instant) -> Duration {
        if self.bytes_per_s == 0 {
            return Duration::ZERO;
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*next).max(now);
        *next = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        start - now
    }
}

/// Copies the replica of the order to its targets, which pass it on one to the next.
pub(crate) fn copy(service: &Service, pace: &Pace, order: &Replicate) -> Result<(), CopyError> {
    let (block, wanted) = (BlockId(order.block), Generation(order.generation));
    if order.targets.is_empty() {
        return Err(CopyError::NoTargets { block });
    }
    let reader = service.store.read(block, wanted).map_err(CopyError::Open)?;
    let (generation, bytes) = (reader.generation(), reader.bytes());
    if generation != wanted || bytes != order.bytes {
        return Err(CopyError::Another { block, generation, bytes, wanted, wanted_bytes: order.bytes });
    }
    let targets = order.targets.iter();
    let next = targets.map(|to| messages::Hop { worker: to.worker, address: to.address.clone() }).collect();
    let write = WriteBlock {
        block: order.block,
        generation: order.generation,
        stage: Stage::Copy as i32,
        next,
        block_bytes: bytes,
        ..WriteBlock::default()
    };
    let token: Bytes = order.token.clone();
    let ready = Hop::open(&token, &write, &service.options).and_then(Hop::ready);
    let (sender, acks) = ready.map_err(|source| CopyError::Target { block, source })?;
    let timeout = service.options.pipeline_ack_timeout(order.targets.len());
    let owed = VecDeque::with_capacity(IN_FLIGHT_MAX);
    let copied = Copying { block, reader, sender, acks, owed, timeout }.run(pace);
    if matches!(copied, Err(CopyError::Damaged { .. } | CopyError::Sums { .. } | CopyError::Data { .. })) {
        service.doubt(block, generation);
    }
    copied
}

struct Copying {
    block: BlockId,
    reader: ReplicaReader,
    sender: HopSender,
    acks: HopAcks,
    /// Packets not yet acked, and when they were sent.
    owed: VecDeque<(u64, Instant)>,
    timeout: Duration,
}

impl Copying {
    fn run(mut self, pace: &Pace) -> Result<(), CopyError> {
        let block = self.block;
        let end = self.reader.bytes();
        let mut body = Vec::new();
        let (mut sequence, mut offset) = (0, 0);
        loop {
            let bytes = READ_PACKET_BYTES.min(end - offset);
            let last = offset + bytes == end;
            let packet = Packet { sequence, offset, bytes: bytes as u32, last, sync: false };
            self.read(&packet, &mut body)?;
            std::thread::sleep(pace.reserve(bytes, Instant::now()));
            if let Err(source) = self.sender.send(&packet, &body) {
                // Why, the target has most often said already.
                while !self.owed.is_empty() {
                    self.wait_oldest()?;
                }
                return Err(CopyError::Send { block, source });
            }
            self.owed.push_back((sequence, Instant::now()));
            while !self.owed.is_empty() && (last || self.owed.len() >= IN_FLIGHT_MAX) {
                self.wait_oldest()?;
            }
            if last {
                return Ok(());
            }
            offset += bytes;
            sequence += 1;
        }
    }

    /// Reads the packet's sums and data, and verifies them.
    fn read(&self, packet: &Packet, body: &mut Vec<u8>) -> Result<(), CopyError> {
        let (block, offset, bytes) = (self.block, packet.offset, u64::from(packet.bytes));
        body.clear();
        self.reader
            .read_sums(offset / CHUNK_BYTES, bytes.div_ceil(CHUNK_BYTES), body)
            .map_err(|source| CopyError::Sums { block, source })?;
        let sums_bytes = body.len();
        body.resize(sums_bytes + packet.bytes as usize, 0);
        let (sums, data) = body.split_at_mut(sums_bytes);
        self.reader.read_data(offset, data).map_err(|source| CopyError::Data { block, offset, source })?;
        chunks::verify(data, sums).map_err(|source| CopyError::Damaged { block, offset, source })
    }

    fn wait_oldest(&mut self) -> Result<(), CopyError> {
        let block = self.block;
        let Some((sequence, sent)) = self.owed.pop_front() else { return Ok(()) };
        // The clock starts anew with each ack: the one before this has just come.
        let deadline = sent.max(Instant::now()) + self.timeout;
        self.acks.wait(sequence, deadline).map(drop).map_err(|source| CopyError::Target { block, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_together_keep_the_pace() {
        let pace = Pace::new(1 << 20);
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!(pace.reserve(1 << 19, now), Duration::ZERO);
        assert_eq!(pace.reserve(1 << 20, now), Duration::from_millis(500));
        assert_eq!(pace.reserve(1, now), Duration::from_millis(1500));
        // Time not used is not saved up.
        assert_eq!(pace.reserve(1, now + Duration::from_secs(60)), Duration::ZERO);
        assert_eq!(Pace::new(0).reserve(u64::MAX, now), Duration::ZERO);
    }
}
