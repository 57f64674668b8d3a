//! One session after the other, for as long as the worker lives. Attempts run on between them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gristmill_dataflow::shuffle::ShuffleKeys;
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::auth::{Secret, TaskKey};
use gristmill_proto::ids::{AttemptId, ClusterId, Epoch, Incarnation, JobId, WorkerId};
use gristmill_proto::task::from_worker::Notice;
use gristmill_proto::task::order::Order;
use gristmill_proto::task::register::Role;
use gristmill_proto::task::{Heartbeat, Held, HeldOutput, Register, ToWorker, Welcome};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};
use tonic::Status;

use super::agent::Agent;
use super::hands::{EVENTS_WAITING, Hands};
use super::identity::{Identity, IdentityFile};
use super::session::{Begun, Lost, Session, TasksError, for_now, refusal};
use crate::attempt::{Event, Workplace};
use gristmill_process::Pause;

/// Map outputs of one message.
const HELD_MAX: usize = 1000;
/// A core worker does not know who it is before its first welcome in the file system: it looks so often.
const WHO_PAUSE: Duration = Duration::from_millis(20);
/// What a master may ask for.
const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
/// How often time passes between two sessions.
const TICK: Duration = Duration::from_millis(250);
/// Between the order to end and the end: for attempts to be killed and their ends to be told.
const GOODBYE: Duration = Duration::from_secs(2);

/// How a worker knows who it is.
pub(crate) enum Who {
    /// The disks of a core worker say it, once it has been welcomed.
    Core(Box<dyn Fn() -> Option<Identity> + Send>),
    /// The master says it, and a file remembers.
    Task(IdentityFile),
}

/// What a worker says of itself.
pub(crate) struct AttendantOptions {
    pub(crate) master: String,
    pub(crate) secret: Option<Secret>,
    pub(crate) who: Who,
    pub(crate) slots: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) host: String,
    pub(crate) rack: String,
    /// HOST:PORT of the shuffle listener, `:PORT` if the master sees the host best.
    pub(crate) address: String,
    /// Between two tries to reach the master: the first, and the longest.
    pub(crate) retry: (Duration, Duration),
    /// Between being told to end and ending, as long as attempts run.
    pub(crate) notice: Duration,
}

/// See the top of the file.
pub(crate) struct Attendant {
    // Before `hands`, whose housekeeper would wait for it.
    events: mpsc::Receiver<Event>,
    options: AttendantOptions,
    keys: ShuffleKeys,
    incarnation: Incarnation,
    agent: Agent,
    hands: Hands,
    /// When a worker that was told to end begins to, at the latest.
    noticed: Option<Instant>,
    /// When it has ended, at the latest.
    leaving: Option<Instant>,
}

impl Attendant {
    pub(crate) fn new(
        options: AttendantOptions,
        workplace: Workplace,
        keys: ShuffleKeys,
    ) -> io::Result<Attendant> {
        let (tell, events) = mpsc::channel(EVENTS_WAITING);
        let hands = Hands::new(Arc::new(workplace), tell)?;
        let agent = Agent::new(options.slots);
        let incarnation = Incarnation::random();
        Ok(Attendant { events, options, keys, incarnation, agent, hands, noticed: None, leaving: None })
    }

