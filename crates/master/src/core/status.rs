//! What is seen of jobs, tasks and workers.

use gristmill_dfs::StagedFile;
use gristmill_proto::ids::{AttemptId, JobId, WorkerId};
use gristmill_proto::job::job_status::State;
use gristmill_proto::job::{
    AttemptStatus, ClusterStatus, Counter, JobSpec, JobStatus, StageStatus, TaskStatus, WorkerStatus,
};
use gristmill_proto::task::register::Role;

use super::Core;
use super::event::SessionId;
use super::job::{Job, Phase, Stage};
use super::task::{Place, Task};
use super::worker::{Presence, Service, Worker};

/// Sums since this master started.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) submitted: u64,
    pub(super) ended: u64,
    pub(super) launched: u64,
    pub(super) adopted: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) lost: u64,
    pub(super) outputs_lost: u64,
    pub(super) fetch_failures: u64,
    pub(super) workers_lost: u64,
    pub(super) twins_launched: u64,
    pub(super) twins_won: u64,
}

/// For metrics: how many there are now, and sums since this master started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreCounts {
    /// Jobs whose outputs are being staged.
    pub jobs_preparing: u64,
    /// Jobs that run.
    pub jobs_running: u64,
    /// Jobs that are being published.
    pub jobs_committing: u64,
    /// Jobs that have ended and are remembered.
    pub jobs_remembered: u64,
    /// Sum.
    pub jobs_submitted: u64,
    /// Sum.
    pub jobs_ended: u64,
    /// Tasks of live jobs that wait for a slot or for other tasks.
    pub tasks_waiting: u64,
    /// Tasks that an attempt does.
    pub tasks_running: u64,
    /// Tasks of live jobs that have a winner.
    pub tasks_done: u64,
    /// Sum of assignments.
    pub attempts_launched: u64,
    /// Sum, of winners.
    pub attempts_done: u64,
    /// Sum, of their own fault.
    pub attempts_failed: u64,
    /// Sum, without their fault.
    pub attempts_lost: u64,
    /// Sum, beside attempts that were slow.
    pub twins_launched: u64,
    /// Sum, of those that were done first.
    pub twins_won: u64,
    /// Sum, taken over after a restart of the master.
    pub attempts_adopted: u64,
    /// Sum.
    pub map_outputs_lost: u64,
    /// Sum of reports.
    pub fetch_failures: u64,
    /// Workers heard lately.
    pub workers_live: u64,
    /// Workers that are silent.
    pub workers_suspect: u64,
    /// Workers that are lost and not yet forgotten.
    pub workers_lost: u64,
    /// Sum.
    pub workers_lost_ever: u64,
    /// Of live workers.
    pub slots: u64,
    /// Of live workers that take attempts.
    pub slots_free: u64,
}

impl Core {
    /// The state of a job that lives, or has ended and is remembered.
    pub fn status(&self, job: JobId) -> Option<JobStatus> {
        let live = self.jobs.get(&job).map(Job::status);
        live.or_else(|| self.ended.get(&job).map(|ended| ended.status.clone()))
    }

    /// All jobs that are known, the latest first.
    pub fn jobs(&self) -> Vec<JobId> {
        let live = self.jobs.values().map(|job| (job.sequence, job.id));
        let ended = self.history.iter().map(|(sequence, job)| (*sequence, *job));
        let mut all: Vec<(u64, JobId)> = live.chain(ended).collect();
        all.sort_unstable();
        all.into_iter().rev().map(|(_, job)| job).collect()
    }

    /// Those that have ended and are remembered.
    pub fn ended_jobs(&self) -> Vec<JobId> {
        self.history.values().copied().collect()
    }

    /// What was submitted.
    pub fn spec(&self, job: JobId) -> Option<&JobSpec> {
        let live = self.jobs.get(&job).map(|job| &*job.spec);
        live.or_else(|| self.ended.get(&job).map(|ended| &*ended.spec))
    }

    /// Tasks of a stage from a number on, or, without a stage, of all stages counted through. Of a job that has ended:
    /// those that failed, and some others.
    pub fn tasks(&self, job: JobId, stage: Option<u32>, from_task: u32, limit: usize) -> Vec<TaskStatus> {
        let from = from_task as usize;
        if let Some(job) = self.jobs.get(&job) {
            let stages =
                (0u32..).zip(&job.stages).filter(|(number, _)| stage.is_none_or(|only| only == *number));
            let tasks =
                stages.flat_map(|(number, stage)| (0u32..).zip(&stage.tasks).map(move |at| (number, at)));
            let page = tasks.skip(from).take(limit);
            return page
                .map(|(number, (task, state))| self.with_addresses(job, state, number, task))
                .collect();
        }
        let ended = self.ended.get(&job).into_iter().flat_map(|ended| &ended.tasks);
        let wanted = ended.filter(|task| stage.is_none_or(|only| only == task.stage));
        wanted.skip(from).take(limit).cloned().collect()
    }

