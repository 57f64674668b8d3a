//! A worker: it obeys, runs attempts that take some time, holds map outputs, and tells what has ended until it is heard.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_master::core::{Command, Event, Joining, SessionId, TaskReport};
use gristmill_proto::ids::{AttemptId, CUT_BIT, Incarnation, JobId, WorkerId};
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::register::Role;
use gristmill_proto::task::{
    AttemptFailure, AttemptProgress, FetchFailed, HeldOutput, Launch, OutputEntry, fetch_failed, refused,
};

use crate::plans;
use crate::world::World;

#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) id: u64,
    pub(crate) is_core: bool,
    pub(crate) slots: u32,
    pub(crate) up: bool,
    pub(crate) life: u64,
    pub(crate) session: Option<u64>,
    pub(crate) welcome: bool,
    pub(crate) heard_ms: u64,
    pub(crate) cut_off_until_ms: u64,
    pub(crate) stuck_until_ms: u64,
    /// Its attempts take so many times as long.
    pub(crate) slowness: u64,
    pub(crate) attempts: BTreeMap<AttemptId, Attempt>,
    pub(crate) untold: Vec<(AttemptId, TaskReport)>,
    pub(crate) outputs: BTreeMap<AttemptId, Vec<u8>>,
    pub(crate) jobs: BTreeSet<JobId>,
    /// Jobs that it knows to have ended: it takes no map outputs of them.
    pub(crate) ended: BTreeSet<JobId>,
    pub(crate) known: BTreeMap<(JobId, u32), Known>,
}

pub(crate) struct Attempt {
    keep: Vec<u64>,
    ends_ms: u64,
    fate: Fate,
    reported: BTreeSet<AttemptId>,
    /// Of each map task the digest of the output that it has read: what is read stays read.
    pub(crate) read: BTreeMap<(u32, u32), Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    Well,
    Fails,
    /// Until it is killed.
    Hangs,
}

#[derive(Default)]
pub(crate) struct Known {
    entries: BTreeMap<(u32, u32), OutputEntry>,
    expected: u32,
    has_cuts: bool,
}

pub(crate) fn failure(kind: Kind, message: &str) -> TaskReport {
    let (message, stderr_tail) = (message.to_owned(), String::new());
    TaskReport::Failed(AttemptFailure {
        kind: kind as i32,
        message,
        stderr_tail,
        ..AttemptFailure::default()
    })
}

impl World {
    pub(crate) fn connect(&mut self, at: usize) {
        let (now_ms, lists_ended) = (self.now_ms, self.seed.is_multiple_of(2));
        self.sessions += 1;
        let session = self.sessions;
        let worker = &mut self.workers[at];
        if !worker.up || worker.session.is_some() || worker.cut_off_until_ms > now_ms {
            return;
        }
        (worker.session, worker.welcome, worker.heard_ms) = (Some(session), false, now_ms);
        worker.known.clear();
        let mut running: Vec<AttemptId> = worker.attempts.keys().copied().collect();
        if lists_ended {
            running.extend(worker.untold.iter().map(|(attempt, _)| *attempt));
        }
        let mut pages: BTreeMap<JobId, Vec<HeldOutput>> =
            worker.jobs.iter().map(|job| (*job, Vec::new())).collect();
        for output in worker.outputs.keys() {
            let held = HeldOutput { stage: output.task.stage, task: output.task.task, number: output.number };
            pages.entry(output.task.job).or_default().push(held);
        }
        let session = SessionId(session);
        let register = Event::Registered {
            worker: WorkerId(worker.id),
            joining: Joining {
                session,
                incarnation: Incarnation([worker.life as u8; 16]),
                role: if worker.is_core { Role::Core } else { Role::Task },
                slots: worker.slots,
                memory_bytes: 1 << 30,
                host: format!("host{at}"),
                rack: format!("rack{}", at % 2),
                address: format!("host{at}:{}", worker.life),
                pid: 1,
                running,
                held_pages: pages.len() as u32,
            },
        };
        self.tell(at, register);
        for (job, outputs) in pages {
            self.tell(at, Event::Held { session, job, outputs });
        }
        self.tell_untold(at);
    }

