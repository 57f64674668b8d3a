//! What chance does to the world.

use gristmill_proto::attendance::ReplicaInfo;
use gristmill_proto::ids::{BlockId, WorkerId};
use gristmill_proto::namespace::set_worker_state::State;

use crate::network::{Event, Notice};
use crate::world::World;

impl World {
    pub(crate) fn mischief(&mut self) {
        for _ in 0..1 + self.below(3) {
            self.start_write();
        }
        let worker = self.below(self.nodes.len() as u64) as usize;
        let block = 1 + self.below(self.blocks.max(1));
        let complete = self.namespace.get(&block).is_some_and(|record| record.complete);
        match self.below(20) {
            0..3 => self.crash(worker),
            3 => self.cut_off(worker),
            4 => self.get_stuck(worker),
            5..7 => self.break_stream(worker),
            7 if self.chance(300) => self.restart_master(),
            8..10 => self.rot(worker),
            10..12 if complete && !self.master.safe_mode().on => self.forget(block),
            12..14 if complete => self.change_replication(block),
            14 if complete => self.append(block),
            15 if complete => self.truncate(block),
            16 => self.change_state(worker),
            17..20 => self.lie(),
            _ => {}
        }
        let delay_ms = 300 + self.below(2_500);
        self.events.at(self.now_ms + delay_ms, Event::Mischief);
    }

    fn crash(&mut self, worker: usize) {
        if !self.nodes[worker].up {
            return;
        }
        self.count("crash");
        self.lose_stream(worker);
        self.nodes[worker].up = false;
        let unfinished: Vec<u64> =
            self.nodes[worker].disk.replicas.iter().filter(|(_, r)| !r.finished).map(|(&b, _)| b).collect();
        for block in unfinished {
            let synced = self.namespace.get(&block).map_or(0, |record| record.synced_bytes);
            let bytes = self.nodes[worker].disk.replicas[&block].bytes;
            let lost = self.below(bytes.saturating_sub(synced) + 1);
            self.nodes[worker].disk.replicas.get_mut(&block).expect("it was there").bytes = bytes - lost;
        }
        if self.chance(100) {
            self.wipe(worker);
        }
        let delay_ms = 100 + self.below(25_000);
        self.events.at(self.now_ms + delay_ms, Event::Start { worker });
    }

    /// The machine comes back with empty disks.
    fn wipe(&mut self, worker: usize) {
        self.count("wipe");
        let held: Vec<u64> = self.nodes[worker].disk.replicas.keys().copied().collect();
        for block in held {
            self.destroy(worker, block);
        }
        self.nodes[worker].disk.replicas.clear();
    }

    /// Chance is about to destroy a copy. Unless it leaves enough that the master's mistakes, and only those, can lose the
    /// block, nothing is promised any more.
    fn destroy(&mut self, worker: usize, block: u64) {
        let Some(record) = self.namespace.get(&block) else { return };
        let is_good = self.good(block).contains(&worker);
        let hidden = self.nodes.iter().any(|node| {
            node.disk.replicas.get(&block).is_some_and(|replica| replica.rotten && !replica.noticed)
        });
        let left = self.safe(block).saturating_sub(usize::from(is_good));
        let is_safe = record.complete && record.replication >= 2 && left >= 1 && !hidden;
        let now_ms = self.now_ms;
        let record = self.namespace.get_mut(&block).expect("it was there");
        (record.excused, record.destroyed_ms) = (record.excused || !is_safe, now_ms);
    }

    fn rot(&mut self, worker: usize) {
        let held: Vec<u64> = self.nodes[worker].disk.replicas.keys().copied().collect();
        if held.is_empty() {
            return;
        }
        self.count("rot");
        let block = held[self.below(held.len() as u64) as usize];
        self.destroy(worker, block);
        self.nodes[worker].disk.replicas.get_mut(&block).expect("it is held").rotten = true;
    }

    /// The worker is alone; the master hears nothing of it, not even an end.
    fn cut_off(&mut self, worker: usize) {
        self.count("cut off");
        self.nodes[worker].cut_off_until_ms = self.now_ms + 200 + self.below(20_000);
        self.nodes[worker].stream = None;
    }

    fn get_stuck(&mut self, worker: usize) {
        self.count("stuck");
        self.nodes[worker].stuck_until_ms = self.now_ms + 1_000 + self.below(25_000);
    }

