//! An author's combine function as the data path calls it: on encoded values.

use crate::datum::{Datum, Place};
use gristmill_dataflow::fold::Fold;
use std::marker::PhantomData;

/// Widths that fit in the eight bytes of a table slot.
const WORD_BYTES_MAX: usize = 8;

pub(crate) struct TypedFold<V, F> {
    combine: F,
    value: PhantomData<fn() -> V>,
}

impl<V, F> TypedFold<V, F> {
    pub(crate) fn new(combine: F) -> Self {
        Self { combine, value: PhantomData }
    }
}

impl<V, F> Fold for TypedFold<V, F>
where
    V: Datum,
    F: Fn(&mut V, V::Ref<'_>) + Send + Sync,
{
    fn word_bytes(&self) -> Option<usize> {
        V::FIXED_BYTES.filter(|&bytes| bytes <= WORD_BYTES_MAX)
    }

    #[inline]
    fn fold_word(&self, sum: u64, value: u64) -> u64 {
        let bytes = V::FIXED_BYTES.unwrap_or(WORD_BYTES_MAX);
        let mut folded = V::own(decode::<V>(&sum.to_be_bytes()[WORD_BYTES_MAX - bytes..]));
        (self.combine)(&mut folded, decode::<V>(&value.to_be_bytes()[WORD_BYTES_MAX - bytes..]));
        // Numbers make a word of themselves and leave the scratch empty, which allocates nothing.
        folded.word(&mut Vec::new())
    }

    fn fold_all(&self, values: &mut dyn Iterator<Item = &[u8]>, out: &mut Vec<u8>) {
        let mut values = values.map(decode::<V>);
        let mut folded = V::own(values.next().expect("fold_all gets at least one value"));
        values.for_each(|value| (self.combine)(&mut folded, value));
        folded.store(Place::Last, out);
    }
}

#[inline]
fn decode<V: Datum>(bytes: &[u8]) -> V::Ref<'_> {
    V::decode_all(bytes).expect("a value decodes from its own encoding")
}
