//! Records of one fixed length.

use super::{Cut, Input, Sealed, Source, Uris, begin_range, for_each_range};
use crate::pipe::{Consumer, TaskInput};
use gristmill_dataflow::attempt::{Attempt, TaskError};
use gristmill_dataflow::read::FixedReader;

/// Binary records of a fixed length, one after the other (`&[u8]`). A file that ends in the middle of a record
/// fails the job.
#[derive(Clone, Debug)]
pub struct Records {
    uris: Vec<String>,
    record_bytes: usize,
}

impl Records {
    /// The records of `record_bytes` bytes in these files, directories and globs.
    ///
    /// # Panics
    /// If `record_bytes` is zero.
    #[track_caller]
    pub fn at(uris: impl Uris, record_bytes: usize) -> Self {
        assert!(record_bytes > 0, "a record has at least one byte");
        Self { uris: uris.into_uris(), record_bytes }
    }
}

impl Sealed for Records {}

impl Source for Records {
    type Item = Vec<u8>;

    fn input(&self) -> Input {
        let align_bytes = self.record_bytes as u64;
        Input::Files {
            format: "fixed-length records",
            uris: self.uris.clone(),
            cut: Cut::Records,
            align_bytes,
            headed: false,
        }
    }

    fn read(
        &self,
        input: &TaskInput,
        attempt: &mut Attempt,
        consumer: &mut Consumer<'_, Vec<u8>>,
    ) -> Result<(), TaskError> {
        for_each_range(input, attempt, None, |range, file, attempt| {
            let mut reader = FixedReader::over(file, range, self.record_bytes, attempt.memory())?;
            let before = attempt.report.bytes_in;
            begin_range(attempt, range, reader.decompressed_from());
            while let Some((offset, record)) = reader.next_record()? {
                attempt.at_offset(offset);
                consumer.take(record, attempt);
                attempt.report.bytes_in = before + reader.taken_bytes();
                attempt.record_done()?;
            }
            Ok(())
        })
    }
}
