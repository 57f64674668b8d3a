//! `ls`: what is there.

use std::cmp::Reverse;

use clap::Args;
use gristmill_dfs::file_system::{Kind, Status};
use serde_json::{Value, json};

use super::failure::Failure;
use super::format;
use super::session::{Session, Target};
use super::walk::Walk;

/// So many lines are aligned with each other: a directory of any length is shown in little memory.
const ALIGNED_LINES: usize = 1000;

/// Lists files, and what is in directories
#[derive(Args)]
pub(crate) struct Ls {
    /// Everything below directories too
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    style: Style,
    /// What to list; the home directory if nothing is named
    paths: Vec<String>,
}

/// Lists everything at and below the paths (ls -R)
#[derive(Args)]
pub(crate) struct Lsr {
    #[command(flatten)]
    style: Style,
    /// What to list
    paths: Vec<String>,
}

#[derive(Args)]
struct Style {
    /// Directories themselves, not what is in them
    #[arg(short = 'd', long)]
    directory: bool,
    /// Sizes for people
    #[arg(short = 'h', long)]
    human: bool,
    /// Names only
    #[arg(short = 'C', long)]
    names: bool,
    /// The latest first
    #[arg(short = 't', long)]
    time: bool,
    /// The largest first
    #[arg(short = 'S', long)]
    size: bool,
    /// In reverse
    #[arg(short = 'r', long)]
    reverse: bool,
    /// The time of access, not of modification
    #[arg(short = 'u', long)]
    access_time: bool,
}

impl Lsr {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        Ls { recursive: true, style: self.style, paths: self.paths }.run(session)
    }
}

impl Ls {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        if self.paths.is_empty() {
            self.paths.push(".".to_owned());
        }
        for target in session.targets(&self.paths)? {
            self.list(session, target)?;
        }
        Ok(())
    }

    fn list(&self, session: &mut Session, target: Target) -> Result<(), Failure> {
        if self.style.directory || !target.status.is_directory() {
            return self.style.show(session, vec![target.status]);
        }
        if !self.recursive {
            let listing = target.fs.list(target.uri());
            let Some(listing) = session.survive(listing)? else { return Ok(()) };
            return self.show_all(session, listing);
        }
        // Sorting by another key is within each directory.
        if self.style.is_sorted() {
            let listing = target.fs.list(target.uri());
            let Some(listing) = session.survive(listing)? else { return Ok(()) };
            for status in self.sorted(session, listing)? {
                let goes_on = status.is_directory() && !status.is_link;
                self.style.show(session, vec![status.clone()])?;
                if goes_on {
                    self.list(session, Target { fs: target.fs.clone(), status })?;
                }
            }
            return Ok(());
        }
        self.show_all(session, Walk::at(target).skip(1))
    }

    /// Shows entries as they come, unless they are to be sorted.
    fn show_all<E: Into<Failure>>(
        &self,
        session: &mut Session,
        entries: impl Iterator<Item = Result<Status, E>>,
    ) -> Result<(), Failure> {
        if self.style.is_sorted() {
            let entries = self.sorted(session, entries)?;
            return self.style.show(session, entries);
        }
        let mut page = Vec::new();
        for entry in entries {
            page.extend(session.survive(entry)?);
            if page.len() == ALIGNED_LINES {
                self.style.show(session, std::mem::take(&mut page))?;
            }
        }
        self.style.show(session, page)
    }

    fn sorted<E: Into<Failure>>(
        &self,
        session: &mut Session,
        entries: impl Iterator<Item = Result<Status, E>>,
    ) -> Result<Vec<Status>, Failure> {
        let mut all = Vec::new();
        for entry in entries {
            all.extend(session.survive(entry)?);
        }
        match &self.style {
            style if style.time => all.sort_by_key(|status| Reverse(style.time_ms(status))),
            style if style.size => all.sort_by_key(|status| Reverse(status.bytes)),
            _ => {}
        }
        if self.style.reverse {
            all.reverse();
        }
        Ok(all)
    }
}

impl Style {
    fn is_sorted(&self) -> bool {
        self.time || self.size || self.reverse
    }

    fn time_ms(&self, status: &Status) -> u64 {
        if self.access_time { status.accessed_ms } else { status.modified_ms }
    }

    fn show(&self, session: &mut Session, entries: Vec<Status>) -> Result<(), Failure> {
        if session.json {
            return entries
                .iter()
                .try_for_each(|status| session.object(&entry(session.path(&status.uri), status)));
        }
        if self.names {
            return entries.iter().try_for_each(|status| session.line(session.name(&status.uri)));
        }
        let rows: Vec<[String; 7]> = entries.iter().map(|status| self.row(session, status)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let [w1, w2, w3, w4] = [1, 2, 3, 4].map(width);
        for [mode, copies, owner, group, size, time, name] in &rows {
            session
                .line(format!("{mode} {copies:>w1$} {owner:<w2$} {group:<w3$} {size:>w4$} {time} {name}"))?;
        }
        Ok(())
    }

    fn row(&self, session: &Session, status: &Status) -> [String; 7] {
        let copies = if status.is_file() { status.replication.to_string() } else { "-".to_owned() };
        [
            format::mode(status),
            copies,
            session.text(&status.owner),
            session.text(&status.group),
            format::size(status.bytes, self.human),
            format::time(self.time_ms(status), false),
            session.name(&status.uri),
        ]
    }
}

/// What programs are told of a file or directory.
pub(crate) fn entry(path: String, status: &Status) -> Value {
    json!({
        "path": path,
        "type": match status.kind {
            Kind::File => "file",
            Kind::Directory => "directory",
            Kind::Other => "other",
        },
        "bytes": status.bytes,
        "replication": status.replication,
        "block_bytes": status.block_bytes,
        "owner": status.owner,
        "group": status.group,
        "mode": format!("{:04o}", status.mode),
        "modified_ms": status.modified_ms,
        "accessed_ms": status.accessed_ms,
        "open": status.under_construction,
    })
}
