//! `fsck`: what is wrong with files, and what can be done about it.

use std::collections::BTreeSet;

use clap::Args;
use gristmill_dfs::Uri;
use gristmill_dfs::file_system::{Cluster, DeleteOptions, FileSystem, Status};
use gristmill_proto::ids::{BlockId, Generation, WorkerId};
use gristmill_proto::namespace::{LocatedBlock, Problem, problem::Kind};
use serde_json::{Value, json};

use super::failure::Failure;
use super::format::counted;
use super::session::{Session, Target, cluster};
use super::walk::Walk;

/// Where `--move` takes files that have lost blocks.
const LOST_AND_FOUND: &str = "/lost+found";

/// Checks files: are all blocks there, often enough, and where they should be? Exit code 1: no
#[derive(Args)]
pub(crate) struct Fsck {
    /// Every file
    #[arg(long)]
    files: bool,
    /// Every block of every file
    #[arg(long)]
    blocks: bool,
    /// The workers of every block
    #[arg(long)]
    locations: bool,
    /// Their racks too
    #[arg(long)]
    racks: bool,
    /// Missing and corrupt blocks only, and the files they are of
    #[arg(long)]
    list_corruptfileblocks: bool,
    /// Files that are being written too
    #[arg(long)]
    openforwrite: bool,
    /// Looks at all blocks again, and queues what can be mended
    #[arg(long)]
    repair: bool,
    /// Moves files that have lost blocks to /lost+found
    #[arg(long = "move", conflicts_with = "delete")]
    salvage: bool,
    /// Deletes files that have lost blocks, for good
    #[arg(long)]
    delete: bool,
    /// What to check
    path: String,
}

/// What was found.
#[derive(Default)]
struct Findings {
    files: u64,
    blocks: u64,
    bytes: u64,
    /// By kind of problem, as `Kind` numbers them.
    problems: [u64; 8],
    /// Files that cannot be read whole.
    broken: BTreeSet<String>,
}

impl Fsck {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        for target in session.expand(&self.path)? {
            let fs = target.fs.clone();
            let cluster = cluster(&fs, "check", target.uri())?;
            if self.repair {
                cluster.repair(target.uri())?;
            }
            if self.files || self.blocks || self.locations || self.racks {
                self.show_files(session, cluster, &target)?;
            }
            let findings = self.check(session, cluster, target.uri())?;
            if !findings.broken.is_empty() {
                session.fail();
            }
            self.show_findings(session, target.uri(), &findings)?;
            self.settle(session, &*fs, &target, &findings)?;
        }
        Ok(())
    }

    fn check(&self, session: &mut Session, cluster: &dyn Cluster, uri: &Uri) -> Result<Findings, Failure> {
        let mut findings = Findings::default();
        let mut after = String::new();
        loop {
            let page = cluster.check(uri, &after)?;
            findings.files += page.files;
            findings.blocks += page.blocks;
            findings.bytes += page.bytes;
            for problem in page.problems {
                let kind = Kind::try_from(problem.kind).unwrap_or(Kind::Unspecified);
                findings.problems[kind as usize] += 1;
                self.show_problem(session, kind, &problem)?;
                if is_loss(kind) {
                    findings.broken.insert(problem.path);
                }
            }
            // A page that leads nowhere would be asked for again for ever.
            if page.last.is_empty() || page.last == after {
                return Ok(findings);
            }
            after = page.last;
        }
    }

    fn show_problem(&self, session: &mut Session, kind: Kind, problem: &Problem) -> Result<(), Failure> {
        let is_wanted = match kind {
            Kind::Open => self.openforwrite,
            kind => is_loss(kind) || !self.list_corruptfileblocks,
        };
        if !is_wanted {
            return Ok(());
        }
        if session.json {
            return session.object(&json!({
                "problem": name(kind),
                "path": problem.path,
                "block": problem.block,
                "replicas": problem.replicas,
                "target": problem.target,
                "workers": problem.workers,
            }));
        }
        let path = session.text(&problem.path);
        let workers = problem.workers.join(", ");
        session.line(match kind {
            Kind::Open => format!("{path}: it is being written"),
            _ if problem.block == 0 => format!("{path}: {}", name(kind)),
            _ => format!(
                "{path}: {} is {}, {} of {} copies{}",
                BlockId(problem.block),
                name(kind),
                problem.replicas,
                problem.target,
                if workers.is_empty() { String::new() } else { format!(" (on {})", session.text(&workers)) },
            ),
        })
    }

    fn show_files(
        &self,
        session: &mut Session,
        cluster: &dyn Cluster,
        target: &Target,
    ) -> Result<(), Failure> {
        for status in Walk::at(target.clone()) {
            let Some(status) = session.survive(status)? else { continue };
            if !status.is_file() {
                continue;
            }
            let blocks = all_blocks(cluster, &status.uri);
            let Some(blocks) = session.survive(blocks)? else { continue };
            self.show_file(session, &status, &blocks)?;
        }
        Ok(())
    }

    fn show_file(
        &self,
        session: &mut Session,
        status: &Status,
        blocks: &[LocatedBlock],
    ) -> Result<(), Failure> {
        if session.json {
            let blocks: Vec<Value> = blocks.iter().map(block_object).collect();
            let path = session.path(&status.uri);
            return session.object(&json!({ "path": path, "bytes": status.bytes, "blocks": blocks }));
        }
        let open = if status.under_construction { ", being written" } else { "" };
        let name = session.name(&status.uri);
        session.line(format!("{name}: {} bytes, {} blocks{open}", status.bytes, blocks.len()))?;
        if !(self.blocks || self.locations || self.racks) {
            return Ok(());
        }
        for block in blocks {
            let mut line = format!(
                "  {} {} {} bytes, {} copies",
                BlockId(block.block),
                Generation(block.generation),
                block.bytes,
                block.replicas.len(),
            );
            for replica in block.replicas.iter().filter(|_| self.locations || self.racks) {
                line.push_str(&format!(" {}@{}", WorkerId(replica.worker), session.text(&replica.address)));
                if self.racks {
                    line.push_str(&session.text(&replica.rack));
                }
            }
            session.line(line)?;
        }
        Ok(())
    }

    fn show_findings(&self, session: &mut Session, uri: &Uri, findings: &Findings) -> Result<(), Failure> {
        let healthy = findings.broken.is_empty();
        let count = |kind: Kind| findings.problems[kind as usize];
        if session.json {
            return session.object(&json!({
                "path": session.path(uri),
                "healthy": healthy,
                "files": findings.files,
                "blocks": findings.blocks,
                "bytes": findings.bytes,
                "missing": count(Kind::Missing),
                "corrupt": count(Kind::Corrupt),
                "corrupt_replicas": count(Kind::CorruptReplica),
                "under_replicated": count(Kind::UnderReplicated),
                "over_replicated": count(Kind::OverReplicated),
                "misplaced": count(Kind::Misplaced),
                "open": count(Kind::Open),
            }));
        }
        let verdict = if healthy { "HEALTHY" } else { "CORRUPT" };
        session.line(format!("{} is {verdict}", session.name(uri)))?;
        session.line(format!(
            "  {}, {}, {}; {} missing, {} corrupt, {} with bad copies, {} under-replicated, \
             {} over-replicated, {} misplaced, {}",
            counted(findings.files, "file"),
            counted(findings.blocks, "block"),
            counted(findings.bytes, "byte"),
            count(Kind::Missing),
            count(Kind::Corrupt),
            count(Kind::CorruptReplica),
            count(Kind::UnderReplicated),
            count(Kind::OverReplicated),
            count(Kind::Misplaced),
            counted(count(Kind::Open), "open file"),
        ))
    }

    /// Moves or deletes what is beyond repair, if that is wanted.
    fn settle(
        &self,
        session: &mut Session,
        fs: &dyn FileSystem,
        target: &Target,
        findings: &Findings,
    ) -> Result<(), Failure> {
        if !(self.salvage || self.delete) {
            return Ok(());
        }
        for path in &findings.broken {
            let uri = Uri::of(target.uri().place().clone(), path);
            let settled = if self.delete { delete(fs, &uri) } else { salvage(fs, &uri) };
            if session.survive(settled)?.is_some() {
                session.done(if self.delete { "delete" } else { "move" }, &uri)?;
            }
        }
        Ok(())
    }
}

