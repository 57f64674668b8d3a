//! Workers come, are heard of, and go.

use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::refused::Reason;
use gristmill_proto::attendance::{Heartbeat, Refused, Register};
use gristmill_proto::ids::{ClusterId, Incarnation, WorkerId};
use gristmill_proto::namespace;
use gristmill_proto::namespace::set_worker_state::State;

use super::roster::{Presence, Service, Slot, WORKERS_MAX, Worker};
use super::{Attendant, Blocks, Decision, Outbox};

/// Ids that a master gives out start at its epoch times this, so that no two masters give out the same.
const IDS_PER_EPOCH: u64 = 100_000;
/// Longest host, rack, address or socket of a worker, in bytes. DNS names have 253, socket paths 107.
const NAME_BYTES_MAX: usize = 300;
/// Volumes of one worker.
const VOLUMES_MAX: usize = 256;

impl Blocks {
    /// A worker opens its stream. It is welcome: send it `Welcome`, then what is in `out`. Or it is refused: send that,
    /// and end the stream.
    ///
    /// An older stream of the worker is of no use any more: its next message is refused with REPLACED.
    pub fn register(
        &mut self,
        register: &Register,
        address: String,
        now_ms: u64,
        out: &mut Outbox,
    ) -> Result<Attendant, Refused> {
        self.observe(now_ms);
        let incarnation = self.check_register(register, &address)?;
        let slot = self.slot_for(register, incarnation)?;
        let (host, rack) = (self.roster.number(&register.host), self.roster.number(&register.rack));
        self.streams += 1;
        let (now_ms, stream) = (self.now_ms, self.streams);
        let worker = &mut self.roster[slot];
        worker.stream = stream;
        let reborn = worker.incarnation != incarnation;
        if reborn {
            worker.replace_incarnation(incarnation);
        }
        let id = worker.id;
        worker.replica = namespace::Replica {
            worker: id.0,
            address,
            host: register.host.clone(),
            rack: register.rack.clone(),
            socket: register.socket.clone(),
        };
        (worker.host, worker.rack) = (host, rack);
        worker.set_volumes(&register.volumes);
        (worker.writers, worker.writers_given, worker.bytes_given) = (0, 0, 0);
        (worker.presence, worker.connected, worker.heard_ms) = (Presence::Live, true, now_ms);
        (worker.fresh, worker.settled) = (false, false);
        if reborn || worker.born_ms == 0 {
            worker.born_ms = now_ms;
        }
        // It has dropped or carried out the orders of earlier streams; its report will tell which.
        worker.forget_deletions();
        self.roster.recount();
        if reborn {
            self.cancel_copies_of(slot);
        }
        self.want_report(slot);
        self.order_reports(out);
        self.ask_again(id, out);
        Ok(Attendant { worker: id, incarnation, stream })
    }

    /// A sign of life.
    pub fn heartbeat(&mut self, from: Attendant, heartbeat: &Heartbeat, now_ms: u64) -> Result<(), Refused> {
        let slot = self.attend(from, now_ms)?;
        if heartbeat.volumes.len() > VOLUMES_MAX {
            return Err(refused(Reason::Unspecified, format!("more than {VOLUMES_MAX} volumes")));
        }
        let worker = &mut self.roster[slot];
        worker.set_volumes(&heartbeat.volumes);
        worker.writers = heartbeat.writers;
        (worker.writers_given, worker.bytes_given) = (0, 0);
        Ok(())
    }

    /// The stream of this worker broke. It may come back; until then it gets nothing.
    pub fn disconnected(&mut self, from: Attendant, now_ms: u64) {
        self.observe(now_ms);
        let Some(slot) = self.roster.slot(from.worker) else { return };
        let worker = &mut self.roster[slot];
        if worker.stream == from.stream && worker.presence != Presence::Lost {
            (worker.connected, worker.presence) = (false, Presence::Suspect);
            self.roster.recount();
        }
    }

    /// What an operator wants of a worker, which may register later. This is soft state: a new master must be told again.
    pub fn set_worker_state(&mut self, worker: WorkerId, state: State, now_ms: u64) {
        self.observe(now_ms);
        match self.roster.slot(worker) {
            Some(slot) => self.serve_as(slot, state),
            None if state == State::InService => drop(self.awaited.remove(&worker)),
            None => drop(self.awaited.insert(worker, state)),
        }
    }

    fn serve_as(&mut self, slot: Slot, state: State) {
        let pass = self.sweep.next_pass();
        let until_ms = self.now_ms + self.options.maintenance_limit_ms;
        let worker = &mut self.roster[slot];
        worker.service = match (state, worker.service) {
            (State::InService, _) => Service::Serving,
            (State::Decommission, leaving @ (Service::Decommissioning { .. } | Service::Decommissioned)) => {
                leaving
            }
            (State::Decommission, _) => Service::Decommissioning { pass },
            (State::Maintenance, _) => Service::Maintenance { until_ms },
        };
        self.roster.recount();
        self.sweep.want();
    }

    /// Workers that are heard of, for [`default_replication`](super::default_replication).
    pub fn live_workers(&self) -> usize {
        self.roster.iter().filter(|(_, worker)| worker.presence != Presence::Lost).count()
    }

    /// Where other machines find the bulk listener of a worker that is not lost.
    pub fn bulk_address(&self, worker: WorkerId) -> Option<String> {
        let worker = &self.roster[self.roster.slot(worker)?];
        (worker.presence != Presence::Lost).then(|| worker.replica.address.clone())
    }

