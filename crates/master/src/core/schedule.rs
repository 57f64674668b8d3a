//! Who gets a free slot: the job whose turn it is, with the task that is nearest; and what must make room.
//!
//! Reduces that begin to fetch before all maps are done take slots that nobody else wants. When a task that comes before
//! them finds no slot, the youngest of them is taken away: so they never wait for each other.

use std::collections::BTreeMap;

use gristmill_proto::ids::{AttemptId, JobId, WorkerId};
use gristmill_proto::task::register::Role;
use gristmill_proto::task::{Launch, launch};

use super::attempts::Attached;
use super::command::Command;
use super::event::SessionId;
use super::job::{Choice, Job};
use super::options::{CoreOptions, MEMORY_RETRIES_MAX};
use super::pending::{Nearness, Offer};
use super::task::Place;
use super::worker::{Roster, Running};
use super::{Core, Out};

impl Core {
    pub(super) fn schedule(&mut self, out: &mut Out) {
        if !self.queues.has_any() {
            return;
        }
        for worker in std::mem::take(&mut self.turn.freed) {
            while self.offer(worker, out) {}
        }
        // There is more to do than before, perhaps only since those slots were used.
        if std::mem::take(&mut self.turn.offer_all) {
            while self.offer_each_once(out) {}
            self.make_room(out);
        }
    }

    /// Offers one slot of each worker, the least busy first; whether some were taken.
    fn offer_each_once(&mut self, out: &mut Out) -> bool {
        let mut taken = false;
        for worker in self.roster.free().collect::<Vec<WorkerId>>() {
            taken |= self.offer(worker, out);
            if !self.queues.has_any() {
                return false;
            }
        }
        taken
    }

    /// Offers a slot of this worker; whether it was taken.
    fn offer(&mut self, worker: WorkerId, out: &mut Out) -> bool {
        let Some((job, choice)) = self.pick(worker) else { return false };
        self.launch(worker, job, choice, out);
        true
    }

    fn pick(&mut self, worker: WorkerId) -> Option<(JobId, Choice)> {
        let there = self.roster.get(worker).filter(|worker| worker.free_slots() > 0)?;
        let offer = Offer {
            worker,
            rack: there.rack,
            now_ms: self.now_ms,
            waits_since_ms: there.waits_since_ms,
            delay_node_ms: self.options.delay_node_ms,
            delay_rack_ms: self.options.delay_rack_ms,
            is_alone: self.roster.usable().len() == 1,
        };
        let mut is_waited_for = false;
        for id in self.queues.wanting() {
            let job = self.jobs.get_mut(&id)?;
            if !avoids(job, worker, &self.roster, &self.options)
                && let Some(choice) = job.choose(&offer, false)
            {
                return Some((id, choice));
            }
            is_waited_for |= job.has_waiting();
        }
        if is_waited_for {
            return None;
        }
        for id in self.queues.early() {
            let job = self.jobs.get_mut(&id)?;
            if !avoids(job, worker, &self.roster, &self.options)
                && let Some(choice) = job.choose(&offer, true)
            {
                return Some((id, choice));
            }
        }
        None
    }

