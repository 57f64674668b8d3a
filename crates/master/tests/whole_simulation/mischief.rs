//! What goes wrong.

use gristmill_master::core::Event;
use gristmill_proto::ids::JobId;

use crate::storage::Fault;
use crate::world::{Happening, World};

/// The longest pause and the longest partition: far longer than any lease.
const LONGEST_MS: u64 = 30_000;
/// Wall time jumps by at most an hour either way.
const JUMP_MS: u64 = 3_600_000;
/// The master's disk fails within so many steps: about two transactions.
const DISK_STEPS: u64 = 20;

impl World {
    pub(crate) fn mischief(&mut self) {
        let delay_ms = 500 + self.below(8_000);
        self.after(delay_ms, Happening::Mischief);
        let at = self.below(self.workers.len() as u64) as usize;
        let until_ms = self.now_ms + self.below(LONGEST_MS);
        match self.below(15) {
            0 | 1 => self.crash(at),
            2 => {
                self.count("streams broken");
                self.break_stream(at);
                self.leave(at);
            }
            3 => {
                self.count("cut off");
                self.break_stream(at);
                self.leave(at);
                extend(&mut self.workers[at].cut_off_until_ms, until_ms);
            }
            4 => {
                self.count("mute");
                extend(&mut self.mute_until_ms[at], until_ms);
            }
            5 => {
                self.count("deaf");
                extend(&mut self.deaf_until_ms[at], until_ms);
            }
            6 => {
                self.count("worker paused");
                extend(&mut self.workers[at].stuck_until_ms, until_ms);
            }
            7 => {
                self.count("slowed");
                let worker = &mut self.workers[at];
                worker.slowness = if worker.slowness > 1 { 1 } else { 10 };
            }
            8 => self.crash_master(),
            9 => {
                self.count("master paused");
                let pause_ms = self.below(LONGEST_MS / 2);
                extend(&mut self.master_stuck_until_ms, self.now_ms + pause_ms);
            }
            10 => {
                let step = self.dfs.storage.steps() + self.below(DISK_STEPS);
                self.dfs.storage.set_fault(Some(Fault { step, for_ever: true }));
            }
            11 => {
                self.count("clock jumped");
                self.dfs.skew_ms = self.below(2 * JUMP_MS) as i64 - JUMP_MS as i64;
            }
            12 => self.rot(at),
            13 => self.lose_output(at),
            _ => self.kill(),
        }
    }

    /// The machine goes down. What was not synced may be lost: bytes of open blocks, map outputs.
    fn crash(&mut self, at: usize) {
        if !self.workers[at].up {
            return;
        }
        self.count("worker crashed");
        self.break_stream(at);
        self.leave(at);
        let loses = self.chance(300);
        let worker = &mut self.workers[at];
        worker.up = false;
        worker.stuck_until_ms = 0;
        worker.attempts.clear();
        worker.untold.clear();
        if loses || !worker.is_core {
            worker.outputs.clear();
            worker.jobs.clear();
        }
        if !worker.is_core {
            worker.id = 0;
        }
        self.bury_writers(at);
        let replicas = &self.dfs.nodes[at].disk.replicas;
        let open = replicas.iter().filter(|(_, replica)| !replica.finished && replica.bytes > 0);
        for block in open.map(|(block, _)| *block).collect::<Vec<_>>() {
            self.count("unsynced bytes lost");
            let bytes = self.dfs.nodes[at].disk.replicas[&block].bytes;
            let left = self.below(bytes);
            self.dfs.nodes[at].disk.replicas.get_mut(&block).expect("it was there").bytes = left;
        }
        let delay_ms = 100 + self.below(25_000);
        self.after(delay_ms, Happening::Start(at));
    }

    /// A copy rots, if others can replace it.
    fn rot(&mut self, at: usize) {
        let held: Vec<u64> = self.dfs.nodes[at].disk.replicas.keys().copied().collect();
        if held.is_empty() {
            return;
        }
        let block = held[self.below(held.len() as u64) as usize];
        let good = self.dfs.good(block);
        if good.len() >= 3 && good.contains(&at) {
            self.count("rot");
            self.dfs.nodes[at].disk.replicas.get_mut(&block).expect("it is held").rotten = true;
        }
    }

    fn lose_output(&mut self, at: usize) {
        let outputs: Vec<_> = self.workers[at].outputs.keys().copied().collect();
        if !outputs.is_empty() {
            self.count("map output lost");
            let one = self.below(outputs.len() as u64) as usize;
            self.workers[at].outputs.remove(&outputs[one]);
        }
    }

    fn kill(&mut self) {
        let jobs: Vec<JobId> = self.specs.keys().copied().collect();
        if jobs.is_empty() || self.core.is_none() {
            return;
        }
        let job = jobs[self.below(jobs.len() as u64) as usize];
        if self.chance(100) {
            self.count("job killed by a user");
            return self.handle(Event::KillJob { job, reason: "a user".to_owned() });
        }
        let running = self.workers.iter().flat_map(|worker| worker.attempts.keys().copied());
        if let Some(attempt) = running.last() {
            self.count("attempt killed by a user");
            self.handle(Event::KillAttempt { attempt });
        }
    }

    /// No more faults: pauses and partitions run out, and all come back.
    pub(crate) fn calm(&mut self) {
        self.quiet = true;
        self.dfs.storage.set_fault(None);
        self.dfs.skew_ms = 0;
        self.workers.iter_mut().for_each(|worker| worker.slowness = 1);
    }
}

/// A pause or partition never ends earlier because of another: what waits for its end stays in order.
fn extend(until_ms: &mut u64, later_ms: u64) {
    *until_ms = later_ms.max(*until_ms);
}
