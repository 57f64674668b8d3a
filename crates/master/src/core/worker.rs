//! The workers: their streams, their leases, their slots.
//!
//! ```text
//!   registers ──> Live ──silent──> Suspect ──silent──> Lost ──> forgotten
//!                  ^───────heard──────+                 |
//!                  ^────────────────registers again─────+
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use gristmill_proto::ids::{AttemptId, Incarnation, JobId, WorkerId};
use gristmill_proto::task::Holder;
use gristmill_proto::task::register::Role;

use super::event::SessionId;

/// Core workers that a task worker may give a map output to.
const KEEPERS_MAX: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Live,
    Suspect,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Serving,
    /// Gets no more attempts.
    Draining,
    /// Has no attempts and no map output that somebody needs.
    Drained,
}

/// An attempt that has a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) started_ms: u64,
    pub(super) started_wall_ms: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// When a heartbeat last named it, or it was launched.
    pub(super) listed_ms: u64,
    /// It is to end: it does no task any more.
    pub(super) killed_ms: Option<u64>,
    /// Its worker named it; it may have ended, and be told so.
    pub(super) is_adopted: bool,
    /// It had its input near it.
    pub(super) is_near: bool,
}

impl Running {
    /// One that begins now.
    pub(super) fn begun(now_ms: u64, wall_ms: u64) -> Running {
        Running {
            started_ms: now_ms,
            started_wall_ms: wall_ms,
            records: 0,
            bytes: 0,
            listed_ms: now_ms,
            killed_ms: None,
            is_adopted: false,
            is_near: false,
        }
    }
}

/// Map outputs that a worker which registered must name, or they are gone.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) pages_left: u32,
    pub(super) outputs: BTreeSet<AttemptId>,
    pub(super) confirmed: Vec<AttemptId>,
    /// Those that it names are told again: where they are has changed.
    pub(super) is_new: bool,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) incarnation: Incarnation,
    pub(super) role: Role,
    pub(super) slots: u32,
    pub(super) memory_bytes: u64,
    pub(super) host: String,
    pub(super) rack: u32,
    pub(super) address: String,
    pub(super) pid: u32,
    /// Attempts on it that were slow, of all jobs so far.
    pub(super) slow_attempts: u64,
    pub(super) session: Option<SessionId>,
    pub(super) heard_ms: u64,
    pub(super) presence: Presence,
    /// It drains because it was told that it will vanish, by no order of the master.
    pub(super) is_leaving: bool,
    pub(super) service: Service,
    pub(super) running: BTreeMap<AttemptId, Running>,
    /// Jobs started on this stream.
    pub(super) started: BTreeSet<JobId>,
    /// Jobs of which it may have files.
    pub(super) told: BTreeSet<JobId>,
    pub(super) doubt: Option<Doubt>,
    /// Since when a free slot of it waits for a task that is near.
    pub(super) waits_since_ms: u64,
    /// As it stands in the roster's sets.
    free_at: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Roster {
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// Open streams; those of lost workers are refused when they say something.
    sessions: BTreeMap<SessionId, WorkerId>,
    fenced: BTreeMap<SessionId, WorkerId>,
    racks: BTreeMap<String, u32>,
    /// Workers with a free slot, by the number of attempts they run.
    free: BTreeSet<(u32, WorkerId)>,
    /// Workers that may get attempts, though perhaps not at this moment.
    usable: BTreeSet<WorkerId>,
    /// Core workers that can take map outputs, by rack.
    keepers: BTreeMap<u32, BTreeSet<WorkerId>>,
    last_keeper: u64,
}

/// Whose stream it is.
pub(super) enum Attendance {
    Open(WorkerId),
    Fenced,
    Closed,
}

impl Worker {
    pub(super) fn new(incarnation: Incarnation, role: Role) -> Worker {
        Worker {
            incarnation,
            role,
            slots: 0,
            memory_bytes: 0,
            host: String::new(),
            rack: 0,
            address: String::new(),
            pid: 0,
            slow_attempts: 0,
            session: None,
            heard_ms: 0,
            presence: Presence::Live,
            is_leaving: false,
            service: Service::Serving,
            running: BTreeMap::new(),
            started: BTreeSet::new(),
            told: BTreeSet::new(),
            doubt: None,
            waits_since_ms: 0,
            free_at: None,
        }
    }

    pub(super) fn free_slots(&self) -> u32 {
        let takes =
            self.presence == Presence::Live && self.service == Service::Serving && self.session.is_some();
        if takes { self.slots.saturating_sub(self.running.len() as u32) } else { 0 }
    }

    /// It may come to have a free slot by itself.
    fn is_usable(&self) -> bool {
        self.presence != Presence::Lost && self.service == Service::Serving && self.slots > 0
    }
}

impl Roster {
    pub(super) fn get(&self, worker: WorkerId) -> Option<&Worker> {
        self.workers.get(&worker)
    }

    /// A worker that is known to be there.
    pub(super) fn known(&mut self, worker: WorkerId) -> &mut Worker {
        self.workers.get_mut(&worker).expect("the core has this worker")
    }

