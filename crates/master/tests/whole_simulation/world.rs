//! The world: one master, machines, the network between them, a driver, and chance; all in one order of virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash};

use gristmill_master::core::{Command, Core, Event};
use gristmill_proto::attendance::order::Order;
use gristmill_proto::ids::{AttemptId, ClientId, JobId};
use gristmill_proto::job::JobSpec;
use gristmill_proto::namespace::answer::Outcome;

use crate::attendance::{Notice, Page};
use crate::dfs::{Dfs, Node};
use crate::dice::Dice;
use crate::driver::Driver;
use crate::oracle::Oracle;
use crate::plans::Readings;
use crate::publisher::Work;
use crate::script::{Flaw, Planned, Point};
use crate::store::Store;
use crate::words::Counts;
use crate::worker::Worker;
use crate::writer::{Author, Call, Writer};

/// A message on a stream takes at most so long while there are faults,
const STREAM_DELAY_MS: u64 = 300;
/// and a call, which may be overtaken by later ones,
const CALL_DELAY_MS: u64 = 1_500;
/// and any message when it is quiet.
const QUIET_DELAY_MS: u64 = 20;
/// Of the reference job: dice by which no attempt takes long.
const REFERENCE_SEED: u64 = 3;
/// And workers of a slot each, of which the last has no blocks.
const REFERENCE_WORKERS: usize = 4;
/// What happened last, as a failing seed prints it.
const TRACE_LINES: usize = 300;

#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Tick,
    Beat(usize),
    Work(usize),
    Start(usize),
    MasterStarts,
    Mischief,
    Drive,
    /// To the core, on this stream, or from within the master (0), of this epoch.
    Told(u64, u64, Box<Event>),
    Order(usize, u64, Box<Command>),
    Broken(u64),
    /// The publisher goes on with this job, under this epoch.
    Outputs(JobId, u64),
    Call(Box<Call>),
    Answer(Author, ClientId, u64, Box<Outcome>),
    Notice(usize, u64, Box<Notice>),
    /// None: a heartbeat was heard.
    BlockOrder(usize, u64, Option<Box<Order>>),
    Fenced(usize, u64),
    Left(u64),
    ReadPage(usize, u64, u64, u64),
    Page(usize, Box<Page>),
    Copied(usize, usize, u64, u64),
    /// A stream of this worker breaks.
    Severed(usize, u64),
}

