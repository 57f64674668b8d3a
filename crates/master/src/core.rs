//! What the master decides about jobs: a pure state machine. Events and time come in, commands go out; no clock, no
//! socket, no file, no random number.
//!
//! ```text
//!   events (a driver submits, a worker tells, time passes) ──> Core ──> commands, in order
//!                                                                |
//!          the shell writes every Persist of a turn durably before it carries out any other command of the turn
//! ```
//!
//! After a start, [`Core::restore`] takes the records of the store in the order in which they were made; then events
//! come.
//!
//! **Where things are**, in reading order: `event`, `command`, `options`; `attempts` (who does a task), `task` (a
//! task and its winner), `pace` (how fast tasks are done), `pending` (waiting tasks by where their input is), `job` (stages
//! and shuffles), `winner` (counted in, and out), `worker` (streams, leases, slots), `queues` (whose turn it is); then what
//! happens to them: `spec` (whether a job makes sense), `submit`, `attend` (workers come and go), `register`, `schedule`
//! (who gets a slot), `twins` (what is done about slow ones), `ended` (what an ended attempt means), `consumers` (that all
//! have read the same), `outputs` (who is told which map outputs), `loss` (what is lost with a worker or a map output),
//! `kill`, `commit` (how a job ends), `clock` (what time brings), `restore`; and what is seen: `report`, `status`, `check`.

mod attempts;
mod attend;
mod check;
mod clock;
mod command;
mod commit;
mod consumers;
mod deadly;
mod ended;
mod event;
mod job;
mod kill;
mod loss;
mod options;
mod outputs;
mod pace;
mod pending;
mod queues;
mod register;
mod report;
mod restore;
mod schedule;
mod spec;
mod status;
mod submit;
mod task;
mod twins;
mod winner;
mod worker;

use std::collections::{BTreeMap, BTreeSet};

use gristmill_proto::ids::{Epoch, JobId, WorkerId};

pub use command::{Command, Refusal};
pub use event::{Event, Joining, SessionId, TaskReport};
pub use options::{
    COUNTERS_MAX, CoreOptions, NAME_BYTES_MAX, PAGE_ENTRIES_MAX, PAGES_A_TURN, PARTITIONS_MAX, PARTS_MAX,
    SENTENCE_BYTES_MAX, SLOTS_MAX, STAGES_MAX, TASKS_MAX,
};
pub use status::CoreCounts;

use commit::{Closing, EndedJob};
use job::Job;
use queues::Queues;
use status::Totals;
use worker::Roster;

/// Task workers get ids from here on, so that they never meet those of core workers.
const TASK_WORKERS_FROM: u64 = 1_000_001;

/// The state of all jobs and workers.
#[derive(Debug)]
pub struct Core {
    options: CoreOptions,
    epoch: Epoch,
    now_ms: u64,
    /// What to add to the monotonic clock for people.
    wall_offset_ms: u64,
    /// When the first event came.
    begun_ms: Option<u64>,
    /// Until then what an earlier master knew of workers is not taken for lost.
    grace_until_ms: Option<u64>,
    registered_ms: u64,
    sequence: u64,
    launches: u64,
    next_task_worker: u64,
    /// When attempts are compared with each other again.
    stragglers_due_ms: u64,
    jobs: BTreeMap<JobId, Job>,
    ended: BTreeMap<JobId, EndedJob>,
    /// Ended ones, by order of submission.
    history: BTreeMap<u64, JobId>,
    /// Ended jobs whose attempts still have slots.
    closing: BTreeMap<JobId, Closing>,
    /// Tasks of live jobs.
    tasks: usize,
    roster: Roster,
    queues: Queues,
    totals: Totals,
    turn: Turn,
}

/// What this turn changed and must be looked at before it is over.
#[derive(Debug, Default)]
struct Turn {
    touched: BTreeSet<JobId>,
    changed: BTreeSet<JobId>,
    /// Workers with a slot that has become free.
    freed: BTreeSet<WorkerId>,
    offer_all: bool,
    /// Shuffles whose news cannot wait for the next tick.
    urgent: BTreeSet<(JobId, u32)>,
}

type Out = Vec<Command>;

