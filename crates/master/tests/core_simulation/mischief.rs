//! What goes wrong.

use gristmill_master::core::Event;
use gristmill_proto::ids::{JobId, WorkerId};

use crate::world::{Happening, World};

impl World {
    pub(crate) fn mischief(&mut self) {
        let delay_ms = 500 + self.below(8_000);
        self.after(delay_ms, Happening::Mischief);
        let at = self.below(self.workers.len() as u64) as usize;
        match self.below(10) {
            0 | 1 => self.crash(at),
            2 => {
                self.count("stream broken");
                self.break_stream(at);
            }
            3 => {
                self.count("cut off");
                self.break_stream(at);
                self.workers[at].cut_off_until_ms = self.now_ms + self.below(30_000);
            }
            4 => {
                self.count("stuck");
                self.workers[at].stuck_until_ms = self.now_ms + self.below(30_000);
            }
            5 => {
                self.count("master restarted");
                self.restart_master();
            }
            6 => {
                let undo = self.chance(600);
                self.count(if undo { "drain undone" } else { "drain" });
                let worker = WorkerId(self.workers[at].id);
                self.handle(Event::Drain { worker, undo });
            }
            7 => self.lose_output(at),
            8 => self.kill(),
            _ => {
                self.count("slowed");
                let worker = &mut self.workers[at];
                worker.slowness = if worker.slowness > 1 { 1 } else { 10 };
            }
        }
    }

    /// The process ends; a core worker's map outputs survive, mostly.
    fn crash(&mut self, at: usize) {
        self.count("crash");
        self.break_stream(at);
        let wipes = self.chance(200);
        let worker = &mut self.workers[at];
        if !worker.up {
            return;
        }
        worker.up = false;
        worker.attempts.clear();
        worker.untold.clear();
        if wipes || !worker.is_core {
            worker.outputs.clear();
            worker.jobs.clear();
        }
        if !worker.is_core {
            worker.id = 0;
        }
        let delay_ms = 100 + self.below(25_000);
        self.after(delay_ms, Happening::Start(at));
    }

    fn lose_output(&mut self, at: usize) {
        let outputs: Vec<_> = self.workers[at].outputs.keys().copied().collect();
        if !outputs.is_empty() {
            self.count("output destroyed");
            let one = self.below(outputs.len() as u64) as usize;
            self.workers[at].outputs.remove(&outputs[one]);
        }
    }

    fn kill(&mut self) {
        let jobs: Vec<JobId> = self.specs.keys().copied().collect();
        let job = jobs[self.below(jobs.len() as u64) as usize];
        match self.below(10) {
            0 => {
                self.count("job killed");
                self.handle(Event::KillJob { job, reason: "a user".to_owned() });
            }
            1..4 => {
                self.count("task killed");
                self.handle(Event::KillTask { job, stage: 0, task: 0 });
            }
            _ => {
                let running = self.workers.iter().flat_map(|worker| worker.attempts.keys().copied());
                if let Some(attempt) = running.last() {
                    self.count("attempt killed");
                    self.handle(Event::KillAttempt { attempt });
                }
            }
        }
    }
}
