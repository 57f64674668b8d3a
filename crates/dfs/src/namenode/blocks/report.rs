//! Full reports: all that a worker has, in slices of block ids.
//!
//! A slice drops the replicas of its range that it does not list. It was read from the worker's disks at some moment after
//! the report was ordered, so it may be older than what the worker announced since: a replica that was finished just after
//! the slice was read is not in it, one that was deleted just after still is. Announcements come in the order of the
//! events, and each of those since the order is at least as new as any slice or is followed by one that is. So **blocks
//! announced since the order are left alone by slices**; what was announced before the order, a slice knows.

use std::collections::{BTreeSet, VecDeque};

use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::refused::Reason;
use gristmill_proto::attendance::{BlockReport, Refused, ReplicaInfo, SendReport};
use gristmill_proto::ids::{BlockId, Epoch, Incarnation, WorkerId};

use super::attendance::refused;
use super::deletion::Why;
use super::judgement::{Flaw, Word};
use super::roster::{Report, Slot};
use super::{Blocks, KnownBlock, Outbox};

/// Full reports under way at once, so that a master that starts is not drowned. As HDFS's report leases.
const REPORTS_AT_ONCE: usize = 6;
/// Replicas in a slice: a message of about 300 KB.
const SLICE_REPLICAS_MAX: usize = 20_000;
/// Changes announced during a report that are remembered: 20 MB. Beyond, the report is ordered again.
const CHANGED_MAX: usize = 1_000_000;
/// Ids of reports start at the epoch times this, so that slices for an older master are known as such.
const REPORTS_PER_EPOCH: u64 = 1 << 32;

/// Part of a full report: all replicas with `first <= block <= last`.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// Who sends it.
    pub worker: WorkerId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Of the `SendReport` it answers.
    pub report_id: u64,
    /// 0 in the first slice.
    pub first: BlockId,
    /// The next slice starts after it; 2^64 - 1 in the last.
    pub last: BlockId,
    /// Ascending, each with what the namespace says of its block now.
    pub replicas: &'a [(ReplicaInfo, Option<KnownBlock>)],
}

/// What became of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceAnswer {
    /// Replicas of no block of ours. They will be deleted.
    pub unknown: u64,
    /// This was the last slice.
    pub complete: bool,
}

/// Why a slice is not taken. The report stream should end; another report is ordered if one is needed.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The worker must register first.
    #[error("{}", .0.detail)]
    Refused(Refused),
    /// It was ordered by nobody, or another was ordered since.
    #[error("report {report_id} is not expected")]
    NotExpected {
        /// Of the slice.
        report_id: u64,
    },
    /// A slice is missing.
    #[error("a slice of report {report_id} starts at {first}, not at {expected}")]
    Gap {
        /// Of the slice.
        report_id: u64,
        /// Where it starts.
        first: BlockId,
        /// Where it should start.
        expected: BlockId,
    },
    /// It is not sorted, leaves its range, or is too long.
    #[error("a slice of report {report_id} is malformed at replica {index}")]
    Malformed {
        /// Of the slice.
        report_id: u64,
        /// The replica that is wrong.
        index: usize,
    },
}

#[derive(Debug)]
pub(super) struct Reports {
    next_id: u64,
    waiting: VecDeque<Slot>,
    under_way: usize,
}

impl Reports {
    pub(super) fn new(epoch: Epoch) -> Reports {
        Reports { next_id: epoch.0.wrapping_mul(REPORTS_PER_EPOCH), waiting: VecDeque::new(), under_way: 0 }
    }
}

/// The replicas of a slice as it comes in a message.
pub fn replicas_of(report: &BlockReport) -> Result<Vec<ReplicaInfo>, ReportError> {
    let malformed = |index| ReportError::Malformed { report_id: report.report_id, index };
    let count = report.block_steps.len();
    let unfinished = report.unfinished.len();
    if unfinished > SLICE_REPLICAS_MAX
        || count > SLICE_REPLICAS_MAX
        || report.generations.len() != count
        || report.bytes.len() != count
    {
        return Err(malformed(count));
    }
    let mut block = 0u64;
    let mut replicas = Vec::with_capacity(count);
    for (index, &step) in report.block_steps.iter().enumerate() {
        block = block.checked_add(step).ok_or_else(|| malformed(index))?;
        replicas.push(ReplicaInfo {
            block,
            generation: report.generations[index],
            bytes: report.bytes[index],
        });
    }
    check_order(report.report_id, report.first, report.last, replicas.iter().map(|replica| replica.block))?;
    Ok(replicas)
}

