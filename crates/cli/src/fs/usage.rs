//! `du`, `df` and `count`: how much there is, and how much room.

use clap::Args;
use gristmill_dfs::Uri;
use gristmill_dfs::file_system::Status;
use gristmill_proto::namespace::Summary;
use serde_json::json;

use super::failure::Failure;
use super::format::size;
use super::session::{Session, Target};

/// Says how much is at and below paths: bytes, and bytes times copies
#[derive(Args)]
pub(crate) struct Du {
    /// One sum for each path, not for each entry of a directory
    #[arg(short = 's', long)]
    summarize: bool,
    /// Sizes for people
    #[arg(short = 'h', long)]
    human: bool,
    /// Names above the columns
    #[arg(short = 'v', long)]
    header: bool,
    /// What to add up; the home directory if nothing is named
    paths: Vec<String>,
}

impl Du {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        if self.paths.is_empty() {
            self.paths.push(".".to_owned());
        }
        if self.header && !session.json {
            session.line(format!("{:>12} {:>16} NAME", "SIZE", "WITH COPIES"))?;
        }
        for target in session.targets(&self.paths)? {
            if self.summarize || !target.status.is_directory() {
                self.show(session, &target, &target.status)?;
                continue;
            }
            let listing = target.fs.list(target.uri());
            for entry in session.survive(listing)?.into_iter().flatten() {
                if let Some(entry) = session.survive(entry)? {
                    self.show(session, &target, &entry)?;
                }
            }
        }
        Ok(())
    }

    fn show(&self, session: &mut Session, target: &Target, status: &Status) -> Result<(), Failure> {
        let summary = summarize(session, target, status)?;
        let Some(summary) = summary else { return Ok(()) };
        if session.json {
            return session.object(&json!({
                "path": session.path(&status.uri),
                "bytes": summary.bytes,
                "space_bytes": summary.space_bytes,
            }));
        }
        let (bytes, space) = (size(summary.bytes, self.human), size(summary.space_bytes, self.human));
        session.line(format!("{bytes:>12} {space:>16} {}", session.name(&status.uri)))
    }
}

/// A file needs no question.
fn summarize(session: &mut Session, target: &Target, status: &Status) -> Result<Option<Summary>, Failure> {
    if status.is_directory() {
        return session.survive(target.fs.summarize(&status.uri));
    }
    let space_bytes = status.bytes.saturating_mul(status.replication.into());
    Ok(Some(Summary { files: 1, bytes: status.bytes, space_bytes, ..Summary::default() }))
}

/// Says how much room file systems have
#[derive(Args)]
pub(crate) struct Df {
    /// Sizes for people
    #[arg(short = 'h', long)]
    human: bool,
    /// Places on them; the default file system if nothing is named
    paths: Vec<String>,
}

impl Df {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        if self.paths.is_empty() {
            self.paths.push("/".to_owned());
        }
        if !session.json {
            session.line(df_row(["Size", "Used", "Available", "Use%", "Filesystem"].map(str::to_owned)))?;
        }
        for text in &self.paths {
            let uri = session.uri(text)?;
            let space = session.fs(&uri)?.space(&uri);
            let Some(space) = session.survive(space)? else { continue };
            if session.json {
                session.object(&json!({
                    "path": session.path(&uri),
                    "capacity_bytes": space.capacity_bytes,
                    "used_bytes": space.used_bytes,
                    "remaining_bytes": space.remaining_bytes,
                }))?;
                continue;
            }
            let sizes = [space.capacity_bytes, space.used_bytes, space.remaining_bytes];
            let [capacity, used, remaining] = sizes.map(|bytes| size(bytes, self.human));
            let share = percent(space.used_bytes, space.capacity_bytes);
            session.line(df_row([capacity, used, remaining, share, file_system(session, &uri)]))?;
        }
        Ok(())
    }
}

fn df_row([capacity, used, remaining, share, name]: [String; 5]) -> String {
    format!("{capacity:>16} {used:>16} {remaining:>16} {share:>5} {name}")
}

fn file_system(session: &Session, uri: &Uri) -> String {
    if uri.is_local() {
        session.name(uri)
    } else {
        session.text(&Uri::of(uri.place().clone(), "/").to_string())
    }
}

/// `part` of `whole` in percent, rounded up: what is nearly full is not shown as less.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{}%", (u128::from(part) * 100).div_ceil(whole.into())) }
}

/// Counts directories, files and bytes at and below paths
#[derive(Args)]
pub(crate) struct Count {
    /// Quotas, and what is left of them, before the rest
    #[arg(short = 'q', long)]
    pub(crate) quotas: bool,
    /// Sizes for people
    #[arg(short = 'h', long)]
    pub(crate) human: bool,
    /// Names above the columns
    #[arg(short = 'v', long)]
    pub(crate) header: bool,
    /// What to count
    #[arg(required = true)]
    pub(crate) paths: Vec<String>,
}

impl Count {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        if self.header && !session.json {
            let quotas = ["QUOTA", "REM_QUOTA", "SPACE_QUOTA", "REM_SPACE_QUOTA"].map(str::to_owned);
            let counts = ["DIR_COUNT", "FILE_COUNT", "CONTENT_SIZE"].map(str::to_owned);
            session.line(self.row(quotas, counts, "PATHNAME"))?;
        }
        for target in session.targets(&self.paths)? {
            let summary = summarize(session, &target, &target.status)?;
            if let Some(summary) = summary {
                self.show(session, target.uri(), &summary)?;
            }
        }
        Ok(())
    }

    fn show(&self, session: &mut Session, uri: &Uri, summary: &Summary) -> Result<(), Failure> {
        if session.json {
            return session.object(&json!({
                "path": session.path(uri),
                "directories": summary.directories,
                "files": summary.files,
                "bytes": summary.bytes,
                "space_bytes": summary.space_bytes,
                "name_quota": summary.name_quota,
                "space_quota": summary.space_quota,
            }));
        }
        let names = summary.directories + summary.files;
        let [quota, rest] = quota_and_rest(summary.name_quota, names, |count| count.to_string());
        let [space, space_rest] =
            quota_and_rest(summary.space_quota, summary.space_bytes, |bytes| size(bytes, self.human));
        let counts =
            [summary.directories.to_string(), summary.files.to_string(), size(summary.bytes, self.human)];
        session.line(self.row([quota, rest, space, space_rest], counts, &session.name(uri)))
    }

    fn row(&self, quotas: [String; 4], counts: [String; 3], name: &str) -> String {
        let quotas = quotas.iter().filter(|_| self.quotas).map(|text| format!("{text:>15} "));
        let counts = counts.iter().map(|text| format!("{text:>12} "));
        quotas.chain(counts).chain([name.to_owned()]).collect()
    }
}

/// A quota and what is left of it; below zero when a quota was set below what is there.
fn quota_and_rest(quota: u64, used: u64, show: impl Fn(u64) -> String) -> [String; 2] {
    match (quota, quota.checked_sub(used)) {
        (0, _) => ["none".to_owned(), "inf".to_owned()],
        (_, Some(rest)) => [show(quota), show(rest)],
        (_, None) => [show(quota), format!("-{}", show(used - quota))],
    }
}