    fn tell_untold(&mut self, at: usize) {
        let Some(session) = self.workers[at].session.map(SessionId) else { return };
        for (attempt, report) in self.workers[at].untold.clone() {
            let wall_ms = self.now_ms;
            self.tell(at, Event::Ended { session, attempt, report, wall_ms });
        }
    }

    /// An attempt is over: told now, and again until it is accepted.
    pub(crate) fn over(&mut self, at: usize, attempt: AttemptId, report: TaskReport) {
        self.workers[at].attempts.remove(&attempt);
        self.workers[at].untold.push((attempt, report.clone()));
        if let Some(session) = self.workers[at].session.map(SessionId) {
            let wall_ms = self.now_ms;
            self.tell(at, Event::Ended { session, attempt, report, wall_ms });
        }
    }

    pub(crate) fn beat(&mut self, at: usize) {
        let now_ms = self.now_ms;
        if self.workers[at].up && self.workers[at].session.is_none() {
            if now_ms - self.workers[at].heard_ms > 12_000 {
                // Nobody is there who would want this.
                for attempt in self.workers[at].attempts.keys().copied().collect::<Vec<_>>() {
                    self.over(at, attempt, failure(Kind::Killed, "the master is silent"));
                }
            }
            self.connect(at);
            return;
        }
        let worker = &self.workers[at];
        let Some(session) = worker.session.filter(|_| worker.stuck_until_ms <= now_ms) else { return };
        let progress = |(attempt, state): (&AttemptId, &Attempt)| {
            let silent_ms = if state.fate == Fate::Hangs { now_ms.saturating_sub(state.ends_ms) } else { 0 };
            let sent = Some(attempt.to_wire());
            (*attempt, AttemptProgress { attempt: sent, records: 5, bytes: 50, silent_ms })
        };
        let running = worker.attempts.iter().map(progress).collect();
        self.tell(at, Event::Heartbeat { session: SessionId(session), running });
    }

    /// Attempts go on.
    pub(crate) fn work(&mut self, at: usize) {
        if !self.workers[at].up || self.workers[at].stuck_until_ms > self.now_ms {
            return;
        }
        let attempts = self.workers[at].attempts.iter();
        let attempts = attempts.map(|(attempt, state)| (*attempt, state.ends_ms <= self.now_ms));
        for (attempt, is_due) in attempts.collect::<Vec<_>>() {
            let stage = &self.specs[&attempt.task.job].stages[attempt.task.stage as usize];
            let is_fed = stage.origin == 0 || self.read(at, attempt, stage.shuffle);
            if is_due {
                self.go_on(at, attempt, is_fed);
            }
        }
    }

    fn go_on(&mut self, at: usize, attempt: AttemptId, is_fed: bool) {
        let spec = self.specs[&attempt.task.job].clone();
        match self.workers[at].attempts[&attempt].fate {
            Fate::Hangs => return,
            Fate::Fails => return self.over(at, attempt, failure(Kind::Author, "no")),
            Fate::Well => {}
        }
        let stage = &spec.stages[attempt.task.stage as usize];
        if !is_fed {
            return;
        }
        if attempt.number & CUT_BIT != 0 {
            let result = gristmill_proto::task::AttemptResult { cuts: vec![1].into(), ..Default::default() };
            return self.over(at, attempt, TaskReport::Done(Box::new(result)));
        }
        let Some(salt) = self.labour(at, attempt) else { return };
        let mut holder = at;
        if stage.target == 1 {
            let keepers = self.workers[at].attempts[&attempt].keep.iter();
            let place_of = |id: &u64| self.workers.iter().position(|worker| worker.id == *id);
            let keepers: Vec<usize> = keepers.filter_map(place_of).collect();
            let keeper = keepers.into_iter().find(|keeper| self.keeps(*keeper, attempt.task.job));
            holder = keeper.unwrap_or(at);
            let digest = plans::digest(attempt, salt);
            self.workers[holder].outputs.insert(attempt, digest);
            self.workers[holder].jobs.insert(attempt.task.job);
            if holder != at {
                self.count("output kept");
            }
        }
        let holder = self.workers[holder].id;
        let mut result = plans::result(&spec, attempt, holder, salt);
        if stage.origin == 1 {
            let read = self.workers[at].attempts[&attempt].read.clone();
            result.consumed = plans::consumed(read.clone().into_iter()).into();
            self.consumed.insert(attempt, read);
        }
        self.over(at, attempt, TaskReport::Done(Box::new(result)));
    }

