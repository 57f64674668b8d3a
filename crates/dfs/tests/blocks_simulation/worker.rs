//! What workers do with what arrives, and what the master does with what they say.

use gristmill_dfs::namenode::blocks::{KnownBlock, Slice};
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::{Heartbeat, Refused, Register, ReplicaInfo, Replicate};
use gristmill_proto::ids::{BlockId, WorkerId};

use crate::network::{Event, Notice};
use crate::world::{CLUSTER, World, incarnation};

impl World {
    /// The process starts.
    pub(crate) fn start(&mut self, worker: usize) {
        let node = &mut self.nodes[worker];
        if node.up || node.retired {
            return;
        }
        (node.up, node.stream) = (true, None);
        node.incarnation += 1;
        let incarnation = node.incarnation;
        self.events.at(self.now_ms + 1, Event::Beat { worker, incarnation });
    }

    /// Every second: connect if need be, else a heartbeat; and look for damage.
    pub(crate) fn beat(&mut self, worker: usize, incarnation: u64) {
        if !self.nodes[worker].up || self.nodes[worker].incarnation != incarnation {
            return;
        }
        self.events.at(self.now_ms + 1_000, Event::Beat { worker, incarnation });
        if !self.reaches(worker) || self.nodes[worker].stuck_until_ms > self.now_ms {
            return;
        }
        if self.nodes[worker].stream.is_none() {
            return self.connect(worker);
        }
        let volumes = self.nodes[worker].disk.volumes();
        let heartbeat = Heartbeat { epoch: self.epoch, volumes, writers: 0, transfers: 0 };
        self.tell(worker, Notice::Heartbeat(heartbeat));
        let mut bad = Vec::new();
        for (&block, replica) in &mut self.nodes[worker].disk.replicas {
            if replica.rotten && !replica.noticed {
                replica.noticed = true;
                bad.push(replica.info(block));
            }
        }
        if !bad.is_empty() {
            self.tell(worker, Notice::Bad(bad));
        }
    }

    fn connect(&mut self, worker: usize) {
        self.streams += 1;
        self.nodes[worker].stream = Some(self.streams);
        let node = &self.nodes[worker];
        let register = Register {
            version: PROTOCOL_VERSION,
            cluster_id: if node.id == 0 { Vec::new() } else { CLUSTER.0.to_vec() }.into(),
            worker: node.id,
            incarnation: self.incarnation(worker).0.to_vec().into(),
            host: format!("host{worker}"),
            rack: format!("/rack{}", node.rack),
            volumes: node.disk.volumes(),
            ..Register::default()
        };
        let noticed = node.disk.noticed();
        self.tell(worker, Notice::Register(register));
        if !noticed.is_empty() {
            self.tell(worker, Notice::Bad(noticed));
        }
    }

    /// A notice arrives at the master.
    pub(crate) fn hear(&mut self, worker: usize, stream: u64, notice: Notice) {
        if let Notice::Register(register) = &notice {
            // What is left of an older stream does not open it again.
            let is_older = self.newest.get(&worker).is_some_and(|&newest| newest >= stream);
            return if is_older { self.count("late register") } else { self.admit(worker, stream, register) };
        }
        let Some(&from) = self.attendants.get(&(worker, stream)) else { return };
        let now_ms = self.now_ms;
        let heard: Result<(), Refused> = match notice {
            Notice::Register(_) => Ok(()),
            Notice::Heartbeat(heartbeat) => self.master.heartbeat(from, &heartbeat, now_ms),
            Notice::Finished(replicas) => {
                let replicas = self.look_up_all(replicas);
                self.master.finished(from, &replicas, now_ms, &mut self.out)
            }
            Notice::Deleted(replicas) => self.master.deleted(from, &replicas, now_ms),
            Notice::Bad(replicas) => {
                let replicas = self.look_up_all(replicas);
                self.master.bad(from, &replicas, now_ms)
            }
            Notice::Stopped(stopped) => self.master.stopped(from, &stopped, now_ms, &mut self.out),
        };
        if self.newest.get(&worker) != Some(&stream) {
            assert!(heard.is_err(), "seed {}: a replaced stream is heard", self.seed);
            self.count("late notice refused");
        } else if heard.is_err() {
            self.count("fenced");
            self.newest.remove(&worker);
            self.drop_stream(worker, stream);
        }
    }

    fn admit(&mut self, worker: usize, stream: u64, register: &Register) {
        let address = format!("host{worker}:1");
        match self.master.register(register, address, self.now_ms, &mut self.out) {
            Ok(attendant) => {
                self.attendants.insert((worker, stream), attendant);
                self.newest.insert(worker, stream);
                // The welcome may be lost.
                if self.quiet || self.nodes[worker].id != 0 || self.chance(900) {
                    self.nodes[worker].id = attendant.worker.0;
                } else {
                    self.drop_stream(worker, stream);
                }
                let state = self.nodes[worker].state;
                self.master.set_worker_state(attendant.worker, state, self.now_ms);
            }
            Err(refused) => {
                // Only a process that was replaced is, here.
                assert!(register.incarnation != self.incarnation(worker).0[..], "{refused:?}");
                self.drop_stream(worker, stream);
            }
        }
    }

