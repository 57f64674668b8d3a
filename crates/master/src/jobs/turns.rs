//! The one thread that owns the core. A turn takes what has come, lets the core decide, makes all of it durable with
//! one sync, and only then does anything that somebody else can see.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gristmill_proto::ids::{AttemptId, JobId, WorkerId};
use gristmill_proto::job_record::Record;
use gristmill_proto::task::order::Order;
use gristmill_proto::task::{
    Accepted, Drain, DropOutput, EndJob, KillAttempt, LogPage, Outputs, ReadLog, StartJob, Welcome, refused,
};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::journal::Journal;
use super::logs::Logs;
use super::publisher::{Publisher, Work};
use super::sessions::{Outgoing, Sessions};
use super::shared::{Facts, wall_ms};
use super::store::{Store, StoreError};
use super::watchers::{StatusReceiver, Watchers};
use crate::core::{Command, Core, Event, Refusal, SessionId};

/// What waits for the thread. Whoever brings more waits: workers at their streams, drivers at their calls.
pub(super) const QUEUE_MAX: usize = 16 * 1024;
/// What one turn takes: one sync serves as many, and the first of them does not wait for long.
const TURN_MAX: usize = 4096;
/// Log bytes of one answer; workers keep a megabyte of each log.
const LOG_BYTES_MAX: u64 = 2 << 20;

/// The way to the thread.
pub(super) type TurnSender = mpsc::Sender<Turn>;

/// What somebody does with the core between two turns, and the time of the core.
pub(super) type Look = Box<dyn FnOnce(&Core, u64) + Send>;

/// Something for the thread to take.
pub(super) enum Turn {
    /// For the core.
    Event(Event),
    /// Of a worker: for the core, unless its stream has ended.
    Notice { session: SessionId, event: Event },
    /// A worker's first notice, which registers it.
    Open { session: SessionId, outgoing: Outgoing, event: Event },
    /// A worker's stream has ended.
    Closed(SessionId),
    /// A driver submits a job; the answer is durable, and says whether it was known before.
    Submit { job: JobId, event: Event, answer: oneshot::Sender<Result<bool, Refusal>> },
    /// Somebody looks at the core.
    Read(Look),
    /// Somebody begins to watch a job; no answer: there is none.
    Watch { job: JobId, driver: bool, answer: oneshot::Sender<StatusReceiver> },
    /// A watcher has gone.
    Unwatch { job: JobId, driver: bool },
    /// Somebody reads an attempt's log.
    ReadLog(LogRequest),
    /// A page of a log.
    LogPage { session: SessionId, page: LogPage },
    /// The cluster has ended: its workers are to end, too.
    Dismiss,
}

/// What log is read, from where, and who gets its pages.
pub(super) struct LogRequest {
    pub(super) attempt: AttemptId,
    pub(super) stderr: bool,
    pub(super) offset: u64,
    pub(super) answer: oneshot::Sender<Result<mpsc::Receiver<LogPage>, Status>>,
}

/// Lets time pass, until the thread ends.
pub(super) async fn tick(queue: TurnSender, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if queue.send(Turn::Event(Event::Tick { wall_ms: wall_ms() })).await.is_err() {
            return;
        }
    }
}

/// The core and all that its thread needs.
pub(super) struct Turns {
    core: Core,
    store: Store,
    facts: Arc<Facts>,
    publisher: Arc<Publisher>,
    sessions: Sessions,
    watchers: Watchers,
    logs: Logs,
    journal: Journal,
    /// Of this turn, in order.
    commands: Vec<Command>,
    reads: Vec<Look>,
    /// Watchers who came in this turn: they see what is durable.
    arrivals: Vec<(JobId, bool, oneshot::Sender<StatusReceiver>)>,
    /// Drivers that wait to hear whether their job is taken.
    submitters: HashMap<JobId, Vec<oneshot::Sender<Result<bool, Refusal>>>>,
}

impl Turns {
    pub(super) fn new(core: Core, store: Store, facts: Arc<Facts>, publisher: Arc<Publisher>) -> Turns {
        Turns {
            core,
            store,
            sessions: Sessions::new(facts.epoch),
            facts,
            publisher,
            watchers: Watchers::default(),
            logs: Logs::default(),
            journal: Journal::default(),
            commands: Vec::new(),
            reads: Vec::new(),
            arrivals: Vec::new(),
            submitters: HashMap::new(),
        }
    }

