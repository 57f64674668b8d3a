//! The reduce step: from a shuffle's groups to an author's function.

use crate::datum::Datum;
use crate::emit::Emit;
use crate::key::Key;
use crate::pipe::{Pipe, TaskInput};
use crate::value_form::ValueForm;
use crate::values::Values;
use gristmill_dataflow::attempt::{Attempt, TaskError};
use gristmill_dataflow::group::Groups;
use gristmill_dataflow::shuffle::group_parts;
use std::error::Error;
use std::sync::Arc;

/// Calls `f` for each group.
pub(crate) fn pipe<K, V, K2, V2, F>(form: ValueForm, f: F) -> Pipe<(K2, V2)>
where
    K: Key,
    V: Datum,
    K2: Datum,
    V2: Datum,
    F: Fn(K::Ref<'_>, Values<'_, V>, &mut Emit<'_, K2, V2>) -> Result<(), Box<dyn Error + Send + Sync>>
        + Send
        + Sync
        + 'static,
{
    Arc::new(move |input, attempt, consumer| {
        let mut key_copy = Vec::new();
        let mut failure = None;
        for_each_group(input, attempt, |groups, attempt| {
            let key = decode_key::<K>(groups.key(), &mut key_copy, attempt)?;
            let values = Values::of_group(groups, form, &mut failure);
            let reduced = f(key, values, &mut Emit::new(consumer, attempt));
            failure.take().map_or(Ok(()), |error| Err(placed(error, attempt)))?;
            reduced.map_err(|source| TaskError::Author { at: attempt.position.clone(), source })
        })
    })
}

/// Names the group in an error of its values, which do not know it.
pub(crate) fn placed(error: TaskError, attempt: &Attempt) -> TaskError {
    match error {
        TaskError::Decode { source, .. } => TaskError::Decode { at: attempt.position.clone(), source },
        other => other,
    }
}

/// Merges and groups a task's input, and calls `reduce` with each group.
pub(crate) fn for_each_group(
    input: &TaskInput,
    attempt: &mut Attempt,
    mut reduce: impl FnMut(&mut Groups, &mut Attempt) -> Result<(), TaskError>,
) -> Result<(), TaskError> {
    let TaskInput::Parts(parts) = input else { unreachable!("a reduce stage reads a shuffle") };
    attempt.report.bytes_in = parts.iter().map(|part| part.stored_bytes()).sum();
    let scratch = attempt.context().scratch.clone();
    let mut groups = group_parts(parts.clone(), attempt.memory(), &scratch)?;
    groups.show_progress(attempt.context().progress.clone());
    while groups.next_group()? {
        attempt.at_key(groups.key());
        reduce(&mut groups, attempt)?;
        attempt.group_done(groups.records())?;
    }
    attempt.report.records_in = groups.records();
    attempt.report.largest_group = groups.largest_group();
    Ok(())
}

/// Decodes a group's key from a copy of its own: decoding may unescape in place.
pub(crate) fn decode_key<'c, K: Key>(
    key: &[u8],
    copy: &'c mut Vec<u8>,
    attempt: &Attempt,
) -> Result<K::Ref<'c>, TaskError> {
    copy.clear();
    copy.extend_from_slice(key);
    K::decode_key_all(copy).map_err(|error| TaskError::undecodable(&attempt.position, error))
}
