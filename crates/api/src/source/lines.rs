//! Lines of text.

use super::{Cut, Input, Sealed, Source, Uris, begin_range, for_each_range};
use crate::dataset::BadRecords;
use crate::pipe::{Consumer, TaskInput};
use gristmill_dataflow::attempt::{Attempt, TaskError};
use gristmill_dataflow::read::LineReader;
use std::str::Utf8Error;
use std::sync::Arc;
use thiserror::Error;

/// Lines as bytes (`&[u8]`), without their ends. LF and CRLF end lines; the last line needs no end.
#[derive(Clone, Debug)]
pub struct Lines {
    uris: Vec<String>,
    bad: Arc<BadRecords>,
}

impl Lines {
    /// The lines of these files, directories and globs.
    pub fn at(uris: impl Uris) -> Self {
        Self { uris: uris.into_uris(), bad: BadRecords::none() }
    }

    /// Skips the rests of up to `limit` damaged or truncated compressed files, over all tasks; the job's report counts each as
    /// a bad record.
    pub fn skip_damaged(self, limit: u64) -> Self {
        self.bad.allow(limit);
        self
    }
}

impl Sealed for Lines {}

impl Source for Lines {
    type Item = Vec<u8>;

    fn input(&self) -> Input {
        Input::Files {
            format: "lines",
            uris: self.uris.clone(),
            cut: Cut::Lines,
            align_bytes: 1,
            headed: false,
        }
    }

    fn bad_records(&self) -> Option<Arc<BadRecords>> {
        Some(self.bad.clone())
    }

    fn read(
        &self,
        input: &TaskInput,
        attempt: &mut Attempt,
        consumer: &mut Consumer<'_, Vec<u8>>,
    ) -> Result<(), TaskError> {
        for_each_line(input, attempt, Some(&self.bad), |line, attempt| {
            consumer.take(line, attempt);
            Ok(())
        })
    }
}

/// Lines as text (`&str`), without their ends. A line that is not valid UTF-8 fails the job, naming file and
/// offset, unless [`Text::lossy`] is asked for.
#[derive(Clone, Debug)]
pub struct Text {
    uris: Vec<String>,
    lossy: bool,
    bad: Arc<BadRecords>,
}

impl Text {
    /// The lines of these files, directories and globs.
    pub fn at(uris: impl Uris) -> Self {
        Self { uris: uris.into_uris(), lossy: false, bad: BadRecords::none() }
    }

    /// Replaces what is not valid UTF-8 by U+FFFD.
    pub fn lossy(mut self) -> Self {
        self.lossy = true;
        self
    }

    /// Skips the rests of up to `limit` damaged or truncated compressed files, over all tasks; the job's report counts each as
    /// a bad record.
    pub fn skip_damaged(self, limit: u64) -> Self {
        self.bad.allow(limit);
        self
    }
}

/// A line of [`Text`] that is none.
#[derive(Debug, Error)]
#[error("{source}; read it as Lines, or as Text with .lossy()")]
struct NotText {
    #[source]
    source: Utf8Error,
}

impl Sealed for Text {}

impl Source for Text {
    type Item = String;

    fn input(&self) -> Input {
        let format = if self.lossy { "lossy text" } else { "text" };
        Input::Files { format, uris: self.uris.clone(), cut: Cut::Lines, align_bytes: 1, headed: false }
    }

    fn bad_records(&self) -> Option<Arc<BadRecords>> {
        Some(self.bad.clone())
    }

    fn read(
        &self,
        input: &TaskInput,
        attempt: &mut Attempt,
        consumer: &mut Consumer<'_, String>,
    ) -> Result<(), TaskError> {
        for_each_line(input, attempt, Some(&self.bad), |line, attempt| match std::str::from_utf8(line) {
            Ok(line) => {
                consumer.take(line, attempt);
                Ok(())
            }
            Err(_) if self.lossy => {
                consumer.take(&String::from_utf8_lossy(line), attempt);
                Ok(())
            }
            Err(source) => {
                let (at, source) = (attempt.position.clone(), Box::new(NotText { source }));
                Err(TaskError::Decode { at, source })
            }
        })
    }
}

/// Calls `take` with each line of the task.
#[inline]
pub(super) fn for_each_line(
    input: &TaskInput,
    attempt: &mut Attempt,
    bad: Option<&BadRecords>,
    mut take: impl FnMut(&[u8], &mut Attempt) -> Result<(), TaskError>,
) -> Result<(), TaskError> {
    for_each_range(input, attempt, bad, |range, file, attempt| {
        let mut reader = LineReader::over(file, range, attempt.memory())?;
        let before = attempt.report.bytes_in;
        let from = reader.decompressed_from();
        begin_range(attempt, range, from);
        while let Some((offset, line)) = reader.next_line()? {
            attempt.at_offset(offset);
            // How much of a compressed file was read is known to its reader alone, whom the line keeps borrowed.
            if from.is_none() {
                attempt.report.bytes_in = before + (offset - range.start);
            }
            take(line, attempt)?;
            if from.is_some() {
                attempt.report.bytes_in = before + reader.taken_bytes();
            }
            attempt.record_done()?;
        }
        Ok(())
    })
}
