//! What runs on this worker, and what the master has still to hear of it: a pure state machine. Orders and events go in;
//! actions and notices come out.
//!
//! An ended attempt is told on every stream until it is accepted. A failed fetch is told on every stream until the
//! master says something new of that map output: a reader never waits for an answer to a message that was lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use gristmill_proto::ids::{AttemptId, BadAttemptId, Epoch, JobId, WorkerId};
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::from_worker::Notice;
use gristmill_proto::task::order::Order;
use gristmill_proto::task::{
    AttemptResult, Drain, Drained, Ended, FetchFailed, Launch, Leaving, Outputs, ReadLog, StartJob, ended,
    launch,
};

use super::job::Job;
use crate::attempt::{Assignment, Event, Outcome, failure};

/// A master that starts anew may launch attempts before it knows of those that run; more than this is nonsense.
const ATTEMPTS_PER_SLOT_MAX: usize = 2;
/// Between asking an attempt to end and ending it, when the worker itself ends.
const GOODBYE_GRACE: Duration = Duration::from_millis(500);
const KILL_GRACE: Duration = Duration::from_secs(2);

/// Something to be done.
#[derive(Debug)]
pub(super) enum Action {
    /// Start an attempt.
    Start(Box<Assignment>),
    /// News for an attempt that runs.
    Tell(AttemptId, Outputs),
    /// End an attempt.
    Kill { attempt: AttemptId, kind: Kind, reason: String, grace: Duration },
    /// Remove everything of a job, of which nothing runs. One that has not ended may begin here again.
    RemoveJob { job: JobId, files: Vec<Vec<u8>>, has_ended: bool },
    /// Remove a map output, if it is here.
    DropOutput(AttemptId),
    /// Remove all map outputs.
    DropAllOutputs,
    /// Answer with pieces of a log.
    ReadLog(ReadLog),
}

/// An attempt that runs.
#[derive(Debug)]
struct Running {
    /// The shuffle that it reads.
    reads: Option<u32>,
    /// Map outputs that it could not fetch and of which nothing new was heard.
    complaints: BTreeMap<(u32, u32), FetchFailed>,
    killed: bool,
    /// The master has given this worker up: what becomes of the attempt is nobody's business.
    unwanted: bool,
}

/// See the top of the file.
#[derive(Debug)]
pub(super) struct Agent {
    slots: usize,
    worker: WorkerId,
    epoch: Epoch,
    lost_after: Duration,
    heard: Option<Instant>,
    jobs: BTreeMap<JobId, Job>,
    running: BTreeMap<AttemptId, Running>,
    /// Ended, and not accepted yet.
    unaccepted: BTreeMap<AttemptId, Outcome>,
    /// Jobs to be removed when nothing of them runs any more.
    ending: BTreeSet<JobId>,
    /// Removals under way. A worker that was given up must not begin anew before they are done: they could hit what it
    /// begins with.
    tidying: usize,
    fenced: bool,
    draining: bool,
    drained_told: bool,
    /// The worker will be told to end, and wants no more attempts.
    noticed: bool,
    leaving: bool,
    /// There is a stream, so notices are of use: what is lost without one is told again on the next.
    heeded: bool,
    actions: VecDeque<Action>,
    notices: VecDeque<Notice>,
}

impl Agent {
    pub(super) fn new(slots: u32) -> Agent {
        Agent {
            slots: slots as usize,
            worker: WorkerId(0),
            epoch: Epoch(0),
            lost_after: Duration::MAX,
            heard: None,
            jobs: BTreeMap::new(),
            running: BTreeMap::new(),
            unaccepted: BTreeMap::new(),
            ending: BTreeSet::new(),
            tidying: 0,
            fenced: false,
            draining: false,
            drained_told: false,
            noticed: false,
            leaving: false,
            heeded: false,
            actions: VecDeque::new(),
            notices: VecDeque::new(),
        }
    }

    /// What is to be done next.
    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What is to be told next. To be asked for only while there is somebody to tell.
    pub(super) fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Attempts that the master may count on to hear of again.
    pub(super) fn known(&self) -> Vec<AttemptId> {
        let running = self.running.iter().filter(|(_, running)| !running.unwanted);
        running.map(|(attempt, _)| *attempt).chain(self.unaccepted.keys().copied()).collect()
    }

