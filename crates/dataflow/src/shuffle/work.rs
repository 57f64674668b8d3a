//! What is to be fetched, from whom next, and what has failed how often. No sockets, no threads, no clock.

use super::fault::Fault;
use super::sources::Entry;
use bytes::Bytes;
use gristmill_proto::consumed::Consumed;
use gristmill_proto::ids::{AttemptId, JobId, TaskId};
use gristmill_proto::task::fetch_failed::Kind as Reported;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// A fetch that failed so often is reported.
const TRIES_MAX: u32 = 2;
/// Between two tries, and between two requests to a holder that is busy.
const TRY_PAUSE: Duration = Duration::from_millis(200);
/// A holder that says for 20 s that it is busy is reported as one that refuses.
const BUSY_TRIES_MAX: u32 = 100;
/// What was reported as unreachable or refused is tried again after this: the master may have nothing better.
const AGAIN_PAUSE: Duration = Duration::from_secs(10);

/// The map output of one task, by the entry that named it last.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) output: AttemptId,
    pub(super) holder: u64,
    pub(super) digest: Bytes,
    version: u64,
    tries: u32,
    busy_tries: u32,
}

/// Is to be told to the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) output: AttemptId,
    pub(super) holder: u64,
    pub(super) kind: Reported,
}

/// Everything that one reduce task wants.
pub(super) struct Work<Got> {
    job: JobId,
    tasks: BTreeMap<(u32, u32), Task<Got>>,
    done: usize,
    consumed: Consumed,
    holders: HashMap<u64, Holder>,
    /// Holders with something to fetch that nobody asks now: who waits longest is first.
    turn: VecDeque<u64>,
    /// What is tried later: not before then. The number tells equal times apart.
    later: BTreeMap<(Instant, u64), Wanted>,
    next_later: u64,
}

enum Task<Got> {
    Open { version: u64 },
    Done(Got),
}

#[derive(Default)]
struct Holder {
    queue: VecDeque<Wanted>,
    /// Somebody asks it.
    asked: bool,
}

impl<Got> Work<Got> {
    pub(super) fn new(job: JobId) -> Self {
        let (tasks, holders) = (BTreeMap::new(), HashMap::new());
        let (turn, later) = (VecDeque::new(), BTreeMap::new());
        Self { job, tasks, done: 0, consumed: Consumed::default(), holders, turn, later, next_later: 0 }
    }

