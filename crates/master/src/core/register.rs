//! A worker opens a stream: who it is, what it runs, what it holds.

use std::collections::BTreeSet;

use gristmill_proto::ids::{AttemptId, Incarnation, JobId, WorkerId};
use gristmill_proto::job_record::{TaskWorkers, record};
use gristmill_proto::task::register::Role;
use gristmill_proto::task::{HeldOutput, refused};

use super::attempts::Attached;
use super::command::Command;
use super::event::{Joining, SessionId};
use super::job::Phase;
use super::options::SLOTS_MAX;
use super::submit::persist;
use super::task::{Place, plain};
use super::worker::{Doubt, Presence, Running, Service, Worker};
use super::{Core, Out, TASK_WORKERS_FROM};

impl Core {
    pub(super) fn register(&mut self, worker: WorkerId, joining: Joining, out: &mut Out) {
        let session = joining.session;
        if let Some(detail) = wrong(worker, &joining) {
            let reason = refused::Reason::Unspecified;
            out.push(Command::RefuseWorker { session, reason, detail });
            return;
        }
        let worker = self.name_worker(worker, joining.role, out);
        self.registered_ms = self.now_ms;
        // A master that has just started believes what a worker says that it runs.
        let is_same_life = self.end_former_stream(worker, joining.incarnation, out);
        let is_new_address = self.roster.get(worker).is_none_or(|there| there.address != joining.address);
        let (running, held_pages) = (joining.running.clone(), joining.held_pages);
        self.enter(worker, joining);
        out.push(Command::Welcome { session, worker });
        if self.roster.known(worker).service != Service::Serving {
            out.push(Command::Drain { session, undo: false });
        }
        self.end_old_jobs(worker, out);
        self.reconcile(worker, &running, is_same_life, out);
        self.doubt(worker, held_pages, !is_same_life || is_new_address, out);
        self.come_near(worker);
        self.turn.offer_all = true;
    }

    /// A task worker without an id gets one.
    fn name_worker(&mut self, worker: WorkerId, role: Role, out: &mut Out) -> WorkerId {
        let named = if worker.0 == 0 { self.next_task_worker } else { worker.0 };
        if role == Role::Task && named >= self.next_task_worker {
            self.next_task_worker = named + 1;
            out.push(persist(record::Record::TaskWorkers(TaskWorkers { next: self.next_task_worker })));
        }
        WorkerId(named)
    }

    /// Ends an earlier session of the worker; false if that was another life, whose attempts are gone.
    fn end_former_stream(&mut self, worker: WorkerId, incarnation: Incarnation, out: &mut Out) -> bool {
        let Some(there) = self.roster.get(worker) else { return true };
        let (is_same, session) = (there.incarnation == incarnation, there.session);
        if let Some(session) = session {
            self.close_stream(session);
            if !is_same {
                let detail = format!("{worker} has registered again, as another process");
                out.push(Command::RefuseWorker { session, reason: refused::Reason::Replaced, detail });
            }
        }
        if !is_same {
            self.lose_attempts_of(worker, "its worker was started again", out);
            let there = self.roster.known(worker);
            there.told.clear();
            // It has come back after all.
            if std::mem::take(&mut there.is_leaving) {
                there.service = Service::Serving;
            }
        }
        is_same
    }

    fn enter(&mut self, worker: WorkerId, joining: Joining) {
        let rack = self.roster.rack(&joining.rack);
        if self.roster.get(worker).is_some() {
            self.roster.withdraw(worker);
        }
        let now_ms = self.now_ms;
        let fresh = || Worker::new(joining.incarnation, joining.role);
        let there = self.roster.workers.entry(worker).or_insert_with(fresh);
        there.incarnation = joining.incarnation;
        there.role = joining.role;
        there.slots = joining.slots;
        there.memory_bytes = joining.memory_bytes;
        there.host = joining.host;
        there.rack = rack;
        there.address = joining.address;
        there.pid = joining.pid;
        there.heard_ms = now_ms;
        there.presence = Presence::Live;
        there.started.clear();
        there.doubt = None;
        there.waits_since_ms = now_ms;
        if there.service == Service::Drained {
            there.service = Service::Draining;
        }
        self.roster.open(joining.session, worker);
        self.roster.refresh(worker);
    }

