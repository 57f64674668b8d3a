//! Attempts that are slow get a twin on another worker; workers whose attempts are slow are avoided. (Hadoop: speculation)
//!
//! When no task of a stage waits for a slot any more, its attempts are compared with those that are done. One that takes
//! much longer, and not because it has more to read, wants a twin: a slot is found for it as for a task that waits.

use gristmill_proto::ids::{AttemptId, JobId, WorkerId};

use super::Core;
use super::attempts::Attached;
use super::job::{Choice, Job, Phase, Stage};
use super::options::CoreOptions;
use super::pace::{Effort, Slowness};
use super::pending::Offer;
use super::task::{Place, plain};
use super::worker::{Roster, Running};

/// A stage may have more twins at once if it has very many tasks: one for each hundred.
const TASKS_A_TWIN: usize = 100;

impl CoreOptions {
    /// Twins at once, of a stage with so many tasks.
    pub(super) fn twins_max(&self, tasks: usize) -> usize {
        (self.twins_min as usize).max(tasks / TASKS_A_TWIN)
    }

    /// An attempt that is so slow gets a twin.
    fn straggling(&self) -> Slowness {
        Slowness { percent: self.straggler_percent, behind_ms: self.straggler_behind_ms }
    }

    /// One that ended and was so slow speaks against its worker.
    fn sluggish(&self) -> Slowness {
        Slowness { percent: self.sluggish_percent, behind_ms: self.straggler_behind_ms }
    }

    /// One that was overtaken and was so slow, for so long, was not out of luck.
    fn hopeless(&self) -> Slowness {
        Slowness { percent: self.hopeless_percent, behind_ms: 2 * self.straggler_behind_ms }
    }
}

impl Core {
    /// Once in a while: heartbeats bring news no more often.
    pub(super) fn look_for_stragglers(&mut self) {
        if self.now_ms < self.stragglers_due_ms {
            return;
        }
        self.stragglers_due_ms = self.now_ms + self.options.heartbeat_interval_ms;
        let has_others = self.roster.usable().len() > 1;
        for id in self.jobs.keys().copied().collect::<Vec<JobId>>() {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let has_twins = has_others && job.phase == Phase::Running && !job.spec.no_twins;
            let mut wanted = false;
            for number in 0..job.stages.len() {
                let found = if has_twins {
                    job.find_stragglers(number, &self.roster, &self.options, self.now_ms)
                } else {
                    Vec::new()
                };
                let stage = &mut job.stages[number];
                wanted |= !found.is_empty() || !stage.stragglers.is_empty();
                stage.stragglers = found.into_iter().collect();
            }
            if wanted {
                self.look(id);
            }
        }
    }

    /// For how long an attempt has worked at its task, without waiting for map outputs.
    pub(super) fn effort_ms(&self, job: &Job, place: Place, running: &Running) -> u64 {
        self.now_ms.saturating_sub(running.started_ms.max(job.fed_ms(place)))
    }

    /// Another attempt has done the task: this one ends.
    pub(super) fn overtake(&mut self, loser: AttemptId, winner: Option<Attached>, out: &mut super::Out) {
        let Some(attached) = self.task_of(loser).and_then(|task| task.attempts.get(plain(loser.number)))
        else {
            return;
        };
        let strikes = if self.is_hopeless(loser, attached.worker) { self.options.avoid_slow } else { 1 };
        self.remember(loser, attached.worker, "killed", "another attempt has done the task");
        self.detach(loser);
        self.order_end(attached.worker, loser, "another attempt has done the task", out);
        if winner.is_some_and(|winner| winner.is_twin && attached.launch < winner.launch) {
            self.was_slow(loser.task.job, attached.worker, strikes);
        }
    }

    fn is_hopeless(&self, attempt: AttemptId, worker: WorkerId) -> bool {
        let (place, hopeless) = (Place::of(attempt), self.options.hopeless());
        let running = self.roster.get(worker).and_then(|there| there.running.get(&attempt));
        let (Some(job), Some(running)) = (self.jobs.get(&attempt.task.job), running) else { return false };
        let took_ms = self.effort_ms(job, place, running);
        let effort = Effort { took_ms, records: running.records, bytes: running.bytes };
        !place.cut && job.stage(place.stage).pace.is_slow(effort, hopeless)
    }

