//! Lines of a key, a TAB and a value.

use super::lines::for_each_line;
use super::{Cut, Input, Sealed, Source, Uris};
use crate::pipe::{Consumer, TaskInput};
use crate::sink::tsv::unescape;
use gristmill_dataflow::attempt::{Attempt, TaskError};
use std::borrow::Cow;

/// Text lines of a key, a TAB and a value (`(&str, &str)`), as [`TsvOutput`](crate::TsvOutput) writes them:
/// `\t`, `\n`, `\r` and `\\` stand for TAB, LF, CR and backslash. A line without TAB is a key with an empty
/// value (Hadoop: `KeyValueTextInputFormat`).
#[derive(Clone, Debug)]
pub struct Tsv {
    uris: Vec<String>,
}

impl Tsv {
    /// The lines of these files, directories and globs.
    pub fn at(uris: impl Uris) -> Self {
        Self { uris: uris.into_uris() }
    }
}

impl Sealed for Tsv {}

impl Source for Tsv {
    type Item = (String, String);

    fn input(&self) -> Input {
        Input::Files {
            format: "TSV",
            uris: self.uris.clone(),
            cut: Cut::Lines,
            align_bytes: 1,
            headed: false,
        }
    }

    fn read(
        &self,
        input: &TaskInput,
        attempt: &mut Attempt,
        consumer: &mut Consumer<'_, (String, String)>,
    ) -> Result<(), TaskError> {
        for_each_line(input, attempt, None, |line, attempt| {
            let line = std::str::from_utf8(line).map_err(|source| TaskError::Decode {
                at: attempt.position.clone(),
                source: Box::new(source),
            })?;
            let (key, value) = line.split_once('\t').unwrap_or((line, ""));
            let (key, value): (Cow<'_, str>, Cow<'_, str>) = (unescape(key), unescape(value));
            consumer.take((&key, &value), attempt);
            Ok(())
        })
    }
}
