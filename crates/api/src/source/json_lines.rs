//! One JSON value a line.

use super::lines::for_each_line;
use super::{Cut, Input, Sealed, Source, Uris};
use crate::dataset::BadRecords;
use crate::pipe::{Consumer, TaskInput};
use crate::row::Row;
use gristmill_dataflow::attempt::{Attempt, TaskError};
use std::marker::PhantomData;
use std::sync::Arc;

/// Records from lines that are JSON each (<https://jsonlines.org>); blank lines are skipped. A line that does not become a `T`
/// fails the job, naming file and offset, unless [`skip_bad`](JsonLines::skip_bad) allows it.
#[derive(Clone, Debug)]
pub struct JsonLines<T> {
    uris: Vec<String>,
    bad: Arc<BadRecords>,
    record: PhantomData<fn() -> T>,
}

impl<T: Row> JsonLines<T> {
    /// The records of these files, directories and globs.
    pub fn at(uris: impl Uris) -> Self {
        Self { uris: uris.into_uris(), bad: BadRecords::none(), record: PhantomData }
    }

    /// Skips up to `limit` lines, over all tasks, that are not as they should be, and rests of damaged files, each counted as
    /// one record; the job's report counts them.
    pub fn skip_bad(self, limit: u64) -> Self {
        self.bad.allow(limit);
        self
    }
}

impl<T: Row> Sealed for JsonLines<T> {}

impl<T: Row> Source for JsonLines<T> {
    type Item = T;

    fn input(&self) -> Input {
        let (uris, cut) = (self.uris.clone(), Cut::Lines);
        Input::Files { format: "JSON lines", uris, cut, align_bytes: 1, headed: false }
    }

    fn bad_records(&self) -> Option<Arc<BadRecords>> {
        Some(self.bad.clone())
    }

    fn read(
        &self,
        input: &TaskInput,
        attempt: &mut Attempt,
        consumer: &mut Consumer<'_, T>,
    ) -> Result<(), TaskError> {
        for_each_line(input, attempt, Some(&self.bad), |line, attempt| {
            if !line.trim_ascii().is_empty() {
                match serde_json::from_slice(line) {
                    Ok(record) => consumer.take(record, attempt),
                    Err(error) => self.bad.undecodable(error, attempt),
                }
            }
            Ok(())
        })
    }
}