    /// Takes turns until all ways to the thread are gone, or the store fails.
    pub(super) fn start(self, queue: mpsc::Receiver<Turn>) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name("turns".into()).spawn(move || self.run(queue))
    }

    fn run(mut self, mut queue: mpsc::Receiver<Turn>) {
        let mut taken = Vec::with_capacity(64);
        while queue.blocking_recv_many(&mut taken, TURN_MAX) > 0 {
            for turn in taken.drain(..) {
                self.take(turn);
            }
            // What is not durable is not done either: then nobody has seen anything of this turn.
            if let Err(error) = self.finish() {
                self.facts.fail(error.to_string());
                return;
            }
        }
    }

    fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Event(event) => self.handle(event),
            Turn::Notice { session, event } => {
                if !self.sessions.is_open(session) {
                    return; // It was cut off, refused or replaced.
                }
                if matches!(event, Event::Heartbeat { .. }) {
                    self.sessions.heard(session);
                }
                self.handle(event);
            }
            Turn::Open { session, outgoing, event } => {
                self.sessions.open(session, outgoing);
                self.handle(event);
            }
            Turn::Closed(session) => {
                self.logs.closed(session);
                if self.sessions.close(session) {
                    self.handle(Event::Disconnected { session });
                }
            }
            Turn::Submit { job, event, answer } => {
                self.submitters.entry(job).or_default().push(answer);
                self.handle(event);
            }
            Turn::Read(read) => self.reads.push(read),
            Turn::Watch { job, driver, answer } => self.arrivals.push((job, driver, answer)),
            Turn::Unwatch { job, driver } => self.unwatch(job, driver),
            Turn::ReadLog(request) => self.read_log(request),
            Turn::LogPage { session, page } => self.logs.take(session, page),
            Turn::Dismiss => self.sessions.dismiss(),
        }
    }

    /// The core decides. Which stream is whose it is known at once: of a replaced one nothing more may reach the core.
    fn handle(&mut self, event: Event) {
        self.journal.event(&event);
        let before = self.commands.len();
        self.core.handle(self.facts.now_ms(), event, &mut self.commands);
        for command in &self.commands[before..] {
            if let Command::Welcome { session, worker } = *command {
                self.sessions.welcome(session, worker);
            }
        }
    }

    /// Makes the turn durable, then does what was decided, until nothing is left.
    fn finish(&mut self) -> Result<(), StoreError> {
        loop {
            self.decide()?;
            for session in self.sessions.flush() {
                self.logs.closed(session);
                self.handle(Event::Disconnected { session });
            }
            for (job, driver, answer) in std::mem::take(&mut self.arrivals) {
                self.watch(job, driver, answer);
            }
            if self.commands.is_empty() {
                break;
            }
        }
        let now_ms = self.facts.now_ms();
        self.watchers.flush(|job| self.core.status(job));
        self.journal.turned(&self.core, now_ms);
        for read in self.reads.drain(..) {
            read(&self.core, now_ms);
        }
        Ok(())
    }

    fn decide(&mut self) -> Result<(), StoreError> {
        let commands = std::mem::take(&mut self.commands);
        let is_record = |command: &Command| matches!(command, Command::Persist(_));
        let (persists, others): (Vec<Command>, Vec<Command>) = commands.into_iter().partition(is_record);
        let records: Vec<Record> = persists.into_iter().filter_map(record_of).collect();
        self.store.persist(&records)?;
        records.iter().for_each(|record| self.journal.record(record));
        for command in others {
            self.journal.command(&command);
            self.carry_out(command);
        }
        Ok(())
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Persist(_) => {} // Done, before all others.
            Command::Admit { job, known } => self.answer(job, &Ok(known)),
            Command::Refuse { job, refusal } => self.answer(job, &Err(refusal)),
            Command::Stage(job) => self.publish(job, Work::Stage),
            Command::Publish { job, manifest } => {
                let (files, manifest) = (self.core.parts(job), manifest.into_bytes());
                self.publish(job, Work::Publish { files, manifest });
            }
            Command::Abort(job) => self.publish(job, Work::Abort),
            Command::Clean(job) => self.publish(job, Work::Clean),
            Command::Changed(job) => self.watchers.changed(job),
            Command::Welcome { session, worker } => self.welcome(session, worker),
            Command::RefuseWorker { session, reason, detail } => self.refuse_worker(session, reason, detail),
            Command::StartJob { session, job } => self.start_job(session, job),
            Command::Launch { session, launch } => self.tell(session, Order::Launch(launch)),
            Command::Kill { session, attempt, reason } => {
                self.tell(session, Order::Kill(KillAttempt { attempt: Some(attempt.to_wire()), reason }));
            }
            Command::Outputs { session, job, shuffle, entries, holders, expected, cuts } => {
                let (job, cuts) = (job.0.to_vec().into(), cuts.into());
                self.tell(
                    session,
                    Order::Outputs(Outputs { job, shuffle, entries, holders, expected, cuts }),
                );
            }
            Command::Accept { session, attempt, winner } => {
                self.tell(session, Order::Accepted(Accepted { attempt: Some(attempt.to_wire()), winner }));
            }
            Command::DropOutput { session, attempt } => {
                self.tell(session, Order::DropOutput(DropOutput { attempt: Some(attempt.to_wire()) }));
            }
            Command::EndJob { session, job } => {
                self.tell(session, Order::EndJob(EndJob { job: job.0.to_vec().into() }));
            }
            Command::Drain { session, undo } => self.tell(session, Order::Drain(Drain { undo })),
        }
    }

    /// Nothing is told to a stream that has ended: the worker's next one begins anew.
    fn tell(&mut self, session: SessionId, order: Order) {
        if !self.sessions.tell(session, order) {
            tracing::debug!(session = session.0, "an order for a stream that has ended");
        }
    }

    fn welcome(&mut self, session: SessionId, worker: WorkerId) {
        tracing::info!(%worker, session = session.0, "worker registered");
        let welcome = Welcome {
            version: gristmill_proto::PROTOCOL_VERSION,
            cluster_id: self.facts.cluster.0.to_vec().into(),
            worker: worker.0,
            heartbeat_interval_ms: self.facts.heartbeat_interval_ms,
            lost_ms: self.facts.lost_ms,
            open_key: self.facts.tokens.open_key().into(),
            log_place: self.facts.log_place.get().cloned().unwrap_or_default(),
        };
        self.tell(session, Order::Welcome(welcome));
    }

    fn refuse_worker(&mut self, session: SessionId, reason: refused::Reason, detail: String) {
        let worker = self.sessions.worker(session).map(tracing::field::display);
        tracing::warn!(worker, session = session.0, ?reason, detail, "a worker is refused");
        self.logs.closed(session);
        self.sessions.refuse(session, reason, detail);
    }

    fn start_job(&mut self, session: SessionId, job: JobId) {
        let Some(spec) = self.core.spec(job).cloned() else {
            tracing::warn!(%job, session = session.0, "a job that is not known is not started");
            return;
        };
        let now_ms = wall_ms();
        let caller_token = self.facts.tokens.caller_token(job, &spec, now_ms);
        let Facts { cluster, epoch, .. } = *self.facts;
        let shuffle_token = self.facts.tokens.shuffle_token(cluster, epoch, job, now_ms).into();
        self.tell(session, Order::StartJob(StartJob { spec: Some(spec), caller_token, shuffle_token }));
    }

    fn publish(&self, job: JobId, work: Work) {
        let Some(spec) = self.core.spec(job) else {
            tracing::warn!(%job, "the outputs of a job that is not known are left alone");
            return;
        };
        self.publisher.submit(job, Arc::new(spec.clone()), work);
    }

    fn answer(&mut self, job: JobId, answer: &Result<bool, Refusal>) {
        for submitter in self.submitters.remove(&job).unwrap_or_default() {
            if submitter.send(answer.clone()).is_err() {
                tracing::info!(%job, "its driver is gone before the answer");
            }
        }
    }

    /// A job that is not there has no status, and the asker learns it from the answer that does not come.
    fn watch(&mut self, job: JobId, driver: bool, answer: oneshot::Sender<StatusReceiver>) {
        let Some(status) = self.core.status(job) else { return };
        let (receiver, first_driver) = self.watchers.watch(job, driver, status);
        if first_driver {
            self.handle(Event::DriverWatches { job, watching: true });
        }
        if answer.send(receiver).is_err() {
            self.unwatch(job, driver);
        }
    }

    fn unwatch(&mut self, job: JobId, driver: bool) {
        if self.watchers.unwatch(job, driver) {
            self.handle(Event::DriverWatches { job, watching: false });
        }
    }

    fn read_log(&mut self, request: LogRequest) {
        let LogRequest { attempt, stderr, offset, answer } = request;
        let begun = match self.core.holder_of(attempt).filter(|&session| self.sessions.is_open(session)) {
            None => Err(Status::not_found(format!(
                "cannot read the log of {attempt}: the worker that ran it is not here"
            ))),
            Some(session) => match self.logs.begin(session) {
                None => Err(Status::resource_exhausted("too many logs are read: try again later")),
                Some((number, pages)) => {
                    let attempt = Some(attempt.to_wire());
                    let read = ReadLog { request: number, attempt, stderr, offset, bytes_max: LOG_BYTES_MAX };
                    self.tell(session, Order::ReadLog(read));
                    Ok(pages)
                }
            },
        };
        if answer.send(begun).is_err() {
            tracing::debug!(%attempt, "a reader of a log is gone before its answer");
        }
    }
}

fn record_of(command: Command) -> Option<Record> {
    match command {
        Command::Persist(record) => Some(record),
        _ => None,
    }
}
