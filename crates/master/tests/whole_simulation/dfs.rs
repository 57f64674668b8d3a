//! The file system: the real namespace on a disk that may lose power, the real block side beside it, and the workers'
//! disks. Whoever calls, calls the master of now; without one there is nobody to call.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex};

use gristmill_dfs::namenode::blocks::{Attendant, Blocks, BlocksOptions, KnownBlock, Outbox};
use gristmill_dfs::namenode::leases::Leases;
use gristmill_dfs::namenode::namespace::{
    Action, Caller, Command, LeaseClock, Namespace, NamespaceOptions, RequestId, Snapshot,
};
use gristmill_dfs::namenode::{effects, facts};
use gristmill_proto::attendance::ReplicaInfo;
use gristmill_proto::ids::{BlockId, ClientId, ClusterId, Epoch, Generation};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;

use crate::disk::{Disk, Replica};
use crate::script::{Flaw, Passed, Planned, Point, Script};
use crate::storage;

pub(crate) const CLUSTER: ClusterId = ClusterId([7; 16]);
/// Bytes of a full block.
pub(crate) const BLOCK_BYTES: u64 = 100;
/// Copies of each block.
pub(crate) const REPLICATION: u32 = 3;
/// A writer silent for so long loses its file.
pub(crate) const LEASE_MS: u64 = 20_000;
/// Where wall time begins; it jumps, and nothing may depend on it.
const WALL_MS: u64 = 1_795_199_000_000;

/// A master that runs.
pub(crate) struct Running {
    pub(crate) namespace: Namespace,
    pub(crate) blocks: Mutex<Blocks>,
    pub(crate) leases: Leases,
    /// By the number of the stream.
    pub(crate) attendants: BTreeMap<u64, Attendant>,
    /// Blocks still to be expected, after this one.
    pub(crate) expected: Option<BlockId>,
    /// Recoveries of a former master were begun again.
    pub(crate) resumed: bool,
}

/// A core worker's part of the file system.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) disk: Disk,
    pub(crate) stream: Option<u64>,
    pub(crate) heard_ms: u64,
    /// Whether the master's machine can reach it: kept true before each use.
    pub(crate) in_reach: bool,
}

#[derive(Default)]
pub(crate) struct Dfs {
    pub(crate) now_ms: u64,
    /// Wall time runs ahead of, or behind, time by so much.
    pub(crate) skew_ms: i64,
    pub(crate) storage: storage::Disk,
    pub(crate) running: Option<Running>,
    /// The store failed: the master must die.
    pub(crate) failed: bool,
    /// Names have changed since somebody looked.
    pub(crate) changed: bool,
    pub(crate) nodes: Vec<Node>,
    /// What the writer of each block sends; replicas hold its first bytes.
    pub(crate) contents: BTreeMap<u64, Vec<u8>>,
    pub(crate) out: Outbox,
    pub(crate) clients: u64,
    pub(crate) script: Script,
}

/// How long clients have been silent.
struct Silence<'a>(&'a Leases, u64);

impl LeaseClock for Silence<'_> {
    fn idle_ms(&self, client: ClientId) -> u64 {
        self.0.idle_ms(client, self.1)
    }
}

fn namespace_options() -> NamespaceOptions {
    NamespaceOptions {
        block_bytes: BLOCK_BYTES,
        block_bytes_min: 10,
        replication: REPLICATION,
        lease_soft_limit_ms: LEASE_MS / 2,
        trash: false,
        cache_bytes: 8 << 20,
        ..NamespaceOptions::default()
    }
}

fn blocks_options() -> BlocksOptions {
    BlocksOptions {
        copy_timeout_ms: 5_000,
        copy_budget_bytes: 20 << 20,
        report_interval_ms: 60_000,
        report_timeout_ms: 5_000,
        recovery_timeout_ms: 2_000,
        deletion_timeout_ms: 10_000,
        ..BlocksOptions::default()
    }
}

pub(crate) fn caller(client: ClientId) -> Caller {
    Caller { client, user: "root".to_owned(), groups: vec!["supergroup".to_owned()] }
}

impl Dfs {
    /// A master starts on what is durable. None: its disk has failed meanwhile.
    pub(crate) fn start(&mut self, seed: u64) -> Option<Epoch> {
        let opened = Namespace::with_backend(self.storage.clone(), namespace_options());
        if opened.is_err() && self.storage.faults() > 0 {
            return None;
        }
        let namespace = opened.expect("what is durable is a namespace");
        let epoch = namespace.epoch();
        let complete = namespace.snapshot().expect("it reads").totals().complete_blocks;
        let blocks = Blocks::new(blocks_options(), CLUSTER, epoch, seed ^ epoch.0, complete, self.now_ms);
        self.running = Some(Running {
            namespace,
            blocks: Mutex::new(blocks),
            leases: Leases::default(),
            attendants: BTreeMap::new(),
            expected: Some(BlockId(0)),
            resumed: false,
        });
        self.changed = true;
        Some(epoch)
    }

    /// The master's machine loses power.
    pub(crate) fn lose_power(&mut self, dice: u64) {
        self.running = None;
        let dice = self.script.power_lost(&self.storage, dice);
        self.storage = self.storage.after_power_loss(&mut storage::Dice(dice | 1));
        self.storage.set_fault(self.script.failing_step());
        (self.failed, self.out) = (false, Outbox::default());
        self.nodes.iter_mut().for_each(|node| node.stream = None);
    }

    /// There is a file system, and from now on just this goes wrong.
    pub(crate) fn plan_faults(&mut self, planned: &[Planned]) {
        static FOUNDED: LazyLock<storage::Disk> = LazyLock::new(|| {
            let disk = storage::Disk::default();
            drop(Namespace::with_backend(disk.clone(), namespace_options()).expect("the disk is good"));
            disk
        });
        self.storage = FOUNDED.copy();
        self.script = Script::new(planned);
        self.storage.set_fault(self.script.failing_step());
    }