    /// Says again that jobs have ended which ended while the worker was away.
    pub(super) fn end_old_jobs(&mut self, worker: WorkerId, out: &mut Out) {
        let there = self.roster.known(worker);
        let Some(session) = there.session else { return };
        for job in there.told.iter().copied().filter(|job| !self.jobs.contains_key(job)).collect::<Vec<_>>() {
            self.roster.known(worker).told.remove(&job);
            out.push(Command::EndJob { session, job });
        }
    }

    /// Compares what the worker runs with what it should run.
    fn reconcile(&mut self, worker: WorkerId, running: &[AttemptId], is_same_life: bool, out: &mut Out) {
        let listed: BTreeSet<AttemptId> = running.iter().copied().collect();
        let known: Vec<AttemptId> = self.roster.known(worker).running.keys().copied().collect();
        for attempt in known.into_iter().filter(|attempt| !listed.contains(attempt)) {
            // It may have ended well, and be told so on this stream.
            self.lose_attempt(attempt, "lost", "its worker does not know it", out);
            if let Some(task) = self.task_of(attempt) {
                task.goes_astray(plain(attempt.number));
            }
            self.release(worker, attempt, out);
        }
        let mut ended = BTreeSet::new();
        for attempt in listed {
            let job = attempt.task.job;
            if !self.jobs.contains_key(&job) {
                ended.insert(job);
            } else {
                let goes_on = self.go_on(worker, attempt) || is_same_life && self.adopt(worker, attempt, out);
                if !goes_on {
                    self.order_end(worker, attempt, "nobody waits for it", out);
                }
            }
            self.listen_again(worker, attempt, out);
        }
        self.end_jobs(worker, ended, out);
    }

    /// Whether the attempt runs as it should.
    fn go_on(&mut self, worker: WorkerId, attempt: AttemptId) -> bool {
        let now_ms = self.now_ms;
        let running = self.roster.known(worker).running.get_mut(&attempt);
        running.is_some_and(|running| {
            running.listed_ms = now_ms;
            running.killed_ms.is_none()
        })
    }

