//! `mkdir`, `touch` and `touchz`: new names.

use clap::Args;
use gristmill_dfs::Uri;
use gristmill_dfs::file_system::{CreateOptions, FileSystem};
use gristmill_proto::wall_clock;

use super::failure::Failure;
use super::format::parse_time;
use super::session::{Session, look};

/// Makes directories
#[derive(Args)]
pub(crate) struct Mkdir {
    /// Makes those above too; one that exists is fine
    #[arg(short = 'p', long)]
    parents: bool,
    /// Directories
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Mkdir {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        for path in &self.paths {
            let uri = session.uri(path)?;
            let made = session.fs(&uri)?.make_directory(&uri, self.parents);
            if session.survive(made)?.is_some() {
                session.done("mkdir", &uri)?;
            }
        }
        Ok(())
    }
}

/// Sets times to now; makes files that do not exist
#[derive(Args)]
pub(crate) struct Touch {
    /// The time of access only
    #[arg(short = 'a', long)]
    access: bool,
    /// The time of modification only
    #[arg(short = 'm', long)]
    modification: bool,
    /// Makes no files
    #[arg(short = 'c', long)]
    no_create: bool,
    /// This time, of UTC, instead of now
    #[arg(short = 't', long = "time", value_name = "YYYYMMDD:HHMMSS", value_parser = parse_time)]
    time_ms: Option<u64>,
    /// Files and directories
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Touch {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        for path in &self.paths {
            let uri = session.uri(path)?;
            let touched = self.touch(&*session.fs(&uri)?, &uri);
            if let Some(true) = session.survive(touched)? {
                session.done("touch", &uri)?;
            }
        }
        Ok(())
    }

    fn touch(&self, fs: &dyn FileSystem, uri: &Uri) -> Result<bool, Failure> {
        if look(fs, uri)?.is_none() {
            if self.no_create {
                return Ok(false);
            }
            refuse_without_parent(fs, uri)?;
            fs.create(uri, &CreateOptions::default())?.finish()?;
        }
        let time_ms = self.time_ms.unwrap_or_else(wall_clock::now_ms);
        let both = self.access == self.modification;
        let when = |wanted: bool| (wanted || both).then_some(time_ms);
        fs.set_times(uri, when(self.modification), when(self.access))?;
        Ok(true)
    }
}

/// Makes empty files; one that exists has to be empty
#[derive(Args)]
pub(crate) struct Touchz {
    /// Files
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Touchz {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        for path in &self.paths {
            let uri = session.uri(path)?;
            let made = make_empty(&*session.fs(&uri)?, &uri);
            if session.survive(made)?.is_some() {
                session.done("touchz", &uri)?;
            }
        }
        Ok(())
    }
}

fn make_empty(fs: &dyn FileSystem, uri: &Uri) -> Result<(), Failure> {
    match look(fs, uri)? {
        Some(there) if there.is_directory() => {
            Err(Failure::refused("make the file", uri, "it is a directory"))
        }
        Some(there) if there.bytes > 0 => {
            Err(Failure::refused("make the file", uri, "it exists and is not empty"))
        }
        Some(_) => Ok(fs.set_times(uri, Some(wall_clock::now_ms()), None)?),
        None => {
            refuse_without_parent(fs, uri)?;
            Ok(fs.create(uri, &CreateOptions::default())?.finish()?)
        }
    }
}

/// A file in a directory that is not there is more often a slip than a wish.
pub(crate) fn refuse_without_parent(fs: &dyn FileSystem, uri: &Uri) -> Result<(), Failure> {
    match uri.parent() {
        Some(parent) if look(fs, &parent)?.is_none() => {
            Err(Failure::refused("make the file", uri, format!("the directory {parent} does not exist")))
        }
        _ => Ok(()),
    }
}
