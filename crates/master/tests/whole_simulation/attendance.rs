//! A core worker attends the master with its blocks: it says what it has, and obeys.

use gristmill_dfs::namenode::blocks::{KnownBlock, Slice};
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::{Heartbeat, Refused, Register, ReplicaInfo, Replicate, Stopped};
use gristmill_proto::ids::{BlockId, Incarnation, WorkerId};

use crate::dfs::{CLUSTER, Running};
use crate::world::{Happening, World};

/// A worker that has heard nothing for so long opens another stream.
const DEAF_MS: u64 = 12_000;

#[derive(Clone, Debug)]
pub(crate) enum Notice {
    Register(Register),
    Heartbeat,
    Finished(Vec<ReplicaInfo>),
    Deleted(Vec<ReplicaInfo>),
    Bad(Vec<ReplicaInfo>),
    Stopped(Stopped),
}

/// A slice of a full report.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    life: u64,
    report_id: u64,
    first: u64,
    last: u64,
    replicas: Vec<ReplicaInfo>,
    unfinished: Vec<ReplicaInfo>,
}

fn incarnation(at: usize, life: u64) -> Incarnation {
    let mut bytes = [at as u8; 16];
    bytes[8..].copy_from_slice(&life.to_be_bytes());
    Incarnation(bytes)
}

impl World {
    /// Every second: connect if need be, else a heartbeat; and look for damage.
    pub(crate) fn attend(&mut self, at: usize) {
        if !self.workers[at].is_core || !self.workers[at].up {
            return;
        }
        if self.dfs.nodes[at].stream.is_some() && self.now_ms > self.dfs.nodes[at].heard_ms + DEAF_MS {
            self.leave(at);
        }
        if self.dfs.nodes[at].stream.is_none() {
            return self.enter(at);
        }
        self.tell_blocks(at, Notice::Heartbeat);
        if self.quiet || self.chance(100) {
            let mut bad = Vec::new();
            for (&block, replica) in &mut self.dfs.nodes[at].disk.replicas {
                if replica.rotten && !replica.noticed {
                    replica.noticed = true;
                    bad.push(replica.info(block));
                }
            }
            if !bad.is_empty() {
                self.tell_blocks(at, Notice::Bad(bad));
            }
        }
    }

    fn enter(&mut self, at: usize) {
        if self.workers[at].cut_off_until_ms > self.now_ms || self.core.is_none() {
            return;
        }
        self.sessions += 1;
        let node = &mut self.dfs.nodes[at];
        (node.stream, node.heard_ms) = (Some(self.sessions), self.now_ms);
        let register = Register {
            version: PROTOCOL_VERSION,
            cluster_id: CLUSTER.0.to_vec().into(),
            worker: at as u64 + 1,
            incarnation: incarnation(at, self.workers[at].life).0.to_vec().into(),
            host: format!("host{at}"),
            rack: format!("/rack{}", at % 2),
            volumes: node.disk.volumes(),
            ..Register::default()
        };
        let noticed = node.disk.noticed();
        self.tell_blocks(at, Notice::Register(register));
        if !noticed.is_empty() {
            self.tell_blocks(at, Notice::Bad(noticed));
        }
    }

    /// The stream ends; the master hears of that some time.
    pub(crate) fn leave(&mut self, at: usize) {
        if let Some(stream) = self.dfs.nodes[at].stream.take() {
            self.send(at, stream, true, Happening::Left(stream));
        }
    }

    pub(crate) fn tell_blocks(&mut self, at: usize, notice: Notice) {
        let Some(stream) = self.dfs.nodes[at].stream.filter(|_| self.workers[at].up) else { return };
        let happening = Happening::Notice(at, stream, Box::new(notice));
        if !self.quiet && self.chance(30) {
            self.count("notice twice");
            self.send(at, stream, true, happening.clone());
        }
        self.send(at, stream, true, happening);
    }

    pub(crate) fn tell_finished(&mut self, at: usize, info: ReplicaInfo) {
        self.tell_blocks(at, Notice::Finished(vec![info]));
    }

