//! Gristmill's own files of pairs.

use super::{Cut, Input, Sealed, Source, Uris, for_each_range};
use crate::datum::Datum;
use crate::pipe::{Consumer, TaskInput};
use gristmill_dataflow::attempt::{Attempt, TaskError};
use gristmill_dataflow::read::SequenceReader;
use std::marker::PhantomData;

/// Pairs from sequence files, as [`SequenceOutput`](crate::SequenceOutput) writes them. They are read back as
/// the types that were written; other types are an error, or garbage if their encodings happen to fit.
pub struct Sequence<K, V> {
    uris: Vec<String>,
    pair: PhantomData<fn() -> (K, V)>,
}

impl<K: Datum, V: Datum> Sequence<K, V> {
    /// The pairs of these files, directories and globs.
    pub fn at(uris: impl Uris) -> Self {
        Self { uris: uris.into_uris(), pair: PhantomData }
    }
}

impl<K: Datum, V: Datum> Sealed for Sequence<K, V> {}

impl<K: Datum, V: Datum> Source for Sequence<K, V> {
    type Item = (K, V);

    fn input(&self) -> Input {
        Input::Files {
            format: "sequences",
            uris: self.uris.clone(),
            cut: Cut::Blocks,
            align_bytes: 1,
            headed: true,
        }
    }

    fn read(
        &self,
        input: &TaskInput,
        attempt: &mut Attempt,
        consumer: &mut Consumer<'_, (K, V)>,
    ) -> Result<(), TaskError> {
        for_each_range(input, attempt, None, |range, file, attempt| {
            let mut reader = SequenceReader::over(file, range)?;
            while let Some((offset, key, value)) = reader.next_record()? {
                attempt.at_offset(offset);
                let failed = |error| TaskError::undecodable(&attempt.position, error);
                let pair = (K::decode_all(key).map_err(failed)?, V::decode_all(value).map_err(failed)?);
                consumer.take(pair, attempt);
                attempt.record_done()?;
            }
            Ok(())
        })
    }
}