    /// Map tasks that were named, and those whose output is here.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.tasks.len(), self.done)
    }

    /// What was got, in the order of tasks, and what stands for it.
    pub(super) fn into_got(self) -> (Vec<Got>, Consumed) {
        let got = |task| match task {
            Task::Done(got) => Some(got),
            Task::Open { .. } => None,
        };
        (self.tasks.into_values().filter_map(got).collect(), self.consumed)
    }

    /// Takes an entry. What is here already is not fetched again; what is sought elsewhere is sought there no more.
    pub(super) fn learn(&mut self, entry: Entry) {
        let task = self.tasks.entry((entry.stage, entry.task)).or_insert(Task::Open { version: 0 });
        let Task::Open { version } = task else { return };
        *version = entry.version;
        if entry.holder == 0 {
            return;
        }
        let task = TaskId { job: self.job, stage: entry.stage, task: entry.task };
        self.queue(Wanted {
            output: task.attempt(entry.number),
            holder: entry.holder,
            digest: entry.digest,
            version: entry.version,
            tries: 0,
            busy_tries: 0,
        });
    }

    /// Those whose pause is over are in the queues again.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            let wanted = first.remove();
            self.queue(wanted);
        }
    }

    /// Takes the holder whose turn it is, and up to `most` things to ask it for. [`Work::leave`] it afterwards.
    pub(super) fn take(&mut self, most: usize) -> Option<(u64, Vec<Wanted>)> {
        while let Some(number) = self.turn.pop_front() {
            if self.holders.get(&number).is_none_or(|holder| holder.asked) {
                continue;
            }
            let batch = self.next_of(number, most);
            if !batch.is_empty() {
                if let Some(holder) = self.holders.get_mut(&number) {
                    holder.asked = true;
                }
                return Some((number, batch));
            }
        }
        None
    }

    /// Nobody asks this holder any more; its turn comes again if there is something.
    pub(super) fn leave(&mut self, number: u64) {
        let Some(holder) = self.holders.get_mut(&number) else { return };
        holder.asked = false;
        if !holder.queue.is_empty() {
            self.turn.push_back(number);
        }
    }

    /// It is here.
    pub(super) fn got(&mut self, wanted: &Wanted, got: Got) {
        let key = (wanted.output.task.stage, wanted.output.task.task);
        if let Some(task @ Task::Open { .. }) = self.tasks.get_mut(&key) {
            *task = Task::Done(got);
            self.done += 1;
            self.consumed.add(key.0, key.1, &wanted.digest);
        }
    }

    /// Was not asked for after all.
    pub(super) fn give_back(&mut self, unasked: impl IntoIterator<Item = Wanted>) {
        for wanted in unasked {
            self.queue(wanted);
        }
    }

    /// A try failed. What is to be told to the master is in `reports`.
    pub(super) fn failed(&mut self, now: Instant, wanted: Wanted, fault: &Fault, reports: &mut Vec<Report>) {
        if fault.is_of_holder()
            && let Some(holder) = self.holders.get_mut(&wanted.holder)
        {
            for other in std::mem::take(&mut holder.queue) {
                self.try_failed(now, other, fault, reports);
            }
        }
        self.try_failed(now, wanted, fault, reports);
    }

    fn try_failed(&mut self, now: Instant, mut wanted: Wanted, fault: &Fault, reports: &mut Vec<Report>) {
        if !self.is_current(&wanted) {
            return;
        }
        let over = if fault.is_busy() {
            wanted.busy_tries += 1;
            wanted.busy_tries >= BUSY_TRIES_MAX
        } else {
            wanted.tries += 1;
            wanted.tries >= TRIES_MAX
        };
        let kind = fault.reported();
        if over {
            reports.push(Report { output: wanted.output, holder: wanted.holder, kind });
        }
        let pause = match kind {
            _ if !over => TRY_PAUSE,
            Reported::Unreachable | Reported::Refused => AGAIN_PAUSE,
            // The master names another one.
            Reported::NotFound | Reported::Damaged => return,
        };
        self.next_later += 1;
        self.later.insert((now + pause, self.next_later), wanted);
    }

    fn next_of(&mut self, number: u64, most: usize) -> Vec<Wanted> {
        let mut batch = Vec::new();
        while batch.len() < most {
            let next = self.holders.get_mut(&number).and_then(|holder| holder.queue.pop_front());
            match next {
                Some(wanted) if self.is_current(&wanted) => batch.push(wanted),
                Some(_) => {}
                None => break,
            }
        }
        batch
    }

    fn queue(&mut self, wanted: Wanted) {
        if !self.is_current(&wanted) {
            return;
        }
        let number = wanted.holder;
        let holder = self.holders.entry(number).or_default();
        let waits = !holder.asked && holder.queue.is_empty();
        holder.queue.push_back(wanted);
        if waits {
            self.turn.push_back(number);
        }
    }

    /// No later entry has replaced it, and it is not here yet.
    fn is_current(&self, wanted: &Wanted) -> bool {
        let key = (wanted.output.task.stage, wanted.output.task.task);
        matches!(self.tasks.get(&key), Some(Task::Open { version }) if *version == wanted.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn entry(task: u32, number: u32, holder: u64, version: u64) -> Entry {
        Entry { stage: 0, task, number, holder, digest: Bytes::new(), version }
    }

    fn work(entries: &[Entry]) -> Work<u32> {
        let mut work = Work::new(JobId([1; 16]));
        entries.iter().for_each(|entry| work.learn(entry.clone()));
        work
    }

    fn unreachable() -> Fault {
        Fault::Connect { address: "h:1".to_owned(), source: io::ErrorKind::ConnectionRefused.into() }
    }

    fn tasks(batch: &[Wanted]) -> Vec<u32> {
        batch.iter().map(|wanted| wanted.output.task.task).collect()
    }

    #[test]
    fn holders_take_turns_and_each_is_asked_by_one_at_a_time() {
        let mut work = work(&[entry(0, 0, 1, 1), entry(1, 0, 1, 2), entry(2, 0, 2, 3), entry(3, 0, 1, 4)]);
        let (first, batch) = work.take(2).expect("something");
        assert_eq!((first, tasks(&batch)), (1, vec![0, 1]));
        let (second, batch) = work.take(2).expect("something");
        assert_eq!((second, tasks(&batch)), (2, vec![2]));
        assert!(work.take(2).is_none(), "both are asked");
        work.leave(first);
        assert_eq!(work.take(2).map(|(holder, batch)| (holder, tasks(&batch))), Some((1, vec![3])));
    }

    #[test]
    fn what_fails_twice_is_reported_once_and_waits_for_another_entry() {
        let mut work = work(&[entry(0, 0, 1, 1)]);
        let (mut now, mut reports) = (Instant::now(), Vec::new());
        for tries in 1..=2 {
            let (holder, mut batch) = work.take(9).expect("a try");
            work.failed(now, batch.remove(0), &Fault::NotHere, &mut reports);
            work.leave(holder);
            assert_eq!(reports.len(), tries / 2);
            assert!(work.take(9).is_none(), "not at once");
            now += TRY_PAUSE;
            work.wake(now);
        }
        assert_eq!(reports[0].kind, Reported::NotFound);
        work.wake(now + AGAIN_PAUSE);
        assert!(work.take(9).is_none(), "it waits");
        work.learn(entry(0, 0, 0, 2));
        assert!(work.take(9).is_none(), "it is lost, and nobody has another");
        work.learn(entry(0, 1, 2, 3));
        let (holder, batch) = work.take(9).expect("another attempt's");
        assert_eq!((holder, batch[0].output.number), (2, 1));
        work.got(&batch[0], 7);
        assert_eq!((work.counts(), work.into_got().0), ((1, 1), vec![7]));
    }

    #[test]
    fn all_that_an_unreachable_holder_has_fails_with_it_and_is_tried_again_later() {
        let mut work = work(&[entry(0, 0, 1, 1), entry(1, 0, 1, 2), entry(2, 0, 1, 3)]);
        let (mut now, mut reports) = (Instant::now(), Vec::new());
        for _ in 0..2 {
            let (holder, mut batch) = work.take(1).expect("a try");
            work.failed(now, batch.remove(0), &unreachable(), &mut reports);
            work.leave(holder);
            now += TRY_PAUSE;
            work.wake(now);
        }
        assert_eq!(reports.len(), 3, "{reports:?}");
        assert!(reports.iter().all(|report| report.kind == Reported::Unreachable));
        assert!(work.take(9).is_none());
        work.wake(now + AGAIN_PAUSE);
        assert_eq!(work.take(9).map(|(_, batch)| batch.len()), Some(3));
    }

    #[test]
    fn what_was_replaced_meanwhile_is_neither_asked_for_nor_reported() {
        let mut work = work(&[entry(0, 0, 1, 1), entry(1, 0, 1, 2)]);
        let (holder, mut batch) = work.take(1).expect("the first");
        work.learn(entry(0, 1, 2, 3));
        work.learn(entry(1, 1, 2, 4));
        let mut reports = Vec::new();
        work.failed(Instant::now(), batch.remove(0), &unreachable(), &mut reports);
        work.leave(holder);
        assert!(reports.is_empty());
        let (holder, batch) = work.take(9).expect("the others");
        assert_eq!((holder, tasks(&batch)), (2, vec![0, 1]));
        // The first comes after all, from the old holder, while the new one is asked: it counts once.
        work.got(&batch[0], 1);
        work.got(&batch[0], 2);
        assert_eq!(work.counts(), (2, 1));
    }

    #[test]
    fn a_busy_holder_is_asked_again_and_again() {
        let mut work = work(&[entry(0, 0, 1, 1)]);
        let failure = gristmill_proto::messages::BulkFailure {
            kind: gristmill_proto::messages::bulk_failure::Kind::Busy as i32,
            ..Default::default()
        };
        let busy = Fault::Refused { address: "h:1".to_owned(), failure };
        let (mut now, mut reports) = (Instant::now(), Vec::new());
        for tries in 1..=BUSY_TRIES_MAX {
            assert!(reports.is_empty(), "after {tries}");
            let (holder, mut batch) = work.take(1).expect("a try");
            work.failed(now, batch.remove(0), &busy, &mut reports);
            work.leave(holder);
            now += TRY_PAUSE;
            work.wake(now);
        }
        assert_eq!(reports[0].kind, Reported::Refused);
    }
}
