//! What must hold, whatever happens, and what must hold when it is quiet.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_dfs::StagedFile;
use gristmill_dfs::namenode::namespace::Snapshot;
use gristmill_proto::ids::{AttemptId, BlockId, ClientId, InodeId, JobId};
use gristmill_proto::job_record::{Record, record};
use gristmill_proto::namespace::{Entry, List, Locate};

use crate::dfs::{REPLICATION, caller};
use crate::plans;
use crate::words;
use crate::world::World;

const ALL: usize = 10_000;

#[derive(Default)]
pub(crate) struct Oracle {
    /// By task: a second one is journaled only after the loss of the first.
    winners: BTreeMap<(JobId, u32, u32), u32>,
    /// Jobs whose commit is decided.
    committing: BTreeSet<JobId>,
    /// Outputs that have appeared, as they were then.
    pub(crate) visible: BTreeMap<JobId, Vec<(String, u64, u64)>>,
    /// What was to be published.
    published: BTreeMap<JobId, Vec<String>>,
    pub(crate) cleaned: BTreeSet<JobId>,
    /// Files that their writer was told to be whole, and their length.
    pub(crate) acknowledged: BTreeMap<String, u64>,
}

impl Oracle {
    /// I5: a task has one winner at a time, a job one commit.
    pub(crate) fn watch(&mut self, record: &Record) {
        let task = |attempt: &Option<gristmill_proto::task::AttemptId>| {
            let attempt = AttemptId::from_wire(attempt.as_ref().expect("an attempt")).expect("whole");
            ((attempt.task.job, attempt.task.stage, attempt.task.task), attempt.number)
        };
        match &record.record {
            Some(record::Record::Won(won)) => {
                let (task, number) = task(&won.attempt);
                let former = self.winners.insert(task, number);
                assert_eq!(former, None, "{task:?} has a second winner");
            }
            Some(record::Record::Lost(lost)) => {
                let (task, number) = task(&lost.attempt);
                assert_eq!(self.winners.remove(&task), Some(number), "{task:?} loses another");
            }
            Some(record::Record::Committing(committing)) => {
                let job = JobId::from_wire(&committing.job).expect("16 bytes");
                assert!(self.committing.insert(job), "{job} commits twice");
            }
            _ => {}
        }
    }
}

fn directory(job: JobId) -> String {
    format!("/data/out-{}", job.0[0])
}

fn list(snapshot: &Snapshot, path: &str) -> Vec<Entry> {
    let request = List { path: path.to_owned(), after: String::new(), limit: 0 };
    snapshot.list(&caller(ClientId([0; 16])), &request).map_or(Vec::new(), |listing| listing.entries)
}

impl World {
    /// I8: nothing of an output is visible before its commit is decided, all of it after, and for good.
    pub(crate) fn check_outputs(&mut self) {
        let Some(snapshot) = self.dfs.snapshot() else { return };
        for (job, spec) in &self.specs {
            let entries = list(&snapshot, &directory(*job));
            let Some(before) = self.oracle.visible.get(job) else {
                if entries.is_empty() {
                    continue;
                }
                assert!(self.oracle.committing.contains(job), "{job} is visible before its commit");
                let parts = spec.stages[1].tasks;
                let mut names = vec![format!("{}/_SUCCESS", directory(*job))];
                names.extend((0..parts).map(|part| format!("{}/part-r-{part:05}", directory(*job))));
                let found: Vec<&String> = entries.iter().map(|entry| &entry.path).collect();
                assert_eq!(found, names.iter().collect::<Vec<_>>(), "the output of {job}");
                assert!(!entries.iter().any(|entry| entry.under_construction), "{job} is half written");
                let seen = entries.into_iter().map(|entry| (entry.path, entry.inode, entry.bytes)).collect();
                self.oracle.visible.insert(*job, seen);
                continue;
            };
            let now: Vec<_> =
                entries.into_iter().map(|entry| (entry.path, entry.inode, entry.bytes)).collect();
            assert_eq!(&now, before, "the output of {job} has changed");
        }
    }

    /// I3: what was acknowledged is there.
    pub(crate) fn check_acknowledged(&mut self) {
        let snapshot = self.dfs.snapshot().expect("a master runs");
        for (path, bytes) in &self.oracle.acknowledged {
            let entry = snapshot.stat(&caller(ClientId([0; 16])), path);
            let entry = entry.unwrap_or_else(|lost| panic!("{path} is lost: {lost:?}"));
            assert_eq!((entry.bytes, entry.under_construction), (*bytes, false), "{path}");
        }
        self.check_outputs();
    }

