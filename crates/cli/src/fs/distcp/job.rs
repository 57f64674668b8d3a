//! The plan: the list is shuffled so that each task has its files, which it copies one after the other.

use clap::{Args, ValueEnum};
use gristmill::{Counter, Dataset, Datum, Emit, JsonLines, JsonLinesOutput, Keyed, Plan, Report, Values};
use gristmill_dfs::Uri;
use serde::{Deserialize, Serialize};

use super::copying::{Copier, Copying, Source};
use crate::fs::failure::Failure;

/// Files that become one: their names are held while that goes on.
const SOURCES_MAX: usize = 100_000;

const COPIED: &str = "files copied";
const BYTES: &str = "bytes copied";
const THERE: &str = "files that were there";
const KNOWN: &str = "files of the previous manifest";

/// What the job needs to know: written by `gristmill fs distcp`, and by nobody else.
#[derive(Args)]
pub(crate) struct CopyJob {
    #[arg(long)]
    list: String,
    #[arg(long)]
    to: String,
    #[arg(long)]
    unfinished: String,
    #[arg(long)]
    tasks: u32,
    #[arg(long, value_enum)]
    existing: Existing,
    #[arg(long)]
    skip_crc_check: bool,
    #[arg(long)]
    concatenate: bool,
    #[arg(long)]
    target_bytes: Option<u64>,
    #[arg(long)]
    manifest: Option<String>,
    #[arg(long)]
    previous: Option<String>,
}

/// What becomes of a file that is where a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Existing {
    /// An equal one counts as the copy, which an earlier attempt has made; another one is refused.
    Refuse,
    /// An equal one counts as the copy, another one gives way.
    Update,
    /// It gives way.
    Overwrite,
}

impl Existing {
    /// As the job's argument.
    pub(super) fn name(self) -> &'static str {
        match self {
            Existing::Refuse => "refuse",
            Existing::Update => "update",
            Existing::Overwrite => "overwrite",
        }
    }
}

/// A line of the list.
#[derive(Clone, Debug, Serialize, Deserialize, Datum)]
pub(crate) struct Listed {
    pub(super) from: String,
    pub(super) bytes: u64,
    /// Below the directory that is copied to.
    pub(super) to: String,
    /// Which task copies it, counted around as many as there are.
    pub(super) task: u32,
}

/// A line of a manifest.
#[derive(Clone, Debug, Serialize, Deserialize, Datum)]
pub(crate) struct Copied {
    pub(super) from: String,
    /// How long it was then.
    pub(super) bytes: u64,
    /// Of its bytes; empty where it was not looked at.
    pub(super) crc32c: String,
    /// The file that holds its bytes.
    pub(super) to: String,
}

/// What is known of a file: that it is to be copied, that it was copied before this job, or both.
#[derive(Clone, Debug, Serialize, Deserialize, Datum)]
pub(crate) struct Entry {
    listed: Option<Listed>,
    copied: Option<Copied>,
}

/// The task, and the name of the file that is written.
type Place = (u32, String);

/// What the report counts.
#[derive(Clone, Copy)]
struct Counters {
    copied: Counter,
    bytes: Counter,
    there: Counter,
    known: Counter,
}

/// Describes the job.
pub(crate) fn job(args: &CopyJob, plan: &mut Plan) -> Result<(), Failure> {
    let copying = Copying {
        to: Uri::parse(&args.to)?,
        unfinished: Uri::parse(&args.unfinished)?,
        existing: args.existing,
        compares_sums: !args.skip_crc_check,
    };
    plan.makes_files_below(&args.to);
    let [copied, bytes, there, known] = [COPIED, BYTES, THERE, KNOWN].map(|name| plan.counter(name));
    let counters = Counters { copied, bytes, there, known };
    let listed = plan.read(JsonLines::<Listed>::at(&args.list)).map(by_source);
    let entries = match &args.previous {
        None => listed.map(|(_, entry): (&str, Entry), out: &mut Emit<Place, Entry>| placed(entry, out)),
        Some(previous) => {
            let before: Dataset<Copied> = plan.read(JsonLines::at(previous));
            let before = before.map(|copied: Copied, out: &mut Emit<String, Entry>| {
                out.emit(&copied.from.clone(), Entry { listed: None, copied: Some(copied) });
            });
            new_ones(listed.union(before))
        }
    };
    let writing =
        Writing { copying, counters, concatenates: args.concatenate, target_bytes: args.target_bytes };
    let done = entries
        .partition_by(|(task, _), tasks| task % tasks)
        .reducers(args.tasks)
        .sort_values_by(|entry: Entry| entry.listed.map(|listed| listed.from).unwrap_or_default())
        .try_reduce(move |(_, name), entries, out| writing.write(name, entries, out));
    match &args.manifest {
        None => done.discard(),
        Some(manifest) => done.values().write(JsonLinesOutput::at(manifest)),
    }
    plan.afterwards(summary);
    Ok(())
}

fn by_source(listed: Listed, out: &mut Emit<String, Entry>) {
    out.emit(&listed.from.clone(), Entry { listed: Some(listed), copied: None });
}