    /// Takes over an attempt of which an earlier master knew.
    fn adopt(&mut self, worker: WorkerId, attempt: AttemptId, out: &mut Out) -> bool {
        let (place, number) = (Place::of(attempt), plain(attempt.number));
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return false };
        let takes = job.phase != Phase::Committing;
        if !takes || !job.task(place).is_some_and(|task| task.attempts.has_room() && task.may_win(number)) {
            return false;
        }
        self.launches += 1;
        let wall_ms = self.now_ms + self.wall_offset_ms;
        let attached = Attached { number, worker, launch: self.launches, is_twin: false };
        job.attach(place, attached, wall_ms);
        self.totals.adopted += 1;
        let running = Running { is_adopted: true, ..Running::begun(self.now_ms, self.wall_ms()) };
        self.roster.known(worker).running.insert(attempt, running);
        self.roster.refresh(worker);
        self.start_job(worker, attempt.task.job, out);
        self.touch(attempt.task.job);
        true
    }

    fn listen_again(&mut self, worker: WorkerId, attempt: AttemptId, out: &mut Out) {
        let there = self.roster.known(worker);
        let Some(session) = there.session.filter(|_| there.running.contains_key(&attempt)) else { return };
        let id = attempt.task.job;
        if let Some(shuffle) = self.jobs.get(&id).and_then(|job| job.reads(Place::of(attempt))) {
            self.start_job(worker, id, out);
            self.listen(id, shuffle, session, out);
        }
    }

    /// What the worker held must be among what it names.
    fn doubt(&mut self, worker: WorkerId, held_pages: u32, is_new: bool, out: &mut Out) {
        let mut outputs = BTreeSet::new();
        for (id, job) in &self.jobs {
            for &(stage, task) in job.held.get(&worker).into_iter().flatten() {
                let won = job.stage(stage).tasks[task as usize].won.as_ref();
                if let Some(won) = won.filter(|won| won.holder == worker) {
                    outputs.insert(Place::task(stage, task).attempt(*id, won.number));
                }
            }
        }
        let doubt = Doubt { pages_left: held_pages, outputs, confirmed: Vec::new(), is_new };
        self.roster.known(worker).doubt = Some(doubt);
        self.decide_doubt(worker, out);
    }

    pub(super) fn held(&mut self, session: SessionId, job: JobId, outputs: &[HeldOutput], out: &mut Out) {
        let Some(worker) = self.attending(session, out) else { return };
        self.will_have_files(worker, job);
        if !self.jobs.contains_key(&job) {
            self.end_jobs(worker, BTreeSet::from([job]), out);
        }
        for output in outputs {
            let place = Place::task(output.stage, output.task);
            let attempt = place.attempt(job, output.number);
            if let Some(doubt) = &mut self.roster.known(worker).doubt
                && doubt.outputs.remove(&attempt)
            {
                doubt.confirmed.push(attempt);
            }
            let task = self.jobs.get(&job).and_then(|job| job.task(place));
            let is_wanted = task.is_some_and(|task| {
                let is_winner = task.won.as_ref().is_some_and(|won| won.number == output.number);
                is_winner || task.may_win(output.number)
            });
            if task.is_some() && !is_wanted {
                out.push(Command::DropOutput { session, attempt });
            }
        }
        if let Some(doubt) = &mut self.roster.known(worker).doubt {
            doubt.pages_left = doubt.pages_left.saturating_sub(1);
        }
        self.decide_doubt(worker, out);
    }

    /// All pages are there: what was not named is gone.
    fn decide_doubt(&mut self, worker: WorkerId, out: &mut Out) {
        let there = self.roster.known(worker);
        let Some(doubt) = there.doubt.take_if(|doubt| doubt.pages_left == 0) else { return };
        for attempt in doubt.outputs {
            self.output_gone(attempt, worker, out);
        }
        if doubt.is_new {
            for attempt in doubt.confirmed {
                self.tell_again(attempt);
            }
        }
    }

    /// Jobs of which the worker has files have ended.
    fn end_jobs(&mut self, worker: WorkerId, jobs: BTreeSet<JobId>, out: &mut Out) {
        let there = self.roster.known(worker);
        let Some(session) = there.session else { return };
        for job in jobs {
            there.told.remove(&job);
            out.push(Command::EndJob { session, job });
        }
    }

    /// Tasks that have their input on the worker wait for it from now on.
    pub(super) fn come_near(&mut self, worker: WorkerId) {
        let Some(rack) = self.roster.rack_of_usable(worker) else { return };
        for job in self.jobs.values_mut() {
            job.stages.iter_mut().for_each(|stage| stage.pending.come(worker, rack));
        }
    }
}

fn wrong(worker: WorkerId, joining: &Joining) -> Option<String> {
    if joining.slots > SLOTS_MAX {
        return Some(format!("the worker offers {} slots, more than {SLOTS_MAX}", joining.slots));
    }
    let is_core_id = worker.0 != 0 && worker.0 < TASK_WORKERS_FROM;
    match joining.role {
        Role::Core if !is_core_id => {
            Some(format!("{worker} is no core worker's id: it registers at the namenode first"))
        }
        Role::Task if is_core_id => {
            Some(format!("{worker} is no task worker's id: it registers with 0 to get one"))
        }
        _ => None,
    }
}
