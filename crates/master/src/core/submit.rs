//! A job comes, and its outputs are staged.

use gristmill_proto::ids::JobId;
use gristmill_proto::job::{JobSpec, TaskHints};
use gristmill_proto::job_record::{self, Record, record};

use super::command::{Command, Refusal};
use super::job::{Job, Phase, lay_out};
use super::options::TASKS_MAX;
use super::{Core, Out, spec};

/// Tasks of all live jobs.
const LIVE_TASKS_MAX: usize = 4 * TASKS_MAX;

impl Core {
    pub(super) fn submit(&mut self, spec: Box<JobSpec>, hints: Vec<TaskHints>, wall_ms: u64, out: &mut Out) {
        let id = match spec::check(&spec, &hints).and_then(|id| spec::check_outputs(&spec).map(|()| id)) {
            Ok(id) => id,
            Err(wrong) => {
                let job = JobId::from_wire(&spec.job).unwrap_or(JobId([0; 16]));
                out.push(Command::Refuse { job, refusal: Refusal::Bad(wrong) });
                return;
            }
        };
        if let Some(known) = self.spec(id) {
            out.push(if spec::is_same(known, &spec) {
                Command::Admit { job: id, known: true }
            } else {
                let refusal =
                    Refusal::Conflict(format!("another job has the id {id}: submit with a new one"));
                Command::Refuse { job: id, refusal }
            });
            return;
        }
        if let Some(full) = self.full(spec::tasks(&spec)) {
            out.push(Command::Refuse { job: id, refusal: Refusal::Full(full) });
            return;
        }
        self.sequence += 1;
        let submitted = job_record::Submitted {
            spec: Some((*spec).clone()),
            submitted_ms: wall_ms,
            hints,
            sequence: self.sequence,
        };
        self.admit(id, spec, &submitted);
        out.push(persist(record::Record::Submitted(submitted)));
        out.push(Command::Admit { job: id, known: false });
        out.push(Command::Stage(id));
        self.touch(id);
    }

    fn full(&self, tasks: usize) -> Option<String> {
        if self.jobs.len() >= self.options.jobs_max {
            return Some(format!(
                "the cluster has {} jobs already: try again when some have ended",
                self.jobs.len()
            ));
        }
        let live = self.tasks;
        (live + tasks > LIVE_TASKS_MAX).then(|| {
            format!(
                "the cluster's jobs have {live} tasks already, and {tasks} more are too many: try again later"
            )
        })
    }

    /// Takes in a job, new or from the store.
    pub(super) fn admit(&mut self, id: JobId, spec: Box<JobSpec>, submitted: &job_record::Submitted) {
        let (stages, shuffles) = lay_out(&spec, &submitted.hints);
        self.tasks += spec::tasks(&spec);
        self.totals.submitted += 1;
        let sequence = submitted.sequence;
        let job = Job {
            id,
            phase: Phase::Preparing,
            sequence,
            stages,
            shuffles,
            counters: vec![0; spec.counters.len()],
            skipped: vec![0; spec.bad_records_limits.len()],
            warnings: Vec::new(),
            standing: self.queues.join(&spec.queue, spec.priority, sequence, id),
            running: 0,
            submitted_ms: submitted.submitted_ms,
            started_ms: 0,
            committing_ms: 0,
            // Rises over restarts too.
            version: self.epoch.0 << 32,
            waits_for: String::new(),
            is_restored: false,
            is_held_back: false,
            failures: Default::default(),
            slow: Default::default(),
            rereads: 0,
            doubted: Default::default(),
            held: Default::default(),
            workers: Default::default(),
            preempted: Default::default(),
            manifest: None,
            no_worker_since_ms: None,
            unwatched_since_ms: spec.kill_on_exit.then_some(self.now_ms),
            has_progressed: false,
            demand: 0,
            spec,
        };
        self.jobs.insert(id, job);
    }

    pub(super) fn staged(&mut self, id: JobId, result: Result<(), String>, out: &mut Out) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.phase == Phase::Preparing) else { return };
        match result {
            Err(sentence) => self.fail(id, &sentence, out),
            Ok(()) => {
                job.phase = Phase::Running;
                job.is_held_back = job.is_restored && self.grace_until_ms.is_some();
                if !job.is_held_back {
                    self.release_job(id);
                }
            }
        }
        self.touch(id);
    }

    /// The job's tasks may be launched from now on.
    pub(super) fn release_job(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.is_held_back = false;
        for stage in &mut job.stages {
            stage.pending.start(|worker| self.roster.rack_of_usable(worker));
        }
        self.touch(id);
    }

    pub(super) fn driver_watches(&mut self, id: JobId, watching: bool) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.unwatched_since_ms = (!watching && job.spec.kill_on_exit).then_some(self.now_ms);
        }
    }
}

pub(super) fn persist(record: record::Record) -> Command {
    Command::Persist(Record { record: Some(record) })
}
