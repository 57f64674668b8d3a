//! After a start: what the store knows, and how it goes on from there.

use gristmill_proto::ids::{AttemptId, CUT_BIT, JobId, TaskId, WorkerId};
use gristmill_proto::job::job_status::State;
use gristmill_proto::job_record::{self, Record, record};
use gristmill_proto::task::AttemptResult;

use super::command::Command;
use super::commit::EndedJob;
use super::job::Phase;
use super::task::{Place, Task, Won, plain};
use super::{Core, Out, spec};

/// Jobs that ended last, of which a start cleans up again: the master before may have died over it.
const CLEANED_AGAIN: usize = 64;
/// Numbers of attempts for each term of a master: more than a task can fail and lose in one.
const NUMBERS_A_TERM: u32 = 1_000;

impl Core {
    /// Takes a record of the store. In the order in which they were made, before the first event.
    pub fn restore(&mut self, record: Record) {
        match record.record {
            Some(record::Record::Submitted(submitted)) => self.restore_submitted(submitted),
            Some(record::Record::Won(won)) => self.restore_won(won),
            Some(record::Record::Lost(lost)) => self.restore_lost(&lost),
            Some(record::Record::Cut(cut)) => self.restore_cut(cut),
            Some(record::Record::Committing(committing)) => self.restore_committing(committing),
            Some(record::Record::Ended(ended)) => self.restore_ended(ended),
            Some(record::Record::TaskWorkers(workers)) => {
                self.next_task_worker = self.next_task_worker.max(workers.next);
            }
            Some(record::Record::Forgotten(forgotten)) => {
                let job = JobId::from_wire(&forgotten.job).and_then(|id| self.ended.remove(&id));
                if let Some(job) = job {
                    self.history.remove(&job.sequence);
                }
            }
            Some(record::Record::Failures(failures)) => self.restore_failures(&failures),
            None => {}
        }
    }

    fn restore_submitted(&mut self, mut submitted: job_record::Submitted) {
        let Some(spec) = submitted.spec.take() else { return };
        let Some(id) = JobId::from_wire(&spec.job) else { return };
        self.sequence = self.sequence.max(submitted.sequence);
        self.admit(id, Box::new(spec), &submitted);
        let first = self.first_number();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.is_restored = true;
        let cuts = job.shuffles.iter_mut().map(|shuffle| &mut shuffle.cut);
        let tasks = job.stages.iter_mut().flat_map(|stage| stage.tasks.iter_mut());
        tasks.chain(cuts).for_each(|task| skip(task, 0, first));
    }

    /// From where on this master numbers the attempts of earlier ones' jobs: no master gives out as many numbers for a
    /// task as there are between two terms.
    fn first_number(&self) -> u32 {
        let first = self.epoch.0.saturating_mul(u64::from(NUMBERS_A_TERM));
        first.min(u64::from(CUT_BIT / 2)) as u32
    }

    fn restored(&mut self, attempt: AttemptId) -> Option<&mut Task> {
        self.jobs.get_mut(&attempt.task.job)?.task_mut(Place::of(attempt))
    }

    fn restore_won(&mut self, record: job_record::Won) {
        let Some((attempt, result)) = attempt_of(record.attempt.as_ref()).zip(record.result) else { return };
        let (place, number) = (Place::of(attempt), plain(attempt.number));
        let first = self.first_number();
        let Some(task) = self.restored(attempt) else { return };
        skip(task, number + 1, first);
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
        if job.known(place).won.is_some() {
            job.unwin(place, 0);
        }
        let mut won = Won::new(number, WorkerId(record.worker), &result);
        (won.started_ms, won.ended_ms) = (record.started_ms, record.ended_ms);
        (won.took_ms, won.is_twin) = (record.took_ms, record.twin);
        job.win(place, won, 0);
        job.warn(&result.note);
    }

    fn restore_lost(&mut self, record: &job_record::Lost) {
        let Some(attempt) = attempt_of(record.attempt.as_ref()) else { return };
        let (place, number) = (Place::of(attempt), plain(attempt.number));
        let first = self.first_number();
        let Some(task) = self.restored(attempt) else { return };
        skip(task, number + 1, first);
        let was_it = task.won.as_ref().is_some_and(|won| won.number == number);
        let is_won = task.won.is_some();
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
        if was_it {
            job.unwin(place, 0);
        } else if !is_won {
            job.once_won(place, &record.digest);
        }
    }

    fn restore_cut(&mut self, cut: job_record::Cut) {
        let Some(job) = JobId::from_wire(&cut.job).and_then(|id| self.jobs.get_mut(&id)) else { return };
        if let Some(shuffle) = job.shuffles.get_mut(cut.shuffle as usize) {
            shuffle.cuts = cut.cuts.to_vec();
            shuffle.cut_waits = false;
            // Which attempt chose them is not known; no other may.
            let won = Won::new(CUT_BIT - 1, WorkerId(0), &AttemptResult::default());
            shuffle.cut.won = Some(Box::new(won));
        }
    }

    fn restore_failures(&mut self, failures: &job_record::Failures) {
        let Some(job) = JobId::from_wire(&failures.job) else { return };
        let task = TaskId { job, stage: failures.stage, task: failures.task };
        let first = self.first_number();
        if let Some(task) = self.restored(task.attempt(failures.next_number & CUT_BIT)) {
            task.failed = failures.failed;
            task.short_of_memory = u8::try_from(failures.short_of_memory).unwrap_or(u8::MAX);
            skip(task, plain(failures.next_number), first);
        }
    }

    fn restore_committing(&mut self, committing: job_record::Committing) {
        let job = JobId::from_wire(&committing.job).and_then(|id| self.jobs.get_mut(&id));
        if let Some(job) = job {
            job.phase = Phase::Committing;
            job.manifest = Some(committing.report_json);
            job.committing_ms = committing.at_ms;
        }
    }

    fn restore_ended(&mut self, ended: job_record::Ended) {
        let Some(status) = ended.status else { return };
        let Some(job) = JobId::from_wire(&status.job).and_then(|id| self.jobs.remove(&id)) else { return };
        self.queues.leave(job.standing);
        self.tasks -= spec::tasks(&job.spec);
        self.history.insert(job.sequence, job.id);
        let ended = EndedJob { spec: job.spec, sequence: job.sequence, status, tasks: ended.tasks };
        self.ended.insert(job.id, ended);
    }

    /// The first turn: what an earlier master began is begun again.
    pub(super) fn resume(&mut self, out: &mut Out) {
        if !self.jobs.is_empty() {
            self.grace_until_ms = Some(self.now_ms + self.options.lost_ms);
        }
        for id in self.history.values().rev().take(CLEANED_AGAIN) {
            if self.ended.get(id).is_some_and(|ended| ended.status.state() != State::Done) {
                out.push(Command::Abort(*id));
            }
            out.push(Command::Clean(*id));
        }
        for (id, job) in &mut self.jobs {
            out.push(match &job.manifest {
                Some(manifest) => Command::Publish { job: *id, manifest: manifest.clone() },
                None => Command::Stage(*id),
            });
            job.unwatched_since_ms = job.spec.kill_on_exit.then_some(self.now_ms);
        }
    }
}

fn attempt_of(id: Option<&gristmill_proto::task::AttemptId>) -> Option<AttemptId> {
    AttemptId::from_wire(id?).ok()
}

/// Numbers below `next` are used and their attempts are over; earlier masters may have given out others below `first`.
fn skip(task: &mut Task, next: u32, first: u32) {
    let from = task.astray.0.max(next);
    task.next = task.next.max(from).max(first);
    task.astray = (from, task.next);
}