impl Core {
    /// Of a master of this epoch, without jobs and workers.
    pub fn new(options: CoreOptions, epoch: Epoch) -> Core {
        Core {
            options,
            epoch,
            now_ms: 0,
            wall_offset_ms: 0,
            begun_ms: None,
            grace_until_ms: None,
            registered_ms: 0,
            sequence: 0,
            launches: 0,
            next_task_worker: TASK_WORKERS_FROM,
            stragglers_due_ms: 0,
            jobs: BTreeMap::new(),
            ended: BTreeMap::new(),
            history: BTreeMap::new(),
            closing: BTreeMap::new(),
            tasks: 0,
            roster: Roster::default(),
            queues: Queues::default(),
            totals: Totals::default(),
            turn: Turn::default(),
        }
    }

    /// Takes an event at this time of the monotonic clock, and appends what is to be done.
    pub fn handle(&mut self, now_ms: u64, event: Event, out: &mut Vec<Command>) {
        self.now_ms = self.now_ms.max(now_ms);
        if self.begun_ms.is_none() {
            self.begun_ms = Some(self.now_ms);
            self.resume(out);
        }
        match event {
            Event::Submit { spec, hints, wall_ms } => {
                self.see_wall(wall_ms);
                self.submit(spec, hints, wall_ms, out);
            }
            Event::Staged { job, result } => self.staged(job, result, out),
            Event::Published { job, result } => self.published(job, result, out),
            Event::KillJob { job, reason } => self.kill_job(job, &reason, out),
            Event::KillTask { job, stage, task } => self.kill_task(job, stage, task, out),
            Event::KillAttempt { attempt } => self.kill_attempt(attempt, out),
            Event::Registered { worker, joining } => self.register(worker, joining, out),
            Event::Held { session, job, outputs } => self.held(session, job, &outputs, out),
            Event::Disconnected { session } => self.disconnected(session),
            Event::Heartbeat { session, running } => self.heartbeat(session, &running, out),
            Event::Ended { session, attempt, report, wall_ms } => {
                self.see_wall(wall_ms);
                self.attempt_ended(session, attempt, report, out);
            }
            Event::FetchFailed { session, reader, output, report } => {
                self.fetch_failed(session, (reader, output), report.kind(), out);
            }
            Event::Drain { worker, undo } => self.drain(worker, undo, out),
            Event::Leaving { session } => self.leaving(session, out),
            Event::Drained { session } => self.drained(session, out),
            Event::DriverWatches { job, watching } => self.driver_watches(job, watching),
            Event::Tick { wall_ms } => {
                self.see_wall(wall_ms);
                self.tick(out);
            }
        }
        self.settle(out);
    }

    /// Brings the turn to its end: what has changed is looked at, free slots are used, watchers are told.
    fn settle(&mut self, out: &mut Out) {
        self.look_at_touched(out);
        self.schedule(out);
        self.look_at_touched(out);
        for (job, shuffle) in std::mem::take(&mut self.turn.urgent) {
            self.flush_shuffle(job, shuffle, out);
        }
        self.turn.freed.clear();
        self.turn.offer_all = false;
        out.extend(std::mem::take(&mut self.turn.changed).into_iter().map(Command::Changed));
    }

    /// Stages may have become ready, the job may be done.
    fn look_at_touched(&mut self, out: &mut Out) {
        while let Some(id) = self.turn.touched.pop_first() {
            let is_done =
                self.jobs.get(&id).is_some_and(|job| job.phase == job::Phase::Running && job.is_done());
            if is_done {
                self.commit(id, out);
            }
            self.look(id);
        }
    }

    fn look(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.turn.offer_all |= job.look(self.now_ms, self.options.early_permille);
        let (demand, early) = job.demand();
        self.queues.update(&mut job.standing, job.running, demand > 0, early > 0);
    }

    /// Something about the job is different: it is looked at in this turn, and watchers are told.
    fn touch(&mut self, job: JobId) {
        self.turn.touched.insert(job);
        self.changed(job);
    }

    fn changed(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.version += 1;
        }
        self.turn.changed.insert(id);
    }

    fn see_wall(&mut self, wall_ms: u64) {
        self.wall_offset_ms = wall_ms.saturating_sub(self.now_ms);
    }

    /// The time for people.
    fn wall_ms(&self) -> u64 {
        self.now_ms + self.wall_offset_ms
    }
}
