//! The chain of workers that takes one block, under one generation: packets go in, acknowledgements come back.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gristmill_process::connect::shut;
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::ids::WorkerId;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::write_block::Stage;
use gristmill_proto::messages::{
    self, Ack, BulkFailure, Hop, Reply, Request, Spent, WriteBlock, bulk_failure,
};
use gristmill_proto::namespace::LocatedBlock;

use super::errors::{ReplicaFailure, TransferError};
use super::pace::PipelinePace;
use super::packing::Packet;
use super::route::Route;

/// The only request of its connection.
const REQUEST_ID: u64 = 1;
/// When sending fails the reason is often on its way back.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(1);
/// A slow worker is left out only where so many others have the block: durable copies are worth more than time.
const OTHERS_MIN: usize = 2;
/// The thread only moves acknowledgements.
const THREAD_STACK_BYTES: usize = 128 << 10;

/// How to open a pipeline for a block.
pub(crate) struct Opening<'a> {
    /// The block with its new generation, its workers in order, and the token.
    pub(crate) located: &'a LocatedBlock,
    pub(crate) stage: Stage,
    /// Of the replicas that are there; 0 if none are.
    pub(crate) generation_before: u64,
    /// Bytes of the replicas that are kept.
    pub(crate) offset: u64,
    /// The most that the block will have.
    pub(crate) block_bytes: u64,
    /// How long the workers may be silent.
    pub(crate) timeout: Duration,
    /// The way to the first worker; the others are reached from worker to worker.
    pub(crate) route: Route<'a>,
    /// It was slow to another worker too: the first one is not left out for it.
    pub(crate) is_way_in_slow: bool,
}

/// An open pipeline. Dropped, it is closed: what was not acknowledged may or may not be with the workers.
pub(crate) struct Pipeline {
    stream: TcpStream,
    /// In order.
    workers: Arc<[(WorkerId, String)]>,
    board: Arc<Board>,
    thread: Option<JoinHandle<()>>,
    timeout: Duration,
}

/// Where the thread that reads acknowledgements tells of them.
struct Board {
    acks: Mutex<Acks>,
    changed: Condvar,
}

struct Acks {
    /// The sequence after the last one that was acknowledged.
    next: u64,
    at: Instant,
    failure: Option<ReplicaFailure>,
}

impl Pipeline {
    /// Connects to the first worker and waits until all are ready. Packets are numbered from `first_sequence`.
    pub(crate) fn open(opening: &Opening<'_>, first_sequence: u64) -> Result<Pipeline, ReplicaFailure> {
        let Some((first, rest)) = opening.located.replicas.split_first() else {
            let cause = TransferError::Protocol("the master gave a pipeline without workers");
            return Err(ReplicaFailure { worker: WorkerId(0), address: String::new(), cause });
        };
        let blame = |worker: u64, cause| {
            let at =
                opening.located.replicas.iter().find(|replica| replica.worker == worker).unwrap_or(first);
            ReplicaFailure { worker: WorkerId(at.worker), address: at.address.clone(), cause }
        };
        let hop = |replica: &gristmill_proto::namespace::Replica| Hop {
            worker: replica.worker,
            address: replica.address.clone(),
        };
        let write = WriteBlock {
            block: opening.located.block,
            generation: opening.located.generation,
            stage: opening.stage.into(),
            generation_before: opening.generation_before,
            offset: opening.offset,
            next: rest.iter().map(hop).collect(),
            block_bytes: opening.block_bytes,
        };
        let request =
            Request { token: opening.located.token.clone(), operation: Some(Operation::WriteBlock(write)) };
        // Each further worker takes its time, and is to be named by the one before it before this side gives up.
        let ready_timeout = opening.timeout + opening.timeout / 2 * rest.len() as u32;
        let connected = opening.route.connect(WorkerId(first.worker), &first.address, ready_timeout);
        let opened = connected.and_then(|stream| {
            let doing = "asking for a pipeline";
            bulk::write_frame(&mut &stream, FrameKind::Request, REQUEST_ID, &request, &[])
                .map_err(|error| TransferError::io(doing, error, opening.timeout.as_millis() as u64))?;
            let reply = read_reply(&stream, ready_timeout)?;
            Ok((stream, reply))
        });
        let (stream, reply) = opened.map_err(|cause| blame(first.worker, cause))?;
        if let Some(failure) = reply.failure {
            return Err(blame(reply.failed_worker, refused(failure)));
        }
        let pipeline = Pipeline::start(stream, opening, first_sequence);
        pipeline.map_err(|source| blame(first.worker, TransferError::Io { doing: "starting", source }))
    }