impl Blocks {
    /// A slice of a full report. Slices come in order; one that was taken before changes nothing. It is no sign of life.
    pub fn report_slice(
        &mut self,
        slice: &Slice,
        now_ms: u64,
        out: &mut Outbox,
    ) -> Result<SliceAnswer, ReportError> {
        self.observe(now_ms);
        let slot = self.known_slot(slice.worker).map_err(ReportError::Refused)?;
        let Slice { report_id, first: BlockId(first), last: BlockId(last), replicas, .. } = *slice;
        check_order(report_id, first, last, replicas.iter().map(|(replica, _)| replica.block))?;
        let now_ms = self.now_ms;
        let worker = &mut self.roster[slot];
        let same_life = worker.incarnation == slice.incarnation;
        let report = worker.report.as_mut().filter(|report| same_life && report.id == report_id);
        let report = report.ok_or(ReportError::NotExpected { report_id })?;
        if first > report.next_first {
            let expected = BlockId(report.next_first);
            self.want_report(slot);
            return Err(ReportError::Gap { report_id, first: BlockId(first), expected });
        }
        report.heard_ms = now_ms;
        // Taken out, so that it can be asked while the rest changes.
        let (changed, ordered_ms) = (std::mem::take(&mut report.changed), report.ordered_ms);
        self.drop_unlisted(slot, slice, &changed, ordered_ms);
        let mut unknown = 0;
        for (replica, known) in replicas {
            if !changed.contains(&replica.block) {
                self.redo_deletion(slot, replica.block, ordered_ms);
                unknown += u64::from(!self.judge(slot, *replica, *known, Word::Listed, out));
            }
        }
        let report = self.roster[slot].report.as_mut().ok_or(ReportError::NotExpected { report_id })?;
        report.changed = changed;
        report.next_first = report.next_first.max(last.saturating_add(1));
        let complete = last == u64::MAX;
        if complete {
            self.finish_report(slot);
        }
        Ok(SliceAnswer { unknown, complete })
    }

    /// Replicas of a slice that was taken, of this worker, that nobody has finished. Those of blocks that are no more go:
    /// their writers have given them up, perhaps while no master heard of it. So do those of blocks that were finished
    /// elsewhere under a later generation, once there are enough good ones: the worker was away when the pipeline went
    /// on without it. The others are their writers', or a recovery's.
    pub fn report_unfinished(&mut self, worker: WorkerId, replicas: &[(ReplicaInfo, Option<KnownBlock>)]) {
        let Some(slot) = self.roster.slot(worker) else { return };
        for (replica, known) in replicas {
            match self.current(replica.block, *known) {
                None => self.delete(slot, *replica, Why::Unwanted),
                Some(known) if known.complete && replica.generation < known.generation.0 => {
                    self.note_left_behind(slot, *replica, known);
                }
                Some(_) => {}
            }
        }
    }

    fn note_left_behind(&mut self, slot: Slot, replica: ReplicaInfo, known: KnownBlock) {
        let block = replica.block;
        let is_noted = self.bad.get(&block).is_some_and(|bad| bad.iter().any(|bad| bad.slot == slot));
        if is_noted || self.map.holders(block).contains(&slot) || self.is_doomed_bad(slot, replica) {
            return;
        }
        self.learn(block, known);
        self.set_bad(slot, replica, Flaw::Hidden);
        self.review(block);
    }

    /// Asks for a full report, when there are not too many under way. One under way is of no use any more.
    pub(super) fn want_report(&mut self, slot: Slot) {
        self.drop_report(slot);
        if !self.reports.waiting.contains(&slot) {
            self.reports.waiting.push_back(slot);
        }
    }

    pub(super) fn drop_report(&mut self, slot: Slot) {
        if self.roster[slot].report.take().is_some() {
            self.reports.under_way -= 1;
        }
    }