    fn keeps(&mut self, at: usize, job: JobId) -> bool {
        self.reaches(at) && !self.workers[at].ended.contains(&job) && !self.loses()
    }

    /// Fetches what the attempt reads; false: not all is there.
    fn read(&mut self, at: usize, attempt: AttemptId, shuffle: u32) -> bool {
        let is_range = self.specs[&attempt.task.job].shuffles[shuffle as usize].range;
        let Some(known) = self.workers[at].known.get(&(attempt.task.job, shuffle)) else { return false };
        if is_range && attempt.number & CUT_BIT == 0 && !known.has_cuts {
            return false;
        }
        let expected = known.expected as usize;
        let read = &self.workers[at].attempts[&attempt].read;
        let is_wanted =
            |entry: &&OutputEntry| entry.holder != 0 && !read.contains_key(&(entry.stage, entry.task));
        let wanted: Vec<OutputEntry> = known.entries.values().filter(is_wanted).cloned().collect();
        let (mut came, mut failed) = (Vec::new(), Vec::new());
        for entry in wanted {
            let task =
                gristmill_proto::ids::TaskId { job: attempt.task.job, stage: entry.stage, task: entry.task };
            let output = task.attempt(entry.number);
            match self.fetch(at, output, entry.holder) {
                Ok(digest) => {
                    assert_eq!(digest, entry.digest, "seed {}: {output} is not what was told", self.seed);
                    came.push(((entry.stage, entry.task), digest));
                }
                Err(kind) => failed.push((output, entry.holder, kind)),
            }
        }
        for (output, holder, kind) in &failed {
            self.report_failed(at, attempt, *output, *holder, *kind);
        }
        let read = &mut self.workers[at].attempts.get_mut(&attempt).expect("it reads").read;
        read.extend(came);
        read.len() == expected
    }

    fn fetch(&mut self, at: usize, output: AttemptId, holder: u64) -> Result<Vec<u8>, fetch_failed::Kind> {
        let holder = self.workers.iter().position(|worker| worker.id == holder);
        let holder = holder.filter(|holder| *holder == at || self.reaches(*holder));
        let Some(holder) = holder.filter(|_| !self.loses()) else {
            return Err(fetch_failed::Kind::Unreachable);
        };
        self.workers[holder].outputs.get(&output).cloned().ok_or(fetch_failed::Kind::NotFound)
    }

    fn report_failed(
        &mut self,
        at: usize,
        reader: AttemptId,
        output: AttemptId,
        holder: u64,
        kind: fetch_failed::Kind,
    ) {
        let worker = &mut self.workers[at];
        let Some(session) = worker.session else { return };
        let state = worker.attempts.get_mut(&reader).expect("it reads");
        if state.reported.insert(output) {
            let report = FetchFailed {
                epoch: 0,
                reader: Some(reader.to_wire()),
                output: Some(output.to_wire()),
                holder,
                kind: kind as i32,
                detail: String::new(),
            };
            self.count("fetch failed");
            self.tell(at, Event::FetchFailed { session: SessionId(session), reader, output, report });
        }
    }

    /// An order has come.
    pub(crate) fn obey(&mut self, at: usize, order: Command) {
        self.workers[at].heard_ms = self.now_ms;
        match order {
            Command::Welcome { worker, .. } => {
                (self.workers[at].id, self.workers[at].welcome) = (worker.0, true);
            }
            Command::RefuseWorker { reason, .. } => self.refused(at, reason),
            Command::StartJob { job, .. } => {
                self.workers[at].jobs.insert(job);
            }
            Command::Launch { launch, .. } => self.begin(at, &launch),
            Command::Kill { attempt, .. } => {
                if self.workers[at].attempts.contains_key(&attempt) {
                    self.over(at, attempt, failure(Kind::Killed, "killed"));
                }
            }
            Command::Outputs { job, shuffle, entries, expected, cuts, .. } => {
                self.learn(at, (job, shuffle), entries, expected, !cuts.is_empty());
            }
            Command::Accept { attempt, winner, .. } => {
                self.workers[at].untold.retain(|(untold, _)| *untold != attempt);
                if !winner {
                    self.workers[at].outputs.remove(&attempt);
                }
            }
            Command::DropOutput { attempt, .. } => {
                self.workers[at].outputs.remove(&attempt);
            }
            Command::EndJob { job, .. } => self.end_job(at, job),
            Command::Drain { .. } => {}
            other => panic!("seed {}: {other:?} is no order", self.seed),
        }
    }

