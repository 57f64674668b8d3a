//! The simulated network: streams that keep their order until they break, late leftovers of broken ones, and lost orders.

use std::collections::BTreeMap;

use gristmill_dfs::namenode::blocks::Attendant;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::{Heartbeat, Register, ReplicaInfo, Stopped};

/// What arrives somewhere.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// At the master, from a worker's stream of this number.
    Notice { worker: usize, stream: u64, notice: Notice },
    /// At a worker.
    Order { worker: usize, stream: u64, order: Order },
    /// At the master: a slice of a report.
    Slice {
        worker: usize,
        report_id: u64,
        first: u64,
        last: u64,
        replicas: Vec<ReplicaInfo>,
        incarnation: u64,
    },
    /// The worker reads its next slice.
    ReadSlice { worker: usize, incarnation: u64, report_id: u64, first: u64 },
    /// A copy ends at its target.
    CopyEnds { source: usize, target: usize, block: u64, generation: u64 },
    /// The writer of a block goes on.
    Writer { block: u64 },
    /// The worker's process does what it does every second.
    Beat { worker: usize, incarnation: u64 },
    /// The worker's process is back.
    Start { worker: usize },
    /// The master hears that a stream broke.
    Broken { attendant: Attendant },
    /// Chance does something bad.
    Mischief,
    /// Time passes for the master.
    Tick,
}

#[derive(Clone, Debug)]
pub(crate) enum Notice {
    Register(Register),
    Heartbeat(Heartbeat),
    Finished(Vec<ReplicaInfo>),
    Deleted(Vec<ReplicaInfo>),
    Bad(Vec<ReplicaInfo>),
    Stopped(Stopped),
}

/// Events in the order of their times.
#[derive(Default)]
pub(crate) struct Events {
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    /// When the last message of each direction of each stream arrives: the next does not overtake it.
    last: BTreeMap<(bool, usize, u64), u64>,
}

impl Events {
    pub(crate) fn at(&mut self, time_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((time_ms, self.sequence), event);
    }

    /// In order with others of the stream.
    pub(crate) fn in_order(
        &mut self,
        time_ms: u64,
        to_master: bool,
        worker: usize,
        stream: u64,
        event: Event,
    ) {
        let last = self.last.entry((to_master, worker, stream)).or_default();
        *last = (*last).max(time_ms);
        let time_ms = *last;
        self.at(time_ms, event);
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        self.queue.pop_first().map(|((time_ms, _), event)| (time_ms, event))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Event> {
        self.queue.values()
    }
}