    /// I5, I7, I9: one attempt of each task, all of which read the same, and whose counters are reported.
    pub(crate) fn check_publication(&mut self, job: JobId, parts: &[(usize, StagedFile)], manifest: &str) {
        let names: Vec<String> = parts.iter().map(|(_, file)| file.attempt.clone()).collect();
        let spec = &self.specs[&job];
        assert_eq!(names.len(), spec.stages[1].tasks as usize, "parts of {job}");
        let before = self.oracle.published.insert(job, names.clone());
        assert!(before.is_none_or(|before| before == names), "{job} is published twice");
        let mut seen: BTreeMap<(u32, u32), &Vec<u8>> = BTreeMap::new();
        let is_winner = |attempt: &AttemptId| {
            (attempt.task.job, attempt.task.stage) == (job, 1) && names.contains(&attempt.name())
        };
        let winners = self.consumed.iter().filter(|(attempt, _)| is_winner(attempt));
        for (map, digest) in winners.flat_map(|(_, read)| read) {
            assert_eq!(*seen.entry(*map).or_insert(digest), digest, "{job} mixes outputs of {map:?}");
        }
        let report: gristmill_proto::report::Report = serde_json::from_str(manifest).expect("a report");
        let counted: Vec<u64> = report.counters.iter().map(|counter| counter.value).collect();
        assert_eq!(counted, plans::counters(spec), "counters of {job}");
    }

    /// I10: a delete is carried out, and never takes the last good copy.
    pub(crate) fn delete_replica(&mut self, at: usize, block: u64, generation: u64) {
        let Some(replica) = self.dfs.nodes[at].disk.replicas.get(&block).copied() else { return };
        if replica.generation > generation {
            return;
        }
        if self.dfs.is_good(block, &replica) {
            self.count("good copy deleted");
            let others = self.dfs.good(block).into_iter().filter(|other| *other != at).count();
            assert!(others > 0, "the last good copy of {block} goes from worker {at}");
        }
        self.dfs.nodes[at].disk.replicas.remove(&block);
    }

    /// I10, I13: what is not yet as it should be when it is quiet.
    pub(crate) fn trouble(&self) -> Option<String> {
        let Some(snapshot) = self.dfs.snapshot() else { return Some("there is no master".to_owned()) };
        let open = snapshot.open_files(InodeId(0), ALL).expect("it reads");
        if !open.is_empty() || snapshot.has_orphans() {
            return Some(format!("{open:?} are open, or something deleted is not forgotten"));
        }
        let left = list(&snapshot, "/data").into_iter().find(|entry| entry.path.contains(".gristmill"));
        if let Some(entry) = left {
            return Some(format!("{} is left", entry.path));
        }
        let blocks = snapshot.blocks_after(BlockId(0), ALL).expect("it reads");
        let cores = self.workers.iter().filter(|worker| worker.is_core).count();
        for (block, record) in &blocks {
            let good = self.dfs.good(block.0);
            if !record.complete || good.len() != cores.min(REPLICATION as usize) {
                return Some(format!("{block} has {good:?}: {record:?}"));
            }
        }
        for (at, node) in self.dfs.nodes.iter().enumerate() {
            let stray =
                node.disk.replicas.iter().find(|(block, replica)| !self.dfs.is_good(**block, replica));
            if let Some(stray) = stray {
                return Some(format!("worker {at} still has {stray:?}"));
            }
        }
        None
    }

    /// I1, I6: what a job has published is what one process would have written.
    pub(crate) fn check_result(&mut self, job: JobId) {
        let snapshot = self.dfs.snapshot().expect("a master runs");
        let counts: Vec<_> = self.driver.splits.iter().map(|split| words::count(&split.bytes)).collect();
        let (counts, partitions) = (words::sum(counts.iter()), self.specs[&job].stages[1].tasks);
        for partition in 0..partitions {
            let path = format!("{}/part-r-{partition:05}", directory(job));
            let locate = Locate { path: path.clone(), offset: 0, bytes: u64::MAX, limit: 0 };
            let located = snapshot.locate(&caller(ClientId([0; 16])), &locate);
            let located = located.unwrap_or_else(|lost| panic!("{path} is lost: {lost:?}"));
            let mut bytes = Vec::new();
            for block in located.blocks {
                let (read, _) = self.dfs.read(block.block, block.generation, block.bytes, |_| true);
                bytes.extend(read.unwrap_or_else(|| panic!("nobody has {} of {path}", block.block)));
            }
            let expected = words::part(&counts, partition.into(), partitions.into()).concat();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(text(&bytes), text(&expected), "{path}");
        }
    }

    /// I12, I13: no worker keeps anything of a job that has ended.
    pub(crate) fn check_clean(&self) {
        for (at, worker) in self.workers.iter().enumerate() {
            assert!(worker.attempts.is_empty(), "worker {at} still runs {:?}", worker.attempts.keys());
            assert!(worker.outputs.is_empty(), "worker {at} still holds {:?}", worker.outputs.keys());
            assert!(worker.jobs.is_empty(), "worker {at} still has {:?}", worker.jobs);
            assert!(worker.untold.is_empty(), "worker {at} is not heard");
        }
        assert!(self.writers.is_empty(), "somebody still writes");
        let uncleaned: Vec<_> = self.specs.keys().filter(|job| !self.oracle.cleaned.contains(job)).collect();
        assert!(uncleaned.is_empty(), "{uncleaned:?} are not cleaned up");
    }
}