    /// Jobs of which there may be something here.
    pub(super) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// Attempts that run and are wanted.
    pub(super) fn running(&self) -> impl Iterator<Item = AttemptId> {
        self.running.iter().filter(|(_, running)| !running.unwanted).map(|(attempt, _)| *attempt)
    }

    /// Nothing is left of what the master has given up.
    pub(super) fn may_begin(&self) -> bool {
        let unwanted = self.running.values().any(|running| running.unwanted);
        !unwanted && (!self.fenced || self.tidying == 0)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Nothing runs any more.
    pub(super) fn is_quiet(&self) -> bool {
        self.running.is_empty()
    }

    /// The master knows of everything that ended.
    pub(super) fn is_told(&self) -> bool {
        self.unaccepted.is_empty()
    }

    /// The highest epoch seen. False if `epoch` is lower: what comes with it must be dropped.
    pub(super) fn hear(&mut self, now: Instant, epoch: Epoch) -> bool {
        if epoch < self.epoch {
            return false;
        }
        self.epoch = epoch;
        self.heard(now);
        true
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The master is there, though it says nothing.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// A stream begins: whatever may have been lost with the last one is told again.
    pub(super) fn welcome(&mut self, worker: WorkerId, lost_after: Duration) {
        (self.worker, self.lost_after) = (worker, lost_after);
        (self.draining, self.drained_told, self.fenced) = (false, false, false);
        self.heeded = true;
        self.notices.clear();
        if self.noticed {
            self.notify(Notice::Leaving(Leaving {}));
        }
        let unaccepted: Vec<AttemptId> = self.unaccepted.keys().copied().collect();
        unaccepted.into_iter().for_each(|attempt| self.tell_end(attempt));
        let epoch = self.epoch.0;
        let complaints = self.running.values().flat_map(|running| running.complaints.values());
        let complaints =
            complaints.map(|report| Notice::FetchFailed(FetchFailed { epoch, ..report.clone() }));
        self.notices.extend(complaints);
    }

    /// The stream is lost. Until the next one nothing is noted for it: that could be for long.
    pub(super) fn disconnect(&mut self) {
        self.heeded = false;
        self.notices.clear();
    }

    fn notify(&mut self, notice: Notice) {
        if self.heeded {
            self.notices.push_back(notice);
        }
    }

    /// Takes an order. Those that begin and end a stream are the session's.
    pub(super) fn obey(&mut self, order: Order) -> Result<(), BadAttemptId> {
        let id = |id: Option<_>| id.as_ref().map_or(Err(BadAttemptId), AttemptId::from_wire);
        match order {
            Order::Welcome(_) | Order::Refused(_) => tracing::warn!("a greeting in the middle of a stream"),
            Order::StartJob(start) => self.start_job(start)?,
            Order::Launch(launch) => self.launch(id(launch.attempt.clone())?, launch),
            Order::Kill(kill) => self.kill(id(kill.attempt)?, Kind::Killed, kill.reason, KILL_GRACE),
            Order::Outputs(outputs) => {
                self.learn(JobId::from_wire(&outputs.job).ok_or(BadAttemptId)?, outputs)
            }
            Order::EndJob(end) => self.end_job(JobId::from_wire(&end.job).ok_or(BadAttemptId)?),
            Order::Accepted(accepted) => self.accepted(id(accepted.attempt)?, accepted.winner),
            Order::DropOutput(drop) => self.actions.push_back(Action::DropOutput(id(drop.attempt)?)),
            Order::ReadLog(read) => self.actions.push_back(Action::ReadLog(read)),
            Order::Drain(Drain { undo }) => (self.draining, self.drained_told) = (!undo, false),
        }
        Ok(())
    }

    /// Takes what an attempt, or whoever reads logs, has to say.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::FetchFailed { attempt, report } => self.complain(attempt, report),
            Event::Ended { attempt, outcome } => self.ended(attempt, outcome),
            Event::Tidied => self.tidying = self.tidying.saturating_sub(1),
            Event::Log(page) => self.notify(Notice::LogPage(page)),
        }
    }

    /// Time has passed. A worker that does not hear its master ends its attempts: they are lost for the master, and
    /// others take their place.
    pub(super) fn pass(&mut self, now: Instant) {
        let silent = self.heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
        if silent > self.lost_after {
            let reason = format!("{} has not heard its master for {} ms", self.worker, silent.as_millis());
            self.kill_all(Kind::Worker, &reason, KILL_GRACE);
        }
    }