    pub(super) fn with_addresses(&self, job: &Job, state: &Task, stage: u32, task: u32) -> TaskStatus {
        let mut status = state.status(stage, task);
        for attempt in &mut status.attempts {
            let Some(there) = self.roster.get(WorkerId(attempt.worker)) else { continue };
            attempt.address = there.address.clone();
            let id = Place::task(stage, task).attempt(job.id, attempt.number);
            if let Some(running) = there.running.get(&id).filter(|_| attempt.state == "running") {
                attempt.started_ms = running.started_wall_ms;
                (attempt.records, attempt.bytes) = (running.records, running.bytes);
            }
        }
        status
    }

    /// The files of the winners, by output.
    pub fn parts(&self, job: JobId) -> Vec<(usize, StagedFile)> {
        let Some(job) = self.jobs.get(&job) else { return Vec::new() };
        let mut files = Vec::new();
        for (stage, state) in (0u32..).zip(&job.stages) {
            let winners =
                (0u32..).zip(&state.tasks).filter_map(|(task, state)| Some((task, state.won.as_ref()?)));
            for (task, won) in winners {
                let attempt = Place::task(stage, task).attempt(job.id, won.number).name();
                files.extend(won.parts.iter().map(|part| {
                    let (attempt, name, receipt) = (attempt.clone(), part.name.clone(), part.receipt.clone());
                    (part.output as usize, StagedFile { attempt, name, bytes: part.bytes, receipt })
                }));
            }
        }
        files
    }

    /// The open stream of the worker that ran an attempt.
    pub fn holder_of(&self, attempt: AttemptId) -> Option<SessionId> {
        self.roster.session_of(self.worker_of(attempt)?)
    }

    /// Workers and slots. Identity, version and uptime are the shell's.
    pub fn cluster(&self, now_ms: u64) -> ClusterStatus {
        let workers = self.roster.workers.iter();
        let counts = self.counts();
        let live = self.roster.workers.values().filter(|worker| worker.presence == Presence::Live);
        let shares = live.filter(|worker| worker.slots > 0);
        ClusterStatus {
            epoch: self.epoch.0,
            workers: workers.map(|(id, worker)| self.worker_status(*id, worker, now_ms)).collect(),
            slots: counts.slots as u32,
            free_slots: counts.slots_free as u32,
            jobs_running: (counts.jobs_running + counts.jobs_committing) as u32,
            jobs_waiting: counts.jobs_preparing as u32,
            slot_memory_bytes: shares
                .map(|worker| worker.memory_bytes / u64::from(worker.slots))
                .min()
                .unwrap_or(0),
            ..ClusterStatus::default()
        }
    }

    fn worker_status(&self, id: WorkerId, worker: &Worker, now_ms: u64) -> WorkerStatus {
        let state = match (worker.presence, worker.service) {
            (Presence::Lost, _) => "lost",
            (_, Service::Drained) => "drained",
            (_, Service::Draining) => "draining",
            (Presence::Suspect, _) => "suspect",
            (Presence::Live, _) => "live",
        };
        WorkerStatus {
            worker: id.0,
            role: if worker.role == Role::Core { "core" } else { "task" }.to_owned(),
            state: state.to_owned(),
            address: worker.address.clone(),
            host: worker.host.clone(),
            rack: self.roster.rack_name(worker.rack).to_owned(),
            slots: worker.slots,
            running: worker.running.len() as u32,
            memory_bytes: worker.memory_bytes,
            last_heartbeat_ms: now_ms.saturating_sub(worker.heard_ms),
            pid: worker.pid,
            slow_attempts: worker.slow_attempts,
        }
    }

