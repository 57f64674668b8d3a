//! What this worker is to the cluster: who it is, which tokens it honours, and when it last heard its master.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use gristmill_proto::auth::{BlockKey, Operation, TokenError, Wanted};
use gristmill_proto::ids::{BlockId, ClusterId, Epoch, Generation, WorkerId};
use thiserror::Error;

/// The place of this worker in its cluster. Shared by the server, which asks, and the attendance, which knows.
#[derive(Debug)]
pub struct Standing {
    member: RwLock<Option<Member>>,
    /// The highest epoch that a master has shown.
    epoch: AtomicU64,
    started: Instant,
    /// Milliseconds after `started`; 0: never.
    heard_ms: AtomicU64,
    lease: Duration,
}

#[derive(Debug)]
struct Member {
    cluster: ClusterId,
    worker: WorkerId,
    key: BlockKey,
}

/// Why this worker serves somebody not, or not now.
#[derive(Debug, Error)]
pub enum StandingError {
    /// It does not know its cluster yet.
    #[error("this worker has not been welcomed by a master yet")]
    NoMember,
    /// Its master may have given it up, and its blocks to others.
    #[error("{worker} has not heard its master for {silent_ms} ms, longer than its lease of {lease_ms} ms")]
    Isolated {
        /// This worker.
        worker: WorkerId,
        /// Since the last word of the master.
        silent_ms: u64,
        /// How long a word of the master holds.
        lease_ms: u64,
    },
    /// The token does not allow it.
    #[error("the token for {block} under {generation} is refused")]
    Token {
        /// What was to be done something with.
        block: BlockId,
        /// Under which.
        generation: Generation,
        /// What is wrong with the token.
        #[source]
        source: TokenError,
    },
}

impl Standing {
    /// The standing of a worker that has just started. Without a word of its master for `lease`, it takes no writes.
    pub fn new(lease: Duration) -> Standing {
        Standing {
            member: RwLock::new(None),
            epoch: AtomicU64::new(0),
            started: Instant::now(),
            heard_ms: AtomicU64::new(0),
            lease,
        }
    }

    /// From now on this is `worker` of `cluster`, and `key` signs the tokens.
    pub fn join(&self, cluster: ClusterId, worker: WorkerId, key: BlockKey) {
        let mut member = self.member.write().unwrap_or_else(PoisonError::into_inner);
        *member = Some(Member { cluster, worker, key });
    }

    /// The worker's id, if it has one.
    pub fn worker(&self) -> Option<WorkerId> {
        self.member().as_ref().map(|member| member.worker)
    }

    /// The highest epoch seen.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// A message of a master of `epoch` has come. False if a later master is known: the message must be dropped.
    pub fn hear(&self, epoch: Epoch) -> bool {
        if self.epoch.fetch_max(epoch.0, Ordering::AcqRel) > epoch.0 {
            return false;
        }
        self.heard_ms.store(self.age_ms().max(1), Ordering::Release);
        true
    }

    /// How long a word of the master holds.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// An error unless the bearer of `token` may do this.
    pub(crate) fn check_token(
        &self,
        token: &[u8],
        block: BlockId,
        generation: Generation,
        operation: Operation,
    ) -> Result<(), StandingError> {
        let member = self.member();
        let member = member.as_ref().ok_or(StandingError::NoMember)?;
        let want = Wanted { cluster: member.cluster, block, generation, operation, now_ms: wall_clock_ms() };
        match member.key.verify(token, &want) {
            Ok(_allowed) => Ok(()),
            Err(source) => Err(StandingError::Token { block, generation, source }),
        }
    }

    /// This worker's id; an error unless the master has been heard within the lease: a worker that its master has given
    /// up must not take new writes, while what it has may still be read.
    pub(crate) fn check_contact(&self) -> Result<WorkerId, StandingError> {
        let worker = self.worker().ok_or(StandingError::NoMember)?;
        let heard_ms = self.heard_ms.load(Ordering::Acquire);
        let silent_ms = self.age_ms().saturating_sub(heard_ms);
        let lease_ms = self.lease.as_millis() as u64;
        if heard_ms == 0 || silent_ms >= lease_ms {
            return Err(StandingError::Isolated { worker, silent_ms, lease_ms });
        }
        Ok(worker)
    }

    fn member(&self) -> std::sync::RwLockReadGuard<'_, Option<Member>> {
        self.member.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn age_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// Milliseconds since 1970, for the expiry of tokens only. 0 if the clock stands before that: then all have expired or none.
pub(crate) fn wall_clock_ms() -> u64 {
    gristmill_proto::wall_clock::now_ms()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_epoch_wins() {
        let standing = Standing::new(Duration::from_secs(1));
        assert!(standing.hear(Epoch(3)));
        assert!(!standing.hear(Epoch(2)));
        assert!(standing.hear(Epoch(3)));
        assert!(standing.hear(Epoch(4)));
        assert!(!standing.hear(Epoch(3)));
        assert_eq!(standing.epoch(), Epoch(4));
    }

    #[test]
    fn a_worker_without_a_master_takes_no_writes() {
        let standing = Standing::new(Duration::ZERO);
        assert!(matches!(standing.check_contact(), Err(StandingError::NoMember)));
        standing.join(ClusterId::random(), WorkerId(1), BlockKey::random());
        standing.hear(Epoch(1));
        let deadline = Instant::now() + Duration::from_secs(10);
        while standing.check_contact().is_ok() {
            assert!(Instant::now() < deadline, "the lease never ends");
            std::thread::yield_now();
        }
        assert!(matches!(standing.check_contact(), Err(StandingError::Isolated { .. })));
        // A dropped message of an old master is no word of the master.
        let standing = Standing::new(Duration::from_secs(3600));
        standing.join(ClusterId::random(), WorkerId(1), BlockKey::random());
        assert!(standing.hear(Epoch(7)));
        assert!(standing.check_contact().is_ok());
    }
}
