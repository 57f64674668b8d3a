//! How a job ends: by the one decision to publish, or by a sentence that says why not.

use gristmill_proto::ids::{AttemptId, JobId, TaskId, WorkerId};
use gristmill_proto::job::job_status::State;
use gristmill_proto::job::{JobSpec, JobStatus, TaskStatus};
use gristmill_proto::job_record::{self, record};

use super::command::Command;
use super::job::{Job, Phase};
use super::submit::persist;
use super::task::cut_short;
use super::{Core, Out, report, spec};

/// Tasks with failed or lost attempts that are kept of a job that has ended.
const EVENTFUL_TASKS_KEPT: usize = 100;
/// And others, of each stage: enough to see where they ran, and to look at a log,
const QUIET_TASKS_KEPT: usize = 10;
/// but of all stages no more than make this many tasks: a job may have a thousand stages.
const TASKS_KEPT: usize = 1_000;
/// Of each reason in a history: what fails a task again and again says the same at length.
const REASON_BYTES_KEPT: usize = 1_024;

/// What is kept of a job that has ended.
#[derive(Debug)]
pub(super) struct EndedJob {
    pub(super) spec: Box<JobSpec>,
    pub(super) sequence: u64,
    pub(super) status: JobStatus,
    /// Those that failed, or lost an attempt, and some others; in order.
    pub(super) tasks: Vec<TaskStatus>,
}

/// A job that has ended, and whose attempts have not.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) running: usize,
    /// Then it is cleaned up whatever runs.
    pub(super) until_ms: u64,
}

impl Core {
    /// All tasks are done: from now on nothing stops the job.
    pub(super) fn commit(&mut self, id: JobId, out: &mut Out) {
        let at_ms = self.wall_ms();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.phase = Phase::Committing;
        job.committing_ms = at_ms;
        let manifest = report::of(job, at_ms);
        job.manifest = Some(manifest.clone());
        let report_json = manifest.clone();
        let committing = job_record::Committing { job: id.0.to_vec().into(), report_json, at_ms };
        out.push(persist(record::Record::Committing(committing)));
        out.push(Command::Publish { job: id, manifest });
        self.changed(id);
    }

    pub(super) fn published(&mut self, id: JobId, result: Result<(), String>, out: &mut Out) {
        if self.jobs.get(&id).is_none_or(|job| job.phase != Phase::Committing) {
            return;
        }
        match result {
            Ok(()) => self.end(id, State::Done, "", out),
            Err(sentence) => self.end(id, State::Failed, &sentence, out),
        }
    }

    /// The job fails, unless it commits.
    pub(super) fn fail(&mut self, id: JobId, sentence: &str, out: &mut Out) {
        if self.jobs.get(&id).is_some_and(|job| job.phase != Phase::Committing) {
            self.end(id, State::Failed, sentence, out);
        }
    }

    pub(super) fn end(&mut self, id: JobId, state: State, reason: &str, out: &mut Out) {
        let Some(mut status) = self.status(id) else { return };
        let Some(job) = self.jobs.remove(&id) else { return };
        status.state = state as i32;
        status.reason = reason.to_owned();
        status.ended_ms = self.wall_ms();
        status.version += 1;
        status.stages.iter_mut().for_each(|stage| stage.running = 0);
        if state == State::Done {
            let manifest = job.manifest.clone();
            status.report_json =
                manifest.expect("a job is done after it commits, and has its manifest since");
        }
        let tasks = self.tasks_to_keep(&job);
        let history = job_record::Ended { status: Some(status.clone()), tasks: tasks.clone() };
        out.push(persist(record::Record::Ended(history)));
        self.totals.ended += 1;
        let running = self.end_at_workers(&job, out);
        self.remember_ended(id, EndedJob { spec: job.spec, sequence: job.sequence, status, tasks }, out);
        self.queues.leave(job.standing);
        self.closing.insert(id, Closing { running, until_ms: self.now_ms + self.options.lost_ms });
        self.clean_up_closed(id, out);
        self.turn.changed.insert(id);
        self.turn.offer_all = true;
    }

    /// Tells all workers that may have something of the job; how many attempts still have their slots.
    fn end_at_workers(&mut self, job: &Job, out: &mut Out) -> usize {
        let mut workers = job.workers.clone();
        if job.is_restored {
            workers.extend(self.roster.open_sessions().map(|(_, worker)| worker));
        }
        let mut running = 0;
        for worker in workers {
            running += self.end_at_worker(job.id, worker, out);
        }
        running
    }

