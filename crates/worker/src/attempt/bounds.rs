//! What an attempt's processes may use, held from outside: memory, and how many threads they are.
//!
//! The worker looks; nothing in the attempt has to help. Between two looks an attempt can take more than its share: a
//! tenth of a second's worth for the process that is the attempt, a second's for those that it starts.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use thiserror::Error;

use super::census::{Census, peak_bytes, proportional_bytes, resident_bytes};

/// Between two looks at the attempt's own process: one small file of /proc.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at all that descends from it: the whole of /proc.
const CENSUS_INTERVAL: Duration = Duration::from_secs(1);
/// Processes and threads of an attempt. A job program has a few, one that starts tools some dozens, and what doubles
/// itself passes any number in a second.
const THREADS_MAX: u64 = 1024;
/// Beyond its share: what an allocator holds back, stacks, and pages of the program itself. The data path keeps within
/// its share; this is for the author's own code.
const SLACK_BYTES: u64 = 64 << 20;

/// Why an attempt is ended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Excess {
    #[error(
        "the attempt used {} MiB of memory, its limit is {} MiB (its share of {} MiB and some slack): keep less in \
         memory, or give the job more (--memory)",
        used_bytes >> 20, limit_bytes >> 20, share_bytes >> 20
    )]
    Memory { used_bytes: u64, limit_bytes: u64, share_bytes: u64 },
    #[error("the attempt had {threads} processes and threads, the limit is {THREADS_MAX}")]
    Threads { threads: u64 },
}

/// The bounds of one attempt, and when they are looked at next.
pub(crate) struct Bounds<'a> {
    census: &'a Census,
    leader: Pid,
    share_bytes: u64,
    next_look: Instant,
    next_census: Instant,
}

impl Bounds<'_> {
    /// Of the group that `leader` leads, which may use `share_bytes` and some slack.
    pub(crate) fn new(census: &Census, leader: Pid, share_bytes: u64, now: Instant) -> Bounds<'_> {
        Bounds {
            census,
            leader,
            share_bytes,
            next_look: now + LOOK_INTERVAL,
            next_census: now + CENSUS_INTERVAL,
        }
    }

    /// When [`Bounds::look`] has something to do.
    pub(crate) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Looks, if it is time to.
    pub(crate) fn look(&mut self, now: Instant) -> io::Result<Option<Excess>> {
        if now < self.next_look {
            return Ok(None);
        }
        self.next_look = now + LOOK_INTERVAL;
        if now >= self.next_census {
            self.next_census = now + CENSUS_INTERVAL;
            return self.look_at_all();
        }
        Ok(self.judge(peak_bytes(self.leader)?))
    }

    fn look_at_all(&self) -> io::Result<Option<Excess>> {
        let usage = self.census.usage(self.leader)?;
        if usage.threads > THREADS_MAX {
            return Ok(Some(Excess::Threads { threads: usage.threads }));
        }
        if self.judge(resident_bytes(&usage.processes)?).is_none() {
            return Ok(None);
        }
        // Forked processes share most of their pages: what is really used takes a closer look.
        Ok(self.judge(proportional_bytes(&usage.processes)?))
    }

    fn judge(&self, used_bytes: u64) -> Option<Excess> {
        let share_bytes = self.share_bytes;
        let limit_bytes = share_bytes.saturating_add(share_bytes / 4).saturating_add(SLACK_BYTES);
        (used_bytes > limit_bytes).then_some(Excess::Memory { used_bytes, limit_bytes, share_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(census: &Census, share_bytes: u64) -> Bounds<'_> {
        let own = rustix::process::getpid();
        Bounds::new(census, own, share_bytes, Instant::now())
    }

    #[test]
    fn a_share_and_its_slack_may_be_used_and_a_byte_more_may_not() {
        let census = Census::default();
        let bounds = bounds(&census, 256 << 20);
        assert_eq!(bounds.judge(384 << 20), None);
        let excess = bounds.judge((384 << 20) + 1).expect("too much");
        let said = excess.to_string();
        assert!(said.contains("used 384 MiB") && said.contains("limit is 384 MiB"), "{said}");
        assert_eq!(super::Bounds { share_bytes: u64::MAX, ..bounds }.judge(u64::MAX), None);
    }

    #[test]
    fn this_process_is_looked_at_when_it_is_time() {
        let census = Census::default();
        let mut bounds = bounds(&census, 1 << 40);
        let now = Instant::now();
        assert_eq!(bounds.look(now).expect("not yet"), None);
        assert_eq!(bounds.look(now + LOOK_INTERVAL * 2).expect("looked"), None);
        // Held for as long as it is looked at: more than the slack.
        let held = std::hint::black_box(vec![1_u8; 80 << 20]);
        let mut small = Bounds { share_bytes: 0, ..bounds };
        let excess = small.look(now + LOOK_INTERVAL * 4).expect("looked");
        assert!(matches!(excess, Some(Excess::Memory { .. })), "{excess:?} with {} bytes", held.len());
    }
}
