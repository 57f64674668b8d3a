//! `appendToFile`, `getmerge`, `truncate` and `concat`: files of more or fewer bytes.

use std::io::Write;
use std::thread;
use std::time::Duration;

use clap::Args;
use gristmill_dfs::Uri;
use gristmill_dfs::file_system::{CreateOptions, FileWriter};
use serde_json::json;

use super::copy_tree::{CopyRules, Place, pour, pour_input, whole_file};
use super::create::refuse_without_parent;
use super::failure::Failure;
use super::format::parse_size;
use super::progress::Progress;
use super::read::Pieces;
use super::session::{Session, Target, look};

/// How often a file that is being cut is looked at.
const CUT_INTERVAL: Duration = Duration::from_millis(200);

/// Adds files of this machine to the end of a file, which is made if it does not exist
#[derive(Args)]
pub(crate) struct AppendToFile {
    /// What to add (`-`: stdin), and the file
    #[arg(required = true, num_args = 2.., value_names = ["LOCAL", "TO"])]
    paths: Vec<String>,
}

impl AppendToFile {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        let to = session.uri(&self.paths.pop().unwrap_or_default())?;
        // All are opened before the first byte is written: what was added cannot be taken back.
        let mut sources = Vec::new();
        for path in &self.paths {
            sources.push(if path == "-" { None } else { Some(open_local(session, path)?) });
        }
        let mut writer = open_end(session, &to)?;
        let progress = Progress::begin(session.shows_progress());
        for source in sources {
            match source {
                Some(pieces) => pour(pieces, &mut writer, &to, &progress)?,
                None => pour_input(session.input(), &mut writer, &to, &progress)?,
            }
        }
        progress.end();
        writer.finish()?;
        session.done("appendToFile", &to)
    }
}

fn open_local(session: &Session, path: &str) -> Result<Pieces, Failure> {
    let uri = session.local_uri(path)?;
    Pieces::of(&*session.fs(&uri)?, &uri)
}

fn open_end(session: &Session, to: &Uri) -> Result<Box<dyn FileWriter>, Failure> {
    let fs = session.fs(to)?;
    if look(&*fs, to)?.is_some() {
        return Ok(fs.append(to)?);
    }
    refuse_without_parent(&*fs, to)?;
    Ok(fs.create(to, &CreateOptions::default())?)
}

/// Joins files, and the files in directories, to one file of this machine
#[derive(Args)]
pub(crate) struct Getmerge {
    /// A newline after each file
    #[arg(long)]
    newline: bool,
    /// No newline after an empty file
    #[arg(long)]
    skip_empty_file: bool,
    /// What to join, and the file
    #[arg(required = true, num_args = 2.., value_names = ["FROM", "LOCAL"])]
    paths: Vec<String>,
}

impl Getmerge {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        let to = session.local_uri(&self.paths.pop().unwrap_or_default())?;
        let mut sources = Vec::new();
        // A file with a part missing is worse than none.
        for path in &self.paths {
            for target in session.expand(path)? {
                sources.extend(files_of(target)?);
            }
        }
        let place = Place { fs: session.fs(&to)?, uri: to.clone() };
        let rules =
            CopyRules { overwrite: true, preserve: false, threads: 1, replication: 0, block_bytes: 0 };
        let progress = Progress::begin(session.shows_progress());
        let merged = whole_file(&place, rules, None, |out| self.merge(&sources, out, &to, &progress));
        progress.end();
        merged?;
        session.done("getmerge", &to)
    }

    fn merge(
        &self,
        sources: &[Target],
        out: &mut dyn Write,
        to: &Uri,
        progress: &Progress,
    ) -> Result<(), Failure> {
        for source in sources {
            pour(Pieces::of(&*source.fs, source.uri())?, out, to, progress)?;
            if self.newline && !(self.skip_empty_file && source.status.bytes == 0) {
                out.write_all(b"\n").map_err(|error| Failure::Write {
                    uri: to.clone(),
                    offset: 0,
                    source: error,
                })?;
            }
        }
        Ok(())
    }
}

/// A file, or the files in a directory, by name.
fn files_of(target: Target) -> Result<Vec<Target>, Failure> {
    let mut files = Vec::new();
    for entry in target.fs.list(target.uri())? {
        let status = entry?;
        if status.is_file() {
            files.push(Target { fs: target.fs.clone(), status });
        }
    }
    Ok(files)
}

/// Cuts files to their first bytes
#[derive(Args)]
pub(crate) struct Truncate {
    /// Waits until it is done on all copies
    #[arg(short = 'w', long)]
    wait: bool,
    /// How many bytes stay
    #[arg(value_parser = parse_size)]
    length: u64,
    /// Files
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Truncate {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        for target in session.targets(&self.paths)? {
            let cut = self.truncate(&target);
            let Some(done) = session.survive(cut)? else { continue };
            if session.json {
                let path = session.path(target.uri());
                session.object(&json!({ "done": "truncate", "path": path, "pending": !done }))?;
            } else if !done {
                let name = session.name(target.uri());
                session.line(format!("{name} is being cut on its workers (-w waits)"))?;
            }
        }
        Ok(())
    }

    fn truncate(&self, target: &Target) -> Result<bool, Failure> {
        let mut done = target.fs.truncate(target.uri(), self.length)?;
        while self.wait && !done {
            thread::sleep(CUT_INTERVAL);
            done = !target.fs.stat(target.uri())?.under_construction;
        }
        Ok(done)
    }
}

/// Moves the blocks of files to the end of the first, in order; those files are gone then
#[derive(Args)]
pub(crate) struct Concat {
    /// The file that grows
    to: String,
    /// The files that join it
    #[arg(required = true)]
    from: Vec<String>,
}

impl Concat {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let to = session.uri(&self.to)?;
        let mut from = Vec::new();
        for path in &self.from {
            for target in session.expand(path)? {
                if target.uri().place() != to.place() {
                    let why = format!("{to} is on another file system");
                    return Err(Failure::refused("concatenate", target.uri(), why));
                }
                from.push(target.uri().clone());
            }
        }
        session.fs(&to)?.concat(&to, &from)?;
        session.done("concat", &to)
    }
}