    fn end_at_worker(&mut self, job: JobId, worker: WorkerId, out: &mut Out) -> usize {
        let now_ms = self.now_ms;
        let Some(there) = self.roster.workers.get_mut(&worker) else { return 0 };
        let first = TaskId { job, stage: 0, task: 0 }.attempt(0);
        let last = TaskId { job, stage: u32::MAX, task: u32::MAX }.attempt(u32::MAX);
        let of_job = there.running.range_mut(first..=last);
        let running = of_job.map(|(_, running)| running.killed_ms.get_or_insert(now_ms)).count();
        if let Some(session) = there.session {
            there.told.remove(&job);
            there.started.remove(&job);
            out.push(Command::EndJob { session, job });
        }
        running
    }

    pub(super) fn remember_ended(&mut self, id: JobId, ended: EndedJob, out: &mut Out) {
        self.tasks -= spec::tasks(&ended.spec);
        self.history.insert(ended.sequence, id);
        self.ended.insert(id, ended);
        while self.ended.len() > self.options.ended_jobs_kept {
            let Some((_, oldest)) = self.history.pop_first() else { return };
            self.ended.remove(&oldest);
            let forgotten = job_record::Forgotten { job: oldest.0.to_vec().into() };
            out.push(persist(record::Record::Forgotten(forgotten)));
        }
    }

    /// An attempt of this job, which may have ended, has no slot any more.
    pub(super) fn closed_one(&mut self, id: JobId, out: &mut Out) {
        if let Some(closing) = self.closing.get_mut(&id) {
            closing.running = closing.running.saturating_sub(1);
            self.clean_up_closed(id, out);
        }
    }

    /// When nothing of the job runs any more, nothing can come after the cleaning.
    pub(super) fn clean_up_closed(&mut self, id: JobId, out: &mut Out) {
        let is_over = |closing: &Closing| closing.running == 0 || closing.until_ms <= self.now_ms;
        if !self.closing.get(&id).is_some_and(is_over) {
            return;
        }
        self.closing.remove(&id);
        let is_done = self.ended.get(&id).is_some_and(|ended| ended.status.state() == State::Done);
        if !is_done {
            out.push(Command::Abort(id));
        }
        out.push(Command::Clean(id));
    }

    /// The worker that ran an attempt, as far as that is known.
    pub(super) fn worker_of(&self, attempt: AttemptId) -> Option<WorkerId> {
        let number = super::task::plain(attempt.number);
        let Some(job) = self.jobs.get(&attempt.task.job) else {
            let TaskId { job, stage, task } = attempt.task;
            let kept = &self.ended.get(&job)?.tasks;
            let task = kept.iter().find(|kept| (kept.stage, kept.task) == (stage, task))?;
            let attempt = task.attempts.iter().find(|kept| super::task::plain(kept.number) == number)?;
            return Some(WorkerId(attempt.worker));
        };
        let task = job.task(super::task::Place::of(attempt))?;
        let attached = task.attempts.get(number).map(|attached| attached.worker);
        let won = task.won.as_ref().filter(|won| won.number == number).map(|won| won.worker);
        let past = task.past.iter().flat_map(|past| past.iter()).find(|past| past.number == number);
        attached.or(won).or(past.map(|past| past.worker))
    }

    /// What is remembered of the tasks of a job that ends.
    fn tasks_to_keep(&self, job: &Job) -> Vec<TaskStatus> {
        let (mut kept, mut eventful) = (Vec::new(), 0);
        for (number, stage) in (0u32..).zip(&job.stages) {
            let mut quiet = 0;
            for (task, state) in (0u32..).zip(&stage.tasks) {
                let (count, most) = match state.past {
                    Some(_) => (&mut eventful, EVENTFUL_TASKS_KEPT),
                    None => (&mut quiet, QUIET_TASKS_KEPT),
                };
                if *count < most && kept.len() < TASKS_KEPT {
                    *count += 1;
                    kept.push(stopped(self.with_addresses(job, state, number, task)));
                }
            }
        }
        kept
    }
}

/// A task as it is when its job has ended: nothing of it runs.
fn stopped(mut task: TaskStatus) -> TaskStatus {
    for attempt in &mut task.attempts {
        attempt.reason = cut_short(&attempt.reason, REASON_BYTES_KEPT);
    }
    for attempt in task.attempts.iter_mut().filter(|attempt| attempt.state == "running") {
        attempt.state = "killed".to_owned();
    }
    if task.state == "running" {
        task.state = "waiting".to_owned();
    }
    task
}