    /// A notice arrives at the master.
    pub(crate) fn take_notice(&mut self, at: usize, stream: u64, notice: Notice) {
        self.prepare_dfs();
        let (volumes, now_ms) = (self.dfs.nodes[at].disk.volumes(), self.now_ms);
        let known = match &notice {
            Notice::Finished(replicas) | Notice::Bad(replicas) => self.dfs.known(replicas),
            _ => Vec::new(),
        };
        let Some(running) = &mut self.dfs.running else { return };
        let out = &mut self.dfs.out;
        if let Notice::Register(register) = &notice {
            let newest =
                running.attendants.range(stream..).any(|(_, other)| other.worker.0 == register.worker);
            if !newest {
                let mut blocks = running.blocks.lock().expect("no thread panics");
                match blocks.register(register, format!("host{at}:1"), now_ms, out) {
                    Ok(attendant) => drop(running.attendants.insert(stream, attendant)),
                    Err(refused) => panic!("seed {}: {refused:?}", self.seed),
                }
            }
            return self.after_dfs();
        }
        let Some(&from) = running.attendants.get(&stream) else { return };
        let mut blocks = running.blocks.lock().expect("no thread panics");
        let heard: Result<(), Refused> = match &notice {
            Notice::Register(_) => Ok(()),
            Notice::Heartbeat => {
                let heartbeat = Heartbeat { epoch: self.epoch, volumes, writers: 0, transfers: 0 };
                blocks.heartbeat(from, &heartbeat, now_ms)
            }
            Notice::Finished(_) => blocks.finished(from, &known, now_ms, out),
            Notice::Deleted(replicas) => blocks.deleted(from, replicas, now_ms),
            Notice::Bad(_) => blocks.bad(from, &known, now_ms),
            Notice::Stopped(stopped) => blocks.stopped(from, stopped, now_ms, out),
        };
        drop(blocks);
        if heard.is_err() {
            self.count("notice fenced");
            if self.dfs.nodes[at].stream == Some(stream) {
                self.send(at, stream, false, Happening::Fenced(at, stream));
            }
        } else if matches!(notice, Notice::Heartbeat) {
            self.send(at, stream, false, Happening::BlockOrder(at, stream, None));
        }
        self.after_dfs();
    }

    /// Sends what the block side wants sent.
    pub(crate) fn send_orders(&mut self) {
        for (worker, order) in std::mem::take(&mut self.dfs.out.orders) {
            self.remember(&format!("{worker} {order:?}"));
            let at = worker.0 as usize - 1;
            let newest = |running: &Running| {
                let mut streams = running.attendants.iter().rev();
                streams.find(|(_, attendant)| attendant.worker == worker).map(|(stream, _)| *stream)
            };
            let Some(stream) = self.dfs.running.as_ref().and_then(newest) else { continue };
            if !self.quiet && self.chance(10) {
                self.count("order lost");
                continue;
            }
            let happening = Happening::BlockOrder(at, stream, Some(Box::new(order)));
            if !self.quiet && self.chance(30) {
                self.count("order twice");
                self.send(at, stream, false, happening.clone());
            }
            self.send(at, stream, false, happening);
        }
    }

    /// An order, or the answer to a heartbeat, arrives at a worker.
    pub(crate) fn obey_blocks(&mut self, at: usize, stream: u64, order: Option<Order>) {
        if self.dfs.nodes[at].stream != Some(stream) {
            return;
        }
        self.dfs.nodes[at].heard_ms = self.now_ms;
        match order {
            Some(Order::Delete(delete)) => {
                for replica in &delete.replicas {
                    self.delete_replica(at, replica.block, replica.generation);
                }
                self.tell_blocks(at, Notice::Deleted(delete.replicas));
            }
            Some(Order::Replicate(order)) => self.copy(at, &order),
            Some(Order::StopWriter(stop)) => {
                let stopped = self.dfs.nodes[at].disk.stop_writer(stop.block, stop.generation);
                self.tell_blocks(at, Notice::Stopped(stopped));
            }
            Some(Order::Settle(settle)) => {
                let disk = &mut self.dfs.nodes[at].disk;
                if let Some(info) = disk.settle(settle.block, settle.generation, settle.bytes) {
                    self.tell_finished(at, info);
                }
            }
            Some(Order::SendReport(send)) => {
                let life = self.workers[at].life;
                self.after(1, Happening::ReadPage(at, life, send.report_id, 0));
            }
            Some(Order::CheckReplica(_) | Order::Welcome(_) | Order::Refused(_)) | None => {}
        }
    }

