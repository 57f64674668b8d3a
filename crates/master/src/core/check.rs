//! What always holds, for simulations.

use std::collections::BTreeMap;

use gristmill_proto::ids::{AttemptId, JobId, WorkerId};

use super::Core;
use super::job::{Job, Phase};
use super::task::{Place, Task};

macro_rules! hold {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}

impl Core {
    /// The first thing that does not hold, if any.
    pub fn check(&self) -> Result<(), String> {
        for job in self.jobs.values() {
            self.check_job(job)?;
        }
        for (id, worker) in &self.roster.workers {
            let running = worker.running.len();
            hold!(
                running <= worker.slots as usize || self.may_be_over(*id),
                "{id} runs {running} attempts in {} slots",
                worker.slots
            );
            let free = self.roster.free().any(|free| free == *id);
            hold!(free == (worker.free_slots() > 0), "{id} stands wrong among the free");
        }
        let tasks: usize = self.jobs.values().map(|job| super::spec::tasks(&job.spec)).sum();
        hold!(tasks == self.tasks, "{} tasks are counted, not {tasks}", self.tasks);
        hold!(self.history.len() == self.ended.len(), "the history has {} jobs", self.history.len());
        Ok(())
    }

    /// A worker that names what it runs names ended attempts too: together they may be more than its slots.
    fn may_be_over(&self, worker: WorkerId) -> bool {
        let there = self.roster.get(worker);
        there.is_some_and(|there| {
            there.running.values().any(|running| running.killed_ms.is_some() || running.is_adopted)
        })
    }

    fn check_job(&self, job: &Job) -> Result<(), String> {
        let id = job.id;
        let mut counters = vec![0u64; job.spec.counters.len()];
        let mut attached = 0;
        let mut done_of = BTreeMap::new();
        for (number, stage) in (0u32..).zip(&job.stages) {
            let (mut done, mut running, mut twins) = (0, 0, 0);
            for (task, state) in (0u32..).zip(&stage.tasks) {
                let name = format!("{id} {}", job.name_of(Place::task(number, task)));
                let states = u32::from(state.won.is_some())
                    + u32::from(!state.attempts.is_empty())
                    + u32::from(stage.pending.contains(task));
                hold!(states == 1, "{name} is in {states} states");
                self.check_attached(id, Place::task(number, task), state)?;
                running += state.attempts.iter().count() as u32;
                twins += state.attempts.iter().filter(|attached| attached.is_twin).count();
                if let Some(won) = &state.won {
                    done += 1;
                    counters.iter_mut().zip(&won.counters).for_each(|(sum, n)| *sum = sum.wrapping_add(*n));
                    hold!(won.number < state.next, "{name} was won by a number that comes yet");
                }
            }
            hold!(done == stage.done, "{id} stage {number} has {done} done, not {}", stage.done);
            hold!(running as usize == stage.running.len(), "{id} stage {number} has {running} running");
            self.check_twins(job, number, twins)?;
            attached += running;
            if let Some(shuffle) = stage.feeds {
                *done_of.entry(shuffle).or_insert(0) += done;
            }
        }
        hold!(counters == job.counters, "{id} counts {:?}, not {counters:?}", job.counters);
        for (number, shuffle) in (0u32..).zip(&job.shuffles) {
            let done = done_of.get(&number).copied().unwrap_or(0);
            hold!(done == shuffle.done, "{id} shuffle {number} has {done} outputs, not {}", shuffle.done);
            attached += shuffle.cut.attempts.iter().count() as u32;
            if let Some(reader) = shuffle.reader {
                self.check_attached(id, Place::cut(reader), &shuffle.cut)?;
            }
            let chosen = u32::from(!shuffle.cuts.is_empty() || !shuffle.is_range);
            let states = chosen + u32::from(shuffle.cut_waits) + u32::from(!shuffle.cut.attempts.is_empty());
            hold!(states == 1, "{id} the cuts of shuffle {number} are in {states} states");
        }
        hold!(attached == job.running, "{id} runs {attached}, not {}", job.running);
        let has_manifest = job.manifest.is_some();
        hold!((job.phase == Phase::Committing) == has_manifest, "{id} commits if it has a manifest");
        hold!(job.phase != Phase::Committing || job.is_done(), "{id} commits and is not done");
        Ok(())
    }

    fn check_attached(&self, job: JobId, place: Place, task: &Task) -> Result<(), String> {
        for attached in task.attempts.iter() {
            let attempt: AttemptId = place.attempt(job, attached.number);
            let running = self.roster.get(attached.worker).and_then(|there| there.running.get(&attempt));
            hold!(
                running.is_some_and(|run| run.killed_ms.is_none()),
                "{attempt} is not at {}",
                attached.worker
            );
            hold!(task.won.is_none(), "{attempt} runs, and its task is done");
        }
        Ok(())
    }

    /// Twins are few, and on another worker than the attempt that they stand in for.
    fn check_twins(&self, job: &Job, number: u32, twins: usize) -> Result<(), String> {
        let (id, stage) = (job.id, job.stage(number));
        hold!(twins == stage.twins as usize, "{id} stage {number} has {twins} twins, not {}", stage.twins);
        let most = self.options.twins_max(stage.tasks.len());
        hold!(twins + stage.stragglers.len() <= most, "{id} stage {number} has more than {most} twins");
        for task in &stage.stragglers {
            let is_alone = stage.tasks[*task as usize].attempts.sole().is_some();
            hold!(is_alone, "{id} stage {number} task {task} wants a twin, and has not one attempt");
        }
        for task in &stage.tasks {
            let mut launched = task.attempts.iter().filter(|_| !task.attempts.has_room());
            let (first, second) = (launched.next(), launched.next());
            let is_apart =
                first.zip(second).is_none_or(|(one, two)| !two.is_twin || one.worker != two.worker);
            hold!(is_apart, "{id} stage {number}: two attempts at a task are on one worker");
        }
        Ok(())
    }
}
