//! How records flow through the steps of one stage: each step calls the next for each record. Steps are typed
//! closures, so nothing is encoded between them; bytes begin where a shuffle or an output begins.

use crate::datum::Datum;
use crate::emit::Emit;
use gristmill_dataflow::attempt::{Attempt, TaskError};
use gristmill_dataflow::run::RunPart;
use gristmill_dataflow::split::Split;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// What takes the records of a step: the next step.
pub trait Consume<T: Datum> {
    /// Takes one record.
    fn take(&mut self, record: T::Ref<'_>, attempt: &mut Attempt);
}

/// Any consumer.
pub(crate) type Consumer<'c, T> = dyn Consume<T> + 'c;

/// A closure as a consumer.
pub(crate) struct Each<T, F> {
    f: F,
    record: PhantomData<fn(T)>,
}

/// Makes a consumer of a closure. (A bare closure would not do: the compiler does not see through
/// `dyn FnMut(T::Ref<'_>)` when `T` is a pair.)
#[inline]
pub(crate) fn each<T: Datum, F: FnMut(T::Ref<'_>, &mut Attempt)>(f: F) -> Each<T, F> {
    Each { f, record: PhantomData }
}

impl<T: Datum, F: FnMut(T::Ref<'_>, &mut Attempt)> Consume<T> for Each<T, F> {
    #[inline]
    fn take(&mut self, record: T::Ref<'_>, attempt: &mut Attempt) {
        (self.f)(record, attempt);
    }
}

/// All steps so far: reads a task's input and calls the consumer for each record.
pub(crate) type Pipe<T> =
    Arc<dyn Fn(&TaskInput, &mut Attempt, &mut Consumer<'_, T>) -> Result<(), TaskError> + Send + Sync>;

/// A whole stage: all steps, the last of which ends in a shuffle or an output.
pub(crate) type Program = Arc<dyn Fn(&TaskInput, &mut Attempt) -> Result<(), TaskError> + Send + Sync>;

/// What one task reads.
pub enum TaskInput {
    /// Pieces of files.
    Split(Split),
    /// Numbers that stand for generated records.
    Rows(Range<u64>),
    /// A reduce partition of each map output.
    Parts(Vec<RunPart>),
}

/// Appends a step that is called for each record.
pub(crate) fn then<T, K, V, F>(pipe: &Pipe<T>, step: Arc<F>) -> Pipe<(K, V)>
where
    T: Datum,
    K: Datum,
    V: Datum,
    F: Fn(T::Ref<'_>, &mut Emit<'_, K, V>) + Send + Sync + 'static,
{
    let pipe = pipe.clone();
    Arc::new(move |input, attempt, consumer| {
        pipe(
            input,
            attempt,
            &mut each::<T, _>(|record, attempt| step(record, &mut Emit::new(consumer, attempt))),
        )
    })
}
