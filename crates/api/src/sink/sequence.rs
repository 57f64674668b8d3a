//! Sequence output: pairs in their encodings.

use super::{Part, Sink};
use crate::datum::Datum;
use gristmill_dataflow::part::{FinishedPart, PartError, PartFiles, SequencePart};
use std::marker::PhantomData;

/// Pairs in Gristmill's own files: checksummed, compressed, splittable; [`Sequence`](crate::Sequence) reads them.
#[derive(Clone, Debug)]
pub struct SequenceOutput {
    uri: String,
}

impl SequenceOutput {
    /// Part files in this directory.
    pub fn at(uri: impl Into<String>) -> Self {
        Self { uri: uri.into() }
    }
}

impl<K: Datum, V: Datum> Sink<(K, V)> for SequenceOutput {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn format(&self) -> &'static str {
        "sequences"
    }

    fn open(&self, files: &PartFiles, directory: &str) -> Result<Box<dyn Part<(K, V)>>, PartError> {
        let file = SequencePart::new(files.create(directory, "", None)?)?;
        Ok(Box::new(PairPart::<K, V> { file, key: Vec::new(), value: Vec::new(), pair: PhantomData }))
    }
}

struct PairPart<K, V> {
    file: SequencePart,
    key: Vec<u8>,
    value: Vec<u8>,
    pair: PhantomData<fn() -> (K, V)>,
}

impl<K: Datum, V: Datum> Part<(K, V)> for PairPart<K, V> {
    fn write(&mut self, (key, value): <(K, V) as Datum>::Ref<'_>) -> Result<(), PartError> {
        self.file.push(K::bytes(key, &mut self.key), V::bytes(value, &mut self.value))
    }

    fn finish(self: Box<Self>) -> Result<Vec<FinishedPart>, PartError> {
        Ok(vec![self.file.finish()?])
    }
}