fn delete(fs: &dyn FileSystem, uri: &Uri) -> Result<(), Failure> {
    fs.delete(uri, DeleteOptions { recursive: false, skip_trash: true })?;
    Ok(())
}

fn salvage(fs: &dyn FileSystem, uri: &Uri) -> Result<(), Failure> {
    let below = uri.path().strip_prefix("/").unwrap_or(uri.path());
    let to = Uri::of(uri.place().clone(), LOST_AND_FOUND).join(below);
    if let Some(parent) = to.parent() {
        fs.make_directory(&parent, true)?;
    }
    Ok(fs.rename(uri, &to, false)?)
}

/// Every block of a file, page by page.
fn all_blocks(cluster: &dyn Cluster, file: &Uri) -> Result<Vec<LocatedBlock>, Failure> {
    let mut blocks: Vec<LocatedBlock> = Vec::new();
    let mut offset = 0;
    loop {
        let page = cluster.locate(file, offset)?;
        let end = page.blocks.last().map_or(offset, |block| block.offset + block.bytes);
        blocks.extend(page.blocks);
        if !page.more || end == offset {
            return Ok(blocks);
        }
        offset = end;
    }
}

fn block_object(block: &LocatedBlock) -> Value {
    let replicas = block.replicas.iter().map(|replica| {
        json!({ "worker": replica.worker, "address": replica.address, "host": replica.host, "rack": replica.rack })
    });
    json!({
        "block": block.block,
        "generation": block.generation,
        "offset": block.offset,
        "bytes": block.bytes,
        "replicas": replicas.collect::<Vec<_>>(),
    })
}

/// Whether bytes of the file cannot be read from anywhere.
fn is_loss(kind: Kind) -> bool {
    matches!(kind, Kind::Missing | Kind::Corrupt)
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "unknown to this version",
        Kind::Missing => "missing",
        Kind::Corrupt => "corrupt",
        Kind::CorruptReplica => "corrupt in some copies",
        Kind::UnderReplicated => "under-replicated",
        Kind::OverReplicated => "over-replicated",
        Kind::Misplaced => "misplaced",
        Kind::Open => "open",
    }
}

#[cfg(test)]
mod tests;
