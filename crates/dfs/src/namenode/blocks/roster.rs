//! The workers: who they are, whether they live, what room they have.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Index, IndexMut};

use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::Volume;
use gristmill_proto::ids::{Incarnation, WorkerId};
use gristmill_proto::namespace;

use super::deletion::Deletion;

/// A worker's place in the roster. Never given to another as long as the master lives.
pub(super) type Slot = u16;

/// Workers of a master's life. Slots have 16 bits, and replicas are packed with them.
pub(super) const WORKERS_MAX: usize = 60_000;
/// Replaced incarnations of a worker that are remembered, to refuse them if they come back.
const RETIRED_MAX: usize = 8;

/// What an operator wants of a worker, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Serving,
    /// Its replicas are copied elsewhere. `pass`: the first pass over all blocks that began since.
    Decommissioning {
        pass: u64,
    },
    Decommissioned,
    Maintenance {
        until_ms: u64,
    },
}

/// Whether it is heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Live,
    Suspect,
    Lost,
}

/// What a replica on a worker is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Live, connected and fully reported: another replica may be deleted because of this one.
    Sure,
    /// Counts, but nothing is deleted because of it.
    Counted,
    /// On a worker that is leaving: a source, but must be replaced.
    Draining,
    /// On a lost worker.
    Gone,
}

/// A full report that was ordered and is not yet complete.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) id: u64,
    pub(super) ordered_ms: u64,
    /// When it was ordered or its last slice came.
    pub(super) heard_ms: u64,
    /// Where the next slice starts.
    pub(super) next_first: u64,
    /// Blocks with an announced change since it was ordered. The announcements are newer than the report.
    pub(super) changed: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) incarnation: Incarnation,
    pub(super) retired: VecDeque<Incarnation>,
    /// Its newest one.
    pub(super) stream: u64,
    pub(super) replica: namespace::Replica,
    /// Numbers of its host and rack, for fast comparison.
    pub(super) host: u32,
    pub(super) rack: u32,
    pub(super) volumes: Vec<Volume>,
    pub(super) service: Service,
    pub(super) presence: Presence,
    pub(super) connected: bool,
    /// It has said a word since its welcome, so it has read that: before, it refuses whoever brings blocks.
    pub(super) settled: bool,
    pub(super) heard_ms: u64,
    /// When this life of it first registered.
    pub(super) born_ms: u64,
    /// Its full report since it registered is complete.
    pub(super) fresh: bool,
    pub(super) report: Option<Report>,
    pub(super) report_due_ms: u64,
    /// Good replicas in the block map.
    pub(super) listed: u64,
    /// Pipelines: as it said, and given to it since.
    pub(super) writers: u32,
    pub(super) writers_given: u32,
    pub(super) bytes_given: u64,
    pub(super) remaining_bytes: u64,
    pub(super) used_bytes: u64,
    pub(super) capacity_bytes: u64,
    /// Costs of copies under way.
    pub(super) outgoing_bytes: u64,
    pub(super) incoming_bytes: u64,
    /// What it must delete, by block, until it says that it did.
    pub(super) deletions: BTreeMap<u64, Deletion>,
    pub(super) unsent: VecDeque<u64>,
    /// (when, block), as they were sent. Those that were confirmed since are skipped.
    pub(super) sent: VecDeque<(u64, u64)>,
    /// Blocks of this pass that must be copied before it may leave.
    pub(super) undrained: u64,
}