    fn start(stream: TcpStream, opening: &Opening<'_>, first_sequence: u64) -> std::io::Result<Pipeline> {
        let further = opening.located.replicas.len() as u32 - 1;
        let timeout = opening.timeout + opening.timeout / 5 * further;
        stream.set_write_timeout(Some(timeout))?;
        // Silence is judged by who waits: nothing is owed while nothing is sent.
        stream.set_read_timeout(None)?;
        let replicas = opening.located.replicas.iter();
        let workers: Arc<[(WorkerId, String)]> =
            replicas.map(|replica| (WorkerId(replica.worker), replica.address.clone())).collect();
        let acks = Acks { next: first_sequence, at: Instant::now(), failure: None };
        let board = Arc::new(Board { acks: Mutex::new(acks), changed: Condvar::new() });
        let (input, told, known) = (stream.try_clone()?, board.clone(), workers.clone());
        let pace = PipelinePace::new(workers.iter().map(|(worker, _)| *worker));
        let judge = Judge { pace, is_way_in_slow: opening.is_way_in_slow };
        let thread = std::thread::Builder::new()
            .name("dfs-acks".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || read_acks(&input, &told, &known, judge))?;
        Ok(Pipeline { stream, workers, board, thread: Some(thread), timeout })
    }

    /// Sends a packet. An error is that of the worker to blame.
    pub(crate) fn send(&mut self, sequence: u64, packet: &Packet) -> Result<(), ReplicaFailure> {
        let header = messages::Packet {
            sequence,
            offset: packet.offset,
            bytes: packet.data.len() as u32,
            last: packet.last,
            sync: packet.sync,
        };
        let body: [&[u8]; 2] = [&packet.sums, &packet.data];
        let sent = bulk::write_frame(&mut &self.stream, FrameKind::Packet, REQUEST_ID, &header, &body);
        sent.map_err(|error| self.last_word(error))
    }

    /// The sequence after the last acknowledged one.
    pub(crate) fn acked(&self) -> u64 {
        self.board.lock().next
    }

    /// What broke the pipeline, once.
    pub(crate) fn failure(&self) -> Option<ReplicaFailure> {
        self.board.lock().failure.take()
    }