    /// An attempt has won: if it took far too long, its worker is slow.
    pub(super) fn judge_pace(&mut self, id: JobId, place: Place, worker: WorkerId, effort: Effort) {
        let sluggish = self.options.sluggish();
        let is_slow = |job: &Job| !place.cut && job.stage(place.stage).pace.is_slow(effort, sluggish);
        if self.jobs.get(&id).is_some_and(is_slow) {
            self.was_slow(id, worker, 1);
        }
    }

    fn was_slow(&mut self, id: JobId, worker: WorkerId, strikes: u32) {
        let Some(there) = self.roster.workers.get_mut(&worker) else { return };
        there.slow_attempts += 1;
        let host = there.host.clone();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let count = job.slow.entry(worker).or_default();
        let was_avoided = *count >= self.options.avoid_slow;
        *count += strikes;
        if !was_avoided && *count >= self.options.avoid_slow {
            job.warn(&format!("{worker} ({host}) is slow: the job avoids it as long as there are others"));
        }
    }
}

impl Job {
    /// Since when the attempts of a place have had all map outputs that they read; 0: they read none.
    fn fed_ms(&self, place: Place) -> u64 {
        let shuffle = self.reads(place).map(|shuffle| &self.shuffles[shuffle as usize]);
        shuffle.and_then(|shuffle| shuffle.complete_ms).unwrap_or(0)
    }

    /// Tasks of a stage whose attempt is slow, the oldest first, as many as may have a twin.
    fn find_stragglers(
        &self,
        number: usize,
        roster: &Roster,
        options: &CoreOptions,
        now_ms: u64,
    ) -> Vec<u32> {
        let stage = &self.stages[number];
        let is_compared = stage.is_ready
            && stage.pending.len() == 0
            && u64::from(stage.done) * 1000 >= stage.tasks.len() as u64 * u64::from(options.twins_permille);
        if !is_compared {
            return Vec::new();
        }
        let room = options.twins_max(stage.tasks.len()).saturating_sub(stage.twins as usize);
        let fed_ms = self.fed_ms(Place::task(number as u32, 0));
        let is_slow = |task: &u32| {
            let Some(attached) = stage.tasks[*task as usize].attempts.sole() else { return false };
            let attempt = Place::task(number as u32, *task).attempt(self.id, attached.number);
            let running = roster.get(attached.worker).and_then(|there| there.running.get(&attempt));
            running.is_some_and(|running| {
                let took_ms = now_ms.saturating_sub(running.started_ms.max(fed_ms));
                let effort = Effort { took_ms, records: running.records, bytes: running.bytes };
                stage.pace.is_slow(effort, options.straggling())
            })
        };
        stage.running.iter().map(|(_, task)| *task).filter(is_slow).take(room).collect()
    }

    /// A slow attempt that gets a twin in this slot.
    pub(super) fn choose_twin(&self, offer: &Offer) -> Option<Choice> {
        self.stages.iter().enumerate().find_map(|(number, stage)| {
            let task = stage.straggler_elsewhere(offer.worker)?;
            let nearness = stage.pending.nearness(task, offer);
            Some(Choice { place: Place::task(number as u32, task), nearness, is_twin: true })
        })
    }

    /// Whether a slot of this worker would be used, if it were free.
    pub(super) fn could_use(&self, worker: WorkerId) -> bool {
        let has_waiting = |stage: &Stage| {
            stage.is_ready && stage.pending.len() > 0 || stage.straggler_elsewhere(worker).is_some()
        };
        self.stages.iter().any(has_waiting) || self.wants_cut()
    }

    /// Tasks wait for a slot, and not only twins.
    pub(super) fn has_waiting(&self) -> bool {
        self.stages.iter().any(|stage| stage.is_ready && stage.pending.len() > 0) || self.wants_cut()
    }

    fn wants_cut(&self) -> bool {
        (0..self.shuffles.len() as u32).any(|shuffle| self.can_cut(shuffle))
    }
}

impl Stage {
    fn straggler_elsewhere(&self, worker: WorkerId) -> Option<u32> {
        let is_elsewhere = |task: &&u32| {
            self.tasks[**task as usize].attempts.sole().is_some_and(|attached| attached.worker != worker)
        };
        self.stragglers.iter().find(is_elsewhere).copied().filter(|_| self.is_ready)
    }
}