    /// Something is about to happen that a script may let fail.
    pub(crate) fn fault(&mut self, point: Point) -> Option<Flaw> {
        self.script.pass(point, self.storage.steps())
    }

    /// Nothing goes wrong any more. Returns what was passed.
    pub(crate) fn end_faults(&mut self) -> Passed {
        self.storage.set_fault(None);
        self.script.shut(&self.storage)
    }

    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        Some(self.running.as_ref()?.namespace.snapshot().expect("it reads"))
    }

    pub(crate) fn wall_ms(&self) -> u64 {
        (WALL_MS + self.now_ms).saturating_add_signed(self.skew_ms)
    }

    pub(crate) fn new_client(&mut self) -> ClientId {
        self.clients += 1;
        let mut bytes = [0xc1; 16];
        bytes[8..].copy_from_slice(&self.clients.to_be_bytes());
        ClientId(bytes)
    }

    /// A client's call. None: nobody answers.
    pub(crate) fn call(
        &mut self,
        client: ClientId,
        sequence: u64,
        request: Request,
        host: &str,
    ) -> Option<Outcome> {
        let now_ms = self.now_ms;
        let running = self.running.as_mut()?;
        running.leases.heard(client, now_ms);
        let (caller, snapshot) = (caller(client), running.namespace.snapshot().expect("it reads"));
        if let Some(read) = snapshot.answer(&caller, &request).expect("it reads") {
            return Some(read);
        }
        let blocks = || running.blocks.lock().expect("no thread panics");
        let facts = facts::facts(blocks, &snapshot, &caller, &request, host).expect("it reads");
        let id = Some(RequestId { client, sequence });
        let action = Action::Request(request, facts);
        self.apply(Command { id, settled_below: sequence, caller, now_ms: self.wall_ms(), action })
    }

    /// The namenode's own work.
    pub(crate) fn own(&mut self, action: Action) -> Option<Outcome> {
        let caller = Caller { client: ClientId([0; 16]), user: String::new(), groups: Vec::new() };
        self.apply(Command { id: None, settled_below: 0, caller, now_ms: self.wall_ms(), action })
    }

    /// One durable transaction, and what it means to the block side.
    fn apply(&mut self, command: Command) -> Option<Outcome> {
        let running = self.running.as_mut().filter(|_| !self.failed)?;
        let silence = Silence(&running.leases, self.now_ms);
        let Ok(mut applied) = running.namespace.apply_group(&[command], &silence) else {
            self.failed = true;
            return None;
        };
        let applied = applied.pop().expect("one command has one answer");
        self.changed = true;
        let snapshot = running.namespace.snapshot().expect("it reads");
        let mut blocks = running.blocks.lock().expect("no thread panics");
        for effect in applied.effects {
            effects::take(&mut blocks, &snapshot, effect, self.now_ms, &mut self.out).expect("it reads");
        }
        Some(applied.outcome)
    }

    /// What the block side has decided reaches the namespace.
    pub(crate) fn obey_decisions(&mut self) {
        let mut waiting: VecDeque<_> = std::mem::take(&mut self.out.decisions).into();
        while let Some(decision) = waiting.pop_front() {
            if let Some(action) = effects::action_of(decision) {
                self.own(action);
                waiting.extend(std::mem::take(&mut self.out.decisions));
            }
        }
    }

    /// Whether this copy is as the namespace wants it.
    pub(crate) fn is_good(&self, block: u64, replica: &Replica) -> bool {
        let Some(snapshot) = self.snapshot() else { return false };
        snapshot.block(BlockId(block)).expect("it reads").is_some_and(|record| {
            let (generation, bytes) = (Generation(replica.generation), replica.bytes);
            record.complete
                && replica.finished
                && !replica.rotten
                && (record.generation, record.bytes) == (generation, bytes)
        })
    }

    /// Workers with a good copy on their disks, whether they run or not.
    pub(crate) fn good(&self, block: u64) -> Vec<usize> {
        let has = |node: &Node| node.disk.replicas.get(&block).is_some_and(|r| self.is_good(block, r));
        (0..self.nodes.len()).filter(|&at| has(&self.nodes[at])).collect()
    }

    /// What the namespace knows of each replica's block.
    pub(crate) fn known(&self, replicas: &[ReplicaInfo]) -> Vec<(ReplicaInfo, Option<KnownBlock>)> {
        let Some(snapshot) = self.snapshot() else { return Vec::new() };
        let look = |replica: &ReplicaInfo| {
            let found = snapshot.block(BlockId(replica.block)).expect("it reads");
            (*replica, found.map(KnownBlock::from))
        };
        replicas.iter().map(look).collect()
    }

    /// The first bytes of a replica on a worker that `reaches` accepts, and those that were found damaged on the way.
    pub(crate) fn read(
        &mut self,
        block: u64,
        generation: u64,
        bytes: u64,
        mut reaches: impl FnMut(usize) -> bool,
    ) -> (Option<Vec<u8>>, Vec<(usize, ReplicaInfo)>) {
        let mut damaged = Vec::new();
        for at in 0..self.nodes.len() {
            let Some(replica) = self.nodes[at].disk.replicas.get_mut(&block).filter(|_| reaches(at)) else {
                continue;
            };
            if replica.generation != generation || replica.bytes < bytes || !replica.finished {
                continue;
            }
            if !replica.rotten {
                return (Some(self.contents[&block][..bytes as usize].to_vec()), damaged);
            }
            replica.noticed = true;
            damaged.push((at, replica.info(block)));
        }
        (None, damaged)
    }
}
