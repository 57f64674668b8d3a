//! What an attempt's processes may use, held from outside: memory, how many threads they are, and disk.
//!
//! The worker looks; nothing in the attempt has to help. Between two looks an attempt can take more than its share: a
//! tenth of a second's worth for the process that is the attempt, a second's for those that it starts. Where there are
//! control groups the kernel holds the memory of all of them between two looks, too.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use thiserror::Error;

use super::census::{Census, peak_bytes, proportional_bytes, resident_bytes};
use super::disk_use::{FILES_MAX, Footprint};
use crate::cgroup::{Cgroup, CgroupError};

/// Between two looks at the attempt's own process: one small file of /proc.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at all that descends from it: the whole of /proc, and the attempt's directory.
const CENSUS_INTERVAL: Duration = Duration::from_secs(1);
/// Processes and threads of an attempt. A job program has a few, one that starts tools some dozens, and what doubles
/// itself passes any number in a second.
const THREADS_MAX: u64 = 1024;
/// Beyond its share: what an allocator holds back, stacks, and pages of the program itself. The data path keeps within
/// its share; this is for the author's own code.
const SLACK_BYTES: u64 = 64 << 20;

/// Why an attempt is ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Excess {
    #[error(
        "the attempt used {} MiB of memory, its limit is {} MiB (its share of {} MiB and some slack): keep less in \
         memory, or give the job more (--memory)",
        used_bytes >> 20, limit_bytes >> 20, share_bytes >> 20
    )]
    Memory { used_bytes: u64, limit_bytes: u64, share_bytes: u64 },
    #[error("the attempt had {threads} processes and threads, the limit is {THREADS_MAX}")]
    Threads { threads: u64 },
    #[error(
        "{}: the attempt has more than {FILES_MAX} files: keep fewer, or remove what is not needed", dir.display()
    )]
    Files { dir: PathBuf },
    #[error(
        "{}: the job has {} MiB on the disks of this worker, its limit is {} MiB: spread it over more workers, or start \
         them with more --job-disk-mib", dir.display(), used_bytes >> 20, job_bytes_max >> 20
    )]
    JobDisk { dir: PathBuf, used_bytes: u64, job_bytes_max: u64 },
    #[error(
        "{}: the disk has {} MiB left, of which {} stay free (--reserve-mib): make room on it, or spread the job over \
         more workers", dir.display(), free_bytes >> 20, reserve_bytes >> 20
    )]
    Reserve { dir: PathBuf, free_bytes: u64, reserve_bytes: u64 },
}

