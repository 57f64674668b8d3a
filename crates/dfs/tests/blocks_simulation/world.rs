//! The world: a namespace, workers, the network between them and the master, and chance.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash};

use gristmill_dfs::namenode::blocks::{Attendant, Blocks, BlocksOptions, KnownBlock, Outbox};
use gristmill_proto::attendance::order::Order;
use gristmill_proto::ids::{BlockId, ClusterId, Epoch, Generation, Incarnation, WorkerId};
use gristmill_proto::namespace::set_worker_state::State;

use crate::disk::{Disk, Replica};
use crate::network::{Event, Events, Notice};
use crate::writer::Writer;

pub(crate) const CLUSTER: ClusterId = ClusterId([7; 16]);
/// How old a look-up in the namespace is at most, in the tests: below what is promised.
const LOOKUP_AGE_MS: u64 = 8_000;

/// A block as the namespace has it.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) generation: u64,
    pub(crate) bytes: u64,
    pub(crate) replication: u32,
    pub(crate) complete: bool,
    pub(crate) synced_bytes: u64,
    pub(crate) cut_to_bytes: Option<u64>,
    /// The last pipeline, by worker id.
    pub(crate) pipeline: Vec<WorkerId>,
    /// None: nobody writes it; if it is not complete it is in recovery.
    pub(crate) writer: Option<Writer>,
    /// When chance last destroyed a copy: some time before the master knows.
    pub(crate) destroyed_ms: u64,
    /// Chance destroyed so much of it that nothing is promised.
    pub(crate) excused: bool,
}

/// A worker.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) up: bool,
    /// Never comes back.
    pub(crate) retired: bool,
    pub(crate) incarnation: u64,
    /// The number of its stream, if it has one.
    pub(crate) stream: Option<u64>,
    pub(crate) cut_off_until_ms: u64,
    /// It does not beat, though its stream stands.
    pub(crate) stuck_until_ms: u64,
    pub(crate) disk: Disk,
    pub(crate) rack: usize,
    pub(crate) state: State,
    pub(crate) lies: bool,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    dice: u64,
    pub(crate) now_ms: u64,
    pub(crate) events: Events,
    pub(crate) master: Blocks,
    pub(crate) master_since_ms: u64,
    pub(crate) epoch: u64,
    /// Blocks still to be told to a master that has just started.
    pub(crate) unexpected: Option<VecDeque<u64>>,
    pub(crate) namespace: BTreeMap<u64, Block>,
    past: VecDeque<(u64, BTreeMap<u64, KnownBlock>)>,
    pub(crate) nodes: Vec<Node>,
    /// The newest stream of each worker at the master, and all there were.
    pub(crate) attendants: BTreeMap<(usize, u64), Attendant>,
    pub(crate) newest: BTreeMap<usize, u64>,
    pub(crate) streams: u64,
    pub(crate) blocks: u64,
    pub(crate) generations: u64,
    pub(crate) quiet: bool,
    pub(crate) out: Outbox,
    pub(crate) trace: DefaultHasher,
    /// All that happens is printed.
    is_told: bool,
    /// What happened how often, so that a test can tell that it tested something.
    pub(crate) tally: BTreeMap<&'static str, u64>,
}

