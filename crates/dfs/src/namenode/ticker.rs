//! What happens by itself: the block side's clock, leases that end, trash that ages, deleted trees that are taken apart.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gristmill_proto::ids::{BlockId, InodeId};

use super::blocks::{KnownBlock, Outbox};
use super::committer::{CommitQueue, Submission};
use super::namespace::{Action, StoreError};
use super::state::State;

/// How often the block side decides. A lost worker is noticed at most this much later.
const TICK_INTERVAL: Duration = Duration::from_millis(100);
/// Leases, trash and sessions are looked at less often than their limits could be told apart.
const SWEEP_INTERVAL_MS: u64 = 1_000;
/// Each of these is a transaction of its own, and nobody minds a minute.
const EXPIRE_INTERVAL_MS: u64 = 60_000;
/// Inodes and blocks of detached trees that one transaction takes apart, so that others wait for it only briefly.
const RECLAIM_RECORDS_MAX: u32 = 2_000;
/// Open files looked at in one go.
const OPEN_FILES_PAGE: usize = 1_000;
/// Blocks that the block side is told to expect in one tick, after a start.
const EXPECTED_PAGE: usize = 20_000;
/// Answers of clients silent for this long are forgotten: nobody asks again after so long.
const SESSION_AGE_MS: u64 = 60 * 60 * 1000;
/// Answers forgotten in one transaction.
const FORGOTTEN_ANSWERS_MAX: u32 = 100_000;

/// The ticker's thread. Dropping the sender ends it.
pub(crate) fn start(
    state: Arc<State>,
    committer: CommitQueue,
) -> std::io::Result<(Sender<()>, JoinHandle<()>)> {
    let (alive, ended) = channel();
    let ticker =
        Ticker { state, committer, expected: Some(BlockId(0)), swept_ms: 0, expired_ms: 0, resumed: false };
    let thread = thread::Builder::new().name("ticker".into()).spawn(move || ticker.run(&ended))?;
    Ok((alive, thread))
}

struct Ticker {
    state: Arc<State>,
    committer: CommitQueue,
    /// Up to where the block side knows what to expect; `None` once it knows all.
    expected: Option<BlockId>,
    swept_ms: u64,
    expired_ms: u64,
    /// Recoveries that a former master had begun were begun again.
    resumed: bool,
}

impl Ticker {
    fn run(mut self, ended: &Receiver<()>) {
        while ended.recv_timeout(TICK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            if let Err(error) = self.tick() {
                self.state.fail(error.to_string());
                return;
            }
        }
    }

    fn tick(&mut self) -> Result<(), StoreError> {
        let now_ms = self.state.clock.now_ms();
        let mut outbox = Outbox::default();
        self.state.blocks().tick(now_ms, &mut outbox);
        let decided = !outbox.decisions.is_empty();
        self.state.dispatch(outbox);
        if decided {
            self.submit(Submission::Wake);
        }
        self.expect_blocks()?;
        if self.state.namespace.snapshot()?.has_orphans() {
            self.own(Action::Reclaim { records_max: RECLAIM_RECORDS_MAX });
        }
        if now_ms >= self.swept_ms + SWEEP_INTERVAL_MS {
            self.swept_ms = now_ms;
            self.sweep(now_ms)?;
        }
        Ok(())
    }

    /// After a start, tells the block side of every block there is, a page at a time: what nobody reports is missing.
    fn expect_blocks(&mut self) -> Result<(), StoreError> {
        let Some(after) = self.expected else {
            return Ok(());
        };
        let page = self.state.namespace.snapshot()?.blocks_after(after, EXPECTED_PAGE)?;
        let known: Vec<_> = page.iter().map(|(block, record)| (*block, KnownBlock::from(*record))).collect();
        let mut blocks = self.state.blocks();
        blocks.expect(&known);
        self.expected = page.last().map(|(block, _)| *block);
        if self.expected.is_none() {
            blocks.expected_all();
        }
        Ok(())
    }

    fn sweep(&mut self, now_ms: u64) -> Result<(), StoreError> {
        self.end_leases(now_ms)?;
        if now_ms < self.expired_ms + EXPIRE_INTERVAL_MS {
            return Ok(());
        }
        self.expired_ms = now_ms;
        let wall_ms = self.state.clock.wall_ms();
        let before_ms = wall_ms.saturating_sub(self.state.options.trash_age_ms);
        self.own(Action::ExpireTrash { before_ms });
        let before_ms = wall_ms.saturating_sub(SESSION_AGE_MS);
        self.own(Action::ForgetSessions { before_ms, answers_max: FORGOTTEN_ANSWERS_MAX });
        Ok(())
    }

    /// Files whose writer has been silent for the hard limit are closed for it.
    fn end_leases(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let limit_ms = self.state.options.lease_hard_limit_ms;
        let snapshot = self.state.namespace.snapshot()?;
        let mut after = InodeId(0);
        loop {
            let page = snapshot.open_files(after, OPEN_FILES_PAGE)?;
            let Some((last, _)) = page.last() else {
                break;
            };
            after = *last;
            for (inode, writer) in page {
                let ended = match writer {
                    Some(client) => self.state.leases().idle_ms(client, now_ms) > limit_ms,
                    None => !self.resumed,
                };
                if ended {
                    tracing::info!(%inode, "a file whose writer is gone is being closed");
                    self.own(Action::BeginRecovery { inode, holder: writer });
                }
            }
        }
        self.resumed = true;
        self.state.leases().forget_silent(limit_ms, now_ms);
        Ok(())
    }

    fn own(&self, action: Action) {
        self.submit(Submission::Own(action));
    }

    /// When the committer has too much to do, what comes by itself can wait for the next tick.
    fn submit(&self, submission: Submission) {
        if self.committer.try_send(submission).is_err() {
            tracing::debug!("the committer is busy");
        }
    }
}
