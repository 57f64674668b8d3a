//! Text output.

use super::{Part, Sink};
use crate::datum::Datum;
use crate::print::Print;
use gristmill_dataflow::part::{FinishedPart, PartError, PartFile};

/// One record a line, as [`Print`] writes it; pairs as key, TAB, value. Nothing is escaped (Hadoop:
/// `TextOutputFormat`).
#[derive(Clone, Debug)]
pub struct TextOutput {
    uri: String,
}

impl TextOutput {
    /// Part files in this directory.
    pub fn at(uri: impl Into<String>) -> Self {
        Self { uri: uri.into() }
    }
}

impl<T: Print> Sink<T> for TextOutput {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn format(&self) -> &'static str {
        "text"
    }

    fn open(&self, file: PartFile) -> Result<Box<dyn Part<T>>, PartError> {
        Ok(Box::new(TextPart { file }))
    }
}

struct TextPart {
    file: PartFile,
}

impl<T: Datum + Print> Part<T> for TextPart {
    fn write(&mut self, record: T::Ref<'_>) -> Result<(), PartError> {
        self.file.append(|line| {
            T::print(record, line);
            line.push(b'\n');
        })
    }

    fn finish(self: Box<Self>) -> Result<FinishedPart, PartError> {
        self.file.finish()
    }
}