fn placed(entry: Entry, out: &mut Emit<Place, Entry>) {
    match (&entry.listed, &entry.copied) {
        (Some(listed), _) => {
            let (task, to) = (listed.task, listed.to.clone());
            out.emit((task, to.as_str()), entry);
        }
        (None, Some(copied)) => {
            let (task, to) = (crc32c::crc32c(copied.from.as_bytes()), copied.to.clone());
            out.emit((task, to.as_str()), entry);
        }
        (None, None) => {}
    }
}

/// Of files that a previous manifest has with the length they still have, only what it says of them; so too of those that are
/// gone.
fn new_ones(entries: Keyed<String, Entry>) -> Keyed<Place, Entry> {
    entries.reduce(|_, both: Values<'_, Entry>, out: &mut Emit<Place, Entry>| {
        let (mut listed, mut copied) = (None, None);
        for entry in both {
            listed = entry.listed.or(listed);
            copied = entry.copied.or(copied);
        }
        let entry = match (listed, copied) {
            (Some(now), Some(then)) if now.bytes != then.bytes => Entry { listed: Some(now), copied: None },
            (_, Some(then)) => Entry { listed: None, copied: Some(then) },
            (listed, None) => Entry { listed, copied: None },
        };
        placed(entry, out);
    })
}

/// How a task writes files.
struct Writing {
    copying: Copying,
    counters: Counters,
    concatenates: bool,
    target_bytes: Option<u64>,
}

impl Writing {
    /// Writes the file `name`, or several numbered ones.
    fn write(
        &self,
        name: &str,
        entries: Values<'_, Entry>,
        out: &mut Emit<'_, String, Copied>,
    ) -> Result<(), Failure> {
        let (mut part, mut part_bytes, mut parts) = (Vec::new(), 0_u64, 0);
        for entry in entries {
            if let Some(copied) = entry.copied {
                out.count(self.counters.known, 1);
                out.emit(&copied.from.clone(), copied);
                continue;
            }
            let Some(Listed { from, bytes, .. }) = entry.listed else { continue };
            let source = Source { uri: Uri::parse(&from)?, bytes };
            let is_full = self.target_bytes.is_some_and(|target| part_bytes.saturating_add(bytes) > target);
            if !part.is_empty() && is_full {
                self.copy(&numbered(name, parts), std::mem::take(&mut part), out)?;
                (part_bytes, parts) = (0, parts + 1);
            }
            self.check(name, &part, &source)?;
            part_bytes = part_bytes.saturating_add(bytes);
            part.push(source);
        }
        match (part.is_empty(), parts) {
            (true, _) => Ok(()),
            (_, 0) => self.copy(name, part, out),
            _ => self.copy(&numbered(name, parts), part, out),
        }
    }

    fn check(&self, name: &str, part: &[Source], next: &Source) -> Result<(), Failure> {
        let Some(first) = part.first() else { return Ok(()) };
        let why = match self.concatenates {
            false => format!("{} would become {name} too: copy them apart", first.uri),
            true if part.len() == SOURCES_MAX => {
                format!(
                    "{name} would be more than {SOURCES_MAX} files: give a --target-size, or a finer --group-by"
                )
            }
            true => return Ok(()),
        };
        Err(Failure::refused("copy", &next.uri, why))
    }

    fn copy(
        &self,
        name: &str,
        sources: Vec<Source>,
        out: &mut Emit<'_, String, Copied>,
    ) -> Result<(), Failure> {
        let to = self.copying.to.join(name);
        let mut advance = |bytes| out.advance(bytes);
        let made = Copier { copying: &self.copying, advance: &mut advance }.copy(&sources, &to)?;
        let counters = &self.counters;
        if made.was_there {
            out.count(counters.there, sources.len() as u64);
        } else {
            out.count(counters.copied, sources.len() as u64);
            out.count(counters.bytes, sources.iter().map(|source| source.bytes).sum());
        }
        for (at, source) in sources.iter().enumerate() {
            let (from, bytes, to) = (source.uri.to_string(), source.bytes, to.to_string());
            let crc32c = made.sums.get(at).map_or_else(String::new, |sum| format!("{sum:08x}"));
            out.emit(&from.clone(), Copied { from, bytes, crc32c, to });
        }
        Ok(())
    }
}

/// The name of a part: `logs.gz` is `logs0.gz`, `logs1.gz`, ...
fn numbered(name: &str, number: u32) -> String {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[start..].rfind('.') {
        Some(dot) if dot > 0 => {
            let (stem, suffix) = name.split_at(start + dot);
            format!("{stem}{number}{suffix}")
        }
        _ => format!("{name}{number}"),
    }
}

fn summary(report: &Report) -> String {
    let of = |name: &str| {
        report.counters.iter().find(|counter| counter.name == name).map_or(0, |found| found.value)
    };
    format!(
        "copied {} files with {} bytes; {} were there; {} of the previous manifest",
        of(COPIED),
        of(BYTES),
        of(THERE),
        of(KNOWN)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_before_the_suffix() {
        let numbered = ["a.gz", "a", "x.d/a", "x/.a", "a.b.c"].map(|name| numbered(name, 7));
        assert_eq!(numbered, ["a7.gz", "a7", "x.d/a7", "x/.a7", "a.b7.c"]);
    }
}
