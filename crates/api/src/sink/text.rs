//! Text output.

use super::{Part, Sink};
use crate::datum::Datum;
use crate::print::Print;
use gristmill_dataflow::compression::Compression;
use gristmill_dataflow::part::{FinishedPart, PartError, PartFile, PartFiles};

/// One record a line, as [`Print`] writes it; pairs as key, TAB, value. Nothing is escaped (Hadoop:
/// `TextOutputFormat`).
#[derive(Clone, Debug)]
pub struct TextOutput {
    uri: String,
    compression: Option<Compression>,
}

impl TextOutput {
    /// Part files in this directory.
    pub fn at(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), compression: None }
    }

    /// Compresses the files, whose names get the suffix: [`Compression::Zstd`] or [`Compression::Gzip`].
    pub fn compressed(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }
}

impl<T: Print> Sink<T> for TextOutput {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn format(&self) -> &'static str {
        "text"
    }

    fn open(&self, files: &PartFiles, directory: &str) -> Result<Box<dyn Part<T>>, PartError> {
        let file = files.create(directory, "", self.compression)?;
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

    fn finish(self: Box<Self>) -> Result<Vec<FinishedPart>, PartError> {
        Ok(vec![self.file.finish()?])
    }
}