    /// Orders those that wait, those that are due, and those that got stuck.
    pub(super) fn order_reports(&mut self, out: &mut Outbox) {
        for slot in self.roster.slots() {
            let worker = &self.roster[slot];
            let is_stuck = worker.report.as_ref().is_some_and(|report| {
                self.now_ms >= report.heard_ms + self.options.report_timeout_ms
                    || report.changed.len() > CHANGED_MAX
            });
            let is_due = worker.report.is_none() && worker.fresh && self.now_ms >= worker.report_due_ms;
            let (is_up, is_asked) = (worker.is_up(), worker.report.is_some());
            let is_unconfirmed = !is_asked && self.deletion_is_overdue(slot);
            if is_up && (is_stuck || is_due || is_unconfirmed) {
                self.want_report(slot);
            }
        }
        while self.reports.under_way < REPORTS_AT_ONCE {
            let Some(slot) = self.reports.waiting.pop_front() else { return };
            // A worker that is away registers again, and is asked then; or it is heard of again.
            if self.roster[slot].is_readable() {
                self.order_report(slot, out);
            }
        }
    }

    /// A change was announced: slices of a report under way may be older.
    pub(super) fn note_change(&mut self, slot: Slot, block: u64) {
        if let Some(report) = &mut self.roster[slot].report {
            report.changed.insert(block);
        }
    }

    fn order_report(&mut self, slot: Slot, out: &mut Outbox) {
        self.reports.next_id += 1;
        self.reports.under_way += 1;
        let (id, now_ms) = (self.reports.next_id, self.now_ms);
        let worker = &mut self.roster[slot];
        worker.report = Some(Report {
            id,
            ordered_ms: now_ms,
            heard_ms: now_ms,
            next_first: 0,
            changed: BTreeSet::new(),
        });
        out.orders.push((worker.id, Order::SendReport(SendReport { report_id: id })));
    }

    fn finish_report(&mut self, slot: Slot) {
        self.drop_report(slot);
        let due_ms = self.now_ms + self.options.report_interval_ms;
        let worker = &mut self.roster[slot];
        worker.report_due_ms = due_ms;
        if !worker.fresh {
            worker.fresh = true;
            // What was put off until this worker is sure.
            self.sweep.want();
        }
    }

    /// What we thought this worker has in the slice's range, and it does not list.
    fn drop_unlisted(&mut self, slot: Slot, slice: &Slice, changed: &BTreeSet<u64>, ordered_ms: u64) {
        let (first, last) = (slice.first.0, slice.last.0);
        let is_listed =
            |block: u64| slice.replicas.binary_search_by_key(&block, |(replica, _)| replica.block).is_ok();
        let is_unlisted = |block: u64| !is_listed(block) && !changed.contains(&block);
        let mut gone = Vec::new();
        if self.roster[slot].listed > 0 {
            for (block, entry) in self.map.range(first, last) {
                if self.map.holders_of(block, entry).contains(&slot) && is_unlisted(block) {
                    gone.push(block);
                }
            }
        }
        for block in gone {
            self.release(slot, block);
            self.review(block);
        }
        for (&block, open) in self.open.range_mut(first..=last) {
            if is_unlisted(block) {
                open.drop_slot(slot);
            }
        }
        // What may be there unlisted is remembered as long as its worker's process lives.
        let born_ms = self.roster[slot].born_ms;
        let bad: Vec<u64> = self.bad.range(first..=last).map(|(&block, _)| block).collect();
        for block in bad.into_iter().filter(|&block| is_unlisted(block)) {
            self.drop_bad(block, |bad| {
                bad.slot == slot && !(bad.flaw.may_be_unlisted() && bad.since_ms >= born_ms)
            });
        }
        let deletions = self.roster[slot].deletions.range(first..=last);
        let sent: Vec<u64> = deletions
            .filter(|(block, deletion)| deletion.was_sent_before(ordered_ms) && is_unlisted(**block))
            .map(|(&block, _)| block)
            .collect();
        for block in sent {
            self.settle_unlisted_deletion(slot, block);
        }
    }
}

/// Blocks of a slice ascend and are in its range.
fn check_order(
    report_id: u64,
    first: u64,
    last: u64,
    blocks: impl Iterator<Item = u64>,
) -> Result<(), ReportError> {
    let mut next = Some(first);
    for (index, block) in blocks.enumerate() {
        let in_order = next.is_some_and(|next| block >= next) && block <= last;
        if !in_order || index >= SLICE_REPLICAS_MAX {
            return Err(ReportError::Malformed { report_id, index });
        }
        next = block.checked_add(1);
    }
    if first > last {
        return Err(ReportError::Malformed { report_id, index: 0 });
    }
    Ok(())
}

/// So that the shell can end a stream with it.
impl From<&ReportError> for Refused {
    fn from(error: &ReportError) -> Refused {
        match error {
            ReportError::Refused(refused) => refused.clone(),
            error => refused(Reason::Unspecified, error.to_string()),
        }
    }
}
