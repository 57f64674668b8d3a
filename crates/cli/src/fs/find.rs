//! `find`: names below directories.

use clap::{Args, ValueEnum};
use globset::{GlobBuilder, GlobMatcher};
use gristmill_dfs::file_system::Status;
use std::path::Path;

use super::failure::Failure;
use super::list::entry;
use super::session::Session;
use super::walk::Walk;

/// Finds files and directories below the paths
#[derive(Args)]
pub(crate) struct Find {
    /// Their last part matches this glob
    #[arg(long, value_name = "GLOB")]
    name: Option<String>,
    /// The same, upper or lower case
    #[arg(long, value_name = "GLOB")]
    iname: Option<String>,
    /// Files or directories only
    #[arg(long = "type", value_name = "f|d")]
    kind: Option<Wanted>,
    /// One name a line, as always
    #[arg(long)]
    print: bool,
    /// A NUL after each name, for xargs -0
    #[arg(long)]
    print0: bool,
    /// Where to look; the home directory if nothing is named
    paths: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Wanted {
    #[value(name = "f")]
    Files,
    #[value(name = "d")]
    Directories,
}

impl Find {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        let globs = [compile(self.name.as_deref(), false)?, compile(self.iname.as_deref(), true)?];
        if self.paths.is_empty() {
            self.paths.push(".".to_owned());
        }
        for target in session.targets(&self.paths)? {
            for status in Walk::at(target) {
                let Some(status) = session.survive(status)? else { continue };
                let name = Path::new(status.uri.name());
                if self.wants(&status) && globs.iter().flatten().all(|glob| glob.is_match(name)) {
                    self.show(session, &status)?;
                }
            }
        }
        Ok(())
    }

    fn wants(&self, status: &Status) -> bool {
        match self.kind {
            None => true,
            Some(Wanted::Files) => status.is_file(),
            Some(Wanted::Directories) => status.is_directory(),
        }
    }

    fn show(&self, session: &mut Session, status: &Status) -> Result<(), Failure> {
        if session.json {
            return session.object(&entry(session.path(&status.uri), status));
        }
        let name = session.name(&status.uri);
        if !self.print0 {
            return session.line(name);
        }
        session.bytes(name.as_bytes())?;
        session.bytes(&[0])
    }
}

fn compile(glob: Option<&str>, any_case: bool) -> Result<Option<GlobMatcher>, Failure> {
    let Some(glob) = glob else { return Ok(None) };
    let built = GlobBuilder::new(glob).case_insensitive(any_case).backslash_escape(true).build();
    let built = built.map_err(|error| Failure::Usage(format!("cannot find names like {glob}: {error}")))?;
    Ok(Some(built.compile_matcher()))
}
