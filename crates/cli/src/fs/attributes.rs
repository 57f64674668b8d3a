//! `chmod`, `chown`, `chgrp` and `setrep`: what is known of files besides what is in them.

use std::thread;
use std::time::Duration;

use clap::Args;
use gristmill_dfs::file_system::{FileSystem, FsError, Status};
use gristmill_proto::namespace::problem;

use super::failure::Failure;
use super::mode::ModeChange;
use super::session::{Session, Target, cluster};
use super::walk::Walk;

/// How often copies are counted that somebody waits for.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Does something to everything that is named and, if wanted, below it.
fn for_each(
    session: &mut Session,
    action: &str,
    paths: &[String],
    recursive: bool,
    mut act: impl FnMut(&dyn FileSystem, &Status) -> Result<(), FsError>,
) -> Result<(), Failure> {
    for target in session.targets(paths)? {
        let fs = target.fs.clone();
        let below = usize::from(!recursive);
        let named = Walk::at(target);
        let wanted: Box<dyn Iterator<Item = _>> =
            if recursive { Box::new(named) } else { Box::new(named.take(below)) };
        for status in wanted {
            let done = status.and_then(|status| act(&*fs, &status).map(|()| status));
            if let Some(status) = session.survive(done)? {
                session.done(action, &status.uri)?;
            }
        }
    }
    Ok(())
}

/// Sets modes
#[derive(Args)]
pub(crate) struct Chmod {
    /// Everything below directories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Octal as 640, or changes as u+rwx,go-w,a+X,+t
    #[arg(value_parser = ModeChange::parse)]
    mode: ModeChange,
    /// Files and directories
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Chmod {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        for_each(session, "chmod", &self.paths, self.recursive, |fs, status| {
            fs.set_mode(&status.uri, self.mode.apply(status.mode, status.is_directory()))
        })
    }
}

/// Sets owners, groups or both
#[derive(Args)]
pub(crate) struct Chown {
    /// Everything below directories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// OWNER, OWNER:GROUP or :GROUP
    owner: String,
    /// Files and directories
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Chown {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let (owner, group) = self.owner.split_once(':').unwrap_or((&self.owner, ""));
        let given = |name: &'static str, text: &str| match text {
            "" => Ok(None),
            text if text.contains([':', '/']) => Err(Failure::Usage(format!("{text} cannot be {name}"))),
            text => Ok(Some(text.to_owned())),
        };
        let (owner, group) = (given("an owner", owner)?, given("a group", group)?);
        if owner.is_none() && group.is_none() {
            return Err(Failure::Usage("chown needs an owner, a group (:GROUP) or both".to_owned()));
        }
        for_each(session, "chown", &self.paths, self.recursive, |fs, status| {
            fs.set_owner(&status.uri, owner.as_deref(), group.as_deref())
        })
    }
}

/// Sets groups
#[derive(Args)]
pub(crate) struct Chgrp {
    /// Everything below directories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// The group
    group: String,
    /// Files and directories
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Chgrp {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        for_each(session, "chgrp", &self.paths, self.recursive, |fs, status| {
            fs.set_owner(&status.uri, None, Some(&self.group))
        })
    }
}

/// Sets how many copies of files there shall be, of directories below them too
#[derive(Args)]
pub(crate) struct Setrep {
    /// Waits until there are as many
    #[arg(short = 'w', long)]
    wait: bool,
    /// Accepted for Hadoop's users, as always
    #[arg(short = 'R', hide = true)]
    recursive: bool,
    /// How many
    #[arg(value_parser = clap::value_parser!(u32).range(1..=512))]
    copies: u32,
    /// Files and directories
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Setrep {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let targets = session.targets(&self.paths)?;
        for target in &targets {
            for status in Walk::at(target.clone()) {
                let Some(status) = session.survive(status)? else { continue };
                if status.is_file() {
                    let set = target.fs.set_replication(&status.uri, self.copies);
                    if session.survive(set)?.is_some() {
                        session.done("setrep", &status.uri)?;
                    }
                }
            }
        }
        for target in targets.iter().filter(|_| self.wait) {
            let waited = wait_for_copies(target);
            session.survive(waited)?;
        }
        Ok(())
    }
}

/// Waits until no block below a name has too few or too many copies. It takes as long as it takes.
fn wait_for_copies(target: &Target) -> Result<(), Failure> {
    use problem::Kind;
    let cluster = cluster(&target.fs, "count the copies of", target.uri())?;
    let is_awaited = |kind: i32| {
        matches!(
            Kind::try_from(kind),
            Ok(Kind::UnderReplicated | Kind::OverReplicated | Kind::Missing | Kind::Corrupt)
        )
    };
    let mut after = String::new();
    loop {
        let page = cluster.check(target.uri(), &after)?;
        if page.problems.iter().any(|problem| is_awaited(problem.kind)) {
            thread::sleep(COUNT_INTERVAL);
        } else if page.last.is_empty() {
            return Ok(());
        } else {
            after = page.last;
        }
    }
}
