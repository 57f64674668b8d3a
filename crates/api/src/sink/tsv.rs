//! TSV output: text that reads back as what was written.

use super::{Part, Sink};
use crate::datum::Datum;
use crate::print::Print;
use gristmill_dataflow::compression::Compression;
use gristmill_dataflow::part::{FinishedPart, PartError, PartFile, PartFiles};
use std::borrow::Cow;
use std::marker::PhantomData;

/// One pair a line: key, TAB, value. TAB, LF, CR and backslash within them are written as `\t`, `\n`, `\r` and
/// `\\`, so that [`Tsv`](crate::Tsv) reads back what was written, if it was text.
#[derive(Clone, Debug)]
pub struct TsvOutput {
    uri: String,
    compression: Option<Compression>,
}

impl TsvOutput {
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

impl<K: Print, V: Print> Sink<(K, V)> for TsvOutput {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn format(&self) -> &'static str {
        "TSV"
    }

    fn open(&self, files: &PartFiles, directory: &str) -> Result<Box<dyn Part<(K, V)>>, PartError> {
        let file = files.create(directory, "", self.compression)?;
        Ok(Box::new(TsvPart::<K, V> { file, field: Vec::new(), pair: PhantomData }))
    }
}

struct TsvPart<K, V> {
    file: PartFile,
    field: Vec<u8>,
    pair: PhantomData<fn() -> (K, V)>,
}

impl<K: Print, V: Print> Part<(K, V)> for TsvPart<K, V> {
    fn write(&mut self, (key, value): <(K, V) as Datum>::Ref<'_>) -> Result<(), PartError> {
        let field = &mut self.field;
        self.file.append(|line| {
            field.clear();
            K::print(key, field);
            escape(field, line);
            line.push(b'\t');
            field.clear();
            V::print(value, field);
            escape(field, line);
            line.push(b'\n');
        })
    }

    fn finish(self: Box<Self>) -> Result<Vec<FinishedPart>, PartError> {
        Ok(vec![self.file.finish()?])
    }
}

/// Writes TAB, LF, CR and backslash so that a field is one field of one line.
pub fn escape(field: &[u8], line: &mut Vec<u8>) {
    for &byte in field {
        match byte {
            b'\t' => line.extend_from_slice(b"\\t"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\\' => line.extend_from_slice(b"\\\\"),
            _ => line.push(byte),
        }
    }
}

/// What [`escape`] escaped. A backslash before any other character stands for itself.
pub fn unescape(field: &str) -> Cow<'_, str> {
    if !field.contains('\\') {
        return Cow::Borrowed(field);
    }
    let mut plain = String::with_capacity(field.len());
    let mut chars = field.chars().peekable();
    while let Some(char) = chars.next() {
        let meant = match (char, chars.peek()) {
            ('\\', Some('t')) => '\t',
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('\\')) => '\\',
            _ => {
                plain.push(char);
                continue;
            }
        };
        chars.next();
        plain.push(meant);
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_escaped_reads_back_and_fits_in_one_field(field in "(\t|\n|\r|\\\\|[a-z]|ü){0,12}") {
            let mut escaped = Vec::new();
            escape(field.as_bytes(), &mut escaped);
            let escaped = String::from_utf8(escaped).expect("still text");
            prop_assert!(!escaped.contains(['\t', '\n', '\r']));
            prop_assert_eq!(unescape(&escaped), field);
        }
    }
}