/// Why an attempt could not be looked at.
#[derive(Debug, Error)]
pub(crate) enum LookError {
    #[error("cannot look at the attempt's processes")]
    Processes(#[source] io::Error),
    #[error("cannot look at the attempt's directory")]
    Disk(#[source] io::Error),
    #[error(transparent)]
    Group(#[from] CgroupError),
}

/// The bounds of one attempt, and when they are looked at next.
pub(crate) struct Bounds<'a> {
    census: &'a Census,
    leader: Pid,
    share_bytes: u64,
    footprint: Footprint<'a>,
    group: Option<&'a Cgroup>,
    next_look: Instant,
    next_census: Instant,
}

/// What a process that has a share of so many bytes may have in memory, its slack included.
pub(crate) fn memory_limit_bytes(share_bytes: u64) -> u64 {
    share_bytes.saturating_add(share_bytes / 4).saturating_add(SLACK_BYTES)
}

impl<'a> Bounds<'a> {
    /// Of the group that `leader` leads, which may use `share_bytes` and some slack.
    pub(crate) fn new(
        census: &'a Census,
        leader: Pid,
        share_bytes: u64,
        footprint: Footprint<'a>,
        now: Instant,
    ) -> Bounds<'a> {
        let (next_look, next_census) = (now + LOOK_INTERVAL, now + CENSUS_INTERVAL);
        Bounds { census, leader, share_bytes, footprint, group: None, next_look, next_census }
    }

    /// The kernel holds the limit of its memory, too.
    pub(crate) fn in_group(self, group: Option<&'a Cgroup>) -> Bounds<'a> {
        Bounds { group, ..self }
    }

    /// When [`Bounds::look`] has something to do.
    pub(crate) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Looks, if it is time to.
    pub(crate) fn look(&mut self, now: Instant) -> Result<Option<Excess>, LookError> {
        if now < self.next_look {
            return Ok(None);
        }
        self.next_look = now + LOOK_INTERVAL;
        if let Some(excess) = self.look_at_group()? {
            return Ok(Some(excess));
        }
        if now < self.next_census {
            return Ok(self.judge(peak_bytes(self.leader).map_err(LookError::Processes)?));
        }
        self.next_census = now + CENSUS_INTERVAL;
        match self.look_at_all().map_err(LookError::Processes)? {
            Some(excess) => Ok(Some(excess)),
            None => self.footprint.look().map_err(LookError::Disk),
        }
    }

    /// Whether the kernel has ended some of its processes for their memory.
    pub(crate) fn look_at_group(&self) -> Result<Option<Excess>, LookError> {
        let Some(group) = self.group else { return Ok(None) };
        let (share_bytes, limit_bytes) = (self.share_bytes, memory_limit_bytes(self.share_bytes));
        let used_bytes = limit_bytes;
        Ok((group.kills()? > 0).then_some(Excess::Memory { used_bytes, limit_bytes, share_bytes }))
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
        let limit_bytes = memory_limit_bytes(share_bytes);
        (used_bytes > limit_bytes).then_some(Excess::Memory { used_bytes, limit_bytes, share_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::{DiskLimits, DiskUse};
    use gristmill_dataflow::shuffle::OutputStore;
    use gristmill_proto::ids::{JobId, TaskId};

    /// Whatever an attempt that is this process is measured by.
    struct Place {
        census: Census,
        disk_use: DiskUse,
        store: OutputStore,
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Place {
            let disk_use = DiskUse::new(DiskLimits { job_bytes_max: 0, reserve_bytes: 0 });
            let dir = tempfile::tempdir().expect("a directory");
            let store = OutputStore::open(&[dir.path().join("outputs")]).expect("opened");
            Place { census: Census::default(), disk_use, store, dir }
        }

        fn bounds(&self, share_bytes: u64, now: Instant) -> Bounds<'_> {
            let own = rustix::process::getpid();
            let attempt = TaskId { job: JobId([7; 16]), stage: 0, task: 0 }.attempt(1);
            let footprint = self.disk_use.follow(&self.store, attempt, self.dir.path().to_owned());
            Bounds::new(&self.census, own, share_bytes, footprint, now)
        }
    }

    #[test]
    fn a_share_and_its_slack_may_be_used_and_a_byte_more_may_not() {
        let place = Place::new();
        let bounds = place.bounds(256 << 20, Instant::now());
        assert_eq!(bounds.judge(384 << 20), None);
        let excess = bounds.judge((384 << 20) + 1).expect("too much");
        let said = excess.to_string();
        assert!(said.contains("used 384 MiB") && said.contains("limit is 384 MiB"), "{said}");
        assert_eq!(super::Bounds { share_bytes: u64::MAX, ..bounds }.judge(u64::MAX), None);
    }

    #[test]
    fn this_process_is_looked_at_when_it_is_time() {
        let (place, now) = (Place::new(), Instant::now());
        let mut bounds = place.bounds(1 << 40, now);
        assert_eq!(bounds.look(now).expect("not yet"), None);
        assert_eq!(bounds.look(now + LOOK_INTERVAL * 2).expect("looked"), None);
        assert_eq!(bounds.look(now + CENSUS_INTERVAL * 2).expect("looked at all"), None);
        // Held for as long as it is looked at: more than the slack.
        let held = std::hint::black_box(vec![1_u8; 80 << 20]);
        let mut small = Bounds { share_bytes: 0, ..bounds };
        let excess = small.look(now + CENSUS_INTERVAL * 2 + LOOK_INTERVAL * 2).expect("looked");
        assert!(matches!(excess, Some(Excess::Memory { .. })), "{excess:?} with {} bytes", held.len());
    }
}