    fn launch(&mut self, worker: WorkerId, id: JobId, choice: Choice, out: &mut Out) {
        let place = choice.place;
        self.launches += 1;
        let job = self.jobs.get_mut(&id).expect("a job that was picked is there");
        let task = job.known(place);
        let number = task.next;
        task.next += 1;
        let deadly = task.deadly.as_ref().map(|deadly| deadly.records().to_vec());
        let doublings = task.short_of_memory.min(MEMORY_RETRIES_MAX);
        let attempt = place.attempt(id, number);
        let wall_ms = self.now_ms + self.wall_offset_ms;
        let attached = Attached { number, worker, launch: self.launches, is_twin: choice.is_twin };
        job.attach(place, attached, wall_ms);
        let stage = &mut job.stages[place.stage as usize];
        stage.local += u32::from(choice.nearness == Nearness::Node);
        stage.rack_local += u32::from(choice.nearness == Nearness::Rack);
        let feeds = stage.feeds.is_some() && !place.cut;
        let (reads, memory_bytes) = (stage.reads, job.spec.memory_bytes);
        let may_give_away = feeds && !job.spec.shuffle_local;
        self.totals.launched += 1;
        self.totals.twins_launched += u64::from(choice.is_twin);
        let Some(session) = self.occupy(worker, attempt, choice.nearness) else { return };
        self.start_job(worker, id, out);
        let there = self.roster.known(worker);
        let share = there.memory_bytes / u64::from(there.slots.max(1));
        let once = if memory_bytes == 0 { share } else { memory_bytes };
        // Not more than the worker has for all of its slots.
        let memory_bytes = once.saturating_mul(1 << doublings).min(there.memory_bytes.max(once));
        let (rack, is_task_worker) = (there.rack, there.role == Role::Task);
        let keep = if may_give_away && is_task_worker { self.roster.keepers(rack) } else { Vec::new() };
        for keeper in &keep {
            self.will_have_files(WorkerId(keeper.worker), id);
        }
        let launch = Launch {
            attempt: Some(attempt.to_wire()),
            kind: if place.cut { launch::Kind::Cut } else { launch::Kind::Task } as i32,
            memory_bytes,
            keep,
            shuffle: if place.cut { reads.unwrap_or(0) } else { 0 },
            careful: deadly.is_some(),
            deadly: deadly.unwrap_or_default(),
        };
        out.push(Command::Launch { session, launch });
        if let Some(shuffle) = reads {
            self.listen(id, shuffle, session, out);
        }
        self.changed(id);
        self.look(id);
    }

    /// Gives the attempt a slot.
    fn occupy(&mut self, worker: WorkerId, attempt: AttemptId, nearness: Nearness) -> Option<SessionId> {
        let is_near = nearness == Nearness::Node;
        let running = Running { is_near, ..Running::begun(self.now_ms, self.wall_ms()) };
        let there = self.roster.known(worker);
        there.running.insert(attempt, running);
        let session = there.session;
        self.roster.refresh(worker);
        session
    }

    /// Says `StartJob` once on each stream.
    pub(super) fn start_job(&mut self, worker: WorkerId, job: JobId, out: &mut Out) {
        self.will_have_files(worker, job);
        let there = self.roster.known(worker);
        if let Some(session) = there.session
            && there.started.insert(job)
        {
            out.push(Command::StartJob { session, job });
        }
    }

    /// The worker is told when the job ends.
    pub(super) fn will_have_files(&mut self, worker: WorkerId, id: JobId) {
        if self.roster.known(worker).told.insert(id)
            && let Some(job) = self.jobs.get_mut(&id)
        {
            job.workers.insert(worker);
        }
    }

    /// Takes slots from attempts that wait for tasks which find none.
    fn make_room(&mut self, out: &mut Out) {
        if !self.queues.has_wanting() {
            return;
        }
        for id in self.queues.wanting().collect::<Vec<JobId>>() {
            while let Some((place, attached)) = self.in_the_way(id) {
                let attempt = place.attempt(id, attached.number);
                self.jobs.get_mut(&id).expect("it wants slots").preempted.insert(attempt);
                self.take_away(attempt, "a task that it waits for needs the slot", out);
                self.look(id);
            }
        }
    }

    /// An attempt of a job that has to make room for a task of the same job.
    fn in_the_way(&self, id: JobId) -> Option<(Place, Attached)> {
        let job = self.jobs.get(&id)?;
        if job.preempted.len() >= job.demand().0 {
            return None;
        }
        let is_of_use =
            |worker: WorkerId| job.could_use(worker) && !avoids(job, worker, &self.roster, &self.options);
        if self.roster.free().any(is_of_use) { None } else { job.waiting_reader(is_of_use) }
    }
}

/// A job avoids workers where its attempts fail, or are slow, as long as there are others.
fn avoids(job: &Job, worker: WorkerId, roster: &Roster, options: &CoreOptions) -> bool {
    let is_bad = |worker: &WorkerId| {
        let has =
            |counts: &BTreeMap<WorkerId, u32>, most| counts.get(worker).is_some_and(|count| *count >= most);
        has(&job.failures, options.avoid_failures) || has(&job.slow, options.avoid_slow)
    };
    is_bad(&worker) && roster.usable().iter().any(|other| !is_bad(other))
}
