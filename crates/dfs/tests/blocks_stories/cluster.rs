//! A block core with workers that say what a story has them say.

use std::collections::BTreeMap;

use gristmill_dfs::namenode::blocks::{
    Attendant, Blocks, BlocksOptions, Decision, KnownBlock, Outbox, ReportError, Slice, SliceAnswer,
};
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::{Heartbeat, Refused, Register, ReplicaInfo, Volume};
use gristmill_proto::ids::{BlockId, ClusterId, Epoch, Generation, WorkerId};
use gristmill_proto::namespace::problem::Kind;

pub(crate) const CLUSTER: ClusterId = ClusterId([1; 16]);
pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const TICK_MS: u64 = 200;

/// A worker as its stories need it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) register: Register,
    pub(crate) attendant: Attendant,
    pub(crate) is_silent: bool,
    pub(crate) writers: u32,
    /// Of the last `SendReport`.
    pub(crate) report_id: u64,
}

pub(crate) struct Cluster {
    pub(crate) blocks: Blocks,
    pub(crate) now_ms: u64,
    pub(crate) members: Vec<Member>,
    pub(crate) known: BTreeMap<u64, KnownBlock>,
    pub(crate) orders: Vec<(usize, Order)>,
    pub(crate) decisions: Vec<Decision>,
}

pub(crate) fn info(block: u64, generation: u64, bytes: u64) -> ReplicaInfo {
    ReplicaInfo { block, generation, bytes }
}

pub(crate) fn volume(capacity_bytes: u64, used_bytes: u64) -> Volume {
    let remaining_bytes = capacity_bytes - used_bytes;
    Volume { id: "v0".to_owned(), capacity_bytes, used_bytes, remaining_bytes, failed: false }
}

pub(crate) fn register(life: u8, host: &str, rack: &str) -> Register {
    Register {
        version: PROTOCOL_VERSION,
        incarnation: vec![life; 16].into(),
        host: host.to_owned(),
        rack: rack.to_owned(),
        volumes: vec![volume(1000 * GIB, 0)],
        ..Register::default()
    }
}

impl Cluster {
    /// A new cluster with a worker on each of these racks, all reported.
    pub(crate) fn new(racks: &[&str]) -> Cluster {
        let mut cluster = Cluster::starting(0, BlocksOptions::default());
        for rack in racks {
            let worker = cluster.join(rack);
            cluster.report(worker, &[]);
        }
        cluster
    }

    /// A master that has just started on a namespace with so many complete blocks.
    pub(crate) fn starting(blocks: u64, options: BlocksOptions) -> Cluster {
        Cluster {
            blocks: Blocks::new(options, CLUSTER, Epoch(3), 42, blocks, 1_000),
            now_ms: 1_000,
            members: Vec::new(),
            known: BTreeMap::new(),
            orders: Vec::new(),
            decisions: Vec::new(),
        }
    }

    /// A worker registers, and says that it knows.
    pub(crate) fn join(&mut self, rack: &str) -> usize {
        let worker = self.members.len();
        let register = register(worker as u8 + 1, &format!("h{worker}"), rack);
        let worker = self.try_join(register).expect("it is welcome");
        self.beat_of(worker);
        worker
    }

    pub(crate) fn try_join(&mut self, register: Register) -> Result<usize, Refused> {
        let mut out = Outbox::default();
        let address = format!("{}:7071", register.host);
        let attendant = self.blocks.register(&register, address, self.now_ms, &mut out)?;
        let register =
            Register { worker: attendant.worker.0, cluster_id: CLUSTER.0.to_vec().into(), ..register };
        let member = Member { register, attendant, is_silent: false, writers: 0, report_id: 0 };
        let before = self.members.iter().position(|before| before.attendant.worker == attendant.worker);
        let worker = before.unwrap_or(self.members.len());
        match before {
            Some(worker) => self.members[worker] = member,
            None => self.members.push(member),
        }
        self.take(out);
        Ok(worker)
    }

    /// The process of a worker starts again.
    pub(crate) fn restart(&mut self, worker: usize, life: u8) {
        let mut register = self.members[worker].register.clone();
        register.incarnation = vec![life; 16].into();
        self.try_join(register).expect("it is welcome");
    }

