//! What a command shows: lines and objects on stdout, sentences on stderr.

use std::io::{self, Write};

use serde_json::Value;

use crate::Streams;
use crate::failure::Failure;
use crate::fs::escape::escape;

/// One run of a command.
pub(crate) struct Console<'s, 'a> {
    streams: &'s mut Streams<'a>,
    /// Whether programs read it: one object a line.
    pub(crate) json: bool,
}

impl<'s, 'a> Console<'s, 'a> {
    pub(crate) fn new(streams: &'s mut Streams<'a>, json: bool) -> Console<'s, 'a> {
        Console { streams, json }
    }

    /// Whether somebody watches.
    pub(crate) fn shows_progress(&self) -> bool {
        self.streams.err_is_terminal && !self.json
    }

    /// A line of text. What is of others' making in it is made harmless: names, reasons, addresses.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> Result<(), Failure> {
        let line = escape(line.as_ref());
        self.bytes(line.as_bytes())?;
        self.bytes(b"\n")
    }

    pub(crate) fn lines(&mut self, lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        lines.into_iter().try_for_each(|line| self.line(line))
    }

    pub(crate) fn object(&mut self, object: &Value) -> Result<(), Failure> {
        self.bytes(format!("{object}\n").as_bytes())
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.streams.out.write_all(bytes).map_err(Failure::Output)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.streams.out.flush().map_err(Failure::Output)
    }

    /// What a person who sees nothing should know.
    pub(crate) fn hint(&mut self, sentence: &str) {
        if !self.json {
            self.say(sentence);
        }
    }

    /// One sentence on stderr; lines of a reason, as of a diff, stay lines.
    pub(crate) fn say(&mut self, sentence: &str) {
        let lines: Vec<_> = sentence.lines().map(escape).collect();
        let said: io::Result<()> = writeln!(self.streams.err, "gristmill: {}", lines.join("\n"));
        // With stderr gone there is nobody to tell; the exit code still says it.
        if let Err(error) = said {
            tracing::debug!(%error, "stderr is gone");
        }
    }
}