    /// How many there are of everything.
    pub fn counts(&self) -> CoreCounts {
        let totals = &self.totals;
        let mut counts = CoreCounts {
            jobs_remembered: self.ended.len() as u64,
            jobs_submitted: totals.submitted,
            jobs_ended: totals.ended,
            attempts_launched: totals.launched,
            attempts_done: totals.done,
            attempts_failed: totals.failed,
            attempts_lost: totals.lost,
            attempts_adopted: totals.adopted,
            twins_launched: totals.twins_launched,
            twins_won: totals.twins_won,
            map_outputs_lost: totals.outputs_lost,
            fetch_failures: totals.fetch_failures,
            workers_lost_ever: totals.workers_lost,
            ..CoreCounts::default()
        };
        for job in self.jobs.values() {
            match job.phase {
                Phase::Preparing => counts.jobs_preparing += 1,
                Phase::Running => counts.jobs_running += 1,
                Phase::Committing => counts.jobs_committing += 1,
            }
            for stage in &job.stages {
                counts.tasks_running += u64::from(stage.tasks_running());
                counts.tasks_done += u64::from(stage.done);
                counts.tasks_waiting += stage.pending.len() as u64;
            }
        }
        for worker in self.roster.workers.values() {
            match worker.presence {
                Presence::Live => counts.workers_live += 1,
                Presence::Suspect => counts.workers_suspect += 1,
                Presence::Lost => counts.workers_lost += 1,
            }
            counts.slots += if worker.presence == Presence::Live { u64::from(worker.slots) } else { 0 };
            counts.slots_free += u64::from(worker.free_slots());
        }
        counts
    }
}

impl Job {
    fn status(&self) -> JobStatus {
        let state = match self.phase {
            Phase::Preparing => State::Preparing,
            Phase::Running => State::Running,
            Phase::Committing => State::Committing,
        };
        let counters = self.spec.counters.iter().zip(&self.counters);
        let stages = self.spec.stages.iter().zip(&self.stages);
        JobStatus {
            job: self.id.0.to_vec().into(),
            name: self.spec.name.clone(),
            user: self.spec.user.clone(),
            queue: self.spec.queue.clone(),
            priority: self.spec.priority,
            state: state as i32,
            reason: self.waits_for.clone(),
            stages: stages.map(|(spec, stage)| stage.status(&spec.name, spec.input_bytes)).collect(),
            submitted_ms: self.submitted_ms,
            started_ms: self.started_ms,
            ended_ms: 0,
            counters: counters.map(|(name, value)| Counter { name: name.clone(), value: *value }).collect(),
            report_json: String::new(),
            version: self.version,
            warnings: self.warnings.clone(),
            program: self.spec.program.as_ref().map_or(String::new(), |program| program.name.clone()),
            committing_ms: self.committing_ms,
        }
    }
}

impl Stage {
    fn status(&self, name: &str, input_bytes: u64) -> StageStatus {
        StageStatus {
            name: name.to_owned(),
            tasks: self.tasks.len() as u32,
            running: self.tasks_running(),
            done: self.done,
            failed_attempts: self.failed_attempts,
            lost_attempts: self.lost_attempts,
            records: self.records + self.live_records,
            bytes: self.bytes + self.live_bytes,
            input_bytes,
            local: self.local,
            rack_local: self.rack_local,
            started_ms: self.started_ms,
            ended_ms: if self.is_done() { self.last_done_ms } else { 0 },
            twins: self.twins_launched,
            twins_won: self.twins_won,
        }
    }

    /// Tasks that one attempt does, or two.
    fn tasks_running(&self) -> u32 {
        self.tasks.len() as u32 - self.done - self.pending.len() as u32
    }
}

impl Task {
    pub(super) fn status(&self, stage: u32, task: u32) -> TaskStatus {
        let past = self.past.iter().flat_map(|past| past.iter());
        let mut attempts: Vec<AttemptStatus> = past
            .map(|past| AttemptStatus {
                number: past.number,
                state: past.state.to_owned(),
                worker: past.worker.0,
                reason: past.reason.clone(),
                started_ms: past.started_ms,
                ended_ms: past.ended_ms,
                ..AttemptStatus::default()
            })
            .collect();
        if let Some(won) = &self.won {
            attempts.push(AttemptStatus {
                number: won.number,
                state: "done".to_owned(),
                worker: won.worker.0,
                started_ms: won.started_ms,
                ended_ms: won.ended_ms,
                records: won.figures.records_in,
                bytes: won.figures.bytes_in,
                twin: won.is_twin,
                ..AttemptStatus::default()
            });
        }
        for attached in self.attempts.iter() {
            attempts.push(AttemptStatus {
                number: attached.number,
                state: "running".to_owned(),
                worker: attached.worker.0,
                twin: attached.is_twin,
                ..AttemptStatus::default()
            });
        }
        let state = match (&self.won, self.attempts.is_empty()) {
            (Some(_), _) => "done",
            (None, false) => "running",
            (None, true) => "waiting",
        };
        let skipped = attempts.len().saturating_sub(10);
        TaskStatus { stage, task, state: state.to_owned(), attempts: attempts.split_off(skipped) }
    }
}
