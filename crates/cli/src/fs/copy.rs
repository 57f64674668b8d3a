//! `cp`: between any file systems.

use clap::Args;
use gristmill_dfs::Uri;

use super::copy_tree::{CopyRules, Place, copy_all};
use super::failure::Failure;
use super::session::{Session, Target, look, names_directory};

/// Files copied at a time unless the user says otherwise: enough to hide the waiting, few enough for a small machine.
pub(crate) const fn threads_default() -> u8 {
    4
}

/// Copies files and directories
#[derive(Args)]
pub(crate) struct Cp {
    /// Replaces files that are there
    #[arg(short = 'f', long)]
    force: bool,
    /// Keeps times, modes and, if you may, owners
    #[arg(short = 'p', long)]
    preserve: bool,
    /// Directories with all below them, as always
    #[arg(short = 'r', short_alias = 'R', long)]
    recursive: bool,
    /// Files copied at a time
    #[arg(short = 't', long, value_name = "COUNT", default_value_t = threads_default(),
          value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// What to copy, and where to
    #[arg(required = true, num_args = 2.., value_names = ["FROM", "TO"])]
    paths: Vec<String>,
}

impl Cp {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        let to = self.paths.pop().unwrap_or_default();
        let sources = session.targets(&self.paths)?;
        if sources.is_empty() {
            return Ok(());
        }
        let several = self.paths.len() > 1 || sources.len() > 1;
        let pairs = destinations(session, sources, &session.uri(&to)?, &to, several)?;
        let rules = CopyRules {
            overwrite: self.force,
            preserve: self.preserve,
            threads: self.threads.into(),
            replication: 0,
            block_bytes: 0,
        };
        copy_all(session, pairs, rules)?;
        Ok(())
    }
}

/// Where each source goes: into the directory `to`, or, if there is one source and no such directory, to that name.
pub(crate) fn destinations(
    session: &mut Session,
    sources: Vec<Target>,
    to: &Uri,
    typed: &str,
    several: bool,
) -> Result<Vec<(Target, Place)>, Failure> {
    let fs = session.fs(to)?;
    let there = look(&*fs, to)?;
    let into = there.as_ref().is_some_and(|there| there.is_directory());
    if !into && (several || names_directory(typed)) {
        return Err(Failure::refused("write into", to, "it is not a directory"));
    }
    if there.is_none()
        && let Some(parent) = to.parent()
        && look(&*fs, &parent)?.is_none()
    {
        return Err(Failure::refused("write", to, format!("the directory {parent} does not exist")));
    }
    let mut pairs = Vec::with_capacity(sources.len());
    for from in sources {
        let uri = if into { to.join(own_name(&from)?.name()) } else { to.clone() };
        let place = Place { fs: fs.clone(), uri };
        let checked = refuse_into_itself(&from, &place);
        if session.survive(checked)?.is_some() {
            pairs.push((from, place));
        }
    }
    Ok(pairs)
}

/// The URI of a source with a name: `.` and `a/..` have one too, once it is known where they lead.
fn own_name(from: &Target) -> Result<Uri, Failure> {
    match from.uri().name().to_str() {
        Some("" | "." | "..") => Ok(from.uri().store()?.resolve(from.uri())?),
        _ => Ok(from.uri().clone()),
    }
}

fn refuse_into_itself(from: &Target, to: &Place) -> Result<(), Failure> {
    if !from.status.is_directory() || from.uri().place() != to.uri.place() {
        return Ok(());
    }
    let (source, place) = (from.uri().store()?.resolve(from.uri())?, to.uri.store()?.resolve(&to.uri)?);
    if place.is_within(&source) {
        return Err(Failure::refused("copy", from.uri(), format!("{} is within it", to.uri)));
    }
    Ok(())
}
