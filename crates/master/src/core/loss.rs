//! What is lost: attempts with their worker, map outputs with their holder. What is still needed runs again.

use gristmill_proto::ids::{AttemptId, JobId, WorkerId};
use gristmill_proto::job_record::{Lost, record};
use gristmill_proto::task::fetch_failed;

use super::attempts::Attached;
use super::command::Command;
use super::event::SessionId;
use super::submit::persist;
use super::task::{Past, Place, Task, plain};
use super::worker::{Presence, Running};
use super::{Core, Out};

impl Core {
    pub(super) fn task_of(&mut self, attempt: AttemptId) -> Option<&mut Task> {
        self.jobs.get_mut(&attempt.task.job)?.task_mut(Place::of(attempt))
    }

    /// The attempt no longer does its task, if it did: its worker.
    pub(super) fn detach(&mut self, attempt: AttemptId) -> Option<WorkerId> {
        let (place, number) = (Place::of(attempt), plain(attempt.number));
        let job = self.jobs.get_mut(&attempt.task.job)?;
        job.task(place)?;
        let Attached { worker, is_twin, .. } = job.detach(place, number)?;
        let running = self.roster.get(worker).and_then(|there| there.running.get(&attempt));
        if let Some(running) = running.filter(|_| !place.cut && !is_twin) {
            let stage = &mut job.stages[place.stage as usize];
            stage.live_records -= running.records;
            stage.live_bytes -= running.bytes;
        }
        self.touch(attempt.task.job);
        Some(worker)
    }

    /// The worker has no such attempt any more: its slot is free.
    pub(super) fn release(&mut self, worker: WorkerId, attempt: AttemptId, out: &mut Out) -> Option<Running> {
        let now_ms = self.now_ms;
        let there = self.roster.known(worker);
        let running = there.running.remove(&attempt)?;
        // A slot that was used for something far has waited already.
        there.waits_since_ms = if running.is_near { now_ms } else { 0 };
        let session = there.session;
        self.roster.refresh(worker);
        self.turn.freed.insert(worker);
        if let Some(session) = session {
            self.stop_listening(attempt, session);
        }
        if let Some(job) = self.jobs.get_mut(&attempt.task.job) {
            job.preempted.remove(&attempt);
        }
        self.closed_one(attempt.task.job, out);
        Some(running)
    }

    /// Tells the worker to end the attempt.
    pub(super) fn order_end(&mut self, worker: WorkerId, attempt: AttemptId, reason: &str, out: &mut Out) {
        let now_ms = self.now_ms;
        let there = self.roster.known(worker);
        if let Some(running) = there.running.get_mut(&attempt) {
            running.killed_ms.get_or_insert(now_ms);
        }
        if let Some(session) = there.session {
            out.push(Command::Kill { session, attempt, reason: reason.to_owned() });
        }
    }

    /// Takes the attempt's slot for something else; it does not count as failed.
    pub(super) fn take_away(&mut self, attempt: AttemptId, reason: &str, out: &mut Out) {
        if let Some(worker) = self.attached_worker(attempt) {
            self.lose_attempt(attempt, "killed", reason, out);
            self.order_end(worker, attempt, reason, out);
        }
    }

    pub(super) fn attached_worker(&mut self, attempt: AttemptId) -> Option<WorkerId> {
        Some(self.task_of(attempt)?.attempts.get(plain(attempt.number))?.worker)
    }

    /// The attempt is gone without a fault of its own: its task waits again, if no other does it.
    pub(super) fn lose_attempt(&mut self, attempt: AttemptId, state: &'static str, why: &str, out: &mut Out) {
        let Some(worker) = self.detach(attempt) else { return };
        self.totals.lost += 1;
        let place = Place::of(attempt);
        self.remember(attempt, worker, state, why);
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
        job.stages[place.stage as usize].lost_attempts += 1;
        let task = job.known(place);
        task.losses += 1;
        let losses = task.losses;
        job.wait_if_alone(place, None);
        self.limit_losses(attempt, losses, why, out);
    }

    /// A job that loses for ever must end too.
    fn limit_losses(&mut self, attempt: AttemptId, losses: u32, why: &str, out: &mut Out) {
        let Some(job) = self.jobs.get(&attempt.task.job) else { return };
        if losses >= self.options.losses_max {
            let name = job.name_of(Place::of(attempt));
            let sentence = format!("{name} was lost {losses} times; the last, {}: {why}", attempt.name());
            self.fail(attempt.task.job, &sentence, out);
        }
    }

    /// For people.
    pub(super) fn remember(
        &mut self,
        attempt: AttemptId,
        worker: WorkerId,
        state: &'static str,
        reason: &str,
    ) {
        let running = self.roster.get(worker).and_then(|there| there.running.get(&attempt));
        let started_ms = running.map_or(0, |running| running.started_wall_ms);
        let ended_ms = self.wall_ms();
        let (number, reason) = (plain(attempt.number), reason.to_owned());
        if let Some(task) = self.task_of(attempt) {
            task.remember(Past { number, state, worker, reason, started_ms, ended_ms });
        }
    }

