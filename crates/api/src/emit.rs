//! What a map or reduce function writes to.

use crate::counter::Counter;
use crate::datum::Datum;
use crate::pipe::Consumer;
use crate::sink::Extra;
use gristmill_dataflow::attempt::{Attempt, Position};
use std::path::Path;
use std::sync::atomic::Ordering;

/// Takes the pairs that a map or reduce function emits, its counts, and its extra outputs.
///
/// Everything that goes through `Emit` belongs to the attempt: it commits or vanishes with it.
pub struct Emit<'e, K: Datum, V: Datum> {
    consumer: &'e mut Consumer<'e, (K, V)>,
    attempt: &'e mut Attempt,
}

impl<'e, K: Datum, V: Datum> Emit<'e, K, V> {
    #[inline]
    pub(crate) fn new(consumer: &'e mut Consumer<'_, (K, V)>, attempt: &'e mut Attempt) -> Self {
        Self { consumer, attempt }
    }

    /// Emits one pair.
    #[inline]
    pub fn emit<'r>(&mut self, key: K::Ref<'r>, value: V::Ref<'r>) {
        self.consumer.take((key, value), self.attempt);
    }

    /// Writes one pair to an extra output of the plan.
    pub fn emit_to<'r, K2: Datum, V2: Datum>(
        &mut self,
        output: &Extra<K2, V2>,
        key: K2::Ref<'r>,
        value: V2::Ref<'r>,
    ) {
        output.write((key, value), self.attempt);
    }

    /// Adds `amount` to a counter.
    #[inline]
    pub fn count(&mut self, counter: Counter, amount: u64) {
        let value = &mut self.attempt.report.counters[counter.number];
        *value = value.wrapping_add(amount);
    }

    /// Says that the function has moved so many bytes by its own means, as one that copies files does: an attempt that shows no
    /// progress for long is taken for stuck. False: nobody wants the attempt any more, and the function may end early.
    pub fn advance(&mut self, bytes: u64) -> bool {
        let context = self.attempt.context();
        context.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        !context.cancel.load(Ordering::Relaxed)
    }

    /// Where the current record stands: the file, and its byte offset; in compressed files, in what was decompressed. `None` in reduce functions and for
    /// generated rows.
    pub fn place(&self) -> Option<(&Path, u64)> {
        match &self.attempt.position {
            Position::Offset { uri, offset } | Position::Decompressed { uri, offset, .. } => {
                Some((uri.path(), *offset))
            }
            Position::Start | Position::Row(_) | Position::Key(_) => None,
        }
    }

    pub(crate) fn attempt(&mut self) -> &mut Attempt {
        self.attempt
    }
}
