//! Many rows as one record: Arrow's record batch.

use crate::datum::{Datum, DecodeError, Element, Place};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;

/// Rows of a table, column by column. In a shuffle it is a stream of Arrow's IPC format; mostly, a map turns it into
/// something smaller before.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch(pub RecordBatch);

impl Datum for Batch {
    type Ref<'a> = Self;

    fn encode(value: Self, place: Place, out: &mut Vec<u8>) {
        value.store(place, out);
    }

    /// # Panics
    /// If Arrow's IPC format has no place for a column's type; all that Parquet has, it has.
    fn store(&self, place: Place, out: &mut Vec<u8>) {
        let bytes = write(&self.0).expect("a batch goes into Arrow's IPC format");
        bytes.store(place, out);
    }

    fn decode(input: &mut &[u8], place: Place) -> Result<Self, DecodeError> {
        let bytes = Vec::<u8>::decode(input, place)?;
        let batch = StreamReader::try_new(bytes, None).and_then(|mut batches| batches.next().transpose());
        match batch {
            Ok(Some(batch)) => Ok(Self(batch)),
            Ok(None) => Err(DecodeError::Truncated { what: "a batch", needed_bytes: 1, found_bytes: 0 }),
            Err(source) => Err(DecodeError::Batch { source }),
        }
    }

    fn own(value: Self) -> Self {
        value
    }
}

impl Element for Batch {}

fn write(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    writer.into_inner()
}