    pub(crate) fn id(&self, worker: usize) -> WorkerId {
        self.members[worker].attendant.worker
    }

    pub(crate) fn take(&mut self, out: Outbox) {
        for (id, order) in out.orders {
            let worker = self.members.iter().position(|member| member.attendant.worker == id);
            let worker = worker.expect("orders go to members");
            if let Order::SendReport(send) = &order {
                self.members[worker].report_id = send.report_id;
            }
            self.orders.push((worker, order));
        }
        self.decisions.extend(out.decisions);
    }

    pub(crate) fn known(&self, block: u64) -> Option<KnownBlock> {
        self.known.get(&block).copied()
    }

    fn look_up(&self, replicas: &[(u64, u64, u64)]) -> Vec<(ReplicaInfo, Option<KnownBlock>)> {
        let look_up = |&(block, generation, bytes)| (info(block, generation, bytes), self.known(block));
        replicas.iter().map(look_up).collect()
    }

    /// A full report in one slice, as it was ordered.
    pub(crate) fn report(&mut self, worker: usize, replicas: &[(u64, u64, u64)]) -> SliceAnswer {
        self.slice(worker, 0, u64::MAX, replicas).expect("it is taken")
    }

    pub(crate) fn slice(
        &mut self,
        worker: usize,
        first: u64,
        last: u64,
        replicas: &[(u64, u64, u64)],
    ) -> Result<SliceAnswer, ReportError> {
        let member = &self.members[worker];
        let replicas = self.look_up(replicas);
        let slice = Slice {
            worker: member.attendant.worker,
            incarnation: member.attendant.incarnation,
            report_id: member.report_id,
            first: BlockId(first),
            last: BlockId(last),
            replicas: &replicas,
        };
        let mut out = Outbox::default();
        let answer = self.blocks.report_slice(&slice, self.now_ms, &mut out);
        self.take(out);
        answer
    }

    /// What a full report says besides, of replicas that nobody has finished.
    pub(crate) fn report_unfinished(&mut self, worker: usize, replicas: &[(u64, u64, u64)]) {
        let (id, replicas) = (self.id(worker), self.look_up(replicas));
        self.blocks.report_unfinished(id, &replicas);
    }

    pub(crate) fn finished(&mut self, worker: usize, block: u64, generation: u64, bytes: u64) {
        let (from, replicas) = (self.members[worker].attendant, self.look_up(&[(block, generation, bytes)]));
        let mut out = Outbox::default();
        self.blocks.finished(from, &replicas, self.now_ms, &mut out).expect("it is heard");
        self.take(out);
    }

    pub(crate) fn bad(&mut self, worker: usize, block: u64, generation: u64, bytes: u64) {
        let (from, replicas) = (self.members[worker].attendant, self.look_up(&[(block, generation, bytes)]));
        self.blocks.bad(from, &replicas, self.now_ms).expect("it is heard");
    }

    pub(crate) fn deleted(&mut self, worker: usize, block: u64, generation: u64) {
        let from = self.members[worker].attendant;
        self.blocks.deleted(from, &[info(block, generation, 0)], self.now_ms).expect("it is heard");
    }

    pub(crate) fn opened(&mut self, block: u64, generation: u64, replication: u32, workers: &[usize]) {
        let known = KnownBlock { generation: Generation(generation), bytes: 0, replication, complete: false };
        self.known.insert(block, known);
        let ids: Vec<WorkerId> = workers.iter().map(|&worker| self.id(worker)).collect();
        self.blocks.block_opened(BlockId(block), Generation(generation), replication, &ids);
    }

    pub(crate) fn complete(&mut self, block: u64, generation: u64, bytes: u64, replication: u32) {
        let known = KnownBlock { generation: Generation(generation), bytes, replication, complete: true };
        self.known.insert(block, known);
        self.blocks.block_complete(BlockId(block), Generation(generation), bytes, replication);
    }

