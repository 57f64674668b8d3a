//! One JSON value a line.

use super::{Part, Sink};
use crate::row::Row;
use gristmill_dataflow::compression::Compression;
use gristmill_dataflow::part::{FinishedPart, PartError, PartFile, PartFiles};

/// Records as JSON, a line each. Files are named `part-r-00000.jsonl`.
#[derive(Clone, Debug)]
pub struct JsonLinesOutput {
    uri: String,
    compression: Option<Compression>,
}

impl JsonLinesOutput {
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

impl<T: Row> Sink<T> for JsonLinesOutput {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn format(&self) -> &'static str {
        "JSON lines"
    }

    fn open(&self, files: &PartFiles, directory: &str) -> Result<Box<dyn Part<T>>, PartError> {
        Ok(Box::new(JsonPart { file: files.create(directory, ".jsonl", self.compression)? }))
    }
}

struct JsonPart {
    file: PartFile,
}

impl<T: Row> Part<T> for JsonPart {
    fn write(&mut self, record: T) -> Result<(), PartError> {
        let mut refused = None;
        self.file.append(|line| {
            let begins = line.len();
            match serde_json::to_writer(&mut *line, &record) {
                Ok(()) => line.push(b'\n'),
                Err(error) => {
                    line.truncate(begins);
                    refused = Some(error);
                }
            }
        })?;
        refused.map_or(Ok(()), |error| {
            let name = self.file.name().to_owned();
            Err(PartError::Format { name, format: "JSON", source: Box::new(error) })
        })
    }

    fn finish(self: Box<Self>) -> Result<Vec<FinishedPart>, PartError> {
        Ok(vec![self.file.finish()?])
    }
}
