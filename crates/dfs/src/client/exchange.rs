//! The calls in flight, over all streams of one client. Pure: the time is an argument.

use std::collections::BTreeMap;
use std::time::Instant;

use gristmill_proto::namespace::Call;
use gristmill_proto::namespace::call::Request;
use prost::Message;

/// Calls of one message: what is answered together waits together, and a batch of this size costs nothing more.
const BATCH_CALLS_MAX: usize = 512;
/// Bytes of one message, unless a single call is longer.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// All calls without an answer. `W` is who waits for it.
///
/// Sequences rise from 1, and calls are sent in their order, so that what was sent on the present stream is a prefix.
pub(crate) struct Exchange<W> {
    next_sequence: u64,
    /// Calls from here on were not sent on the present stream.
    unsent_from: u64,
    waiting: BTreeMap<u64, Waiting<W>>,
}

/// One call without an answer.
pub(crate) struct Waiting<W> {
    pub(crate) request: Request,
    pub(crate) waiter: W,
    /// When it was asked.
    pub(crate) since: Instant,
    /// It left on some stream: a change may have been made.
    pub(crate) sent: bool,
}

impl<W> Exchange<W> {
    pub(crate) fn new() -> Exchange<W> {
        Exchange { next_sequence: 1, unsent_from: 1, waiting: BTreeMap::new() }
    }

    /// Takes a call in. It is sent with the next batch.
    pub(crate) fn add(&mut self, request: Request, now: Instant, waiter: W) {
        let waiting = Waiting { request, waiter, since: now, sent: false };
        self.waiting.insert(self.next_sequence, waiting);
        self.next_sequence += 1;
    }

    /// Whether there is a call to send on the present stream.
    pub(crate) fn has_unsent(&self) -> bool {
        self.waiting.last_key_value().is_some_and(|(&last, _)| last >= self.unsent_from)
    }

    /// The next calls to send on the present stream, in order; empty if all are on their way.
    pub(crate) fn next_batch(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        let mut bytes = 0;
        for (&sequence, waiting) in self.waiting.range_mut(self.unsent_from..) {
            let call = Call { sequence, request: Some(waiting.request.clone()) };
            bytes += call.encoded_len();
            if !calls.is_empty() && bytes > BATCH_BYTES_MAX {
                break;
            }
            waiting.sent = true;
            self.unsent_from = sequence + 1;
            calls.push(call);
            if calls.len() == BATCH_CALLS_MAX {
                break;
            }
        }
        calls
    }

    /// All calls with a smaller sequence are answered, or given up.
    pub(crate) fn settled_below(&self) -> u64 {
        self.waiting.first_key_value().map_or(self.next_sequence, |(&sequence, _)| sequence)
    }

    /// Takes out the call that was answered; `None`: nobody waits for it any more.
    pub(crate) fn answered(&mut self, sequence: u64) -> Option<Waiting<W>> {
        self.waiting.remove(&sequence)
    }

    /// The stream is gone: all calls without an answer are to be sent again on the next.
    pub(crate) fn stream_lost(&mut self) {
        self.unsent_from = 0;
    }

    /// Takes out the calls that were asked at `limit` or before. They are in order, so this stops at the first younger one.
    pub(crate) fn expired(&mut self, limit: Instant) -> Vec<Waiting<W>> {
        let mut expired = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            if first.get().since > limit {
                break;
            }
            expired.push(first.remove());
        }
        expired
    }

    /// Takes out all calls.
    pub(crate) fn give_up(&mut self) -> Vec<Waiting<W>> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gristmill_proto::namespace::Stat;

    use super::*;

    fn stat(path: &str) -> Request {
        Request::Stat(Stat { path: path.to_owned() })
    }

    fn sequences(calls: &[Call]) -> Vec<u64> {
        calls.iter().map(|call| call.sequence).collect()
    }

    #[test]
    fn queued_calls_leave_together_and_once() {
        let mut exchange = Exchange::new();
        let now = Instant::now();
        for waiter in 0..3 {
            exchange.add(stat("/a"), now, waiter);
        }
        assert_eq!(sequences(&exchange.next_batch()), [1, 2, 3]);
        assert!(exchange.next_batch().is_empty());
        exchange.add(stat("/b"), now, 3);
        assert_eq!(sequences(&exchange.next_batch()), [4]);
    }

    #[test]
    fn what_is_settled_rises_with_the_oldest_call() {
        let mut exchange = Exchange::new();
        for waiter in 0..3 {
            exchange.add(stat("/a"), Instant::now(), waiter);
        }
        assert_eq!(exchange.settled_below(), 1);
        assert_eq!(exchange.answered(2).map(|waiting| waiting.waiter), Some(1));
        assert!(exchange.answered(2).is_none(), "an answer counts once");
        assert_eq!(exchange.settled_below(), 1);
        assert!(exchange.answered(1).is_some());
        assert_eq!(exchange.settled_below(), 3);
        assert!(exchange.answered(3).is_some());
        assert_eq!(exchange.settled_below(), 4, "all that were ever asked");
    }

    #[test]
    fn a_new_stream_gets_all_that_is_unanswered_under_the_same_sequences() {
        let mut exchange = Exchange::new();
        for waiter in 0..4 {
            exchange.add(stat("/a"), Instant::now(), waiter);
        }
        assert_eq!(exchange.next_batch().len(), 4);
        assert!(exchange.answered(2).is_some());
        exchange.stream_lost();
        exchange.add(stat("/b"), Instant::now(), 4);
        assert_eq!(sequences(&exchange.next_batch()), [1, 3, 4, 5]);
    }

    #[test]
    fn batches_are_bounded() {
        let mut exchange = Exchange::new();
        for waiter in 0..BATCH_CALLS_MAX + 1 {
            exchange.add(stat("/a"), Instant::now(), waiter);
        }
        assert_eq!(exchange.next_batch().len(), BATCH_CALLS_MAX);
        assert_eq!(exchange.next_batch().len(), 1);

        let long = "x".repeat(BATCH_BYTES_MAX / 2);
        exchange.add(stat(&long), Instant::now(), 0);
        exchange.add(stat(&long.repeat(3)), Instant::now(), 0);
        exchange.add(stat("/a"), Instant::now(), 0);
        let sizes: Vec<usize> = (0..3).map(|_| exchange.next_batch().len()).collect();
        assert_eq!(sizes, [1, 1, 1], "a call that is too long for a batch leaves alone");
    }

    #[test]
    fn old_calls_expire_in_order_and_remember_whether_they_left() {
        let mut exchange = Exchange::new();
        let start = Instant::now();
        exchange.add(stat("/a"), start, 0);
        assert_eq!(exchange.next_batch().len(), 1);
        exchange.add(stat("/b"), start + Duration::from_secs(1), 1);
        exchange.add(stat("/c"), start + Duration::from_secs(3), 2);
        let expired = exchange.expired(start + Duration::from_secs(2));
        let seen: Vec<(i32, bool)> = expired.iter().map(|call| (call.waiter, call.sent)).collect();
        assert_eq!(seen, [(0, true), (1, false)]);
        assert_eq!(exchange.settled_below(), 3);
        assert_eq!(exchange.give_up().len(), 1);
    }
}
