//! Which workers hold what each task reads: the master places tasks by it.

use super::DriverError;
use crate::pipe::TaskInput;
use crate::stages::PreparedStage;
use gristmill_dfs::{AccessError, Place, Uri, locality};
use gristmill_proto::ids::WorkerId;
use gristmill_proto::job::{ClusterStatus, TaskHint, TaskHints};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Of one message.
const HINTS_MAX: usize = 1000;
/// Named for one task; more are of no use.
const WORKERS_MAX: usize = 3;
/// Asked for at a time: each waits for the master more than it computes.
const LOCATERS: usize = 8;
/// Files that are looked up for one task: of a thousand small ones, a few say where most are.
const FILES_OF_TASK_MAX: usize = 8;
/// Files that are looked up in all; tasks of more run anywhere.
const FILES_MAX: usize = 20_000;

/// Pieces of one file, each with the tasks that reads it.
#[derive(Default)]
struct Pieces {
    tasks: Vec<(usize, usize)>,
    ranges: Vec<(u64, u64)>,
}

/// Hints for all tasks that read inputs, in order of stage and task.
pub(super) fn of(stages: &[PreparedStage], cluster: &ClusterStatus) -> Result<Vec<TaskHints>, DriverError> {
    let mut found: Vec<Vec<Held>> =
        stages.iter().map(|stage| stage.inputs.iter().map(|_| Held::default()).collect()).collect();
    // With one core worker, or none, there is nothing to choose.
    if cluster.workers.iter().filter(|worker| worker.role == "core").count() > 1 {
        for (pieces, holders) in locate(files(stages))? {
            for (((stage, task), (start, end)), workers) in
                pieces.tasks.into_iter().zip(pieces.ranges).zip(holders)
            {
                found[stage][task].add(&workers, end - start);
            }
        }
    }
    Ok(stages.iter().zip(found).flat_map(|(stage, held)| pages(stage, &held)).collect())
}

/// What is to be looked up, by file.
fn files(stages: &[PreparedStage]) -> Vec<(Uri, Pieces)> {
    let mut files: BTreeMap<&Uri, Pieces> = BTreeMap::new();
    for (stage, prepared) in stages.iter().enumerate() {
        for (task, input) in prepared.inputs.iter().enumerate() {
            let TaskInput::Split(split) = input else { continue };
            for range in split.ranges.iter().take(FILES_OF_TASK_MAX) {
                let known = files.contains_key(&range.uri) || files.len() < FILES_MAX;
                if known && matches!(range.uri.place(), Place::Dfs { .. }) {
                    let pieces = files.entry(&range.uri).or_default();
                    pieces.tasks.push((stage, task));
                    pieces.ranges.push((range.start, range.end));
                }
            }
        }
    }
    files.into_iter().map(|(uri, pieces)| (uri.clone(), pieces)).collect()
}

type Located = Vec<(Pieces, Vec<Vec<WorkerId>>)>;

/// Asks the master about all files, several at a time.
fn locate(files: Vec<(Uri, Pieces)>) -> Result<Located, AccessError> {
    let next = AtomicUsize::new(0);
    let ask = || {
        let mut answers = Vec::new();
        while let Some((uri, pieces)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            answers.push((uri, locality(uri, &pieces.ranges)?));
        }
        Ok::<_, AccessError>(answers)
    };
    let mut holders: BTreeMap<&Uri, Vec<Vec<WorkerId>>> = BTreeMap::new();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..LOCATERS.min(files.len())).map(|_| scope.spawn(ask)).collect();
        for thread in threads {
            holders.extend(thread.join().expect("asking does not panic")?);
        }
        Ok::<_, AccessError>(())
    })?;
    let mut answers: Vec<_> = files.iter().map(|(uri, _)| holders.remove(uri).unwrap_or_default()).collect();
    Ok(files.into_iter().map(|(_, pieces)| pieces).zip(answers.drain(..)).collect())
}

/// Who holds how much of a task's input.
#[derive(Default)]
struct Held {
    workers: Vec<(WorkerId, u64)>,
}

impl Held {
    /// These hold a piece of `bytes`, the first of them most of it.
    fn add(&mut self, workers: &[WorkerId], bytes: u64) {
        for (rank, &worker) in (1u64..).zip(workers) {
            // A little less for those behind the first, so that the order of one piece stays.
            let bytes = bytes - bytes.min(rank - 1);
            match self.workers.iter_mut().find(|(known, _)| *known == worker) {
                Some((_, held)) => *held += bytes,
                None => self.workers.push((worker, bytes)),
            }
        }
    }

    fn best(&self) -> Vec<u64> {
        let mut workers = self.workers.clone();
        workers.sort_by_key(|&(worker, bytes)| (std::cmp::Reverse(bytes), worker));
        workers.into_iter().take(WORKERS_MAX).map(|(worker, _)| worker.0).collect()
    }
}

fn pages(stage: &PreparedStage, held: &[Held]) -> Vec<TaskHints> {
    let hint = |(input, held): (&TaskInput, &Held)| TaskHint { bytes: bytes(input), workers: held.best() };
    let hints: Vec<TaskHint> = stage.inputs.iter().zip(held).map(hint).collect();
    let page = |(number, hints): (usize, &[TaskHint])| TaskHints {
        stage: stage.number as u32,
        first_task: (number * HINTS_MAX) as u32,
        hints: hints.to_vec(),
    };
    hints.chunks(HINTS_MAX).enumerate().map(page).collect()
}

fn bytes(input: &TaskInput) -> u64 {
    match input {
        TaskInput::Split(split) => split.bytes(),
        TaskInput::Rows(_) | TaskInput::Parts(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_most_of_a_task_comes_first_and_three_are_enough() {
        let mut held = Held::default();
        held.add(&[WorkerId(4), WorkerId(2)], 100);
        assert_eq!(held.best(), [4, 2], "of one piece, the order that was told");
        held.add(&[WorkerId(3)], 150);
        held.add(&[WorkerId(2), WorkerId(9)], 60);
        assert_eq!(held.best(), [2, 3, 4]);
        assert_eq!(Held::default().best(), [0; 0]);
    }
}
