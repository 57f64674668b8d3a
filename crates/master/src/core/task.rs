//! A task and what its winner did. Kept small: there may be a million.
//!
//! ```text
//!   waiting ──launch──> attached ──Done──> won
//!      ^                   |                |  its map output is lost, or it has read what does not count
//!      +── failed, lost, killed ────────────+
//! ```

use gristmill_proto::ids::{AttemptId, CUT_BIT, JobId, TaskId, WorkerId};
use gristmill_proto::task::{AttemptResult, OutputEntry, Part};

use super::attempts::Attempts;
use super::deadly::Deadly;
use super::pace::Effort;

/// Ended attempts of a task that are remembered for people.
const PAST_MAX: usize = 10;

/// A task of a job, or the cutting of the shuffle that the task reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) stage: u32,
    pub(super) task: u32,
    pub(super) cut: bool,
}

impl Place {
    pub(super) fn task(stage: u32, task: u32) -> Place {
        Place { stage, task, cut: false }
    }

    pub(super) fn cut(stage: u32) -> Place {
        Place { stage, task: 0, cut: true }
    }

    pub(super) fn of(attempt: AttemptId) -> Place {
        let TaskId { stage, task, .. } = attempt.task;
        Place { stage, task, cut: attempt.number & CUT_BIT != 0 }
    }

    /// The attempt of this plain number.
    pub(super) fn attempt(self, job: JobId, number: u32) -> AttemptId {
        let bit = if self.cut { CUT_BIT } else { 0 };
        TaskId { job, stage: self.stage, task: self.task }.attempt(number | bit)
    }
}

/// The number of an attempt without the mark of a cutting one.
pub(super) fn plain(number: u32) -> u32 {
    number & !CUT_BIT
}

#[derive(Debug, Default)]
pub(super) struct Task {
    /// Number of the next attempt.
    pub(super) next: u32,
    /// Numbers from..to of attempts that this core does not follow and that may still be told done: of an earlier
    /// master, or of a worker that did not list them.
    pub(super) astray: (u32, u32),
    pub(super) failed: u32,
    /// Of those that failed, for want of memory: the next gets more.
    pub(super) short_of_memory: u8,
    pub(super) losses: u32,
    /// Since an attempt has ended without a word.
    pub(super) deadly: Option<Box<Deadly>>,
    pub(super) attempts: Attempts,
    pub(super) won: Option<Box<Won>>,
    /// Of a map output that was lost, until there is another: who has read it has read what counts.
    pub(super) lost_digest: Option<Box<[u8; 16]>>,
    pub(super) past: Option<Vec<Past>>,
}

/// An attempt that ended and did not win.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) number: u32,
    pub(super) state: &'static str,
    pub(super) worker: WorkerId,
    pub(super) reason: String,
    pub(super) started_ms: u64,
    pub(super) ended_ms: u64,
}

/// What the winner did.
#[derive(Debug)]
pub(super) struct Won {
    pub(super) number: u32,
    /// Who ran it. 0: not known, as of a cut after a restart.
    pub(super) worker: WorkerId,
    /// Who holds the map output. 0: nobody any more, and nobody needs it.
    pub(super) holder: WorkerId,
    pub(super) digest: [u8; 16],
    /// Which map outputs it has read; none: none at all.
    pub(super) consumed: Option<[u8; 16]>,
    pub(super) figures: Figures,
    pub(super) counters: Box<[u64]>,
    /// Bad records that it skipped, by limit of the job.
    pub(super) skipped: Box<[u64]>,
    pub(super) parts: Box<[Part]>,
    pub(super) started_ms: u64,
    pub(super) ended_ms: u64,
    /// Without the time in which it waited for map outputs. 0: not known.
    pub(super) took_ms: u64,
    pub(super) is_twin: bool,
}

/// The numbers of an [`AttemptResult`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) records_in: u64,
    pub(super) bytes_in: u64,
    pub(super) groups: u64,
    pub(super) largest_group: u64,
    pub(super) records_collected: u64,
    pub(super) records_shuffled: u64,
    pub(super) bytes_shuffled: u64,
    pub(super) records_out: u64,
    pub(super) bytes_out: u64,
    pub(super) bad_records: u64,
    pub(super) spilled_bytes: u64,
    pub(super) elapsed_ms: u64,
}

impl Figures {
    fn of(result: &AttemptResult) -> Figures {
        Figures {
            records_in: result.records_in,
            bytes_in: result.bytes_in,
            groups: result.groups,
            largest_group: result.largest_group,
            records_collected: result.records_collected,
            records_shuffled: result.records_shuffled,
            bytes_shuffled: result.bytes_shuffled,
            records_out: result.records_out,
            bytes_out: result.bytes_out,
            bad_records: result.bad_records,
            spilled_bytes: result.spilled_bytes,
            elapsed_ms: result.elapsed_ms,
        }
    }
}

impl Won {
    /// Takes what is needed out of a message, so that nothing holds on to the buffer it came in.
    pub(super) fn new(number: u32, worker: WorkerId, result: &AttemptResult) -> Won {
        let output = result.map_output.as_ref();
        let digest = output.and_then(|output| <[u8; 16]>::try_from(&output.digest[..]).ok());
        Won {
            number,
            worker,
            holder: output.map_or(WorkerId(0), |output| WorkerId(output.worker)),
            digest: digest.unwrap_or_default(),
            consumed: <[u8; 16]>::try_from(&result.consumed[..]).ok(),
            figures: Figures::of(result),
            counters: result.counters.clone().into_boxed_slice(),
            skipped: result.bad_records_by_limit.clone().into_boxed_slice(),
            parts: result.parts.clone().into_boxed_slice(),
            started_ms: 0,
            ended_ms: 0,
            took_ms: 0,
            is_twin: false,
        }
    }

    /// If it is known how long it took.
    pub(super) fn effort(&self) -> Option<Effort> {
        let (records, bytes) = (self.figures.records_in, self.figures.bytes_in);
        (self.took_ms > 0).then_some(Effort { took_ms: self.took_ms, records, bytes })
    }
}

impl Task {
    /// Whether an attempt of this plain number would win if it were done now.
    pub(super) fn may_win(&self, number: u32) -> bool {
        self.won.is_none() && (self.attempts.get(number).is_some() || self.is_astray(number))
    }

    pub(super) fn is_astray(&self, number: u32) -> bool {
        (self.astray.0..self.astray.1).contains(&number)
    }

    /// An attempt of this number may still be told done, though nobody follows it.
    pub(super) fn goes_astray(&mut self, number: u32) {
        let (from, to) = self.astray;
        self.astray = if from < to { (from.min(number), to.max(number + 1)) } else { (number, number + 1) };
    }

    /// It is decided what became of this attempt, and of all before it.
    pub(super) fn settle(&mut self, number: u32) {
        self.astray.0 = self.astray.0.max(number + 1);
        self.next = self.next.max(number + 1);
    }

    pub(super) fn remember(&mut self, past: Past) {
        let all = self.past.get_or_insert_default();
        if all.len() == PAST_MAX {
            all.remove(0);
        }
        all.push(past);
    }

    /// What is told of its map output.
    pub(super) fn entry(&self, stage: u32, task: u32) -> OutputEntry {
        match &self.won {
            Some(won) => OutputEntry {
                stage,
                task,
                number: won.number,
                holder: won.holder.0,
                digest: won.digest.to_vec().into(),
            },
            None => OutputEntry { stage, task, ..OutputEntry::default() },
        }
    }
}

/// As much of a sentence as is kept.
pub(super) fn cut_short(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