    /// Says that nothing is left, if so: `outputs` map outputs are here.
    pub(super) fn tell_drained(&mut self, outputs: usize) {
        let nothing_left = self.running.is_empty() && self.unaccepted.is_empty() && outputs == 0;
        if self.draining && !self.drained_told && nothing_left {
            self.drained_told = true;
            self.notify(Notice::Drained(Drained {}));
        }
    }

    /// The worker will vanish: the master is to launch nothing more here, and hears that on every stream.
    pub(super) fn give_notice(&mut self) {
        self.noticed = true;
        self.notify(Notice::Leaving(Leaving {}));
    }

    /// The worker ends. The master hears that before it hears of the attempts: what is lost here is not to come back.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        if !self.noticed {
            self.give_notice();
        }
        let reason = format!("{} was told to end", self.worker);
        self.kill_all(Kind::Worker, &reason, GOODBYE_GRACE);
    }

    /// The master has given this worker up: nothing here counts any more.
    pub(super) fn fence(&mut self) {
        self.kill_all(Kind::Worker, "the master has given this worker up", GOODBYE_GRACE);
        self.running.values_mut().for_each(|running| running.unwanted = true);
        self.unaccepted.clear();
        self.notices.clear();
        (self.fenced, self.tidying) = (true, self.tidying + 1);
        self.actions.push_back(Action::DropAllOutputs);
        let jobs: Vec<JobId> = self.jobs.keys().copied().collect();
        jobs.into_iter().for_each(|job| self.end_job(job));
    }

    fn start_job(&mut self, start: StartJob) -> Result<(), BadAttemptId> {
        let (id, job) = Job::new(start).ok_or(BadAttemptId)?;
        match self.jobs.get_mut(&id) {
            Some(known) => known.renew(job),
            None => {
                tracing::info!(job = %id, name = %job.spec.name, user = %job.spec.user, "job starts here");
                self.jobs.insert(id, job);
            }
        }
        Ok(())
    }

    fn launch(&mut self, attempt: AttemptId, launch: Launch) {
        if self.running.contains_key(&attempt) {
            return;
        }
        if self.unaccepted.contains_key(&attempt) {
            return self.tell_end(attempt);
        }
        let kind = launch.kind();
        let refusal = match self.jobs.get(&attempt.task.job) {
            _ if self.leaving => Some((Kind::Worker, "the worker ends")),
            _ if self.running.len() >= self.slots * ATTEMPTS_PER_SLOT_MAX => {
                Some((Kind::Worker, "the worker has no free slot"))
            }
            None => Some((Kind::Worker, "the worker was not told of the job")),
            Some(job) if job.spec.stages.get(attempt.task.stage as usize).is_none() => {
                Some((Kind::Plan, "the job has no such stage"))
            }
            Some(_) => None,
        };
        if let Some((kind, reason)) = refusal {
            self.running.insert(attempt, Running::reading(None));
            return self.ended(attempt, Outcome::Failed(failure(kind, reason)));
        }
        let job = &self.jobs[&attempt.task.job];
        let reads = match kind {
            launch::Kind::Cut => Some(launch.shuffle),
            launch::Kind::Task => job.read_by(attempt.task.stage),
        };
        let assignment = Assignment {
            attempt,
            kind,
            memory_bytes: launch.memory_bytes,
            keep: launch.keep,
            shuffle: launch.shuffle,
            careful: launch.careful,
            deadly: launch.deadly,
            spec: job.spec.clone(),
            caller_token: job.caller_token.clone(),
            shuffle_token: job.shuffle_token.clone(),
            outputs: reads.map_or_else(Vec::new, |shuffle| job.outputs(attempt.task.job, shuffle)),
            worker: self.worker,
        };
        self.running.insert(attempt, Running::reading(reads));
        self.actions.push_back(Action::Start(Box::new(assignment)));
    }

    fn learn(&mut self, id: JobId, outputs: Outputs) {
        let Some(job) = self.jobs.get_mut(&id) else {
            tracing::warn!(job = %id, "map outputs of a job that is not known here");
            return;
        };
        job.learn(&outputs);
        for (attempt, running) in &mut self.running {
            if attempt.task.job == id && running.reads == Some(outputs.shuffle) {
                for entry in &outputs.entries {
                    running.complaints.remove(&(entry.stage, entry.task));
                }
                self.actions.push_back(Action::Tell(*attempt, outputs.clone()));
            }
        }
    }

    fn complain(&mut self, attempt: AttemptId, report: FetchFailed) {
        let Some(running) = self.running.get_mut(&attempt) else { return };
        let output = report.output.as_ref().map_or(Err(BadAttemptId), AttemptId::from_wire);
        let Ok(output) = output else {
            tracing::warn!(%attempt, "complains of no map output");
            return;
        };
        // What an attempt says of others is not believed, nor that there are more map outputs than there are.
        let spec = self.jobs.get(&attempt.task.job).map(|job| &job.spec);
        let stage = spec.and_then(|spec| spec.stages.get(output.task.stage as usize));
        let is_there = stage.is_some_and(|stage| output.task.task < stage.tasks);
        if output.task.job != attempt.task.job || !is_there || running.unwanted {
            tracing::warn!(%attempt, %output, "complains of a map output that is none of its job's");
            return;
        }
        let detail = crate::attempt::short(report.detail);
        let report = FetchFailed { epoch: self.epoch.0, reader: Some(attempt.to_wire()), detail, ..report };
        tracing::info!(%attempt, %output, holder = report.holder, reason = %report.detail, "cannot fetch");
        running.complaints.insert((output.task.stage, output.task.task), report.clone());
        self.notify(Notice::FetchFailed(report));
    }

    fn ended(&mut self, attempt: AttemptId, outcome: Outcome) {
        let Some(running) = self.running.remove(&attempt) else { return };
        if running.unwanted {
            self.actions.push_back(Action::DropOutput(attempt));
        } else {
            self.unaccepted.insert(attempt, outcome);
            self.tell_end(attempt);
        }
        self.remove_if_over(attempt.task.job);
    }

    fn tell_end(&mut self, attempt: AttemptId) {
        let outcome = match self.unaccepted.get(&attempt) {
            Some(Outcome::Done(result)) => ended::Outcome::Done(AttemptResult::clone(result)),
            Some(Outcome::Failed(failure)) => ended::Outcome::Failed(failure.clone()),
            None => return,
        };
        let attempt = Some(attempt.to_wire());
        self.notify(Notice::Ended(Ended { epoch: self.epoch.0, attempt, outcome: Some(outcome) }));
    }

    fn accepted(&mut self, attempt: AttemptId, winner: bool) {
        if let Some(Outcome::Done(_)) = self.unaccepted.remove(&attempt)
            && !winner
        {
            self.actions.push_back(Action::DropOutput(attempt));
        }
    }

    fn end_job(&mut self, job: JobId) {
        let attempts: Vec<AttemptId> = self.running.keys().filter(|id| id.task.job == job).copied().collect();
        for attempt in attempts {
            self.kill(attempt, Kind::Killed, "the job has ended".to_owned(), KILL_GRACE);
        }
        self.ending.insert(job);
        self.remove_if_over(job);
    }

    fn remove_if_over(&mut self, job: JobId) {
        let runs = self.running.keys().any(|attempt| attempt.task.job == job);
        if !runs && self.ending.remove(&job) {
            let spec = self.jobs.remove(&job).map(|job| job.spec);
            let files = spec.map(|spec| spec.job_file_sha256.to_vec());
            self.tidying += 1;
            let (files, has_ended) = (files.into_iter().collect(), !self.fenced);
            self.actions.push_back(Action::RemoveJob { job, files, has_ended });
        }
    }

    fn kill_all(&mut self, kind: Kind, reason: &str, grace: Duration) {
        let attempts: Vec<AttemptId> = self.running.keys().copied().collect();
        attempts.into_iter().for_each(|attempt| self.kill(attempt, kind, reason.to_owned(), grace));
    }

    fn kill(&mut self, attempt: AttemptId, kind: Kind, reason: String, grace: Duration) {
        let Some(running) = self.running.get_mut(&attempt) else { return };
        // A second time only to hurry.
        if !running.killed || self.leaving {
            running.killed = true;
            self.actions.push_back(Action::Kill { attempt, kind, reason, grace });
        }
    }
}

impl Running {
    fn reading(reads: Option<u32>) -> Running {
        Running { reads, complaints: BTreeMap::new(), killed: false, unwanted: false }
    }
}

#[cfg(test)]
#[path = "agent_stories.rs"]
mod stories;
