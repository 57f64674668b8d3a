//! Acks of a write, on their way up the pipeline: a packet is acked when this worker has written it and the next acked it.
//!
//! ```text
//!   upstream ─ packets ─> receiving thread ─ packets ─────────────────────> the next worker
//!            <── acks ─── ack thread <─ written, in order ─ receiving thread      │
//!                                  <──────────────── acks ────────────────────────┘
//! ```
//!
//! The last worker has no ack thread: it acks as it writes.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use gristmill_process::connect::shut;
use gristmill_process::listener::THREAD_STACK_BYTES;
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::ids::WorkerId;
use gristmill_proto::messages::{Ack, Spent};

use super::failure::TransferFailure;
use super::hop::{HopAcks, HopError};

/// Packets written here and not yet acked by the next worker. A writer further ahead waits; no bytes are held for them.
const IN_FLIGHT_MAX: usize = 64;
/// When sending to the next worker fails it has most often said why, and that has arrived.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(1);

/// What became of a packet on this worker.
pub(crate) struct Done {
    pub(crate) sequence: u64,
    pub(crate) times: Times,
    pub(crate) outcome: Outcome,
}

/// When a packet was sent on, and what it took here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) forwarded: Instant,
    /// From its first byte to its last.
    pub(crate) receiving: Duration,
    pub(crate) storing: Duration,
}

pub(crate) enum Outcome {
    /// Written, and synced if that was asked for.
    Written,
    /// This worker is the one that failed.
    Failed(TransferFailure),
    /// It could not be sent to the next worker.
    NotForwarded(io::Error),
}

/// The acks of one block.
pub(crate) enum Acks {
    /// There is no further worker.
    Direct(AckSender),
    /// A thread waits for the next worker.
    Chained { done: SyncSender<Done>, broken: Arc<AtomicBool>, thread: JoinHandle<bool> },
}

/// Where acks go.
pub(crate) struct AckSender {
    pub(crate) upstream: Arc<TcpStream>,
    pub(crate) request_id: u64,
    /// This worker.
    pub(crate) worker: WorkerId,
}

impl Acks {
    /// Starts the acks of a block. `timeout` is how long `hop` may owe one.
    pub(crate) fn start(sender: AckSender, hop: Option<HopAcks>, timeout: Duration) -> io::Result<Acks> {
        let Some(hop) = hop else { return Ok(Acks::Direct(sender)) };
        let (done, queue) = mpsc::sync_channel(IN_FLIGHT_MAX);
        let broken = Arc::new(AtomicBool::new(false));
        let chain = Chain { sender, hop, timeout, queue, broken: Arc::clone(&broken) };
        let thread = Builder::new()
            .name("acks".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || chain.run())?;
        Ok(Acks::Chained { done, broken, thread })
    }

    /// Gives the next packet's outcome, in order. False: nobody is to be told more, the pipeline has failed.
    pub(crate) fn give(&self, done: Done) -> bool {
        match self {
            Acks::Direct(sender) => {
                let failure = match done.outcome {
                    Outcome::Written => None,
                    Outcome::Failed(failure) => Some(failure),
                    Outcome::NotForwarded(_) => unreachable!("the last worker forwards nothing"),
                };
                sender.send(done.sequence, failure, vec![sender.spent(&done.times)])
            }
            Acks::Chained { done: queue, .. } => queue.send(done).is_ok(),
        }
    }

    /// Whether the pipeline has failed further down, or upstream takes no acks.
    pub(crate) fn is_broken(&self) -> bool {
        match self {
            Acks::Direct(_) => false,
            Acks::Chained { broken, .. } => broken.load(Ordering::Acquire),
        }
    }

    /// Waits until all that was given is acked. False: it is not, the pipeline has failed.
    pub(crate) fn finish(self) -> bool {
        match self {
            Acks::Direct(_) => true,
            Acks::Chained { done, thread, .. } => {
                drop(done);
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        }
    }
}

impl AckSender {
    /// Sends an ack; false if it cannot be sent, or is one of failure: then it is the last.
    fn send(&self, sequence: u64, failure: Option<TransferFailure>, spent: Vec<Spent>) -> bool {
        let failed_worker = failure.as_ref().map_or(0, |failure| failure.worker_or(self.worker).0);
        let good = failure.is_none();
        if let Some(failure) = &failure {
            tracing::warn!(worker = failed_worker, error = %failure, "a write has failed");
        }
        let ack = Ack { sequence, failure: failure.map(TransferFailure::into_wire), failed_worker, spent };
        let sent = bulk::write_frame(&mut &*self.upstream, FrameKind::Ack, self.request_id, &ack, &[]);
        if let Err(error) = &sent {
            tracing::debug!(%error, "upstream takes no acks");
        }
        if !good {
            shut(&self.upstream, Shutdown::Write);
        }
        good && sent.is_ok()
    }

    fn spent(&self, times: &Times) -> Spent {
        let (storing_us, receiving_us) =
            (times.storing.as_micros() as u64, times.receiving.as_micros() as u64);
        Spent { worker: self.worker.0, storing_us, receiving_us }
    }
}

/// The ack thread's own.
struct Chain {
    sender: AckSender,
    hop: HopAcks,
    timeout: Duration,
    queue: Receiver<Done>,
    broken: Arc<AtomicBool>,
}

impl Chain {
    fn run(mut self) -> bool {
        let mut last_ack = Instant::now();
        while let Ok(done) = self.queue.recv() {
            let acked = match done.outcome {
                Outcome::Failed(failure) => Err(failure),
                Outcome::NotForwarded(source) => Err(self.last_word(done.sequence, source)),
                // The clock of the next worker starts when it has the packet and owes nothing older.
                Outcome::Written => {
                    let deadline = last_ack.max(done.times.forwarded) + self.timeout;
                    self.hop.wait(done.sequence, deadline)
                }
            };
            last_ack = Instant::now();
            let own = self.sender.spent(&done.times);
            let (failure, behind) = match acked {
                Ok(behind) => (None, behind),
                Err(failure) => (Some(failure), Vec::new()),
            };
            let spent = std::iter::once(own).chain(behind).collect();
            if !self.sender.send(done.sequence, failure, spent) {
                self.broken.store(true, Ordering::Release);
                self.hop.abandon();
                return false;
            }
        }
        true
    }

    /// Why the next worker takes no more packets: as it says itself, if it does.
    fn last_word(&mut self, sequence: u64, source: io::Error) -> TransferFailure {
        match self.hop.wait(sequence, Instant::now() + LAST_WORD_TIMEOUT) {
            Err(failure) if failure.is_said() => failure,
            Err(_) | Ok(_) => HopError::Send { worker: self.hop.worker(), source }.failure(),
        }
    }
}