    fn break_stream(&mut self, worker: usize) {
        self.count("stream broken");
        self.lose_stream(worker);
    }

    /// The stream ends; the master hears of that some time.
    fn lose_stream(&mut self, worker: usize) {
        let Some(stream) = self.nodes[worker].stream.take() else { return };
        if let Some(&attendant) = self.attendants.get(&(worker, stream))
            && self.newest.get(&worker) == Some(&stream)
        {
            let delay_ms = 1 + self.below(2_000);
            self.events.at(self.now_ms + delay_ms, Event::Broken { attendant });
        }
    }

    fn change_replication(&mut self, block: u64) {
        let hidden = self.nodes.iter().any(|node| {
            node.disk.replicas.get(&block).is_some_and(|replica| replica.rotten && !replica.noticed)
        });
        // A master that is told to keep fewer may keep those that are gone, as long as it does not know.
        let destroyed_ms = self.namespace[&block].destroyed_ms;
        if hidden || (destroyed_ms > 0 && self.now_ms < destroyed_ms + 40_000) {
            return;
        }
        self.count("replication changed");
        let replication = 1 + self.below(4) as u32;
        self.namespace.get_mut(&block).expect("it was there").replication = replication;
        self.master.replication_changed(BlockId(block), replication);
    }

    fn change_state(&mut self, worker: usize) {
        let serving = self.nodes.iter().filter(|node| node.state == State::InService).count();
        let state = match (self.nodes[worker].state, self.below(3)) {
            (State::InService, _) if serving <= 2 => return,
            (State::InService, 0) => State::Maintenance,
            (State::InService, _) => State::Decommission,
            _ => State::InService,
        };
        self.count("state changed");
        self.nodes[worker].state = state;
        let id = WorkerId(self.nodes[worker].id);
        self.master.set_worker_state(id, state, self.now_ms);
    }

    /// One worker says what is not so, but never that it has a good replica that it has not.
    fn lie(&mut self) {
        let Some(worker) = self.nodes.iter().position(|node| node.lies) else { return };
        self.count("lie");
        let block = 1 + self.below(self.blocks + 3);
        let mut generation = 1 + self.below(self.generations + 5);
        if self.namespace.get(&block).is_some_and(|record| record.generation == generation) {
            generation += 1;
        }
        let bytes = 5_000 + self.below(10);
        let info = ReplicaInfo { block, generation, bytes };
        match self.below(3) {
            0 => self.tell(worker, Notice::Finished(vec![info])),
            1 => self.tell(worker, Notice::Deleted(vec![info])),
            _ => self.tell(worker, Notice::Bad(vec![info])),
        }
    }

    /// An operator gives up what is lost: files that cannot be closed, and safe mode that waits for what is gone.
    pub(crate) fn operate(&mut self) {
        let mut hopeless = Vec::new();
        for (&block, record) in self.namespace.iter().filter(|(_, record)| !record.complete) {
            // A worker that never learned its id is another one after its next start.
            let has_writer = record.pipeline.iter().any(|&id| self.node_of(id).is_some());
            if record.excused || !has_writer {
                hopeless.push(block);
            }
        }
        for block in hopeless {
            self.forget(block);
        }
        let lost =
            self.namespace.iter().any(|(&block, record)| record.complete && self.good(block).is_empty());
        if lost && self.master.safe_mode().on {
            self.master.set_safe_mode(false);
        }
    }

    /// No more faults: all come back, writers end.
    pub(crate) fn calm(&mut self) {
        self.quiet = true;
        if self.chance(300) {
            let worker = self.below(self.nodes.len() as u64) as usize;
            self.crash(worker);
            self.wipe(worker);
            self.nodes[worker].retired = true;
            let id = WorkerId(self.nodes[worker].id);
            for record in self.namespace.values_mut() {
                // Nobody else may ever have had it.
                record.excused |= !record.complete && record.pipeline.contains(&id);
            }
        }
        for worker in 0..self.nodes.len() {
            (self.nodes[worker].cut_off_until_ms, self.nodes[worker].stuck_until_ms) = (0, 0);
            self.start(worker);
            if self.nodes[worker].state == State::Maintenance {
                self.nodes[worker].state = State::InService;
                let id = WorkerId(self.nodes[worker].id);
                self.master.set_worker_state(id, State::InService, self.now_ms);
            }
        }
    }
}
