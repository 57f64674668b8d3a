//! `put` and `get`: between this machine and a file system.

use clap::Args;
use gristmill_dfs::file_system::DeleteOptions;

use super::copy::{destinations, threads_default};
use super::copy_tree::{CopyRules, Place, copy_all, pour_input, whole_file};
use super::create::refuse_without_parent;
use super::failure::Failure;
use super::format::parse_size;
use super::progress::Progress;
use super::read::write_range;
use super::session::{Session, Target};

/// Copies files and directories of this machine to a file system
#[derive(Args)]
pub(crate) struct Put {
    #[command(flatten)]
    rules: Rules,
    /// Copies of each block; the cluster's default if it is not given
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    replication: u32,
    /// Length of the blocks; the cluster's default if it is not given
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "0", hide_default_value = true)]
    block_size: u64,
    /// What to copy (`-`: stdin), and where to
    #[arg(required = true, num_args = 1.., value_names = ["LOCAL", "TO"])]
    paths: Vec<String>,
}

#[derive(Args)]
struct Rules {
    /// Replaces files that are there
    #[arg(short = 'f', long)]
    force: bool,
    /// Keeps times, modes and, if you may, owners
    #[arg(short = 'p', long)]
    preserve: bool,
    /// Files copied at a time
    #[arg(short = 't', long, value_name = "COUNT", default_value_t = threads_default(),
          value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
}

impl Rules {
    fn copy_rules(&self) -> CopyRules {
        CopyRules {
            overwrite: self.force,
            preserve: self.preserve,
            threads: self.threads.into(),
            replication: 0,
            block_bytes: 0,
        }
    }
}

impl Put {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        // As in Hadoop, a single path goes home under its own name.
        let to = if self.paths.len() > 1 { self.paths.pop().unwrap_or_default() } else { ".".to_owned() };
        let (replication, block_bytes) = (self.replication, self.block_size);
        let rules = CopyRules { replication, block_bytes, ..self.rules.copy_rules() };
        if self.paths == ["-"] {
            return put_input(session, &to, rules);
        }
        let sources = local_targets(session, &self.paths)?;
        let named_all = !sources.is_empty();
        let to_uri = session.uri(&to)?;
        let pairs = destinations(session, sources, &to_uri, &to, self.paths.len() > 1)?;
        if named_all {
            copy_all(session, pairs, rules)?;
        }
        Ok(())
    }
}

/// What is there of the sources; the rest is reported.
fn local_targets(session: &mut Session, paths: &[String]) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    for path in paths {
        if path == "-" {
            return Err(Failure::Usage("stdin (-) can only be put alone".to_owned()));
        }
        let found = session.local_uri(path).and_then(|uri| session.expand_uri(&uri));
        targets.extend(session.survive(found)?.unwrap_or_default());
    }
    Ok(targets)
}

fn put_input(session: &mut Session, to: &str, rules: CopyRules) -> Result<(), Failure> {
    let uri = session.uri(to)?;
    let place = Place { fs: session.fs(&uri)?, uri: uri.clone() };
    refuse_without_parent(&*place.fs, &uri)?;
    let progress = Progress::begin(session.shows_progress());
    let input = session.input();
    let written = whole_file(&place, rules, None, |out| pour_input(input, out, &uri, &progress));
    progress.end();
    written?;
    session.done("put", &uri)
}

/// Copies files and directories of this machine to a file system, and deletes them here
#[derive(Args)]
pub(crate) struct MoveFromLocal {
    #[command(flatten)]
    rules: Rules,
    /// What to move, and where to
    #[arg(required = true, num_args = 2.., value_names = ["LOCAL", "TO"])]
    paths: Vec<String>,
}

impl MoveFromLocal {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        let to = self.paths.pop().unwrap_or_default();
        let sources = local_targets(session, &self.paths)?;
        let to_uri = session.uri(&to)?;
        let pairs = destinations(session, sources, &to_uri, &to, self.paths.len() > 1)?;
        for (from, to) in pairs {
            // Deleted only if all of it is there.
            if copy_all(session, vec![(from.clone(), to)], self.rules.copy_rules())? == 0 {
                let options = DeleteOptions { recursive: true, skip_trash: true };
                let deleted = from.fs.delete(from.uri(), options);
                session.survive(deleted)?;
            }
        }
        Ok(())
    }
}

/// Copies files and directories of a file system to this machine
#[derive(Args)]
pub(crate) struct Get {
    #[command(flatten)]
    rules: Rules,
    /// Accepted for Hadoop's users: all bytes are always checked
    #[arg(long, hide = true)]
    crc: bool,
    /// Accepted for Hadoop's users, and ignored
    #[arg(long, hide = true)]
    ignore_crc: bool,
    /// What to copy, and where to (`-`: stdout)
    #[arg(required = true, num_args = 1.., value_names = ["FROM", "LOCAL"])]
    paths: Vec<String>,
}

impl Get {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        let to = if self.paths.len() > 1 { self.paths.pop().unwrap_or_default() } else { ".".to_owned() };
        let sources = session.targets(&self.paths)?;
        if to == "-" {
            for target in sources {
                let written = write_range(session, &target, 0, u64::MAX);
                session.survive(written)?;
            }
            return Ok(());
        }
        let named_all = !sources.is_empty();
        let several = self.paths.len() > 1 || sources.len() > 1;
        let pairs = destinations(session, sources, &session.local_uri(&to)?, &to, several)?;
        if named_all {
            copy_all(session, pairs, self.rules.copy_rules())?;
        }
        Ok(())
    }
}