    /// Waits until `sequence`, sent at `sent_at`, is acknowledged, or until the workers have been silent for too long.
    pub(crate) fn wait_for(&self, sequence: u64, sent_at: Instant) -> Result<(), ReplicaFailure> {
        let mut acks = self.board.lock();
        loop {
            if acks.next > sequence {
                return Ok(());
            }
            if let Some(failure) = acks.failure.take() {
                return Err(failure);
            }
            let left = (acks.at.max(sent_at) + self.timeout).saturating_duration_since(Instant::now());
            if left.is_zero() {
                let waited_ms = self.timeout.as_millis() as u64;
                return Err(self.blame_first(TransferError::Silent { doing: "waiting for acks", waited_ms }));
            }
            acks = self.board.changed.wait_timeout(acks, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn last_word(&self, error: std::io::Error) -> ReplicaFailure {
        let deadline = Instant::now() + LAST_WORD_TIMEOUT;
        let mut acks = self.board.lock();
        while acks.failure.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            acks = self.board.changed.wait_timeout(acks, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let cause = TransferError::io("sending a packet", error, self.timeout.as_millis() as u64);
        acks.failure.take().unwrap_or_else(|| self.blame_first(cause))
    }

    fn blame_first(&self, cause: TransferError) -> ReplicaFailure {
        // A pipeline was opened with one at least.
        let (worker, address) = self.workers[0].clone();
        ReplicaFailure { worker, address, cause }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Wakes the thread.
        if let Err(error) = self.stream.shutdown(Shutdown::Both) {
            tracing::debug!(%error, "a pipeline was gone before it was closed");
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Acks> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the worker that holds up the others.
struct Judge {
    pace: PipelinePace,
    is_way_in_slow: bool,
}

impl Judge {
    /// The worker to go on without, now that another packet has cost so much.
    fn hear(&mut self, spent: &[Spent]) -> Option<(WorkerId, TransferError)> {
        self.pace.acknowledged(spent);
        let slow = self.pace.slow().filter(|_| spent.len() > OTHERS_MIN)?;
        if slow.by_the_way_in && self.is_way_in_slow {
            return None;
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (took_ms, others_ms) = (millis(slow.took), millis(slow.others));
        Some((slow.worker, TransferError::Slow { took_ms, others_ms, by_the_way_in: slow.by_the_way_in }))
    }
}

/// Tells the board of every acknowledgement, until the first failure or the end of the connection. A slow worker is a
/// failure; who is sending to it is woken.
fn read_acks(stream: &TcpStream, board: &Board, workers: &[(WorkerId, String)], mut judge: Judge) {
    let mut scratch = Vec::new();
    loop {
        let read = read_ack(stream, &mut scratch);
        let mut acks = board.lock();
        let (failed_worker, cause) = match read {
            Ok(Ack { sequence, failure: None, spent, .. }) if sequence == acks.next => {
                acks.next += 1;
                acks.at = Instant::now();
                match judge.hear(&spent) {
                    Some((slow, cause)) => {
                        shut(stream, Shutdown::Both);
                        (slow.0, cause)
                    }
                    None => {
                        drop(acks);
                        board.changed.notify_all();
                        continue;
                    }
                }
            }
            Ok(Ack { failure: Some(failure), failed_worker, .. }) => (failed_worker, refused(failure)),
            Ok(_) => (0, TransferError::Protocol("an acknowledgement out of turn")),
            Err(cause) => (0, cause),
        };
        let named = workers.iter().find(|(worker, _)| worker.0 == failed_worker);
        let (worker, address) = named.unwrap_or(&workers[0]).clone();
        acks.failure = Some(ReplicaFailure { worker, address, cause });
        drop(acks);
        board.changed.notify_all();
        return;
    }
}

fn read_ack(mut stream: &TcpStream, scratch: &mut Vec<u8>) -> Result<Ack, TransferError> {
    let doing = "reading acks";
    let head =
        bulk::read_frame_head(&mut stream, scratch).map_err(|error| TransferError::frame(doing, error, 0))?;
    match head {
        Some(head) if head.kind == FrameKind::Ack => Ok(head.header()?),
        Some(_) => Err(TransferError::Protocol("another frame where an acknowledgement should be")),
        None => Err(TransferError::Io { doing, source: std::io::ErrorKind::ConnectionAborted.into() }),
    }
}

/// The answer to a request, from a socket with a time-out for reading.
pub(crate) fn read_reply(mut stream: impl Read, timeout: Duration) -> Result<Reply, TransferError> {
    let doing = "waiting for a reply";
    let mut scratch = Vec::new();
    let head = bulk::read_frame_head(&mut stream, &mut scratch)
        .map_err(|error| TransferError::frame(doing, error, timeout.as_millis() as u64))?;
    match head {
        Some(head) if head.kind == FrameKind::Reply => Ok(head.header()?),
        Some(_) => Err(TransferError::Protocol("another frame where a reply should be")),
        None => Err(TransferError::Io { doing, source: std::io::ErrorKind::ConnectionAborted.into() }),
    }
}

/// What a worker says, as an error.
pub(crate) fn refused(failure: BulkFailure) -> TransferError {
    let kind = bulk_failure::Kind::try_from(failure.kind).unwrap_or(bulk_failure::Kind::Unspecified);
    TransferError::Refused { kind, detail: failure.detail }
}