    /// Attends until `stop` is true and what runs has been ended, or until the master refuses this worker for good. A
    /// master that cannot be reached is tried for ever.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), TasksError> {
        let mut pause = Pause::new(self.options.retry, self.incarnation);
        let mut told = false;
        loop {
            let mut welcomed = false;
            let Some(lost) = self.attend(&mut stop, &mut welcomed).await else { break };
            if welcomed {
                pause.start_over();
                told = false;
            }
            let wait = match lost {
                Lost::ForGood(error) => {
                    self.end_all(&mut stop).await;
                    return Err(error);
                }
                Lost::Ended => {
                    tracing::info!("the cluster has ended");
                    self.end_all(&mut stop).await;
                    break;
                }
                Lost::Fenced(reason) => {
                    self.start_anew(&reason);
                    Duration::ZERO
                }
                // Once for each change of state.
                Lost::ForNow(reason) if !told => {
                    tracing::warn!(master = %self.options.master, %reason, "no master for jobs; trying again");
                    told = true;
                    pause.next_wait()
                }
                Lost::ForNow(reason) => {
                    tracing::debug!(%reason, "still no master for jobs");
                    pause.next_wait()
                }
            };
            if self.go_on(&mut stop, sleep(wait)).await.is_none() {
                break;
            }
        }
        if !self.agent.is_quiet() {
            tracing::warn!("ends before its attempts");
        }
        Ok(())
    }

    /// One session. None when the worker has ended.
    async fn attend(&mut self, stop: &mut watch::Receiver<bool>, welcomed: &mut bool) -> Option<Lost> {
        // What the last life of a fenced worker ran must be gone before the next begins.
        while !self.agent.may_begin() {
            self.go_on(stop, sleep(WHO_PAUSE)).await?;
        }
        let identity = loop {
            match self.identity() {
                Ok(Some(identity)) => break identity,
                Ok(None) => self.go_on(stop, sleep(WHO_PAUSE)).await?,
                Err(lost) => return Some(lost),
            }
        };
        let (register, held) = self.introduction(identity);
        let begin = Session::begin(self.options.master.clone(), self.options.secret.clone(), register, held);
        let begun = match self.go_on(stop, begin).await? {
            Ok(begun) => begun,
            Err(lost) => return Some(lost),
        };
        *welcomed = true;
        let lost = self.serve(stop, begun).await.err();
        self.agent.disconnect();
        lost
    }

    /// Serves the master until the stream is lost. `Ok` when the worker has ended.
    async fn serve(&mut self, stop: &mut watch::Receiver<bool>, begun: Begun) -> Result<(), Lost> {
        let Begun { mut session, epoch, welcome, cluster, orders } = begun;
        let beat = self.settle(epoch, &welcome, cluster)?;
        for order in orders {
            self.obey(order)?;
        }
        let mut beats = interval(beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.act();
            while let Some(notice) = self.agent.next_notice() {
                session.send(notice).await?;
            }
            self.leave_in_time();
            if self.leaving.is_some_and(|until| Instant::now() >= until)
                || self.leaving.is_some() && self.agent.is_quiet() && self.agent.is_told()
            {
                return Ok(());
            }
            tokio::select! {
                message = session.orders.message() => self.hear(message)?,
                Some(event) = self.events.recv() => self.take(event),
                _ = beats.tick() => session.send(self.heartbeat()).await?,
                () = told_to_end(stop), if !self.knows_its_end() => self.give_notice(),
                () = until(self.leaving.or(self.noticed)) => {}
            }
        }
    }

    /// Lives on until `what` has happened. None when the worker has ended.
    async fn go_on<T>(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        what: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(what);
        let mut ticks = interval(TICK);
        loop {
            self.act();
            self.leave_in_time();
            // Without a stream nobody can be told.
            if self.leaving.is_some_and(|until| Instant::now() >= until || self.agent.is_quiet()) {
                return None;
            }
            tokio::select! {
                happened = &mut what => return Some(happened),
                Some(event) = self.events.recv() => self.take(event),
                _ = ticks.tick() => self.agent.pass(Instant::now()),
                () = told_to_end(stop), if !self.knows_its_end() => self.give_notice(),
                () = until(self.leaving.or(self.noticed)) => {}
            }
        }
    }

    async fn end_all(&mut self, stop: &mut watch::Receiver<bool>) {
        self.leave();
        let ended = self.go_on(stop, std::future::pending::<()>()).await;
        debug_assert!(ended.is_none());
    }

    /// Who this worker is, as far as it knows: `None` if it must know and does not yet.
    fn identity(&self) -> Result<Option<Option<Identity>>, Lost> {
        match &self.options.who {
            Who::Core(ask) => Ok(ask().map(Some)),
            Who::Task(file) => file.read().map(Some).map_err(|error| Lost::ForGood(error.into())),
        }
    }

    fn introduction(&self, identity: Option<Identity>) -> (Register, Vec<Held>) {
        let held = held(self.agent.jobs(), self.hands.workplace().store.list());
        let options = &self.options;
        let register = Register {
            version: PROTOCOL_VERSION,
            cluster_id: identity.map_or_else(Vec::new, |identity| identity.cluster.0.to_vec()).into(),
            worker: identity.map_or(0, |identity| identity.worker.0),
            incarnation: self.incarnation.0.to_vec().into(),
            role: match options.who {
                Who::Core(_) => Role::Core,
                Who::Task(_) => Role::Task,
            } as i32,
            slots: options.slots,
            memory_bytes: options.memory_bytes,
            host: options.host.clone(),
            rack: options.rack.clone(),
            address: options.address.clone(),
            pid: std::process::id(),
            running: self.agent.known().into_iter().map(AttemptId::to_wire).collect(),
            held_pages: u32::try_from(held.len()).unwrap_or(u32::MAX),
        };
        (register, held)
    }

    /// Makes sure that both sides agree who this is. Returns how often the master wants a sign of life.
    fn settle(&mut self, epoch: Epoch, welcome: &Welcome, cluster: ClusterId) -> Result<Duration, Lost> {
        let worker = WorkerId(welcome.worker);
        let known = self.identity()?.flatten();
        match (&self.options.who, known) {
            (_, Some(known)) if known.worker != worker => {
                let (master, theirs, ours) = (self.options.master.clone(), worker, known.worker);
                return Err(TasksError::OtherWorker { master, theirs, ours }.into());
            }
            (Who::Task(file), None) => {
                file.write(Identity { cluster, worker }).map_err(TasksError::Identity)?;
            }
            _ => {}
        }
        if !self.agent.hear(Instant::now(), epoch) {
            let highest = self.agent.epoch();
            return Err(Lost::ForNow(format!("a master of {epoch} is no more: {highest} was seen")));
        }
        let key = match &self.options.secret {
            Some(secret) => Some(TaskKey::of_secret(secret, cluster)),
            None => TaskKey::from_open(&welcome.open_key),
        };
        let key =
            key.ok_or_else(|| Lost::ForNow("the cluster has a secret, and this worker not".to_owned()))?;
        self.keys.set(cluster, key);
        let pusher = &self.hands.workplace().log_pusher;
        pusher
            .set_place(&welcome.log_place)
            .map_err(|error| Lost::ForNow(format!("no threads for logs: {error}")))?;
        let lost_after = Duration::from_millis(welcome.lost_ms);
        self.agent.welcome(worker, lost_after);
        tracing::info!(master = %self.options.master, %worker, %epoch, "attends for jobs");
        let beat = Duration::from_millis(welcome.heartbeat_interval_ms);
        Ok(beat.clamp(HEARTBEAT_MIN, (lost_after / 3).max(HEARTBEAT_MIN)))
    }

    fn hear(&mut self, message: Result<Option<ToWorker>, Status>) -> Result<(), Lost> {
        let message = message.map_err(|status| for_now("the stream of orders", &status))?;
        let ToWorker { epoch, orders } =
            message.ok_or_else(|| Lost::ForNow("the master ended the stream".to_owned()))?;
        if !self.agent.hear(Instant::now(), Epoch(epoch)) {
            let highest = self.agent.epoch();
            return Err(Lost::ForNow(format!("orders of e{epoch} come too late: {highest} was seen")));
        }
        orders.into_iter().filter_map(|order| order.order).try_for_each(|order| self.obey(order))
    }

    fn obey(&mut self, order: Order) -> Result<(), Lost> {
        match order {
            Order::Refused(refused) => Err(refusal(&self.options.master, refused)),
            order => self.agent.obey(order).map_err(|bad| for_now("an order", &bad)),
        }
    }

    fn take(&mut self, event: Event) {
        if let Event::Ended { attempt, .. } = &event {
            self.hands.ended(*attempt);
        }
        self.agent.take(event);
    }

    /// Carries out what the agent wants.
    fn act(&mut self) {
        if self.agent.is_draining() {
            self.agent.tell_drained(self.hands.workplace().store.list().len());
        }
        while let Some(action) = self.agent.next_action() {
            if let Some(event) = self.hands.carry_out(action) {
                self.agent.take(event);
            }
        }
    }

    /// A stream whose keep-alive is answered is a master that is heard.
    fn heartbeat(&mut self) -> Notice {
        let now = Instant::now();
        self.agent.heard(now);
        if let Some(event) = self.hands.forget_logs() {
            self.agent.take(event);
        }
        let running = self.agent.running().filter_map(|attempt| self.hands.progress(now, attempt));
        Notice::Heartbeat(Heartbeat {
            epoch: self.agent.epoch().0,
            running: running.collect(),
            scratch_free_bytes: self.hands.workplace().scratch.free_bytes(),
        })
    }

    fn knows_its_end(&self) -> bool {
        self.noticed.is_some() || self.leaving.is_some()
    }

    /// The worker was told to end: what runs may go on for a while.
    fn give_notice(&mut self) {
        let notice = self.options.notice;
        if notice.is_zero() {
            return self.leave();
        }
        tracing::info!(?notice, "told to end");
        self.noticed = Some(Instant::now() + notice);
        self.agent.give_notice();
    }

    /// Ends when the notice is over, or nothing runs any more of which the master does not know the end.
    fn leave_in_time(&mut self) {
        let Some(until) = self.noticed.filter(|_| self.leaving.is_none()) else { return };
        if Instant::now() >= until || self.agent.is_quiet() && self.agent.is_told() {
            self.leave();
        }
    }

    fn leave(&mut self) {
        self.agent.leave();
        self.leaving = Some(Instant::now() + GOODBYE);
    }

    /// The master has given this worker up, and its map outputs: it goes on as a new one.
    fn start_anew(&mut self, reason: &str) {
        tracing::warn!(master = %self.options.master, %reason, "given up by the master; starts anew");
        self.agent.fence();
        self.incarnation = Incarnation::random();
    }
}

/// Map outputs in pages, each of one job; a page without any for a job that has none. The master says of each whether it
/// has ended: it may have said so when nobody heard.
fn held(jobs: impl Iterator<Item = JobId>, outputs: Vec<AttemptId>) -> Vec<Held> {
    let mut jobs: BTreeMap<JobId, Vec<HeldOutput>> = jobs.map(|job| (job, Vec::new())).collect();
    for AttemptId { task, number } in outputs {
        let output = HeldOutput { stage: task.stage, task: task.task, number };
        jobs.entry(task.job).or_default().push(output);
    }
    let pages = jobs.into_iter().flat_map(|(job, outputs)| {
        let job = Bytes::copy_from_slice(&job.0);
        let of = |page: &[HeldOutput]| Held { job: job.clone(), outputs: page.to_vec() };
        let pages: Vec<Held> = match outputs[..] {
            [] => vec![of(&[])],
            _ => outputs.chunks(HELD_MAX).map(of).collect(),
        };
        pages
    });
    pages.collect()
}

/// Waits until the worker is told to end: for ever if nobody can tell it any more.
async fn told_to_end(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