impl Worker {
    pub(super) fn new(id: WorkerId, incarnation: Incarnation) -> Worker {
        Worker {
            id,
            incarnation,
            retired: VecDeque::new(),
            stream: 0,
            replica: namespace::Replica::default(),
            host: 0,
            rack: 0,
            volumes: Vec::new(),
            service: Service::Serving,
            presence: Presence::Lost,
            connected: false,
            settled: false,
            heard_ms: 0,
            born_ms: 0,
            fresh: false,
            report: None,
            report_due_ms: 0,
            listed: 0,
            writers: 0,
            writers_given: 0,
            bytes_given: 0,
            remaining_bytes: 0,
            used_bytes: 0,
            capacity_bytes: 0,
            outgoing_bytes: 0,
            incoming_bytes: 0,
            deletions: BTreeMap::new(),
            unsent: VecDeque::new(),
            sent: VecDeque::new(),
            undrained: 0,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        let lost = self.presence == Presence::Lost;
        match self.service {
            Service::Maintenance { .. } => Standing::Counted,
            _ if lost => Standing::Gone,
            Service::Decommissioning { .. } | Service::Decommissioned => Standing::Draining,
            Service::Serving if self.is_up() && self.fresh => Standing::Sure,
            Service::Serving => Standing::Counted,
        }
    }

    /// Whether orders reach it.
    pub(super) fn is_up(&self) -> bool {
        self.connected && self.presence == Presence::Live
    }

    /// Whether readers may be sent to it.
    pub(super) fn is_readable(&self) -> bool {
        self.presence != Presence::Lost
    }

    /// Whether new replicas may be put on it, if there is room.
    pub(super) fn takes_replicas(&self) -> bool {
        self.is_up() && self.settled && self.service == Service::Serving
    }

    /// Used bytes in thousandths of the capacity.
    pub(super) fn use_permille(&self) -> u64 {
        permille(self.used_bytes, self.capacity_bytes)
    }

    pub(super) fn set_volumes(&mut self, volumes: &[Volume]) {
        let sum = |of: fn(&Volume) -> u64| {
            volumes.iter().filter(|volume| !volume.failed).map(of).fold(0, u64::saturating_add)
        };
        self.capacity_bytes = sum(|volume| volume.capacity_bytes);
        self.used_bytes = sum(|volume| volume.used_bytes);
        self.remaining_bytes = sum(|volume| volume.remaining_bytes);
        self.volumes.clear();
        self.volumes.extend_from_slice(volumes);
    }

    pub(super) fn forget_deletions(&mut self) {
        self.deletions.clear();
        self.unsent.clear();
        self.sent.clear();
    }

    pub(super) fn replace_incarnation(&mut self, incarnation: Incarnation) {
        if self.retired.len() == RETIRED_MAX {
            self.retired.pop_front();
        }
        self.retired.push_back(self.incarnation);
        self.incarnation = incarnation;
    }

    pub(super) fn report(&self, now_ms: u64) -> namespace::WorkerReport {
        let state = match (self.service, self.presence) {
            (Service::Decommissioned, _) => "decommissioned",
            (Service::Decommissioning { .. }, _) => "decommissioning",
            (Service::Maintenance { .. }, _) => "maintenance",
            (Service::Serving, Presence::Live) if self.settled => "live",
            (Service::Serving, Presence::Live) => "joining",
            (Service::Serving, Presence::Suspect) => "suspect",
            (Service::Serving, Presence::Lost) => "lost",
        };
        let state = if self.presence == Presence::Lost { "lost" } else { state };
        namespace::WorkerReport {
            worker: self.id.0,
            address: self.replica.address.clone(),
            host: self.replica.host.clone(),
            rack: self.replica.rack.clone(),
            state: state.to_owned(),
            capacity_bytes: self.capacity_bytes,
            used_bytes: self.used_bytes,
            remaining_bytes: self.remaining_bytes,
            replicas: self.listed,
            failed_volumes: self.volumes.iter().filter(|volume| volume.failed).count() as u32,
            last_heartbeat_ms: now_ms.saturating_sub(self.heard_ms),
            version: PROTOCOL_VERSION,
        }
    }
}

pub(super) fn permille(part: u64, whole: u64) -> u64 {
    if whole == 0 { 1000 } else { (u128::from(part) * 1000 / u128::from(whole)) as u64 }
}

/// All workers this master has heard of, by slot.
#[derive(Debug, Default)]
pub(super) struct Roster {
    workers: Vec<Worker>,
    by_id: BTreeMap<WorkerId, Slot>,
    /// Numbers of hosts and racks by name.
    names: BTreeMap<String, u32>,
    /// Workers that take replicas, and their racks.
    pub(super) takers: usize,
    pub(super) racks: usize,
}

impl Roster {
    pub(super) fn slot(&self, worker: WorkerId) -> Option<Slot> {
        self.by_id.get(&worker).copied()
    }

    pub(super) fn by_incarnation(&self, incarnation: Incarnation) -> Option<Slot> {
        self.iter().find(|(_, worker)| worker.incarnation == incarnation).map(|(slot, _)| slot)
    }

    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    /// Takes a new one in. There must be room, and nobody with its id.
    pub(super) fn add(&mut self, worker: Worker) -> Slot {
        assert!(self.workers.len() < WORKERS_MAX, "more than {WORKERS_MAX} workers");
        let slot = self.workers.len() as Slot;
        let before = self.by_id.insert(worker.id, slot);
        assert!(before.is_none(), "{} is there already", worker.id);
        self.workers.push(worker);
        slot
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Worker)> {
        self.workers.iter().enumerate().map(|(slot, worker)| (slot as Slot, worker))
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        0..self.workers.len() as Slot
    }

    /// The number of a host or rack.
    pub(super) fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.insert(name.to_owned(), number);
        number
    }

    pub(super) fn known_number(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// Counts again, after a worker's presence or service changed.
    pub(super) fn recount(&mut self) {
        let takers = self.workers.iter().filter(|worker| worker.takes_replicas());
        let racks: BTreeSet<u32> = takers.clone().map(|worker| worker.rack).collect();
        (self.takers, self.racks) = (takers.count(), racks.len());
    }
}

impl Index<Slot> for Roster {
    type Output = Worker;

    fn index(&self, slot: Slot) -> &Worker {
        &self.workers[usize::from(slot)]
    }
}

impl IndexMut<Slot> for Roster {
    fn index_mut(&mut self, slot: Slot) -> &mut Worker {
        &mut self.workers[usize::from(slot)]
    }
}
