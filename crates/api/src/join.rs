//! Joins: two datasets by key, in one shuffle. Values carry the number of their side, so that within a key all
//! of the right side come first: they are kept (on disk if they are many), and the left side streams past them.

use crate::datum::Datum;
use crate::emit::Emit;
use crate::key::Key;
use crate::keyed::{Keyed, add_shuffle};
use crate::pipe::Pipe;
use crate::reduce::{decode_key, for_each_group, placed};
use crate::value_form::ValueForm;
use crate::values::Values;
use gristmill_dataflow::attempt::{Attempt, TaskError};
use gristmill_dataflow::group::Groups;
use gristmill_dataflow::group_buffer::GroupBuffer;
use gristmill_dataflow::partition::Partitioner;
use std::sync::Arc;

/// The side that is kept sorts first.
const RIGHT: ValueForm = ValueForm::Side(0);
const RIGHT_SIDE: u8 = 0;
const LEFT: ValueForm = ValueForm::Side(1);

impl<K: Datum, V: Datum> Keyed<K, V> {
    /// Calls `f` once for each key of either side, with the values of both.
    #[track_caller]
    pub fn cogroup<W, K2, V2, F>(self, right: Keyed<K, W>, f: F) -> Keyed<K2, V2>
    where
        K: Key,
        W: Datum,
        K2: Datum,
        V2: Datum,
        F: Fn(K::Ref<'_>, Values<'_, V>, Values<'_, W>, &mut Emit<'_, K2, V2>) + Send + Sync + 'static,
    {
        let pipe: Pipe<(K2, V2)> = Arc::new(move |input, attempt, consumer| {
            let mut key_copy = Vec::new();
            let mut kept = new_buffer(attempt);
            for_each_group(input, attempt, |groups, attempt| {
                keep_right(groups, &mut kept)?;
                let (mut left_failure, mut right_failure) = (None, None);
                let key = decode_key::<K>(groups.key(), &mut key_copy, attempt)?;
                let left = Values::of_group(groups, LEFT, &mut left_failure);
                let right = Values::buffered(kept.values()?, RIGHT, &mut right_failure);
                f(key, left, right, &mut Emit::new(consumer, attempt));
                left_failure.or(right_failure).map_or(Ok(()), |error| Err(placed(error, attempt)))
            })
        });
        self.join_as("cogroup", right, pipe)
    }

    /// Calls `f` with each pair of values that have the same key on both sides. The right side should be the one
    /// with fewer values for a key.
    #[track_caller]
    pub fn join<W, K2, V2, F>(self, right: Keyed<K, W>, f: F) -> Keyed<K2, V2>
    where
        K: Key,
        W: Datum,
        K2: Datum,
        V2: Datum,
        F: Fn(K::Ref<'_>, V::Ref<'_>, W::Ref<'_>, &mut Emit<'_, K2, V2>) + Send + Sync + 'static,
    {
        let pipe = join_pipe::<K, V, W, K2, V2, _>(move |key, left, right, out: &mut Emit<'_, K2, V2>| {
            if let Some(right) = right {
                f(key, left, right, out);
            }
        });
        self.join_as::<W, K2, V2>("join", right, pipe)
    }

    /// [`join`](Self::join), and values of the left side whose key the right side has not come with `None`.
    #[track_caller]
    pub fn left_join<W, K2, V2, F>(self, right: Keyed<K, W>, f: F) -> Keyed<K2, V2>
    where
        K: Key,
        W: Datum,
        K2: Datum,
        V2: Datum,
        F: Fn(K::Ref<'_>, V::Ref<'_>, Option<W::Ref<'_>>, &mut Emit<'_, K2, V2>) + Send + Sync + 'static,
    {
        self.join_as::<W, K2, V2>("left_join", right, join_pipe::<K, V, W, K2, V2, F>(f))
    }

    #[track_caller]
    fn join_as<W, K2, V2>(self, name: &str, right: Keyed<K, W>, pipe: Pipe<(K2, V2)>) -> Keyed<K2, V2>
    where
        K: Key,
        W: Datum,
        K2: Datum,
        V2: Datum,
    {
        let (left_spec, right_spec) = (self.join_spec(), right.join_spec());
        let left_rules = matches!(right_spec.partitioner, Partitioner::Hash);
        assert!(left_rules, "the left side of a join says how it is partitioned, not the right side");
        let mut spec = left_spec;
        spec.reducers = spec.reducers.or(right_spec.reducers);
        spec.description = format!("{} and {}", spec.description, right_spec.description);
        let plan = self.pairs.plan.clone();
        let shuffle = add_shuffle(&plan, spec);
        self.feed(shuffle, LEFT);
        right.feed(shuffle, RIGHT);
        Keyed::from_shuffle(plan, shuffle, name, pipe)
    }
}

fn join_pipe<K, V, W, K2, V2, F>(f: F) -> Pipe<(K2, V2)>
where
    K: Key,
    V: Datum,
    W: Datum,
    K2: Datum,
    V2: Datum,
    F: Fn(K::Ref<'_>, V::Ref<'_>, Option<W::Ref<'_>>, &mut Emit<'_, K2, V2>) + Send + Sync + 'static,
{
    Arc::new(move |input, attempt, consumer| {
        let (mut key_bytes, mut key_copy) = (Vec::new(), Vec::new());
        let mut kept = new_buffer(attempt);
        for_each_group(input, attempt, |groups, attempt| {
            keep_right(groups, &mut kept)?;
            key_bytes.clear();
            key_bytes.extend_from_slice(groups.key());
            while let Some(left) = groups.next_value()? {
                let mut rights = kept.values()?;
                let mut matched = false;
                loop {
                    let right = rights.next_value()?;
                    if right.is_none() && matched {
                        break;
                    }
                    matched = true;
                    let none = right.is_none();
                    let right = right.map(|bytes| decode::<W>(RIGHT.payload(bytes), attempt)).transpose()?;
                    let key = decode_key::<K>(&key_bytes, &mut key_copy, attempt)?;
                    let left = decode::<V>(LEFT.payload(left), attempt)?;
                    f(key, left, right, &mut Emit::new(consumer, attempt));
                    attempt.check()?;
                    if none {
                        break;
                    }
                }
            }
            Ok(())
        })
    })
}

fn decode<'b, T: Datum>(bytes: &'b [u8], attempt: &Attempt) -> Result<T::Ref<'b>, TaskError> {
    T::decode_all(bytes).map_err(|error| TaskError::undecodable(&attempt.position, error))
}

fn new_buffer(attempt: &Attempt) -> GroupBuffer {
    GroupBuffer::new(attempt.memory(), attempt.context().scratch.clone())
}

/// Moves the right side's values, which come first, into `kept`.
fn keep_right(groups: &mut Groups, kept: &mut GroupBuffer) -> Result<(), TaskError> {
    kept.clear();
    while groups.peek_value()?.is_some_and(|value| value.first() == Some(&RIGHT_SIDE)) {
        if let Some(value) = groups.next_value()? {
            kept.push(value)?;
        }
    }
    Ok(kept.seal()?)
}
