//! What time brings: silent workers, jobs that wait for too long, news that is due.

use gristmill_proto::ids::{JobId, WorkerId};
use gristmill_proto::job::job_status::State;

use super::command::Command;
use super::job::Phase;
use super::task::Place;
use super::worker::{Presence, Service};
use super::{Core, Out};

impl Core {
    pub(super) fn tick(&mut self, out: &mut Out) {
        self.look_at_workers(out);
        self.look_at_grace(out);
        for id in self.jobs.keys().copied().collect::<Vec<JobId>>() {
            self.look_at_job(id, out);
        }
        for id in self.closing.keys().copied().collect::<Vec<JobId>>() {
            self.clean_up_closed(id, out);
        }
        self.look_for_stragglers();
        // Slots that waited for near tasks may have waited long enough.
        self.turn.offer_all |= self.queues.has_any();
    }

    fn look_at_workers(&mut self, out: &mut Out) {
        let (now_ms, options) = (self.now_ms, self.options.clone());
        let mut fallen = Vec::new();
        for (worker, there) in &self.roster.workers {
            let silent_ms = now_ms - there.heard_ms;
            let due = match there.presence {
                Presence::Live => silent_ms >= options.suspect_ms || there.service == Service::Draining,
                Presence::Suspect => silent_ms >= options.lost_ms,
                Presence::Lost => silent_ms >= options.forget_worker_ms,
            };
            if due {
                fallen.push(*worker);
            }
        }
        for worker in fallen {
            self.look_at_worker(worker, out);
        }
    }

    fn look_at_worker(&mut self, worker: WorkerId, out: &mut Out) {
        let silent_ms = self.now_ms - self.roster.known(worker).heard_ms;
        let presence = self.roster.known(worker).presence;
        if presence == Presence::Lost {
            self.roster.forget(worker);
        } else if silent_ms >= self.options.lost_ms {
            self.worker_lost(worker, out);
        } else if silent_ms >= self.options.suspect_ms {
            self.roster.known(worker).presence = Presence::Suspect;
            self.roster.refresh(worker);
        } else {
            self.look_at_draining(worker, out);
        }
    }

    /// A draining worker is drained when it runs nothing, and nobody needs what it holds.
    fn look_at_draining(&mut self, worker: WorkerId, out: &mut Out) {
        let there = self.roster.known(worker);
        let Some(session) = there.session.filter(|_| there.running.is_empty() && there.doubt.is_none())
        else {
            return;
        };
        let mut unneeded = Vec::new();
        for (id, job) in &self.jobs {
            for &(stage, task) in job.held.get(&worker).into_iter().flatten() {
                let won = job.stage(stage).tasks[task as usize].won.as_ref();
                let Some(won) = won.filter(|won| won.holder == worker) else { continue };
                if job.stage(stage).feeds.is_some_and(|shuffle| job.is_needed(shuffle)) {
                    return;
                }
                unneeded.push(Place::task(stage, task).attempt(*id, won.number));
            }
        }
        for attempt in unneeded {
            self.output_gone(attempt, worker, out);
            out.push(Command::DropOutput { session, attempt });
        }
        self.roster.known(worker).service = Service::Drained;
    }

    /// After a start, workers have some time to come back.
    fn look_at_grace(&mut self, out: &mut Out) {
        let Some(until_ms) = self.grace_until_ms else { return };
        let beat_ms = self.options.heartbeat_interval_ms;
        let is_settled = self.now_ms >= self.registered_ms + beat_ms
            && self.now_ms >= self.begun_ms.unwrap_or(0) + 2 * beat_ms
            && !self.roster.workers.is_empty();
        let is_over = self.now_ms >= until_ms;
        if is_settled || is_over {
            let held_back = self.jobs.values().filter(|job| job.is_held_back).map(|job| job.id);
            for id in held_back.collect::<Vec<JobId>>() {
                self.release_job(id);
            }
        }
        if is_over {
            self.grace_until_ms = None;
            let holders = self.jobs.values().flat_map(|job| job.held.keys().copied());
            let absent = holders.filter(|holder| !self.roster.is_here(*holder));
            for holder in absent.collect::<std::collections::BTreeSet<WorkerId>>() {
                self.lose_outputs_of(holder, out);
            }
        }
    }

    fn look_at_job(&mut self, id: JobId, out: &mut Out) {
        self.watch_driver(id, out);
        self.watch_for_workers(id, out);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if std::mem::take(&mut job.has_progressed) {
            self.changed(id);
        }
        let Some(job) = self.jobs.get(&id) else { return };
        let lagging = (0u32..).zip(&job.shuffles).filter(|(_, shuffle)| shuffle.is_lagging);
        for number in lagging.map(|(number, _)| number).collect::<Vec<u32>>() {
            self.flush_shuffle(id, number, out);
        }
    }

    /// A job with `kill_on_exit` ends with its driver.
    fn watch_driver(&mut self, id: JobId, out: &mut Out) {
        let Some(job) = self.jobs.get(&id) else { return };
        let since_ms = job.unwatched_since_ms.filter(|_| job.phase != Phase::Committing);
        if since_ms.is_some_and(|since_ms| self.now_ms - since_ms >= self.options.unwatched_ms) {
            self.end(id, State::Killed, "its driver has gone", out);
        }
    }

    /// A job without any worker says so, and fails in the end.
    fn watch_for_workers(&mut self, id: JobId, out: &mut Out) {
        let now_ms = self.now_ms;
        let has_workers = !self.roster.usable().is_empty();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.phase != Phase::Running || has_workers || job.running > 0 {
            job.no_worker_since_ms = None;
            if !std::mem::take(&mut job.waits_for).is_empty() {
                self.changed(id);
            }
            return;
        }
        let limit_ms = match job.spec.no_worker_ms {
            0 => self.options.no_worker_ms,
            limit_ms => limit_ms,
        };
        let since_ms = *job.no_worker_since_ms.get_or_insert(now_ms);
        if now_ms - since_ms >= limit_ms {
            let seconds = limit_ms / 1000;
            let sentence = format!(
                "no worker was there to run its tasks for {seconds} s (--no-worker-timeout): start workers and submit it \
                 again"
            );
            self.fail(id, &sentence, out);
        } else if job.waits_for.is_empty() {
            let seconds = limit_ms / 1000;
            job.waits_for =
                format!("it waits for a worker: there is none; it fails after {seconds} s without one");
            self.changed(id);
        }
    }
}
