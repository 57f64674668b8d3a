//! `rm`, `rmdir` and `expunge`: fewer names.

use clap::Args;
use gristmill_dfs::file_system::{Cause, DeleteOptions, FsError};
use serde_json::json;

use super::failure::Failure;
use super::session::{Session, Target, cluster};

/// With `--safely`, more names than this are asked about first, as in Hadoop.
const SAFE_NAMES: u64 = 100;

/// Deletes files; on a cluster they go to the trash
#[derive(Args)]
pub(crate) struct Rm {
    /// Directories with all below them too
    #[arg(short = 'r', short_alias = 'R', long)]
    recursive: bool,
    /// What is not there is fine
    #[arg(short = 'f', long)]
    force: bool,
    /// Gone at once, without the trash
    #[arg(long = "skip-trash", alias = "skipTrash")]
    skip_trash: bool,
    /// Asks before it deletes more than 100 names
    #[arg(long)]
    safely: bool,
    /// What to delete
    paths: Vec<String>,
}

/// Deletes files and directories with all below them (rm -r)
#[derive(Args)]
pub(crate) struct Rmr {
    /// Gone at once, without the trash
    #[arg(long = "skip-trash", alias = "skipTrash")]
    skip_trash: bool,
    /// What to delete
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Rmr {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let Rmr { skip_trash, paths } = self;
        Rm { recursive: true, force: false, skip_trash, safely: false, paths }.run(session)
    }
}

impl Rm {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        if self.paths.is_empty() && !self.force {
            return Err(Failure::Usage("rm needs something to delete".to_owned()));
        }
        for path in &self.paths {
            let found = match session.expand(path) {
                Err(failure) if self.force && failure.is_absence() => continue,
                found => session.survive(found)?.unwrap_or_default(),
            };
            for target in found {
                self.delete(session, &target)?;
            }
        }
        Ok(())
    }

    fn delete(&self, session: &mut Session, target: &Target) -> Result<(), Failure> {
        let is_tree = target.status.is_directory() && !target.status.is_link;
        if is_tree && !self.recursive {
            session.report(&Failure::refused(
                "delete",
                target.uri(),
                "it is a directory (-r deletes it with all below)",
            ));
            return Ok(());
        }
        if is_tree && self.safely && !may_delete(session, target)? {
            session.say(&format!("{} was not deleted", target.uri()));
            session.fail();
            return Ok(());
        }
        let options = DeleteOptions { recursive: self.recursive, skip_trash: self.skip_trash };
        let deleted = match target.fs.delete(target.uri(), options) {
            Err(FsError { cause: Cause::NotFound, .. }) if self.force => return Ok(()),
            deleted => session.survive(deleted)?,
        };
        let Some(trash) = deleted else { return Ok(()) };
        if session.json {
            let path = session.path(target.uri());
            let trash = trash.map(|uri| session.path(&uri));
            return session.object(&json!({ "done": "rm", "path": path, "trash": trash }));
        }
        match trash {
            Some(trash) => session.line(format!(
                "{} is in the trash: {}",
                session.name(target.uri()),
                session.name(&trash)
            )),
            None => Ok(()),
        }
    }
}

fn may_delete(session: &mut Session, target: &Target) -> Result<bool, Failure> {
    let summary = target.fs.summarize(target.uri())?;
    let names = summary.directories + summary.files;
    if names <= SAFE_NAMES {
        return Ok(true);
    }
    let question = format!("Delete {} with {names} names and {} bytes?", target.uri(), summary.bytes);
    session.ask(&question)
}

/// Deletes empty directories
#[derive(Args)]
pub(crate) struct Rmdir {
    /// A directory that is not empty is no failure, and stays
    #[arg(long)]
    ignore_fail_on_non_empty: bool,
    /// Directories
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Rmdir {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        for target in session.targets(&self.paths)? {
            if !target.status.is_directory() {
                session.report(&Failure::refused("delete", target.uri(), "not a directory"));
                continue;
            }
            // An empty directory holds nothing that the trash could give back.
            match target.fs.delete(target.uri(), DeleteOptions { recursive: false, skip_trash: true }) {
                Err(FsError { cause: Cause::NotEmpty, .. }) if self.ignore_fail_on_non_empty => {}
                deleted => {
                    if session.survive(deleted)?.is_some() {
                        session.done("rmdir", target.uri())?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Empties your trash
#[derive(Args)]
pub(crate) struct Expunge {
    /// Everyone's trash (superuser only)
    #[arg(long)]
    all: bool,
    /// Accepted for Hadoop's users, as always
    #[arg(long, hide = true)]
    immediate: bool,
    /// A cluster, as dfs://HOST:PORT/; the default one if nothing is named
    at: Option<String>,
}

impl Expunge {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let (fs, uri) = session.cluster_at(self.at.as_deref())?;
        cluster(&fs, "empty the trash of", &uri)?.expunge_trash(self.all)?;
        session.done("expunge", &uri)
    }
}