    fn copy(&mut self, source: usize, order: &Replicate) {
        for target in &order.targets {
            let target = target.worker as usize - 1;
            let delay_ms = 20 + self.below(if self.quiet { 200 } else { 4_000 });
            self.after(delay_ms, Happening::Copied(source, target, order.block, order.generation));
        }
    }

    /// The source reads and verifies, the target writes.
    pub(crate) fn end_copy(&mut self, source: usize, target: usize, block: u64, generation: u64) {
        let Some(replica) = self.dfs.nodes[source].disk.replicas.get_mut(&block) else { return };
        if !replica.finished || replica.generation != generation {
            return;
        }
        if replica.rotten {
            replica.noticed = true;
            let info = replica.info(block);
            self.count("rotten source");
            return self.tell_blocks(source, Notice::Bad(vec![info]));
        }
        let bytes = replica.bytes;
        let disk = &mut self.dfs.nodes[target].disk;
        let there = disk.replicas.get(&block).is_some_and(|there| there.generation >= generation);
        if there || !self.meets(Some(source), target) {
            return;
        }
        let disk = &mut self.dfs.nodes[target].disk;
        if disk.write(block, generation, bytes)
            && let Some(info) = disk.finish(block, generation, bytes)
        {
            self.count("block copied");
            self.tell_finished(target, info);
        }
    }

    /// Reads some of the disk, and sends it on a stream of its own.
    pub(crate) fn read_page(&mut self, at: usize, life: u64, report_id: u64, first: u64) {
        if !self.workers[at].up || self.workers[at].life != life || !self.speaks(at) {
            return;
        }
        let mut last = first + 5 + self.below(40);
        if self.dfs.contents.keys().last().is_none_or(|newest| last > *newest) {
            last = u64::MAX;
        }
        let disk = &self.dfs.nodes[at].disk;
        let replicas = disk.listed(first, last);
        let unfinished = disk.replicas.range(first..=last).filter(|(_, replica)| !replica.finished);
        let unfinished = unfinished.map(|(block, replica)| replica.info(*block)).collect();
        let page = Box::new(Page { life, report_id, first, last, replicas, unfinished });
        let page = Happening::Page(at, page);
        if !self.quiet && self.chance(50) {
            self.count("report page twice");
            self.send(at, u64::MAX - report_id, true, page.clone());
        }
        self.send(at, u64::MAX - report_id, true, page);
        if last < u64::MAX {
            let delay_ms = 1 + self.below(if self.quiet { 10 } else { 500 });
            self.after(delay_ms, Happening::ReadPage(at, life, report_id, last + 1));
        }
    }

    /// A page arrives at the master.
    pub(crate) fn take_page(&mut self, at: usize, page: &Page) {
        if !self.quiet && self.chance(20) {
            return self.count("report page lost");
        }
        self.prepare_dfs();
        let replicas: Vec<(ReplicaInfo, Option<KnownBlock>)> = self.dfs.known(&page.replicas);
        let unfinished = self.dfs.known(&page.unfinished);
        let Some(running) = &self.dfs.running else { return };
        let slice = Slice {
            worker: WorkerId(at as u64 + 1),
            incarnation: incarnation(at, page.life),
            report_id: page.report_id,
            first: BlockId(page.first),
            last: BlockId(page.last),
            replicas: &replicas,
        };
        let mut blocks = running.blocks.lock().expect("no thread panics");
        let taken = blocks.report_slice(&slice, self.now_ms, &mut self.dfs.out);
        if taken.is_ok() {
            blocks.report_unfinished(slice.worker, &unfinished);
        }
        drop(blocks);
        self.count(if taken.is_ok() { "report page" } else { "report page refused" });
        self.after_dfs();
    }
}