    pub(super) fn session_of(&self, worker: WorkerId) -> Option<SessionId> {
        self.workers.get(&worker)?.session
    }

    pub(super) fn attendance(&self, session: SessionId) -> Attendance {
        match self.sessions.get(&session) {
            Some(worker) => Attendance::Open(*worker),
            None if self.fenced.contains_key(&session) => Attendance::Fenced,
            None => Attendance::Closed,
        }
    }

    pub(super) fn open(&mut self, session: SessionId, worker: WorkerId) {
        self.sessions.insert(session, worker);
        self.known(worker).session = Some(session);
    }

    /// The stream is over; nothing more is said on it. Whose it was.
    pub(super) fn close(&mut self, session: SessionId) -> Option<WorkerId> {
        self.fenced.remove(&session);
        let worker = self.sessions.remove(&session)?;
        self.known(worker).session = None;
        Some(worker)
    }

    /// The stream is not over, but what comes on it does not count.
    pub(super) fn fence(&mut self, session: SessionId) {
        if let Some(worker) = self.close(session) {
            self.fenced.insert(session, worker);
        }
    }

    pub(super) fn rack(&mut self, name: &str) -> u32 {
        let next = self.racks.len() as u32;
        *self.racks.entry(name.to_owned()).or_insert(next)
    }

    pub(super) fn rack_name(&self, rack: u32) -> &str {
        self.racks.iter().find(|(_, number)| **number == rack).map_or("", |(name, _)| name)
    }

    /// Puts the worker where it belongs after a change.
    pub(super) fn refresh(&mut self, id: WorkerId) {
        let worker = self.workers.get_mut(&id).expect("the core has this worker");
        let free_at = (worker.free_slots() > 0).then_some(worker.running.len() as u32);
        if worker.free_at != free_at {
            if let Some(running) = std::mem::replace(&mut worker.free_at, free_at) {
                self.free.remove(&(running, id));
            }
            if let Some(running) = free_at {
                self.free.insert((running, id));
            }
        }
        let (is_usable, rack) = (worker.is_usable(), worker.rack);
        let keeps = worker.role == Role::Core
            && worker.presence == Presence::Live
            && worker.service == Service::Serving
            && worker.session.is_some();
        if is_usable != self.usable.contains(&id) && !self.usable.remove(&id) {
            self.usable.insert(id);
        }
        let keepers = self.keepers.entry(rack).or_default();
        if keeps != keepers.contains(&id) && !keepers.remove(&id) {
            keepers.insert(id);
        }
    }

    /// Before the worker moves to another rack, or is forgotten.
    pub(super) fn withdraw(&mut self, id: WorkerId) {
        let worker = self.workers.get_mut(&id).expect("the core has this worker");
        if let Some(running) = worker.free_at.take() {
            self.free.remove(&(running, id));
        }
        self.usable.remove(&id);
        if let Some(keepers) = self.keepers.get_mut(&worker.rack) {
            keepers.remove(&id);
        }
    }

    pub(super) fn forget(&mut self, id: WorkerId) {
        self.withdraw(id);
        self.workers.remove(&id);
        self.fenced.retain(|_, worker| *worker != id);
    }

    /// The least busy first.
    pub(super) fn free(&self) -> impl Iterator<Item = WorkerId> {
        self.free.iter().map(|(_, worker)| *worker)
    }

    pub(super) fn usable(&self) -> &BTreeSet<WorkerId> {
        &self.usable
    }

    /// Rack of a worker that attempts may be near to.
    pub(super) fn rack_of_usable(&self, worker: WorkerId) -> Option<u32> {
        self.usable.contains(&worker).then(|| self.workers[&worker].rack)
    }

    pub(super) fn is_here(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|worker| worker.presence != Presence::Lost)
    }

    pub(super) fn open_sessions(&self) -> impl Iterator<Item = (SessionId, WorkerId)> {
        self.sessions.iter().map(|(session, worker)| (*session, *worker))
    }

    /// Core workers that a task worker in `rack` may give its map output to: near ones first, in turn.
    pub(super) fn keepers(&mut self, rack: u32) -> Vec<Holder> {
        let mut chosen: Vec<WorkerId> = Vec::new();
        let others = self.keepers.keys().copied().filter(|other| *other != rack);
        for rack in [rack].into_iter().chain(others) {
            let Some(workers) = self.keepers.get(&rack) else { continue };
            let after = (Bound::Excluded(WorkerId(self.last_keeper)), Bound::Unbounded);
            let turn = workers.range(after).chain(workers.range(..=WorkerId(self.last_keeper)));
            chosen.extend(turn.copied().take(KEEPERS_MAX - chosen.len()));
            if chosen.len() == KEEPERS_MAX {
                break;
            }
        }
        self.last_keeper = chosen.first().map_or(0, |worker| worker.0);
        chosen.into_iter().map(|worker| self.holder(worker)).collect()
    }

    pub(super) fn holder(&self, worker: WorkerId) -> Holder {
        let address = self.workers.get(&worker).map_or(String::new(), |worker| worker.address.clone());
        Holder { worker: worker.0, address }
    }
}