    /// The worker's place, if this message came on its newest stream. A sign of life.
    pub(super) fn attend(&mut self, from: Attendant, now_ms: u64) -> Result<Slot, Refused> {
        self.observe(now_ms);
        let slot = self.known_slot(from.worker)?;
        let now_ms = self.now_ms;
        let worker = &mut self.roster[slot];
        if worker.stream != from.stream {
            let detail = format!("{} has registered again since", from.worker);
            return Err(refused(Reason::Replaced, detail));
        }
        if worker.presence == Presence::Lost {
            let detail = format!("{} was silent for too long: register again", from.worker);
            return Err(refused(Reason::Fenced, detail));
        }
        worker.heard_ms = now_ms;
        // A word on a stream that was said to be broken: it was said too early.
        if !worker.is_up() || !worker.settled {
            (worker.connected, worker.presence, worker.settled) = (true, Presence::Live, true);
            self.roster.recount();
            // Its replicas are sure again.
            self.sweep.want();
        }
        Ok(slot)
    }

    pub(super) fn known_slot(&self, worker: WorkerId) -> Result<Slot, Refused> {
        let unknown = || refused(Reason::UnknownWorker, format!("{worker} has not registered here"));
        self.roster.slot(worker).ok_or_else(unknown)
    }

    /// Who is silent becomes suspect, then lost. Maintenance ends.
    pub(super) fn watch_workers(&mut self, out: &mut Outbox) {
        let (mut changed, mut left) = (false, Vec::new());
        for slot in self.roster.slots() {
            let worker = &mut self.roster[slot];
            if let Service::Maintenance { until_ms } = worker.service
                && until_ms <= self.now_ms
            {
                worker.service = Service::Serving;
                out.decisions.push(Decision::MaintenanceOver { worker: worker.id });
                (changed, _) = (true, self.sweep.want());
            }
            let silent_ms = self.now_ms.saturating_sub(worker.heard_ms);
            let presence = match worker.presence {
                Presence::Lost => Presence::Lost,
                _ if silent_ms >= self.options.lost_after_ms => Presence::Lost,
                _ if silent_ms >= self.options.suspect_after_ms => Presence::Suspect,
                presence => presence,
            };
            if presence != worker.presence {
                (worker.presence, changed) = (presence, true);
                if presence == Presence::Lost {
                    left.push(slot);
                }
            }
        }
        if changed {
            self.roster.recount();
        }
        for slot in left {
            self.lose(slot);
        }
    }

    fn lose(&mut self, slot: Slot) {
        let worker = &mut self.roster[slot];
        (worker.connected, worker.fresh) = (false, false);
        worker.forget_deletions();
        self.drop_report(slot);
        self.cancel_copies_of(slot);
        self.sweep.want();
    }

    fn check_register(&self, register: &Register, address: &str) -> Result<Incarnation, Refused> {
        if register.version != PROTOCOL_VERSION {
            let detail = format!("this master speaks version {PROTOCOL_VERSION}, not {}", register.version);
            return Err(refused(Reason::WrongVersion, detail));
        }
        let own = ClusterId::from_wire(&register.cluster_id) == Some(self.cluster);
        // An id was given out by some master: that of its cluster.
        let is_new = register.cluster_id.is_empty() && register.worker == 0;
        if !own && !is_new {
            let detail = format!("this is cluster {}, the worker's disks are of another", self.cluster);
            return Err(refused(Reason::WrongCluster, detail));
        }
        let names = [address, &register.host, &register.rack, &register.socket];
        if names.iter().any(|name| name.len() > NAME_BYTES_MAX) || register.volumes.len() > VOLUMES_MAX {
            let detail = format!(
                "a name is longer than {NAME_BYTES_MAX} bytes, or there are more than {VOLUMES_MAX} volumes"
            );
            return Err(refused(Reason::Unspecified, detail));
        }
        Incarnation::from_wire(&register.incarnation)
            .ok_or_else(|| refused(Reason::Unspecified, "an incarnation has 16 bytes".to_owned()))
    }

    /// The worker's place: its old one if it is known, else a new one.
    fn slot_for(&mut self, register: &Register, incarnation: Incarnation) -> Result<Slot, Refused> {
        let known = match register.worker {
            // The same process again: it never got its id.
            0 => self.roster.by_incarnation(incarnation),
            id => self.roster.slot(WorkerId(id)),
        };
        if let Some(slot) = known {
            let worker = &self.roster[slot];
            if worker.retired.contains(&incarnation) {
                let detail = format!("a later process has registered as {}", worker.id);
                return Err(refused(Reason::Replaced, detail));
            }
            return Ok(slot);
        }
        if self.roster.len() == WORKERS_MAX {
            let detail = format!("this master has seen {WORKERS_MAX} workers and takes no more");
            return Err(refused(Reason::Unspecified, detail));
        }
        let id = match register.worker {
            0 => self.new_id(),
            id => WorkerId(id),
        };
        let slot = self.roster.add(Worker::new(id, incarnation));
        if let Some(state) = self.awaited.remove(&id) {
            self.serve_as(slot, state);
        }
        Ok(slot)
    }

    fn new_id(&mut self) -> WorkerId {
        loop {
            self.named += 1;
            let id = WorkerId(self.epoch.0.wrapping_mul(IDS_PER_EPOCH).wrapping_add(self.named));
            if id != WorkerId(0) && self.roster.slot(id).is_none() {
                return id;
            }
        }
    }
}

pub(super) fn refused(reason: Reason, detail: String) -> Refused {
    Refused { reason: reason.into(), detail }
}
