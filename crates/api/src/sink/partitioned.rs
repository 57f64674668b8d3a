//! An output whose directories are named after what is in them, as Hive has it: `day=2026-01-31/country=at/part-r-00000`.

use super::{Part, Sink};
use crate::datum::Datum;
use gristmill_dataflow::part::{FinishedPart, PartError, PartFiles};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::marker::PhantomData;
use std::sync::Arc;

/// A task has at most so many directories open at once, each with a buffer.
const DIRECTORIES_MAX: usize = 256;
/// What Hive calls the directory of an empty value.
const EMPTY_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";
/// Characters that Hive escapes in names of directories, besides controls.
const ESCAPED: &str = "\"#%'*/:=?\\{[]^";

/// Any other output, with the files of each task in directories that are named after columns and their values. Made by
/// [`Dataset::partition_files_by`](crate::Dataset::partition_files_by).
pub struct PartitionedOutput<T, S, F, const N: usize> {
    sink: Arc<S>,
    names: [&'static str; N],
    values: Arc<F>,
    record: PhantomData<fn(T)>,
}

impl<T: Datum, S: Sink<T>, F, const N: usize> PartitionedOutput<T, S, F, N> {
    pub(crate) fn new(sink: S, names: [&'static str; N], values: Arc<F>) -> Self {
        Self { sink: Arc::new(sink), names, values, record: PhantomData }
    }
}

impl<T, S, F, const N: usize> Sink<T> for PartitionedOutput<T, S, F, N>
where
    T: Datum,
    S: Sink<T>,
    F: Fn(&T::Ref<'_>) -> [String; N] + Send + Sync + 'static,
{
    fn uri(&self) -> &str {
        self.sink.uri()
    }

    fn format(&self) -> &'static str {
        self.sink.format()
    }

    fn open(&self, files: &PartFiles, directory: &str) -> Result<Box<dyn Part<T>>, PartError> {
        Ok(Box::new(PartitionedPart {
            sink: self.sink.clone(),
            names: self.names,
            values: self.values.clone(),
            files: files.clone(),
            above: directory.to_owned(),
            directory: String::new(),
            parts: BTreeMap::new(),
        }))
    }
}

struct PartitionedPart<T, S, F, const N: usize> {
    sink: Arc<S>,
    names: [&'static str; N],
    values: Arc<F>,
    files: PartFiles,
    above: String,
    /// Of the record at hand.
    directory: String,
    parts: BTreeMap<String, Box<dyn Part<T>>>,
}

impl<T, S, F, const N: usize> Part<T> for PartitionedPart<T, S, F, N>
where
    T: Datum,
    S: Sink<T>,
    F: Fn(&T::Ref<'_>) -> [String; N],
{
    fn write(&mut self, record: T::Ref<'_>) -> Result<(), PartError> {
        let values = (self.values)(&record);
        self.directory.clear();
        self.directory.push_str(&self.above);
        for (name, value) in self.names.iter().zip(&values) {
            if !self.directory.is_empty() {
                self.directory.push('/');
            }
            write_level(name, value, &mut self.directory);
        }
        if let Some(part) = self.parts.get_mut(&self.directory) {
            return part.write(record);
        }
        if self.parts.len() == DIRECTORIES_MAX {
            let directory = self.directory.clone();
            return Err(PartError::TooManyDirectories { directory, limit: DIRECTORIES_MAX });
        }
        let part = self.sink.open(&self.files, &self.directory)?;
        self.parts.entry(self.directory.clone()).or_insert(part).write(record)
    }

    fn finish(self: Box<Self>) -> Result<Vec<FinishedPart>, PartError> {
        let mut finished = Vec::new();
        for part in self.parts.into_values() {
            finished.extend(part.finish()?);
        }
        Ok(finished)
    }
}

/// `name=value`, so that the value reads back and is one name of a directory.
fn write_level(name: &str, value: &str, out: &mut String) {
    out.push_str(name);
    out.push('=');
    if value.is_empty() {
        out.push_str(EMPTY_VALUE);
    }
    for char in value.chars() {
        if char.is_ascii_control() || ESCAPED.contains(char) {
            write!(out, "%{:02X}", u32::from(char)).expect("a String takes all that is written");
        } else {
            out.push(char);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_is_one_name_below_the_output() {
        let mut level = String::new();
        write_level("where", "../a=b\n%ü", &mut level);
        assert_eq!(level, "where=..%2Fa%3Db%0A%25ü");
        level.clear();
        write_level("where", "", &mut level);
        assert_eq!(level, "where=__HIVE_DEFAULT_PARTITION__");
    }
}
