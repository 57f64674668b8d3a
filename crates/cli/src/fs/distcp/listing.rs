//! The list of what is to be copied: a file in which each line is a file, written as the walk goes and never held.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{BufWriter, Write};

use gristmill_dfs::Uri;
use gristmill_dfs::file_system::{CreateOptions, FileSystem, FileWriter, Status};

use super::job::Listed;
use super::patterns::Patterns;
use crate::fs::failure::Failure;
use crate::fs::session::Target;
use crate::fs::walk::Walk;

/// What a file costs beside its bytes, as bytes: looking, opening, committing and reading again take as long as copying this.
const FILE_COST_BYTES: u64 = 1 << 20;
/// A task is worth its start when it copies this much.
const TASK_COST_BYTES: u64 = 64 << 20;

/// How much there is to copy.
pub(super) struct Totals {
    pub(super) files: u64,
    pub(super) tasks: u32,
}

impl Totals {
    /// Of a list that was written before.
    pub(super) fn unknown(tasks: u32) -> Totals {
        Totals { files: u64::MAX, tasks }
    }
}

/// A list being written.
pub(super) struct Listing {
    uri: Uri,
    out: BufWriter<Box<dyn FileWriter>>,
    patterns: Patterns,
    loads: Loads,
    files: u64,
}

impl Listing {
    pub(super) fn begin(
        fs: &dyn FileSystem,
        uri: &Uri,
        patterns: Patterns,
        tasks_max: u32,
    ) -> Result<Listing, Failure> {
        // With an id that was given, a driver before this one may have died here.
        let out = fs.create(uri, &CreateOptions { overwrite: true, ..CreateOptions::default() })?;
        let loads = Loads { tasks_max, loads: BinaryHeap::new() };
        Ok(Listing { uri: uri.clone(), out: BufWriter::new(out), patterns, loads, files: 0 })
    }

    /// Adds a file, or all files below a directory.
    pub(super) fn add(&mut self, source: Target) -> Result<(), Failure> {
        let top = source.uri().clone();
        for status in Walk::at(source) {
            let status = status?;
            if !status.is_directory() {
                self.add_file(&top, &status)?;
            }
        }
        Ok(())
    }

    fn add_file(&mut self, top: &Uri, status: &Status) -> Result<(), Failure> {
        let uri = &status.uri;
        let below = match uri.path().strip_prefix(top.path()) {
            Ok(below) if !below.as_os_str().is_empty() => below.as_os_str(),
            _ => uri.name(),
        };
        let (Some(below), Some(_)) = (below.to_str(), uri.path().to_str()) else {
            return Err(Failure::refused(
                "copy",
                uri,
                "its name is not UTF-8, as the names of a list have to be",
            ));
        };
        let Some(to) = self.patterns.target(uri, below)? else { return Ok(()) };
        if !status.is_file() {
            return Err(Failure::refused("copy", uri, "it is neither a file nor a directory"));
        }
        // What becomes one file is copied by one task.
        let chosen = self.loads.choose(status.bytes.saturating_add(FILE_COST_BYTES));
        let task = if self.patterns.groups() { crc32c::crc32c(to.as_bytes()) } else { chosen };
        let listed = Listed { from: uri.to_string(), bytes: status.bytes, to, task };
        self.files += 1;
        let mut line = serde_json::to_vec(&listed).expect("it has string keys only");
        line.push(b'\n');
        self.out.write_all(&line).map_err(|source| self.failed(source))
    }

    pub(super) fn finish(self) -> Result<Totals, Failure> {
        let totals = Totals { files: self.files, tasks: (self.loads.loads.len() as u32).max(1) };
        let uri = self.uri;
        let out = self.out.into_inner().map_err(|error| {
            let source = error.into_error();
            Failure::Write { uri: uri.clone(), offset: 0, source }
        })?;
        out.finish()?;
        Ok(totals)
    }

    fn failed(&self, source: std::io::Error) -> Failure {
        Failure::Write { uri: self.uri.clone(), offset: 0, source }
    }
}

/// What tasks have to do so far: the next file goes to the one that has least.
struct Loads {
    tasks_max: u32,
    /// (bytes, task)
    loads: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Loads {
    fn choose(&mut self, cost_bytes: u64) -> u32 {
        let tasks = self.loads.len() as u32;
        let (load, task) = match self.loads.peek() {
            Some(Reverse((load, _)))
                if tasks < self.tasks_max && load.saturating_add(cost_bytes) > TASK_COST_BYTES =>
            {
                (0, tasks)
            }
            None => (0, 0),
            Some(_) => self.loads.pop().map_or((0, 0), |Reverse(least)| least),
        };
        self.loads.push(Reverse((load.saturating_add(cost_bytes), task)));
        task
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(tasks_max: u32, costs: &[u64]) -> Vec<u32> {
        let mut loads = Loads { tasks_max, loads: BinaryHeap::new() };
        costs.iter().map(|cost| loads.choose(cost << 20)).collect()
    }

    #[test]
    fn files_go_to_the_task_that_has_least_to_do() {
        assert_eq!(tasks(9, &[1, 1, 1]), [0, 0, 0], "a few small ones are not worth a task each");
        assert_eq!(tasks(9, &[60, 60, 60]), [0, 1, 2]);
        assert_eq!(tasks(2, &[60, 30, 40, 100, 1]), [0, 1, 1, 0, 1]);
    }
}
