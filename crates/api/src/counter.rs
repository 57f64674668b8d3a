//! Counters.

/// A named sum over all committed attempts of a job. Made by [`Plan::counter`](crate::Plan::counter) or
/// [`Dataset::counter`](crate::Dataset::counter); the same name is the same counter. Sums wrap at 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    pub(crate) number: usize,
}