    fn drop_stream(&mut self, worker: usize, stream: u64) {
        if self.nodes[worker].stream == Some(stream) {
            self.nodes[worker].stream = None;
        }
    }

    fn look_up_all(&mut self, replicas: Vec<ReplicaInfo>) -> Vec<(ReplicaInfo, Option<KnownBlock>)> {
        replicas.into_iter().map(|replica| (replica, self.look_up(replica.block))).collect()
    }

    /// An order arrives at a worker.
    pub(crate) fn obey(&mut self, worker: usize, stream: u64, order: Order) {
        // Orders of an older stream, so of an older master too, are dropped.
        if !self.reaches(worker) || self.nodes[worker].stream != Some(stream) {
            return;
        }
        match order {
            Order::Delete(delete) => {
                for replica in &delete.replicas {
                    self.obey_delete(worker, replica.block, replica.generation);
                }
                self.tell(worker, Notice::Deleted(delete.replicas));
            }
            Order::Replicate(order) => self.copy(worker, &order),
            Order::StopWriter(stop) => {
                let stopped = self.nodes[worker].disk.stop_writer(stop.block, stop.generation);
                self.tell(worker, Notice::Stopped(stopped));
            }
            Order::Settle(settle) => {
                let node = &mut self.nodes[worker];
                if let Some(info) = node.disk.settle(settle.block, settle.generation, settle.bytes) {
                    self.tell(worker, Notice::Finished(vec![info]));
                }
            }
            Order::SendReport(send) => {
                let incarnation = self.nodes[worker].incarnation;
                let report_id = send.report_id;
                let event = Event::ReadSlice { worker, incarnation, report_id, first: 0 };
                self.events.at(self.now_ms + 1, event);
            }
            // The block side never sends these: they are the shell's.
            Order::CheckReplica(_) | Order::Welcome(_) | Order::Refused(_) => {}
        }
    }

    fn copy(&mut self, source: usize, order: &Replicate) {
        self.count("copy");
        for target in &order.targets {
            let Some(target) = self.node_of(WorkerId(target.worker)) else { continue };
            let delay_ms = 20 + self.below(if self.quiet { 200 } else { 4_000 });
            let event = Event::CopyEnds { source, target, block: order.block, generation: order.generation };
            self.events.at(self.now_ms + delay_ms, event);
        }
    }

    /// The source reads and verifies, the target writes.
    pub(crate) fn end_copy(&mut self, source: usize, target: usize, block: u64, generation: u64) {
        let Some(replica) = self.nodes[source].disk.replicas.get(&block).copied() else { return };
        if !self.reaches(source)
            || !self.reaches(target)
            || !replica.finished
            || replica.generation != generation
        {
            return;
        }
        if replica.rotten {
            self.count("rotten source");
            let found = self.nodes[source].disk.replicas.get_mut(&block).expect("it was read");
            found.noticed = true;
            return self.tell(source, Notice::Bad(vec![replica.info(block)]));
        }
        let there = self.nodes[target].disk.replicas.get(&block);
        if there.is_some_and(|there| there.generation >= generation) {
            return;
        }
        if self.nodes[target].disk.write(block, generation, replica.bytes)
            && let Some(info) = self.nodes[target].disk.finish(block, generation, replica.bytes)
        {
            self.tell(target, Notice::Finished(vec![info]));
        }
    }

    /// Reads some block ids' worth of the disk, and sends it on a stream of its own.
    pub(crate) fn read_slice(&mut self, worker: usize, life: u64, report_id: u64, first: u64) {
        if !self.reaches(worker) || self.nodes[worker].incarnation != life {
            return;
        }
        let mut last = first + 5 + self.below(40);
        if last > self.blocks {
            last = u64::MAX;
        }
        let replicas = self.nodes[worker].disk.listed(first, last);
        let delay_ms = 1 + self.below(if self.quiet { 20 } else { 1_000 });
        let slice = Event::Slice { worker, report_id, first, last, replicas, incarnation: life };
        let again = !self.quiet && self.chance(50);
        for event in std::iter::repeat_n(slice, if again { 2 } else { 1 }) {
            self.events.in_order(self.now_ms + delay_ms, true, worker, u64::MAX - report_id, event);
        }
        if last < u64::MAX {
            let delay_ms = 1 + self.below(if self.quiet { 10 } else { 500 });
            let event = Event::ReadSlice { worker, incarnation: life, report_id, first: last + 1 };
            self.events.at(self.now_ms + delay_ms, event);
        }
    }

    /// A slice arrives at the master.
    pub(crate) fn hear_slice(
        &mut self,
        worker: usize,
        life: u64,
        report_id: u64,
        range: (u64, u64),
        listed: Vec<ReplicaInfo>,
    ) {
        if !self.quiet && self.chance(20) {
            return self.count("slice lost");
        }
        let replicas = self.look_up_all(listed);
        let slice = Slice {
            worker: WorkerId(self.nodes[worker].id),
            incarnation: incarnation(worker, life),
            report_id,
            first: BlockId(range.0),
            last: BlockId(range.1),
            replicas: &replicas,
        };
        let what = match self.master.report_slice(&slice, self.now_ms, &mut self.out) {
            Ok(answer) if answer.complete => "report complete",
            Ok(_) => "slice",
            Err(_) => "slice refused",
        };
        self.count(what);
    }
}
