//! `quota` and its kin: how much may be below a directory.

use clap::Args;

use super::failure::Failure;
use super::format::parse_size;
use super::session::{Session, cluster};
use super::usage::Count;

/// Shows quotas, and what is left of them (count -q)
#[derive(Args)]
pub(crate) struct Quota {
    /// Sizes for people
    #[arg(short = 'h', long)]
    human: bool,
    /// Names above the columns
    #[arg(short = 'v', long)]
    header: bool,
    /// Directories
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Quota {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let Quota { human, header, paths } = self;
        Count { quotas: true, human, header, paths }.run(session)
    }
}

/// Limits how many names may be below directories, themselves included
#[derive(Args)]
pub(crate) struct Setquota {
    /// How many
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    names: u64,
    /// Directories
    #[arg(required = true)]
    paths: Vec<String>,
}

/// Lifts the limit of names
#[derive(Args)]
pub(crate) struct Clrquota {
    /// Directories
    #[arg(required = true)]
    paths: Vec<String>,
}

/// Limits how many bytes, all copies counted, may be below directories
#[derive(Args)]
pub(crate) struct Setspacequota {
    /// How many
    #[arg(value_parser = positive_size)]
    bytes: u64,
    /// Directories
    #[arg(required = true)]
    paths: Vec<String>,
}

/// Lifts the limit of bytes
#[derive(Args)]
pub(crate) struct Clrspacequota {
    /// Directories
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Setquota {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        set(session, "setquota", &self.paths, Some(self.names), None)
    }
}

impl Clrquota {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        set(session, "clrquota", &self.paths, Some(0), None)
    }
}

impl Setspacequota {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        set(session, "setspacequota", &self.paths, None, Some(self.bytes))
    }
}

impl Clrspacequota {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        set(session, "clrspacequota", &self.paths, None, Some(0))
    }
}

/// 0 is no quota, and `None` leaves it as it is.
fn set(
    session: &mut Session,
    action: &str,
    paths: &[String],
    names: Option<u64>,
    space_bytes: Option<u64>,
) -> Result<(), Failure> {
    for target in session.targets(paths)? {
        let set = cluster(&target.fs, "set the quota of", target.uri())
            .and_then(|cluster| Ok(cluster.set_quota(target.uri(), names, space_bytes)?));
        if session.survive(set)?.is_some() {
            session.done(action, target.uri())?;
        }
    }
    Ok(())
}

fn positive_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("a quota is at least one byte; clrspacequota lifts it".to_owned()),
        bytes => Ok(bytes),
    }
}
