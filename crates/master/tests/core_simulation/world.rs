//! The world: a master that crashes, workers, streams between them, drivers, and chance.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash};

use gristmill_master::core::{Command, Core, CoreOptions, Event, SessionId};
use gristmill_proto::ids::{AttemptId, Epoch, JobId};
use gristmill_proto::job::JobSpec;
use gristmill_proto::job::job_status::State;
use gristmill_proto::job_record::{Record, record};

use crate::dice::Dice;
use crate::plans::{self, Readings};
use crate::store::Store;
use crate::worker::{Worker, stream_of};

#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Tick,
    Beat(usize),
    Work(usize),
    Start(usize),
    Mischief,
    Submit(JobId),
    /// To the master, on this stream, or from within it (0), of this epoch.
    Told(u64, u64, Box<Event>),
    Order(usize, u64, Box<Command>),
    Broken(u64),
}

pub(crate) struct World {
    pub(crate) seed: u64,
    dice: Dice,
    pub(crate) now_ms: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
    pub(crate) core: Core,
    pub(crate) epoch: u64,
    pub(crate) store: Store,
    pub(crate) workers: Vec<Worker>,
    pub(crate) sessions: u64,
    /// Streams that the master knows and has not refused.
    open: BTreeSet<u64>,
    /// When the last message of a stream arrives: (stream, to the master).
    last_ms: BTreeMap<(u64, bool), u64>,
    pub(crate) specs: BTreeMap<JobId, JobSpec>,
    pub(crate) fickle: BTreeSet<JobId>,
    admitted: BTreeSet<JobId>,
    pub(crate) launched: BTreeSet<AttemptId>,
    /// By task: a second one is journaled only after the loss of the first.
    winners: BTreeMap<(JobId, u32, u32), u32>,
    pub(crate) consumed: Readings,
    /// What was published, by job.
    pub(crate) published: BTreeMap<JobId, Vec<String>>,
    pub(crate) cleaned: BTreeSet<JobId>,
    pub(crate) quiet: bool,
    pub(crate) trace: DefaultHasher,
    is_told: bool,
    pub(crate) tally: BTreeMap<&'static str, u64>,
}