pub(crate) fn options() -> BlocksOptions {
    BlocksOptions {
        copy_timeout_ms: 5_000,
        copy_budget_bytes: 20 << 20,
        maintenance_limit_ms: 30_000,
        report_interval_ms: 60_000,
        report_timeout_ms: 5_000,
        recovery_timeout_ms: 2_000,
        deletion_timeout_ms: 10_000,
        ..BlocksOptions::default()
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut world = World {
            seed,
            dice: seed,
            now_ms: 1,
            events: Events::default(),
            master: Blocks::new(options(), CLUSTER, Epoch(1), seed, 0, 1),
            master_since_ms: 1,
            epoch: 1,
            unexpected: None,
            namespace: BTreeMap::new(),
            past: VecDeque::new(),
            nodes: Vec::new(),
            attendants: BTreeMap::new(),
            newest: BTreeMap::new(),
            streams: 0,
            blocks: 0,
            generations: 0,
            quiet: false,
            out: Outbox::default(),
            trace: DefaultHasher::new(),
            is_told: std::env::var_os("BLOCKS_TOLD").is_some(),
            tally: BTreeMap::new(),
        };
        let racks = 1 + world.below(3) as usize;
        for worker in 0..3 + world.below(5) as usize {
            world.nodes.push(Node { rack: worker % racks, lies: false, ..Node::default() });
            world.events.at(1, Event::Start { worker });
        }
        let liar = world.below(10) as usize;
        if let Some(node) = world.nodes.get_mut(liar) {
            node.lies = true;
        }
        world.events.at(2, Event::Tick);
        world.events.at(2_000, Event::Mischief);
        world
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        self.remember(what);
        *self.tally.entry(what).or_default() += 1;
    }

    pub(crate) fn remember(&mut self, what: &str) {
        if self.is_told {
            println!("{:>7} {what}", self.now_ms);
        }
        (self.now_ms, what).hash(&mut self.trace);
    }

    /// Whether a worker can be talked to.
    pub(crate) fn reaches(&self, worker: usize) -> bool {
        self.nodes[worker].up && self.nodes[worker].cut_off_until_ms <= self.now_ms
    }

    pub(crate) fn node_of(&self, id: WorkerId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id.0 && id.0 != 0)
    }

    pub(crate) fn new_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    /// What the namespace says of a block, now or a little ago.
    pub(crate) fn look_up(&mut self, block: u64) -> Option<KnownBlock> {
        let since = self.master_since_ms.max(self.now_ms.saturating_sub(LOOKUP_AGE_MS));
        let old: Vec<usize> = (0..self.past.len()).filter(|&at| self.past[at].0 >= since).collect();
        if !old.is_empty() && !self.quiet && self.chance(200) {
            let at = old[self.below(old.len() as u64) as usize];
            // A worker has no replica of a block before there is the block.
            if let Some(known) = self.past[at].1.get(&block) {
                return Some(*known);
            }
        }
        self.namespace.get(&block).map(known)
    }

    pub(crate) fn keep_past(&mut self) {
        let since = self.now_ms.saturating_sub(LOOKUP_AGE_MS);
        while self.past.front().is_some_and(|(time_ms, _)| *time_ms < since) {
            self.past.pop_front();
        }
        let now = self.namespace.iter().map(|(&block, record)| (block, known(record))).collect();
        self.past.push_back((self.now_ms, now));
    }

    /// Sends the master a notice on the worker's stream, if it has one.
    pub(crate) fn tell(&mut self, worker: usize, notice: Notice) {
        let Some(stream) = self.nodes[worker].stream else { return };
        if !self.reaches(worker) {
            return;
        }
        let delay_ms = 1 + self.below(if self.quiet { 20 } else { 300 });
        let event = Event::Notice { worker, stream, notice };
        if !self.quiet && self.chance(30) {
            self.count("notice twice");
            self.events.in_order(self.now_ms + delay_ms, true, worker, stream, event.clone());
        }
        self.events.in_order(self.now_ms + delay_ms, true, worker, stream, event);
    }

    /// Sends what the master wants sent, and checks it.
    pub(crate) fn send_orders(&mut self) {
        let out = std::mem::take(&mut self.out);
        let is_safe = self.master.safe_mode().on;
        for (id, order) in out.orders {
            self.remember(&format!("{id} {order:?}"));
            let moves = matches!(order, Order::Delete(_) | Order::Replicate(_));
            assert!(!(is_safe && moves), "seed {}: {order:?} in safe mode", self.seed);
            let Some(worker) = self.node_of(id) else { continue };
            let Some(&stream) = self.newest.get(&worker) else { continue };
            if !self.quiet && self.chance(10) {
                self.count("order lost");
                continue;
            }
            let delay_ms = 1 + self.below(if self.quiet { 20 } else { 300 });
            let event = Event::Order { worker, stream, order };
            if !self.quiet && self.chance(30) {
                self.count("order twice");
                self.events.in_order(self.now_ms + delay_ms, false, worker, stream, event.clone());
            }
            self.events.in_order(self.now_ms + delay_ms, false, worker, stream, event);
        }
        for decision in out.decisions {
            self.remember(&format!("{decision:?}"));
            self.decide(decision);
        }
    }

    /// Whether this copy is as the namespace wants it.
    pub(crate) fn is_good(&self, block: u64, replica: &Replica) -> bool {
        self.namespace.get(&block).is_some_and(|record| {
            record.complete
                && replica.finished
                && !replica.rotten
                && (replica.generation, replica.bytes) == (record.generation, record.bytes)
        })
    }

    /// Workers with a good copy on their disks, whether they run or not.
    pub(crate) fn good(&self, block: u64) -> Vec<usize> {
        let has = |node: &Node| node.disk.replicas.get(&block).is_some_and(|r| self.is_good(block, r));
        (0..self.nodes.len()).filter(|&worker| has(&self.nodes[worker])).collect()
    }

    /// Good copies that no order on its way deletes. Of a liar's copies the master may know nothing.
    pub(crate) fn safe(&self, block: u64) -> usize {
        let mut doomed = Vec::new();
        for event in self.events.iter() {
            if let Event::Order { worker, order: Order::Delete(delete), .. } = event
                && delete.replicas.iter().any(|replica| replica.block == block)
            {
                doomed.push(*worker);
            }
        }
        let is_safe = |worker: &usize| !doomed.contains(worker) && !self.nodes[*worker].lies;
        self.good(block).into_iter().filter(is_safe).count()
    }

    /// A delete is carried out: never may the last good copy go.
    pub(crate) fn obey_delete(&mut self, worker: usize, block: u64, generation: u64) {
        let Some(replica) = self.nodes[worker].disk.replicas.get(&block).copied() else { return };
        if replica.generation > generation {
            return;
        }
        let record = self.namespace.get(&block);
        if let Some(record) = record.filter(|record| !record.excused) {
            let others = self.good(block).into_iter().filter(|&other| other != worker).count();
            if self.is_good(block, &replica) {
                self.count("good copy deleted");
                assert!(
                    others > 0,
                    "seed {}, {} ms: the last good copy of {block} goes from node {worker}",
                    self.seed,
                    self.now_ms
                );
            } else if !record.complete && record.synced_bytes > 0 && replica.bytes >= record.synced_bytes {
                let has = |node: &Node| {
                    node.disk
                        .replicas
                        .get(&block)
                        .is_some_and(|r| r.bytes >= record.synced_bytes && !r.rotten)
                };
                let others = (0..self.nodes.len()).filter(|&w| w != worker && has(&self.nodes[w])).count();
                assert!(
                    others > 0 || replica.rotten,
                    "seed {}: the last synced copy of open {block} goes",
                    self.seed
                );
            }
        }
        self.nodes[worker].disk.replicas.remove(&block);
    }

    /// A new master on the same namespace.
    pub(crate) fn restart_master(&mut self) {
        self.count("master restarted");
        self.epoch += 1;
        let complete = self.namespace.values().filter(|record| record.complete).count() as u64;
        self.master =
            Blocks::new(options(), CLUSTER, Epoch(self.epoch), self.seed ^ self.epoch, complete, self.now_ms);
        self.master_since_ms = self.now_ms;
        self.unexpected = Some(self.namespace.keys().copied().collect());
        self.newest.clear();
        for node in &mut self.nodes {
            node.stream = None;
        }
        let open: Vec<u64> = self.namespace.iter().filter(|(_, r)| !r.complete).map(|(&b, _)| b).collect();
        for block in open {
            if self.namespace[&block].writer.is_none() {
                self.recover(block);
            }
        }
    }

    /// The master hears of all blocks, a few at a time.
    pub(crate) fn expect_some(&mut self) {
        let Some(mut left) = self.unexpected.take() else { return };
        let bite: Vec<u64> = left.drain(..left.len().min(7)).collect();
        for block in bite {
            if let Some(known) = self.look_up(block) {
                self.master.expect(&[(BlockId(block), known)]);
            }
        }
        match left.is_empty() {
            true => self.master.expected_all(),
            false => self.unexpected = Some(left),
        }
    }

    pub(crate) fn incarnation(&self, worker: usize) -> Incarnation {
        incarnation(worker, self.nodes[worker].incarnation)
    }
}

pub(crate) fn incarnation(worker: usize, life: u64) -> Incarnation {
    let mut bytes = [worker as u8; 16];
    bytes[8..].copy_from_slice(&life.to_be_bytes());
    Incarnation(bytes)
}

pub(crate) fn known(record: &Block) -> KnownBlock {
    KnownBlock {
        generation: Generation(record.generation),
        bytes: record.bytes,
        replication: record.replication,
        complete: record.complete,
    }
}
