//! Groups a sorted sequence by equal keys: what a reduce function is called with.

use crate::attempt::Progress;
use crate::merge::Merge;
use crate::run::ReadRunError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Walks over groups of equal keys, and over the values of each.
///
/// ```text
///   next_group -> Some -> next_value* -> next_group -> ... -> None
/// ```
/// Values not taken are skipped by the next call of [`Groups::next_group`].
pub struct Groups {
    merge: Merge,
    key: Vec<u8>,
    /// The record on top belongs to the current group.
    in_group: bool,
    /// The record on top has been handed out.
    taken: bool,
    records: u64,
    groups: u64,
    largest_group: u64,
    group_start: u64,
    progress: Option<Arc<Progress>>,
}

/// Progress is shown once in this many values.
const VALUES_PER_SHOW: u64 = 1024;

impl Groups {
    pub(crate) fn new(merge: Merge) -> Self {
        let (records, groups, largest_group, group_start) = (0, 0, 0, 0);
        Self {
            merge,
            key: Vec::new(),
            in_group: false,
            taken: false,
            records,
            groups,
            largest_group,
            group_start,
            progress: None,
        }
    }

    /// Shows there how many values were handed out.
    pub fn show_progress(&mut self, progress: Arc<Progress>) {
        self.progress = Some(progress);
    }

    #[cold]
    fn show(&self) {
        if let Some(progress) = &self.progress {
            progress.values.fetch_add(VALUES_PER_SHOW, Ordering::Relaxed);
        }
    }

    /// Goes to the next group; false at the end.
    pub fn next_group(&mut self) -> Result<bool, ReadRunError> {
        while self.next_value()?.is_some() {}
        self.largest_group = self.largest_group.max(self.records - self.group_start);
        let Some(top) = self.merge.top() else { return Ok(false) };
        self.key.clear();
        self.key.extend_from_slice(top.key());
        (self.in_group, self.taken) = (true, false);
        self.groups += 1;
        self.group_start = self.records;
        Ok(true)
    }

    /// The group's key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The next value of the group; `None` when it has no more.
    #[inline]
    pub fn next_value(&mut self) -> Result<Option<&[u8]>, ReadRunError> {
        self.settle()?;
        if !self.in_group {
            return Ok(None);
        }
        self.taken = true;
        self.records += 1;
        if self.records.is_multiple_of(VALUES_PER_SHOW) {
            self.show();
        }
        Ok(self.merge.top().map(|top| top.value()))
    }

    /// The next value of the group, which stays the next one.
    pub fn peek_value(&mut self) -> Result<Option<&[u8]>, ReadRunError> {
        self.settle()?;
        Ok(if self.in_group { self.merge.top().map(|top| top.value()) } else { None })
    }

    /// Drops the record that has been handed out.
    #[inline]
    fn settle(&mut self) -> Result<(), ReadRunError> {
        if self.in_group && self.taken {
            self.merge.pop()?;
            self.taken = false;
            self.in_group = self.merge.top().is_some_and(|top| top.key() == self.key);
        }
        Ok(())
    }

    /// Records handed out or skipped so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Groups so far.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// Values of the largest group so far.
    pub fn largest_group(&self) -> u64 {
        self.largest_group
    }
}
