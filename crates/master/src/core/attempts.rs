//! The attempts that are to do a task: none, one, or one and its twin. The first that is done wins.

use gristmill_proto::ids::WorkerId;

/// An attempt that is to do a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    pub(super) number: u32,
    pub(super) worker: WorkerId,
    /// Rises with each launch: the youngest has the highest.
    pub(super) launch: u64,
    /// It was launched beside one that is slow.
    pub(super) is_twin: bool,
}

/// At most two, on different workers if they are twins.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    first: Option<Attached>,
    /// Only beside a first. There may be a million tasks, and few have a second attempt.
    second: Option<Box<Attached>>,
}

impl Attempts {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn has_room(&self) -> bool {
        self.second.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Attached> + '_ {
        self.first.iter().chain(self.second.as_deref()).copied()
    }

    pub(super) fn get(&self, number: u32) -> Option<Attached> {
        self.iter().find(|attached| attached.number == number)
    }

    /// The only one.
    pub(super) fn sole(&self) -> Option<Attached> {
        self.first.filter(|_| self.second.is_none())
    }

    pub(super) fn insert(&mut self, attached: Attached) {
        assert!(self.has_room(), "a task has at most two attempts");
        match self.first {
            None => self.first = Some(attached),
            Some(_) => self.second = Some(Box::new(attached)),
        }
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Attached> {
        if let Some(second) = self.second.take_if(|second| second.number == number) {
            return Some(*second);
        }
        let removed = self.first.take_if(|first| first.number == number)?;
        self.first = self.second.take().map(|second| *second);
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(number: u32) -> Attached {
        Attached { number, worker: WorkerId(1), launch: 0, is_twin: false }
    }

    #[test]
    fn one_goes_and_the_other_stays_whichever_it_is() {
        for gone in [0, 1] {
            let mut attempts = Attempts::default();
            attempts.insert(attached(0));
            assert_eq!(attempts.sole(), Some(attached(0)));
            attempts.insert(attached(1));
            assert_eq!((attempts.sole(), attempts.has_room()), (None, false));
            assert_eq!(attempts.remove(7), None);
            assert_eq!(attempts.remove(gone), Some(attached(gone)));
            assert_eq!(attempts.sole(), Some(attached(1 - gone)));
            assert_eq!(attempts.remove(1 - gone), Some(attached(1 - gone)));
            assert!(attempts.is_empty() && attempts.has_room());
        }
    }
}