pub(crate) fn options() -> CoreOptions {
    CoreOptions { no_progress_ms: 15_000, no_worker_ms: 120_000, twins_min: 2, ..CoreOptions::default() }
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut world = World {
            seed,
            dice: Dice::new(seed),
            now_ms: 1,
            queue: BTreeMap::new(),
            queued: 0,
            core: Core::new(options(), Epoch(1)),
            epoch: 1,
            store: Store::default(),
            workers: Vec::new(),
            sessions: 0,
            open: BTreeSet::new(),
            last_ms: BTreeMap::new(),
            specs: BTreeMap::new(),
            fickle: BTreeSet::new(),
            admitted: BTreeSet::new(),
            launched: BTreeSet::new(),
            winners: BTreeMap::new(),
            consumed: BTreeMap::new(),
            published: BTreeMap::new(),
            cleaned: BTreeSet::new(),
            quiet: false,
            trace: DefaultHasher::new(),
            is_told: std::env::var_os("CORE_TOLD").is_some(),
            tally: BTreeMap::new(),
        };
        let cores = 1 + world.below(4) as usize;
        for at in 0..cores + world.below(3) as usize {
            let slots = 1 + world.below(3) as u32;
            let id = if at < cores { at as u64 + 1 } else { 0 };
            let slowness = if world.chance(200) { 10 } else { 1 };
            world.workers.push(Worker { id, is_core: at < cores, slots, slowness, ..Worker::default() });
            world.after(1, Happening::Start(at));
            let (beat, work) = (1 + world.below(1000), 1 + world.below(100));
            world.after(beat, Happening::Beat(at));
            world.after(work, Happening::Work(at));
        }
        world.plan_jobs();
        world.after(2, Happening::Tick);
        world.after(3_000, Happening::Mischief);
        world
    }

    fn plan_jobs(&mut self) {
        for job in 1..2 + self.below(4) as u8 {
            let mut tasks = vec![1 + self.below(20) as u32];
            for _ in 0..self.below(3) {
                tasks.push(1 + self.below(8) as u32);
            }
            let range = self.chance(400);
            let mut spec = plans::chain(job, &tasks, range);
            spec.queue = format!("q{}", self.below(2));
            spec.priority = self.below(2) as i32;
            let id = plans::id_of(&spec);
            if self.chance(100) {
                self.fickle.insert(id);
            }
            self.specs.insert(id, spec);
            let at = 1 + self.below(60_000);
            self.after(at, Happening::Submit(id));
        }
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

    fn remember(&mut self, what: &str) {
        if self.is_told {
            println!("{:>7} {what}", self.now_ms);
        }
        (self.now_ms, what).hash(&mut self.trace);
    }

    pub(crate) fn after(&mut self, delay_ms: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now_ms + delay_ms, self.queued), happening);
    }

    pub(crate) fn reaches(&self, at: usize) -> bool {
        self.workers[at].up && self.workers[at].cut_off_until_ms <= self.now_ms
    }

    /// Here nothing is lost between two workers that can talk.
    pub(crate) fn loses(&mut self) -> bool {
        false
    }

    /// In order on its stream, after a while.
    fn send(&mut self, stream: u64, to_master: bool, happening: Happening) {
        let delay_ms = 1 + self.below(if self.quiet { 20 } else { 300 });
        let last_ms = self.last_ms.entry((stream, to_master)).or_default();
        let time_ms = (self.now_ms + delay_ms).max(*last_ms);
        *last_ms = time_ms;
        self.queued += 1;
        self.queue.insert((time_ms, self.queued), happening);
    }

    /// A worker tells the master something.
    pub(crate) fn tell(&mut self, at: usize, event: Event) {
        let Some(session) = self.workers[at].session else { return };
        if self.reaches(at) {
            self.send(session, true, Happening::Told(session, self.epoch, Box::new(event)));
        }
    }

    /// An attempt does what it does with files, here nothing; a fickle one's map output is another each time.
    pub(crate) fn labour(&mut self, _: usize, attempt: AttemptId) -> Option<u64> {
        Some(if self.fickle.contains(&attempt.task.job) { self.below(3) } else { 0 })
    }

    /// The worker sees that its stream is over; the master some time later.
    pub(crate) fn break_stream(&mut self, at: usize) {
        if let Some(session) = self.workers[at].session.take() {
            self.send(session, true, Happening::Broken(session));
        }
    }

    pub(crate) fn step(&mut self) {
        let ((time_ms, _), happening) = self.queue.pop_first().expect("time goes on");
        self.now_ms = time_ms;
        if !matches!(happening, Happening::Work(_) | Happening::Tick) {
            self.remember(&format!("{happening:?}"));
        }
        match happening {
            Happening::Tick => {
                self.after(100, Happening::Tick);
                self.handle(Event::Tick { wall_ms: time_ms });
            }
            Happening::Beat(at) => {
                self.after(1000, Happening::Beat(at));
                self.beat(at);
            }
            Happening::Work(at) => {
                self.after(100, Happening::Work(at));
                self.work(at);
            }
            Happening::Start(at) => {
                self.workers[at].up = true;
                self.workers[at].life += 1;
                self.connect(at);
            }
            Happening::Mischief if self.quiet => {}
            Happening::Mischief => self.mischief(),
            Happening::Submit(job) => self.submit(job),
            Happening::Told(session, epoch, event) => self.hear(session, epoch, *event),
            Happening::Order(at, session, order) => {
                if self.workers[at].session == Some(session) && self.reaches(at) {
                    self.obey(at, *order);
                }
            }
            Happening::Broken(session) => {
                if self.open.remove(&session) {
                    self.handle(Event::Disconnected { session: SessionId(session) });
                }
            }
        }
    }

    fn hear(&mut self, session: u64, epoch: u64, event: Event) {
        if epoch != self.epoch {
            return;
        }
        if matches!(event, Event::Registered { .. }) {
            self.open.insert(session);
        }
        if session == 0 || self.open.contains(&session) {
            self.handle(event);
        }
    }

    /// A driver asks until it is answered.
    fn submit(&mut self, job: JobId) {
        if self.admitted.contains(&job) {
            return;
        }
        let spec = self.specs[&job].clone();
        let cores = self.workers.iter().filter(|worker| worker.is_core).count() as u64;
        let hints = plans::hints(spec.stages[0].tasks, cores);
        self.after(2_000, Happening::Submit(job));
        self.handle(Event::Submit { spec: Box::new(spec), hints, wall_ms: self.now_ms });
    }

    /// One turn of the master, which may die before or after it is durable.
    pub(crate) fn handle(&mut self, event: Event) {
        let mut out = Vec::new();
        self.core.handle(self.now_ms, event, &mut out);
        if let Err(wrong) = self.core.check() {
            panic!("seed {} at {} ms: {wrong}", self.seed, self.now_ms);
        }
        let dies = !self.quiet && !out.is_empty() && self.below(20_000) < 60;
        if dies && self.chance(500) {
            self.count("turn lost");
            return self.restart_master();
        }
        let (records, others): (Vec<Command>, Vec<Command>) =
            out.into_iter().partition(|command| matches!(command, Command::Persist(_)));
        for record in records {
            self.remember(&format!("{record:?}"));
            if let Command::Persist(record) = record {
                self.watch_winners(&record);
                self.store.write(record);
            }
        }
        if dies {
            self.count("turn durable and lost");
            return self.restart_master();
        }
        for command in others {
            self.carry_out(command);
        }
    }

    /// A task has one winner at a time.
    fn watch_winners(&mut self, record: &Record) {
        let task = |attempt: &Option<gristmill_proto::task::AttemptId>| {
            let attempt = AttemptId::from_wire(attempt.as_ref().expect("an attempt")).expect("whole");
            ((attempt.task.job, attempt.task.stage, attempt.task.task), attempt.number)
        };
        match &record.record {
            Some(record::Record::Won(won)) => {
                let (task, number) = task(&won.attempt);
                let former = self.winners.insert(task, number);
                assert_eq!(former, None, "seed {}: {task:?} has a second winner", self.seed);
            }
            Some(record::Record::Lost(lost)) => {
                let (task, number) = task(&lost.attempt);
                let former = self.winners.remove(&task);
                assert_eq!(former, Some(number), "seed {}: {task:?} loses another", self.seed);
            }
            _ => {}
        }
    }

    fn carry_out(&mut self, command: Command) {
        self.remember(&format!("{command:?}"));
        match command {
            Command::Admit { job, .. } => {
                self.admitted.insert(job);
            }
            Command::Refuse { job, refusal } => panic!("seed {}: {job} is refused: {refusal:?}", self.seed),
            Command::Stage(job) => {
                let fails = !self.quiet && self.chance(10);
                let result = if fails { Err("the output exists".to_owned()) } else { Ok(()) };
                self.send(0, true, Happening::Told(0, self.epoch, Box::new(Event::Staged { job, result })));
            }
            Command::Publish { job, manifest } => self.publish(job, &manifest),
            Command::Abort(job) => {
                assert!(!self.published.contains_key(&job), "seed {}: {job} is aborted after all", self.seed);
            }
            Command::Clean(job) => {
                self.cleaned.insert(job);
            }
            Command::Changed(_) => {}
            other => self.order(other),
        }
    }

    /// Exactly one attempt of each task, and all read the same.
    fn publish(&mut self, job: JobId, manifest: &str) {
        let parts = self.core.parts(job);
        let names: Vec<String> =
            parts.iter().map(|(_, file)| format!("{}/{}", file.attempt, file.name)).collect();
        let spec = &self.specs[&job];
        let last = spec.stages.last().expect("a stage");
        assert_eq!(names.len(), last.tasks as usize, "seed {}: parts of {job}", self.seed);
        let before = self.published.insert(job, names.clone());
        assert!(before.is_none_or(|before| before == names), "seed {}: {job} is published twice", self.seed);
        let stage = spec.stages.len() as u32 - 1;
        let of_job = self
            .consumed
            .iter()
            .filter(|(attempt, _)| attempt.task.job == job && attempt.task.stage == stage);
        let mut seen: BTreeMap<(u32, u32), Vec<u8>> = BTreeMap::new();
        for (_, read) in of_job
            .filter(|(attempt, _)| names.iter().any(|name| name.starts_with(&format!("{}/", attempt.name()))))
        {
            for (map, digest) in read {
                let first = seen.entry(*map).or_insert_with(|| digest.clone());
                assert_eq!(first, digest, "seed {}: {job} mixes outputs of {map:?}", self.seed);
            }
        }
        let report: gristmill_proto::report::Report = serde_json::from_str(manifest).expect("a report");
        let counted: Vec<u64> = report.counters.iter().map(|counter| counter.value).collect();
        assert_eq!(counted, plans::counters(spec), "seed {}: counters of {job}", self.seed);
        let event = Event::Published { job, result: Ok(()) };
        self.send(0, true, Happening::Told(0, self.epoch, Box::new(event)));
    }

    fn order(&mut self, order: Command) {
        let session = stream_of(&order);
        assert!(self.open.contains(&session), "seed {}: {order:?} is for no open stream", self.seed);
        if matches!(order, Command::RefuseWorker { .. }) {
            self.open.remove(&session);
        }
        if let Some(at) = self.workers.iter().position(|worker| worker.session == Some(session)) {
            self.send(session, false, Happening::Order(at, session, Box::new(order)));
        }
    }

    /// What this master has counted and the next one does not know.
    pub(crate) fn count_twins(&mut self) {
        let counts = self.core.counts();
        *self.tally.entry("twin launched").or_default() += counts.twins_launched;
        *self.tally.entry("twin won").or_default() += counts.twins_won;
    }

    pub(crate) fn restart_master(&mut self) {
        self.count_twins();
        self.epoch += 1;
        self.core = Core::new(options(), Epoch(self.epoch));
        for record in self.store.in_order() {
            self.core.restore(record);
        }
        self.open.clear();
        for worker in &mut self.workers {
            worker.session = None;
        }
        self.core.check().unwrap_or_else(|wrong| panic!("seed {}: restored: {wrong}", self.seed));
    }

    pub(crate) fn state(&self, job: JobId) -> Option<State> {
        self.core.status(job).map(|status| status.state())
    }

    pub(crate) fn all_ended(&self) -> bool {
        let is_over =
            |job: &JobId| matches!(self.state(*job), Some(State::Done | State::Failed | State::Killed));
        self.specs.keys().all(is_over)
    }
}
