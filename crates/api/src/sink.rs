//! Where results go.

mod csv;
mod json_lines;
mod parquet;
mod partitioned;
mod raw;
mod sequence;
mod text;
pub(crate) mod tsv;

pub use csv::CsvOutput;
pub use json_lines::JsonLinesOutput;
pub use parquet::{ParquetBatchOutput, ParquetOutput};
pub use partitioned::PartitionedOutput;
pub use raw::RawOutput;
pub use sequence::SequenceOutput;
pub use text::TextOutput;
pub use tsv::TsvOutput;

use crate::datum::Datum;
use crate::pipe::{Pipe, Program, each};
use gristmill_dataflow::attempt::{Attempt, ExtraPart, TaskError};
use gristmill_dataflow::part::{FinishedPart, PartError, PartFiles};
use std::any::Any;
use std::sync::Arc;

/// A kind of output for records of type `T`: [`TextOutput`], [`TsvOutput`], [`CsvOutput`], [`JsonLinesOutput`],
/// [`ParquetOutput`], [`ParquetBatchOutput`], [`SequenceOutput`], [`RawOutput`], and each of them as a [`PartitionedOutput`].
pub trait Sink<T: Datum>: Send + Sync + 'static {
    #[doc(hidden)]
    fn uri(&self) -> &str;

    #[doc(hidden)]
    fn format(&self) -> &'static str;

    /// Begins a file below `directory` of the output, or in the output if that is empty.
    #[doc(hidden)]
    fn open(&self, files: &PartFiles, directory: &str) -> Result<Box<dyn Part<T>>, PartError>;
}

/// An open file of an output, or several.
#[doc(hidden)]
pub trait Part<T: Datum> {
    /// Writes one record.
    fn write(&mut self, record: T::Ref<'_>) -> Result<(), PartError>;

    /// Closes it.
    fn finish(self: Box<Self>) -> Result<Vec<FinishedPart>, PartError>;
}

/// A stage that ends in an output: each task writes one file, even an empty one.
pub(crate) fn output_program<T: Datum>(pipe: Pipe<T>, output: usize, sink: Arc<impl Sink<T>>) -> Program {
    Arc::new(move |input, attempt| {
        let mut part = sink.open(&attempt.part_files(output), "")?;
        let mut records = 0;
        let mut write = each::<T, _>(|record, attempt| {
            records += 1;
            if let Err(error) = part.write(record) {
                attempt.fail(error.into());
            }
        });
        pipe(input, attempt, &mut write)?;
        attempt.report.records_out += records;
        attempt.check()?;
        for file in part.finish()? {
            attempt.offer(output, file);
        }
        Ok(())
    })
}

/// An output beside the main one, made by [`Plan::extra_output`](crate::Plan::extra_output).
pub struct Extra<K: Datum, V: Datum> {
    output: usize,
    sink: Arc<dyn Sink<(K, V)>>,
}

impl<K: Datum, V: Datum> Clone for Extra<K, V> {
    fn clone(&self) -> Self {
        Self { output: self.output, sink: self.sink.clone() }
    }
}

impl<K: Datum, V: Datum> Extra<K, V> {
    pub(crate) fn new(output: usize, sink: impl Sink<(K, V)>) -> Self {
        Self { output, sink: Arc::new(sink) }
    }

    pub(crate) fn write<'r>(&self, record: (K::Ref<'r>, V::Ref<'r>), attempt: &mut Attempt) {
        if let Err(error) = self.try_write(record, attempt) {
            attempt.fail(error);
        }
    }

    fn try_write<'r>(
        &self,
        record: (K::Ref<'r>, V::Ref<'r>),
        attempt: &mut Attempt,
    ) -> Result<(), TaskError> {
        if attempt.extra(self.output).is_none() {
            let part = self.sink.open(&attempt.part_files(self.output), "")?;
            *attempt.extra(self.output) = Some(Box::new(OpenExtra::<(K, V)>(part)));
        }
        attempt.report.records_out += 1;
        let part = attempt.extra(self.output).as_mut().and_then(|part| part.as_any().downcast_mut());
        let OpenExtra::<(K, V)>(part) = part.expect("it was opened with this type");
        Ok(part.write(record)?)
    }
}

struct OpenExtra<T: Datum>(Box<dyn Part<T>>);

impl<T: Datum> ExtraPart for OpenExtra<T> {
    fn finish(self: Box<Self>) -> Result<Vec<FinishedPart>, PartError> {
        self.0.finish()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