    pub(super) fn lose_attempts_of(&mut self, worker: WorkerId, why: &str, out: &mut Out) {
        let running: Vec<AttemptId> = self.roster.known(worker).running.keys().copied().collect();
        for attempt in running {
            self.lose_attempt(attempt, "lost", why, out);
            self.release(worker, attempt, out);
        }
    }

    /// All map outputs on the worker are gone.
    pub(super) fn lose_outputs_of(&mut self, holder: WorkerId, out: &mut Out) {
        for id in self.jobs.keys().copied().collect::<Vec<JobId>>() {
            let held = self.jobs.get_mut(&id).and_then(|job| job.held.remove(&holder));
            for (stage, task) in held.into_iter().flatten() {
                let won =
                    self.jobs.get(&id).and_then(|job| job.stage(stage).tasks[task as usize].won.as_ref());
                if let Some(won) = won.filter(|won| won.holder == holder) {
                    let attempt = Place::task(stage, task).attempt(id, won.number);
                    self.output_gone(attempt, holder, out);
                }
            }
        }
    }

    /// The winner's map output is gone: if somebody still needs it the task runs again.
    pub(super) fn output_gone(&mut self, output: AttemptId, holder: WorkerId, out: &mut Out) {
        let place = Place::of(output);
        let Some(job) = self.jobs.get_mut(&output.task.job) else { return };
        let Some(task) = job.task(place) else { return };
        let is_that = |won: &super::task::Won| won.number == plain(output.number) && won.holder == holder;
        if !task.won.as_deref().is_some_and(is_that) {
            return;
        }
        let is_needed = job.stage(place.stage).feeds.is_some_and(|shuffle| job.is_needed(shuffle));
        if is_needed {
            self.totals.outputs_lost += 1;
            self.lose_work(output, "its map output was lost", out);
        } else if let Some(won) = &mut job.known(place).won {
            won.holder = WorkerId(0);
        }
    }

    /// What the winner has made is gone, or does not count: its task runs again.
    pub(super) fn lose_work(&mut self, output: AttemptId, why: &str, out: &mut Out) {
        let (id, place) = (output.task.job, Place::of(output));
        let now_ms = self.now_ms;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let was_done = job.stage(place.stage).is_done();
        let Some(won) = job.unwin(place, now_ms) else { return };
        job.stages[place.stage as usize].lost_attempts += 1;
        let losses = job.known(place).losses;
        let digest = won.digest.to_vec().into();
        out.push(persist(record::Record::Lost(Lost { attempt: Some(output.to_wire()), digest })));
        if let Some(session) = self.roster.session_of(won.holder) {
            out.push(Command::DropOutput { session, attempt: output });
        }
        self.remember(output, won.worker, "lost", why);
        self.touch(id);
        self.limit_losses(output, losses, why, out);
        if was_done {
            self.reopen(id, place.stage, out);
        }
    }

    /// The stage was done and is not any more: what it reads and nobody has must be made again.
    fn reopen(&mut self, id: JobId, stage: u32, out: &mut Out) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(shuffle) = job.stage(stage).reads else { return };
        let mut gone = Vec::new();
        for &feeder in &job.shuffles[shuffle as usize].feeders {
            for (task, state) in (0u32..).zip(&job.stage(feeder).tasks) {
                if let Some(won) = state.won.as_ref().filter(|won| won.holder.0 == 0) {
                    gone.push(Place::task(feeder, task).attempt(id, won.number));
                }
            }
        }
        for output in gone {
            self.totals.outputs_lost += 1;
            self.lose_work(output, "its map output was lost", out);
        }
    }

    /// A reduce attempt could not fetch an output: decided once for all of them.
    pub(super) fn fetch_failed(
        &mut self,
        session: SessionId,
        (reader, output): (AttemptId, AttemptId),
        kind: fetch_failed::Kind,
        out: &mut Out,
    ) {
        let Some(worker) = self.attending(session, out) else { return };
        if reader.task.job != output.task.job || self.attached_worker(reader) != Some(worker) {
            return;
        }
        self.totals.fetch_failures += 1;
        let place = Place::of(output);
        let Some(job) = self.jobs.get_mut(&output.task.job) else { return };
        let fits = job.stages.get(place.stage as usize).is_some_and(|stage| stage.feeds.is_some());
        let Some(task) = job.task(place).filter(|_| fits && !place.cut) else { return };
        let Some(won) = task.won.as_ref().filter(|won| won.number == output.number) else {
            // Another attempt has won since, or is to.
            self.tell_one(output, session, out);
            return;
        };
        let holder = won.holder;
        let is_there = self.roster.get(holder).map(|there| there.presence);
        let is_proof = matches!(kind, fetch_failed::Kind::NotFound | fetch_failed::Kind::Damaged);
        if !is_proof && is_there.is_none() && self.grace_until_ms.is_some() {
            // It has not registered with this master yet: then it is told again, or lost.
            return;
        }
        if is_proof || is_there != Some(Presence::Live) || !job.doubted.insert(output) {
            job.doubted.remove(&output);
            self.output_gone(output, holder, out);
        } else {
            self.tell_one(output, session, out);
        }
    }
}
