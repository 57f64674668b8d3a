//! Workers beat, fall silent, drain.

use gristmill_proto::ids::{AttemptId, WorkerId};
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::{AttemptFailure, AttemptProgress, refused};

use super::command::Command;
use super::event::SessionId;
use super::task::{Place, plain};
use super::worker::{Attendance, Presence, Service};
use super::{Core, Out};

impl Core {
    /// Whose stream it is, if what comes on it counts. The worker is heard.
    pub(super) fn attending(&mut self, session: SessionId, out: &mut Out) -> Option<WorkerId> {
        match self.roster.attendance(session) {
            Attendance::Closed => None,
            Attendance::Fenced => {
                self.roster.close(session);
                let detail = "the worker was silent for too long, and taken for lost".to_owned();
                out.push(Command::RefuseWorker { session, reason: refused::Reason::Fenced, detail });
                None
            }
            Attendance::Open(worker) => {
                let now_ms = self.now_ms;
                let there = self.roster.known(worker);
                there.heard_ms = now_ms;
                if there.presence == Presence::Suspect {
                    there.presence = Presence::Live;
                    self.roster.refresh(worker);
                    self.turn.freed.insert(worker);
                }
                Some(worker)
            }
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        session: SessionId,
        running: &[(AttemptId, AttemptProgress)],
        out: &mut Out,
    ) {
        let Some(worker) = self.attending(session, out) else { return };
        for (attempt, progress) in running {
            self.progress(worker, *attempt, progress, out);
        }
        self.miss_unlisted(worker, out);
    }

    fn progress(&mut self, worker: WorkerId, attempt: AttemptId, progress: &AttemptProgress, out: &mut Out) {
        let now_ms = self.now_ms;
        let Some(running) = self.roster.known(worker).running.get_mut(&attempt) else { return };
        running.listed_ms = now_ms;
        if running.killed_ms.is_some() {
            return;
        }
        let before = (running.records, running.bytes);
        (running.records, running.bytes) = (progress.records, progress.bytes);
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
        let place = Place::of(attempt);
        // Of two attempts at a task one is counted.
        let is_twin = job
            .task(place)
            .and_then(|task| task.attempts.get(plain(attempt.number)))
            .is_some_and(|it| it.is_twin);
        if !place.cut && !is_twin && before != (progress.records, progress.bytes) {
            let stage = &mut job.stages[place.stage as usize];
            stage.live_records = stage.live_records - before.0 + progress.records;
            stage.live_bytes = stage.live_bytes - before.1 + progress.bytes;
            job.has_progressed = true;
        }
        let limit_ms = match job.spec.no_progress_ms {
            0 => self.options.no_progress_ms,
            limit_ms => limit_ms,
        };
        // Who waits for map outputs makes no progress, and cannot.
        let waited_ms = match job.reads(place) {
            None => u64::MAX,
            Some(shuffle) => {
                job.shuffles[shuffle as usize].complete_ms.map_or(0, |complete_ms| now_ms - complete_ms)
            }
        };
        let silent_ms = progress.silent_ms.min(waited_ms);
        if silent_ms > limit_ms {
            let (silent_s, limit_s) = (silent_ms / 1000, limit_ms / 1000);
            let message = format!(
                "it was killed because it made no progress: no record was read or written for {silent_s} s, of at most \
                 {limit_s} s (--no-progress-timeout)"
            );
            let failure =
                AttemptFailure { kind: Kind::NoProgress as i32, message, ..AttemptFailure::default() };
            self.order_end(worker, attempt, "it makes no progress", out);
            self.fail_attempt(worker, attempt, &failure, out);
        }
    }

    /// Attempts that the worker should name and does not.
    fn miss_unlisted(&mut self, worker: WorkerId, out: &mut Out) {
        let (now_ms, unlisted_ms, lost_ms) =
            (self.now_ms, self.options.unlisted_ms, self.options.no_progress_ms);
        let there = self.roster.known(worker);
        let is_missed = |running: &super::worker::Running| match running.killed_ms {
            Some(killed_ms) => now_ms - running.listed_ms.max(killed_ms) > unlisted_ms,
            None => now_ms - running.listed_ms > lost_ms,
        };
        let missed = there.running.iter().filter(|(_, running)| is_missed(running));
        for attempt in missed.map(|(attempt, _)| *attempt).collect::<Vec<AttemptId>>() {
            self.lose_attempt(attempt, "lost", "its worker no longer speaks of it", out);
            self.order_end(worker, attempt, "it was given up", out);
            self.release(worker, attempt, out);
        }
    }

    /// The stream is over; the worker may come back.
    pub(super) fn disconnected(&mut self, session: SessionId) {
        self.close_stream(session);
    }

    /// Nothing more is said on the stream.
    pub(super) fn close_stream(&mut self, session: SessionId) {
        let Some(worker) = self.roster.close(session) else { return };
        self.roster.refresh(worker);
        self.forget_listener(worker, session);
    }

    fn forget_listener(&mut self, worker: WorkerId, session: SessionId) {
        for id in &self.roster.known(worker).started {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            for shuffle in &mut job.shuffles {
                shuffle.listeners.remove(&session);
            }
        }
    }

    /// The worker was silent for too long.
    pub(super) fn worker_lost(&mut self, worker: WorkerId, out: &mut Out) {
        if let Some(session) = self.roster.session_of(worker) {
            self.forget_listener(worker, session);
            self.roster.fence(session);
        }
        let there = self.roster.known(worker);
        there.presence = Presence::Lost;
        there.doubt = None;
        there.told.clear();
        self.roster.refresh(worker);
        self.totals.workers_lost += 1;
        self.lose_attempts_of(worker, "its worker was lost", out);
        self.lose_outputs_of(worker, out);
        self.go_away(worker);
    }

    /// Nobody waits for a slot of this worker any more.
    fn go_away(&mut self, worker: WorkerId) {
        for job in self.jobs.values_mut() {
            job.stages.iter_mut().for_each(|stage| stage.pending.go(worker));
        }
        self.turn.offer_all = true;
    }

    pub(super) fn drain(&mut self, worker: WorkerId, undo: bool, out: &mut Out) {
        if self.roster.get(worker).is_none() {
            return;
        }
        let there = self.roster.known(worker);
        let wanted = if undo { Service::Serving } else { Service::Draining };
        if (there.service == Service::Serving) == undo {
            return;
        }
        there.service = wanted;
        if let Some(session) = there.session {
            out.push(Command::Drain { session, undo });
        }
        self.roster.refresh(worker);
        if undo {
            self.come_near(worker);
            self.turn.offer_all = true;
        } else {
            self.go_away(worker);
        }
    }

    /// The worker says that it will vanish: it is drained, as long as it is this process.
    pub(super) fn leaving(&mut self, session: SessionId, out: &mut Out) {
        let Some(worker) = self.attending(session, out) else { return };
        if self.roster.known(worker).service == Service::Serving {
            self.drain(worker, false, out);
            self.roster.known(worker).is_leaving = true;
        }
    }

    /// The worker says that it has nothing left.
    pub(super) fn drained(&mut self, session: SessionId, out: &mut Out) {
        let Some(worker) = self.attending(session, out) else { return };
        let there = self.roster.known(worker);
        if there.service == Service::Draining && there.running.is_empty() {
            there.service = Service::Drained;
        }
    }
}
