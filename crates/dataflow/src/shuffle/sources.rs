//! Where map outputs are, as the master has said so far.

use bytes::Bytes;
use gristmill_proto::task::Outputs;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where map outputs are: filled by whoever reads the daemon's messages, waited for by fetches. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

/// Holds an entry for each map task at most.
#[derive(Debug, Default)]
struct State {
    shuffles: HashMap<u32, Known>,
    addresses: HashMap<u64, String>,
    /// Of the last entry that was learnt.
    version: u64,
    closed: bool,
    /// Rises with each [`Sources::nudge`].
    nudges: u64,
}

#[derive(Debug, Default)]
struct Known {
    expected: u32,
    cuts: Bytes,
    entries: BTreeMap<(u32, u32), Entry>,
    /// Tasks by the version of their entries.
    by_version: BTreeMap<u64, (u32, u32)>,
}

/// Who has the map output of one task.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) stage: u32,
    pub(super) task: u32,
    pub(super) number: u32,
    /// 0: lost.
    pub(super) holder: u64,
    /// Empty: not known.
    pub(super) digest: Bytes,
    /// Rises with each entry that is learnt.
    pub(super) version: u64,
}

/// What is known of a shuffle, and which entries are new.
#[derive(Debug)]
pub(super) struct News {
    /// Map tasks, once anything is known.
    pub(super) expected: Option<u32>,
    /// Empty: not known yet.
    pub(super) cuts: Bytes,
    pub(super) entries: Vec<Entry>,
    /// All later entries have higher ones.
    pub(super) version: u64,
    /// Nothing more will be learnt.
    pub(super) closed: bool,
    /// How often somebody was nudged.
    pub(super) nudges: u64,
}

impl News {
    /// What one knows who has not asked yet.
    pub(super) fn none() -> Self {
        Self { expected: None, cuts: Bytes::new(), entries: Vec::new(), version: 0, closed: false, nudges: 0 }
    }
}

impl Sources {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what the master says. A later entry of a map task replaces the earlier.
    pub fn learn(&self, news: &Outputs) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for holder in &news.holders {
            state.addresses.insert(holder.worker, holder.address.clone());
        }
        let known = state.shuffles.entry(news.shuffle).or_default();
        known.expected = known.expected.max(news.expected);
        if !news.cuts.is_empty() {
            known.cuts = news.cuts.clone();
        }
        for entry in &news.entries {
            state.version += 1;
            known.learn(Entry {
                stage: entry.stage,
                task: entry.task,
                number: entry.number,
                holder: entry.holder,
                digest: entry.digest.clone(),
                version: state.version,
            });
        }
        drop(guard);
        self.inner.changed.notify_all();
    }

    /// Nothing more will be learnt: who waits for more fails.
    pub fn close(&self) {
        self.lock().closed = true;
        self.inner.changed.notify_all();
    }

    /// Whoever waits for news looks up: something else has happened.
    pub(super) fn nudge(&self) {
        self.lock().nudges += 1;
        self.inner.changed.notify_all();
    }

    /// What there is of `shuffle` after the news `last`, or after a wait for it of at most `patience`.
    pub(super) fn news(&self, shuffle: u32, last: &News, patience: Duration) -> News {
        let since = last.version;
        let state = self.lock();
        let nothing_new = |state: &mut State| {
            let known = state.shuffles.get(&shuffle);
            let quiet = !state.closed && state.nudges == last.nudges;
            let same = |known: &Known| Some(known.expected) == last.expected && known.cuts == last.cuts;
            quiet
                && known
                    .is_none_or(|known| same(known) && known.by_version.range(since + 1..).next().is_none())
        };
        let waited = self.inner.changed.wait_timeout_while(state, patience, nothing_new);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let known = state.shuffles.get(&shuffle);
        let entries = known.map_or_else(Vec::new, |known| {
            known
                .by_version
                .range(since + 1..)
                .filter_map(|(_, task)| known.entries.get(task))
                .cloned()
                .collect()
        });
        News {
            expected: known.map(|known| known.expected),
            cuts: known.map_or_else(Bytes::new, |known| known.cuts.clone()),
            entries,
            version: state.version,
            closed: state.closed,
            nudges: state.nudges,
        }
    }

    /// HOST:PORT of a worker's shuffle listener, if it was ever named.
    pub(super) fn address(&self, holder: u64) -> Option<String> {
        self.lock().addresses.get(&holder).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn learn(&mut self, entry: Entry) {
        let task = (entry.stage, entry.task);
        self.by_version.insert(entry.version, task);
        if let Some(earlier) = self.entries.insert(task, entry) {
            self.by_version.remove(&earlier.version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::task::{Holder, OutputEntry};

    fn page(task: u32, number: u32, holder: u64) -> Outputs {
        let entry = OutputEntry { stage: 0, task, number, holder, ..OutputEntry::default() };
        let holders = vec![Holder { worker: holder, address: format!("h{holder}:1") }];
        Outputs { shuffle: 3, entries: vec![entry], holders, expected: 2, ..Outputs::default() }
    }

    #[test]
    fn a_later_entry_replaces_the_earlier_and_is_news() {
        let sources = Sources::new();
        let news = |last: &News| sources.news(3, last, Duration::ZERO);
        assert_eq!(news(&News::none()).expected, None);
        sources.learn(&page(0, 0, 1));
        sources.learn(&page(1, 0, 2));
        let first = news(&News::none());
        assert_eq!((first.expected, first.entries.len()), (Some(2), 2));
        assert!(news(&first).entries.is_empty());
        sources.learn(&page(0, 1, 2));
        let second = news(&first);
        assert_eq!(second.entries.len(), 1);
        assert_eq!((second.entries[0].task, second.entries[0].number), (0, 1));
        assert_eq!(news(&News::none()).entries.len(), 2, "each task has one entry");
        assert_eq!(sources.address(2).as_deref(), Some("h2:1"));
        assert!(sources.news(4, &first, Duration::ZERO).entries.is_empty(), "another shuffle");
    }

    #[test]
    fn who_waits_is_woken_by_news_by_a_nudge_and_by_the_end() {
        let sources = Sources::new();
        let wait = |last: News| {
            let sources = sources.clone();
            std::thread::spawn(move || sources.news(3, &last, Duration::from_secs(60)))
        };
        let waiting = wait(News::none());
        sources.learn(&page(0, 0, 1));
        let mut news = waiting.join().expect("no panic");
        assert_eq!(news.entries.len(), 1);
        let waiting = wait(News { entries: Vec::new(), cuts: news.cuts.clone(), ..news });
        sources.nudge();
        news = waiting.join().expect("no panic");
        assert!(news.entries.is_empty() && !news.closed);
        let waiting = wait(news);
        sources.close();
        assert!(waiting.join().expect("no panic").closed);
    }
}