    /// A block of generation 1 and 100 bytes that is written by these workers, from beginning to end.
    pub(crate) fn write(&mut self, block: u64, replication: u32, workers: &[usize]) {
        self.opened(block, 1, replication, workers);
        for &worker in workers {
            self.finished(worker, block, 1, 100);
        }
        self.complete(block, 1, 100, replication);
    }

    pub(crate) fn tick(&mut self) {
        self.now_ms += TICK_MS;
        let mut out = Outbox::default();
        self.blocks.tick(self.now_ms, &mut out);
        self.take(out);
    }

    /// Time passes, and those that are not silent are heard of.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            if self.now_ms % 1_000 < TICK_MS {
                self.beat();
            }
            self.tick();
        }
    }

    pub(crate) fn beat(&mut self) {
        for worker in 0..self.members.len() {
            if !self.members[worker].is_silent {
                self.beat_of(worker);
            }
        }
    }

    fn beat_of(&mut self, worker: usize) {
        let member = &self.members[worker];
        let volumes = member.register.volumes.clone();
        let heartbeat = Heartbeat { epoch: 3, volumes, writers: member.writers, transfers: 0 };
        self.blocks.heartbeat(member.attendant, &heartbeat, self.now_ms).expect("it is heard");
    }

    /// Copies that were ordered since the last look: (block, from, to).
    pub(crate) fn copies(&mut self) -> Vec<(u64, usize, usize)> {
        let mut copies = Vec::new();
        for (from, order) in self.orders.extract_if(.., |(_, order)| matches!(order, Order::Replicate(_))) {
            let Order::Replicate(order) = order else { continue };
            for target in order.targets {
                let to = self.members.iter().position(|member| member.attendant.worker.0 == target.worker);
                copies.push((order.block, from, to.expect("a member")));
            }
        }
        copies
    }

    /// Deletes that were ordered since the last look: (block, generation, worker).
    pub(crate) fn deletes(&mut self) -> Vec<(u64, u64, usize)> {
        let mut deletes = Vec::new();
        for (worker, order) in self.orders.extract_if(.., |(_, order)| matches!(order, Order::Delete(_))) {
            let Order::Delete(order) = order else { continue };
            deletes.extend(order.replicas.iter().map(|replica| (replica.block, replica.generation, worker)));
        }
        deletes.sort_unstable();
        deletes
    }

    /// Workers do what they are told for some time: copies arrive, deletes are confirmed. Copies that were made.
    pub(crate) fn obey(&mut self, ms: u64) -> Vec<(u64, usize, usize)> {
        let (mut made, until_ms) = (Vec::new(), self.now_ms + ms);
        while self.now_ms < until_ms {
            self.pass(TICK_MS);
            for (block, from, to) in self.copies() {
                let known = self.known[&block];
                self.finished(to, block, known.generation.0, known.bytes);
                made.push((block, from, to));
            }
            for (block, generation, worker) in self.deletes() {
                self.deleted(worker, block, generation);
            }
        }
        made
    }

    /// Who can be read from, by place, sorted.
    pub(crate) fn holders(&self, block: u64) -> Vec<usize> {
        let ids = self.blocks.locations(BlockId(block), "");
        let place = |id| self.members.iter().position(|member| member.attendant.worker == id);
        let mut holders: Vec<usize> = ids.into_iter().filter_map(place).collect();
        holders.sort_unstable();
        holders
    }

    pub(crate) fn state(&self, worker: usize) -> String {
        let id = self.id(worker).0;
        let reports = self.blocks.worker_reports();
        reports.into_iter().find(|report| report.worker == id).expect("it is known").state
    }
}

impl Cluster {
    /// The namespace's word of an older pipeline, late.
    pub(crate) fn opened_late(&mut self, block: u64, generation: u64) {
        self.blocks.block_opened(BlockId(block), Generation(generation), 2, &[]);
    }
}

impl Cluster {
    pub(crate) fn change(&mut self, block: u64, replication: u32) {
        self.known.get_mut(&block).expect("it is known").replication = replication;
        self.blocks.replication_changed(BlockId(block), replication);
    }

    pub(crate) fn problems(&self, block: u64) -> Vec<Kind> {
        self.blocks.problems(BlockId(block), &self.known[&block]).problems
    }
}
