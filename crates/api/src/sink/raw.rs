//! Raw output: bytes and nothing else.

use super::{Part, Sink};
use crate::datum::Datum;
use crate::print::Print;
use gristmill_dataflow::part::{FinishedPart, PartError, PartFile, PartFiles};
use std::marker::PhantomData;

/// Key and value, one after the other, with nothing between them or after them: for records of fixed length.
#[derive(Clone, Debug)]
pub struct RawOutput {
    uri: String,
}

impl RawOutput {
    /// Part files in this directory.
    pub fn at(uri: impl Into<String>) -> Self {
        Self { uri: uri.into() }
    }
}

impl<K: Print, V: Print> Sink<(K, V)> for RawOutput {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn format(&self) -> &'static str {
        "raw bytes"
    }

    fn open(&self, files: &PartFiles, directory: &str) -> Result<Box<dyn Part<(K, V)>>, PartError> {
        let file = files.create(directory, "", None)?;
        Ok(Box::new(RawPart::<K, V> { file, pair: PhantomData }))
    }
}

struct RawPart<K, V> {
    file: PartFile,
    pair: PhantomData<fn() -> (K, V)>,
}

impl<K: Print, V: Print> Part<(K, V)> for RawPart<K, V> {
    fn write(&mut self, (key, value): <(K, V) as Datum>::Ref<'_>) -> Result<(), PartError> {
        self.file.append(|bytes| {
            K::print(key, bytes);
            V::print(value, bytes);
        })
    }

    fn finish(self: Box<Self>) -> Result<Vec<FinishedPart>, PartError> {
        Ok(vec![self.file.finish()?])
    }
}
