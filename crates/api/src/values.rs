//! The values of one key.

use crate::datum::Datum;
use crate::value_form::ValueForm;
use gristmill_dataflow::attempt::TaskError;
use gristmill_dataflow::group::Groups;
use gristmill_dataflow::group_buffer::BufferedValues;
use std::iter::Sum;
use std::marker::PhantomData;

/// The values of one key, read once, one after the other; they are never all in memory.
///
/// [`next`](Values::next) lends each value as [`Datum::Ref`] without copying it; iterating (`for value in
/// values`) yields owned values. Values come in the order of their encoded bytes, or as
/// [`sort_values_by`](crate::Keyed::sort_values_by) says.
pub struct Values<'a, V: Datum> {
    source: Source<'a>,
    form: ValueForm,
    failure: &'a mut Option<TaskError>,
    value: PhantomData<fn() -> V>,
}

enum Source<'a> {
    Group(&'a mut Groups),
    Buffer(BufferedValues<'a>),
}

impl<'a, V: Datum> Values<'a, V> {
    pub(crate) fn of_group(
        groups: &'a mut Groups,
        form: ValueForm,
        failure: &'a mut Option<TaskError>,
    ) -> Self {
        Self { source: Source::Group(groups), form, failure, value: PhantomData }
    }

    pub(crate) fn buffered(
        values: BufferedValues<'a>,
        form: ValueForm,
        failure: &'a mut Option<TaskError>,
    ) -> Self {
        Self { source: Source::Buffer(values), form, failure, value: PhantomData }
    }

    /// The next value; `None` after the last. If the values cannot be read, they end here and the task fails
    /// when the reduce function returns.
    #[expect(clippy::should_implement_trait, reason = "it lends, which Iterator cannot express")]
    pub fn next(&mut self) -> Option<V::Ref<'_>> {
        let bytes = match &mut self.source {
            Source::Group(groups) => groups.next_value(),
            Source::Buffer(values) => values.next_value(),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes?,
            Err(error) => {
                self.failure.get_or_insert(error.into());
                return None;
            }
        };
        match V::decode_all(self.form.payload(bytes)) {
            Ok(value) => Some(value),
            Err(error) => {
                let source = Box::new(error);
                self.failure.get_or_insert(TaskError::Decode { at: Default::default(), source });
                None
            }
        }
    }

    /// The sum of all values.
    pub fn sum(self) -> V
    where
        V: Sum<V>,
    {
        self.into_iter().sum()
    }

    /// How many values there are.
    pub fn count(mut self) -> u64 {
        let mut count = 0;
        while self.next().is_some() {
            count += 1;
        }
        count
    }
}

impl<'a, V: Datum> IntoIterator for Values<'a, V> {
    type Item = V;
    type IntoIter = OwnedValues<'a, V>;

    fn into_iter(self) -> OwnedValues<'a, V> {
        OwnedValues(self)
    }
}

/// Owned values, one after the other.
pub struct OwnedValues<'a, V: Datum>(Values<'a, V>);

impl<V: Datum> Iterator for OwnedValues<'_, V> {
    type Item = V;

    fn next(&mut self) -> Option<V> {
        self.0.next().map(V::own)
    }
}