pub(crate) struct World {
    pub(crate) seed: u64,
    dice: Dice,
    pub(crate) now_ms: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
    /// None: the master is down.
    pub(crate) core: Option<Core>,
    pub(crate) epoch: u64,
    pub(crate) store: Store,
    pub(crate) master_stuck_until_ms: u64,
    pub(crate) dfs: Dfs,
    /// What the publisher has to do, by job.
    pub(crate) outputs: BTreeMap<JobId, VecDeque<Work>>,
    pub(crate) workers: Vec<Worker>,
    /// By worker: until when nothing that it says arrives, and until when nothing arrives at it.
    pub(crate) mute_until_ms: Vec<u64>,
    pub(crate) deaf_until_ms: Vec<u64>,
    pub(crate) sessions: u64,
    /// Streams that the core knows and has not refused.
    pub(crate) open: BTreeSet<u64>,
    /// The stream of each worker that the core has welcomed last.
    pub(crate) welcomed: BTreeMap<u64, u64>,
    /// When the last message of a stream arrives: (stream, to the master).
    last_ms: BTreeMap<(u64, bool), u64>,
    pub(crate) driver: Driver,
    pub(crate) writers: BTreeMap<Author, Writer>,
    pub(crate) specs: BTreeMap<JobId, JobSpec>,
    pub(crate) launched: BTreeSet<AttemptId>,
    pub(crate) consumed: Readings,
    /// What maps made of their input, by the digest of it.
    pub(crate) counts: BTreeMap<Vec<u8>, Counts>,
    pub(crate) oracle: Oracle,
    pub(crate) quiet: bool,
    pub(crate) trace: DefaultHasher,
    lines: VecDeque<String>,
    is_told: bool,
    pub(crate) tally: BTreeMap<&'static str, u64>,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut world = World::empty(seed);
        world.found();
        world
    }

    /// One small job, in which just these faults happen.
    pub(crate) fn reference(faults: &[Planned]) -> World {
        let mut world = World::empty(REFERENCE_SEED);
        world.quiet = true;
        world.dfs.plan_faults(faults);
        for at in 0..REFERENCE_WORKERS {
            world.add_worker(at, 1, at + 1 < REFERENCE_WORKERS);
        }
        world.plan_reference();
        world.set_off();
        world
    }

    fn empty(seed: u64) -> World {
        World {
            seed,
            dice: Dice::new(seed),
            now_ms: 1,
            queue: BTreeMap::new(),
            queued: 0,
            core: None,
            epoch: 0,
            store: Store::default(),
            master_stuck_until_ms: 0,
            dfs: Dfs::default(),
            outputs: BTreeMap::new(),
            workers: Vec::new(),
            mute_until_ms: Vec::new(),
            deaf_until_ms: Vec::new(),
            sessions: 0,
            open: BTreeSet::new(),
            welcomed: BTreeMap::new(),
            last_ms: BTreeMap::new(),
            driver: Driver::default(),
            writers: BTreeMap::new(),
            specs: BTreeMap::new(),
            launched: BTreeSet::new(),
            consumed: Readings::new(),
            counts: BTreeMap::new(),
            oracle: Oracle::default(),
            quiet: false,
            trace: DefaultHasher::new(),
            lines: VecDeque::new(),
            is_told: std::env::var_os("WHOLE_TOLD").is_some(),
            tally: BTreeMap::new(),
        }
    }

    /// Machines, the input, and what begins.
    fn found(&mut self) {
        let cores = 3 + self.below(3) as usize;
        for at in 0..cores + self.below(3) as usize {
            let slots = 1 + self.below(2) as u32;
            self.add_worker(at, slots, at < cores);
        }
        self.plan_driver();
        self.set_off();
        self.after(2_000, Happening::Mischief);
    }

    fn add_worker(&mut self, at: usize, slots: u32, is_core: bool) {
        let id = if is_core { at as u64 + 1 } else { 0 };
        self.workers.push(Worker { id, is_core, slots, slowness: 1, ..Worker::default() });
        self.dfs.nodes.push(Node::default());
        self.mute_until_ms.push(0);
        self.deaf_until_ms.push(0);
        self.after(2, Happening::Start(at));
        let (beat, work) = (3 + self.below(1000), 3 + self.below(100));
        self.after(beat, Happening::Beat(at));
        self.after(work, Happening::Work(at));
    }

    fn set_off(&mut self) {
        self.after(0, Happening::MasterStarts);
        self.after(1, Happening::Tick);
        self.after(1_500, Happening::Drive);
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.dice.below(end)
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
        if self.lines.len() == TRACE_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>7} {what}", self.now_ms));
    }

    /// What happened last.
    pub(crate) fn story(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    pub(crate) fn after(&mut self, delay_ms: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now_ms + delay_ms, self.queued), happening);
    }

    fn delay_ms(&mut self, faulty_ms: u64) -> u64 {
        1 + self.below(if self.quiet { QUIET_DELAY_MS } else { faulty_ms })
    }

    /// Whether what the worker says arrives anywhere.
    pub(crate) fn speaks(&self, at: usize) -> bool {
        let worker = &self.workers[at];
        worker.up
            && worker.cut_off_until_ms.max(worker.stuck_until_ms).max(self.mute_until_ms[at]) <= self.now_ms
    }

    /// Whether anything arrives at the worker.
    pub(crate) fn hears(&self, at: usize) -> bool {
        let worker = &self.workers[at];
        worker.up && worker.cut_off_until_ms.max(self.deaf_until_ms[at]) <= self.now_ms
    }

    /// Whether another worker can talk to this one.
    pub(crate) fn reaches(&self, at: usize) -> bool {
        self.speaks(at) && self.hears(at)
    }

    /// Whether a client, on a worker or elsewhere, and a worker can talk.
    pub(crate) fn meets(&self, from: Option<usize>, to: usize) -> bool {
        self.workers[to].up
            && (from == Some(to) || self.reaches(to) && from.is_none_or(|at| self.reaches(at)))
    }

    /// In order on its stream, after a while; a partition holds it up.
    pub(crate) fn send(&mut self, at: usize, stream: u64, to_master: bool, happening: Happening) {
        let is_end = matches!(happening, Happening::Broken(_) | Happening::Left(_) | Happening::Severed(..));
        match if is_end { None } else { self.dfs.fault(Point::Message) } {
            None => self.put_on_stream(at, stream, to_master, happening),
            Some(Flaw::Before) => self.sever(at, stream),
            Some(_) => {
                self.put_on_stream(at, stream, to_master, happening);
                self.put_on_stream(at, stream, to_master, Happening::Severed(at, stream));
            }
        }
    }

    fn put_on_stream(&mut self, at: usize, stream: u64, to_master: bool, happening: Happening) {
        let delay_ms = self.delay_ms(STREAM_DELAY_MS);
        let partition_ms = if to_master { self.mute_until_ms[at] } else { self.deaf_until_ms[at] };
        let last_ms = self.last_ms.entry((stream, to_master)).or_default();
        let time_ms = (self.now_ms.max(partition_ms) + delay_ms).max(*last_ms);
        *last_ms = time_ms;
        self.queued += 1;
        self.queue.insert((time_ms, self.queued), happening);
    }

    /// On no stream: it may be lost, come twice, late, or before what was sent earlier.
    pub(crate) fn send_loosely(&mut self, happening: Happening) {
        let delay_ms = self.delay_ms(CALL_DELAY_MS);
        match self.dfs.fault(Point::Call) {
            None => {}
            Some(Flaw::Twice) => self.after(delay_ms + CALL_DELAY_MS, happening.clone()),
            Some(Flaw::Late) => return self.after(delay_ms + 10 * CALL_DELAY_MS, happening),
            Some(_) => return self.count("call lost"),
        }
        if !self.quiet {
            match self.below(100) {
                0..4 => return self.count("call lost"),
                4..8 => {
                    self.count("call twice");
                    let again_ms = self.delay_ms(5 * CALL_DELAY_MS);
                    self.after(again_ms, happening.clone());
                }
                8..10 => {
                    self.count("call late");
                    return self.after(delay_ms + 10 * CALL_DELAY_MS, happening);
                }
                _ => {}
            }
        }
        self.after(delay_ms, happening);
    }

    /// From within the master to its core.
    pub(crate) fn tell_core(&mut self, event: Event) {
        let delay_ms = self.delay_ms(STREAM_DELAY_MS);
        self.after(delay_ms, Happening::Told(0, self.epoch, Box::new(event)));
    }

    /// A worker tells the core something.
    pub(crate) fn tell(&mut self, at: usize, event: Event) {
        let Some(session) = self.workers[at].session else { return };
        let worker = &self.workers[at];
        if worker.up && worker.cut_off_until_ms.max(worker.stuck_until_ms) <= self.now_ms {
            self.send(at, session, true, Happening::Told(session, self.epoch, Box::new(event)));
        }
    }

    /// The worker sees that its stream is over; the master some time later.
    pub(crate) fn break_stream(&mut self, at: usize) {
        if let Some(session) = self.workers[at].session.take() {
            self.send(at, session, true, Happening::Broken(session));
        }
    }

    /// A stream of the worker breaks, if it is not over.
    fn sever(&mut self, at: usize, stream: u64) {
        if self.workers[at].session == Some(stream) {
            self.break_stream(at);
        }
        if self.dfs.nodes[at].stream == Some(stream) {
            self.leave(at);
        }
    }

    /// What happens next, happens.
    pub(crate) fn step(&mut self) {
        let ((time_ms, turn), happening) = self.queue.pop_first().expect("time goes on");
        self.now_ms = time_ms;
        if let Some(until_ms) = self.held_until_ms(&happening) {
            // In its old turn: a stream keeps its order, also through a pause within a pause.
            self.queue.insert((until_ms, turn), happening);
            return;
        }
        if !matches!(happening, Happening::Work(_) | Happening::Tick | Happening::Drive) {
            self.remember(&format!("{happening:?}"));
        }
        match happening {
            Happening::Tick => self.tick(),
            Happening::Beat(at) => {
                self.after(1000, Happening::Beat(at));
                if self.workers[at].stuck_until_ms <= self.now_ms {
                    self.beat(at);
                    self.attend(at);
                }
            }
            Happening::Work(at) => {
                self.after(100, Happening::Work(at));
                self.work(at);
                self.bury_writers(at);
            }
            Happening::Start(at) => {
                let worker = &mut self.workers[at];
                (worker.up, worker.life, worker.stuck_until_ms) = (true, worker.life + 1, 0);
                self.connect(at);
            }
            Happening::MasterStarts => self.start_master(),
            Happening::Mischief if self.quiet => {}
            Happening::Mischief => self.mischief(),
            Happening::Drive => self.drive(),
            Happening::Told(session, epoch, event) => self.hear(session, epoch, *event),
            Happening::Broken(session) => self.broken(session),
            Happening::Outputs(job, epoch) => self.work_on_outputs(job, epoch),
            Happening::Call(call) => self.take_call(*call),
            Happening::Answer(author, client, sequence, outcome) => {
                self.hear_answer(author, client, sequence, *outcome);
            }
            Happening::Notice(at, stream, notice) => self.take_notice(at, stream, *notice),
            Happening::Left(stream) => self.left(stream),
            Happening::Severed(at, stream) => self.sever(at, stream),
            Happening::Page(at, page) => self.take_page(at, &page),
            Happening::ReadPage(at, life, report, first) => self.read_page(at, life, report, first),
            Happening::Copied(source, target, block, generation) => {
                self.end_copy(source, target, block, generation);
            }
            order => self.arrive(order),
        }
    }

    /// Something arrives at a worker.
    fn arrive(&mut self, order: Happening) {
        match order {
            Happening::Order(at, session, order) if self.workers[at].session == Some(session) => {
                self.obey(at, *order);
            }
            Happening::BlockOrder(at, stream, order) => {
                self.obey_blocks(at, stream, order.map(|order| *order));
            }
            Happening::Fenced(at, stream) if self.dfs.nodes[at].stream == Some(stream) => {
                self.dfs.nodes[at].stream = None;
            }
            _ => {}
        }
    }

    /// Until when a paused process leaves this alone, or a partition keeps it from its end of the stream.
    fn held_until_ms(&self, happening: &Happening) -> Option<u64> {
        let until_ms = match happening {
            Happening::Order(at, ..) | Happening::BlockOrder(at, ..) | Happening::Fenced(at, _) => {
                self.workers[*at].stuck_until_ms.max(self.deaf_until_ms[*at])
            }
            Happening::ReadPage(at, ..) => self.workers[*at].stuck_until_ms,
            Happening::Tick
            | Happening::Told(..)
            | Happening::Broken(_)
            | Happening::Outputs(..)
            | Happening::Call(_)
            | Happening::Notice(..)
            | Happening::Left(_)
            | Happening::Page(..) => self.master_stuck_until_ms,
            _ => 0,
        };
        (until_ms > self.now_ms).then_some(until_ms)
    }
}
