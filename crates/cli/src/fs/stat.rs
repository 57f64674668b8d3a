//! `stat` and `test`: what one file or directory is.

use clap::{ArgGroup, Args};
use gristmill_dfs::file_system::{Kind, Status};

use super::failure::Failure;
use super::format;
use super::list::entry;
use super::session::Session;

/// Says what files and directories are
///
/// A first argument with a % is a format: %a mode (octal), %A mode (letters), %b bytes, %F kind, %g group, %n name,
/// %o block size, %r replication, %u owner, %x %X time of access (text, milliseconds), %y %Y time of modification.
#[derive(Args)]
pub(crate) struct Stat {
    /// A format, if it has a %, and what to look at
    #[arg(required = true, value_name = "FORMAT | PATH")]
    arguments: Vec<String>,
}

impl Stat {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        let format = if self.arguments[0].contains('%') { self.arguments.remove(0) } else { "%y".to_owned() };
        if self.arguments.is_empty() {
            return Err(Failure::Usage("stat needs a path after its format".to_owned()));
        }
        for target in session.targets(&self.arguments)? {
            if session.json {
                session.object(&entry(session.path(target.uri()), &target.status))?;
            } else {
                session.line(filled(&format, session, &target.status))?;
            }
        }
        Ok(())
    }
}

/// The format with what it asks for; what nobody knows stays as it is.
fn filled(format: &str, session: &Session, status: &Status) -> String {
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(each) = rest.next() {
        if each != '%' {
            text.push(each);
            continue;
        }
        match rest.next() {
            Some('a') => text.push_str(&format!("{:o}", status.mode)),
            Some('A') => text.push_str(&format::mode(status)),
            Some('b') => text.push_str(&status.bytes.to_string()),
            Some('F') => text.push_str(kind(status)),
            Some('g') => text.push_str(&session.text(&status.group)),
            Some('n') => text.push_str(&session.text(&status.uri.name().to_string_lossy())),
            Some('o') => text.push_str(&status.block_bytes.to_string()),
            Some('r') => text.push_str(&status.replication.to_string()),
            Some('u') => text.push_str(&session.text(&status.owner)),
            Some('x') => text.push_str(&format::time(status.accessed_ms, true)),
            Some('X') => text.push_str(&status.accessed_ms.to_string()),
            Some('y') => text.push_str(&format::time(status.modified_ms, true)),
            Some('Y') => text.push_str(&status.modified_ms.to_string()),
            Some('%') => text.push('%'),
            Some(unknown) => text.extend(['%', unknown]),
            None => text.push('%'),
        }
    }
    text
}

fn kind(status: &Status) -> &'static str {
    match status.kind {
        Kind::Directory => "directory",
        Kind::File if status.bytes == 0 => "regular empty file",
        Kind::File => "regular file",
        Kind::Other => "other",
    }
}

/// Answers by its exit code: 0 yes, 1 no
#[derive(Args)]
#[command(group(ArgGroup::new("question").required(true)))]
pub(crate) struct Test {
    /// Does it exist?
    #[arg(short = 'e', group = "question")]
    exists: bool,
    /// Is it a file?
    #[arg(short = 'f', group = "question")]
    file: bool,
    /// Is it a directory?
    #[arg(short = 'd', group = "question")]
    directory: bool,
    /// Does it have bytes, or, a directory, names?
    #[arg(short = 's', group = "question")]
    something: bool,
    /// Is it an empty file?
    #[arg(short = 'z', group = "question")]
    zero: bool,
    /// What is asked about
    path: String,
}

impl Test {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let targets = match session.expand(&self.path) {
            Err(failure) if failure.is_absence() => Vec::new(),
            found => found?,
        };
        let mut yes = !targets.is_empty();
        for target in targets {
            let status = &target.status;
            yes &= match () {
                () if self.file => status.is_file(),
                () if self.directory => status.is_directory(),
                () if self.zero => status.is_file() && status.bytes == 0,
                () if self.something && status.is_directory() => {
                    target.fs.list(target.uri())?.next().transpose()?.is_some()
                }
                () if self.something => status.bytes > 0,
                () => self.exists,
            };
        }
        if !yes {
            session.fail();
        }
        Ok(())
    }
}