    fn refused(&mut self, at: usize, reason: refused::Reason) {
        self.break_stream(at);
        let worker = &mut self.workers[at];
        if reason == refused::Reason::Fenced {
            worker.attempts.clear();
            worker.untold.clear();
            worker.outputs.clear();
            self.count("fenced");
        }
    }

    fn begin(&mut self, at: usize, launch: &Launch) {
        let attempt = AttemptId::from_wire(launch.attempt.as_ref().expect("an attempt")).expect("whole");
        let job = attempt.task.job;
        let longest_ms = if self.chance(100) { 20_000 } else { 3_000 };
        let slowness = if self.quiet { 1 } else { self.workers[at].slowness.max(1) };
        let ends_ms = self.now_ms + (100 + self.below(longest_ms)) * slowness;
        let fate = match self.below(1000) {
            0..30 if !self.quiet => Fate::Fails,
            30..35 if !self.quiet => Fate::Hangs,
            _ => Fate::Well,
        };
        assert!(self.launched.insert(attempt), "seed {}: {attempt} is launched twice", self.seed);
        let worker = &mut self.workers[at];
        assert!(worker.jobs.contains(&job), "seed {}: {attempt} before StartJob", self.seed);
        let running = worker.attempts.len() as u32;
        assert!(running < worker.slots, "seed {}: {attempt} is one too many on worker {at}", self.seed);
        let keep = launch.keep.iter().map(|holder| holder.worker).collect();
        worker.attempts.insert(
            attempt,
            Attempt { keep, ends_ms, fate, reported: BTreeSet::new(), read: BTreeMap::new() },
        );
    }

    fn learn(
        &mut self,
        at: usize,
        shuffle: (JobId, u32),
        entries: Vec<OutputEntry>,
        expected: u32,
        cuts: bool,
    ) {
        assert!(entries.len() <= gristmill_master::core::PAGE_ENTRIES_MAX);
        let worker = &mut self.workers[at];
        for entry in &entries {
            let again =
                |output: &AttemptId| (output.task.stage, output.task.task) != (entry.stage, entry.task);
            let readers = worker.attempts.iter_mut().filter(|(attempt, _)| attempt.task.job == shuffle.0);
            readers.for_each(|(_, state)| state.reported.retain(again));
        }
        let known = worker.known.entry(shuffle).or_default();
        known.entries.extend(entries.into_iter().map(|entry| ((entry.stage, entry.task), entry)));
        known.expected = expected;
        known.has_cuts |= cuts;
    }

    fn end_job(&mut self, at: usize, job: JobId) {
        let running = self.workers[at].attempts.keys().copied().filter(|attempt| attempt.task.job == job);
        for attempt in running.collect::<Vec<_>>() {
            self.over(at, attempt, failure(Kind::Killed, "the job has ended"));
        }
        let worker = &mut self.workers[at];
        worker.outputs.retain(|output, _| output.task.job != job);
        worker.jobs.remove(&job);
        worker.ended.insert(job);
        worker.known.retain(|shuffle, _| shuffle.0 != job);
    }
}

/// The stream that an order is for.
pub(crate) fn stream_of(order: &Command) -> u64 {
    match order {
        Command::Welcome { session, .. }
        | Command::RefuseWorker { session, .. }
        | Command::StartJob { session, .. }
        | Command::Launch { session, .. }
        | Command::Kill { session, .. }
        | Command::Outputs { session, .. }
        | Command::Accept { session, .. }
        | Command::DropOutput { session, .. }
        | Command::EndJob { session, .. }
        | Command::Drain { session, .. } => session.0,
        other => panic!("{other:?} is no order"),
    }
}
