//! The master's shell: turns of the core that are durable before anything is done, a namenode that ticks, and a machine
//! that loses power.

use gristmill_dfs::namenode::blocks::KnownBlock;
use gristmill_dfs::namenode::namespace::Action;
use gristmill_master::core::{Command, Core, CoreOptions, Event, SessionId};
use gristmill_proto::ids::{BlockId, InodeId, JobId};
use gristmill_proto::job::job_status::State;

use crate::dfs::LEASE_MS;
use crate::publisher::Work;
use crate::script::{Flaw, Point};
use crate::worker::stream_of;
use crate::world::{Happening, World};

/// Blocks that the block side is told to expect in one tick, after a start.
const EXPECTED_PAGE: usize = 7;
/// Records of deleted trees that one transaction forgets.
const RECLAIM_RECORDS_MAX: u32 = 20;
const OPEN_FILES_MAX: usize = 1_000;

fn options() -> CoreOptions {
    CoreOptions {
        no_progress_ms: 15_000,
        no_worker_ms: 300_000,
        twins_min: 2,
        // Attempts fail here for the network's reasons, not for those of their job.
        attempts_max: 20,
        avoid_failures: 20,
        ..CoreOptions::default()
    }
}

impl World {
    /// A master starts on what is durable.
    pub(crate) fn start_master(&mut self) {
        self.dfs.now_ms = self.now_ms;
        let Some(epoch) = self.dfs.start(self.seed) else {
            self.count("master's disk failed");
            return self.go_down();
        };
        assert!(epoch.0 > self.epoch, "seed {}: epoch {epoch} after {}", self.seed, self.epoch);
        self.epoch = epoch.0;
        let mut core = Core::new(options(), epoch);
        for record in self.store.in_order() {
            core.restore(record);
        }
        core.check().unwrap_or_else(|wrong| panic!("restored: {wrong}"));
        self.core = Some(core);
        self.check_acknowledged();
        self.after_dfs();
    }

    /// The machine of the master loses power.
    pub(crate) fn crash_master(&mut self) {
        if self.core.take().is_none() {
            return;
        }
        self.count("master crashed");
        self.go_down();
    }

    fn go_down(&mut self) {
        let dice = self.below(u64::MAX);
        self.dfs.lose_power(dice);
        self.open.clear();
        self.welcomed.clear();
        self.outputs.clear();
        self.master_stuck_until_ms = 0;
        for worker in &mut self.workers {
            worker.session = None;
        }
        let delay_ms = 100 + self.below(if self.quiet { 100 } else { 8_000 });
        self.after(delay_ms, Happening::MasterStarts);
    }

    pub(crate) fn tick(&mut self) {
        self.after(100, Happening::Tick);
        if self.core.is_none() {
            return;
        }
        self.prepare_dfs();
        let wall_ms = self.dfs.wall_ms();
        self.tick_namenode();
        self.after_dfs();
        self.handle(Event::Tick { wall_ms });
    }

    fn tick_namenode(&mut self) {
        let (now_ms, Some(snapshot)) = (self.now_ms, self.dfs.snapshot()) else { return };
        let Some(running) = &mut self.dfs.running else { return };
        let mut blocks = running.blocks.lock().expect("no thread panics");
        blocks.tick(now_ms, &mut self.dfs.out);
        if let Some(after) = running.expected {
            let page = snapshot.blocks_after(after, EXPECTED_PAGE).expect("it reads");
            let known: Vec<_> =
                page.iter().map(|(block, record)| (*block, KnownBlock::from(*record))).collect();
            blocks.expect(&known);
            running.expected = page.last().map(|(block, _): &(BlockId, _)| *block);
            if running.expected.is_none() {
                blocks.expected_all();
            }
        }
        drop(blocks);
        let ended: Vec<_> = snapshot
            .open_files(InodeId(0), OPEN_FILES_MAX)
            .expect("it reads")
            .into_iter()
            .filter(|(_, writer)| match writer {
                Some(client) => running.leases.idle_ms(*client, now_ms) > LEASE_MS,
                None => !running.resumed,
            })
            .collect();
        running.resumed = true;
        if snapshot.has_orphans() {
            self.dfs.own(Action::Reclaim { records_max: RECLAIM_RECORDS_MAX });
        }
        for (inode, holder) in ended {
            self.dfs.own(Action::BeginRecovery { inode, holder });
            self.count("file recovered");
        }
    }

    /// The file system is told the time and who can be reached, before it is used.
    pub(crate) fn prepare_dfs(&mut self) {
        self.dfs.now_ms = self.now_ms;
        for at in 0..self.workers.len() {
            self.dfs.nodes[at].in_reach = self.workers[at].is_core && self.reaches(at);
        }
    }

    /// What came of it is done, and looked at.
    pub(crate) fn after_dfs(&mut self) {
        self.dfs.obey_decisions();
        self.send_orders();
        if self.dfs.failed {
            self.count("master's disk failed");
            self.crash_master();
        } else if std::mem::take(&mut self.dfs.changed) {
            self.check_outputs();
        }
    }

    pub(crate) fn left(&mut self, stream: u64) {
        let Some(running) = &self.dfs.running else { return };
        if let Some(&attendant) = running.attendants.get(&stream) {
            running.blocks.lock().expect("no thread panics").disconnected(attendant, self.now_ms);
        }
    }

    pub(crate) fn broken(&mut self, session: u64) {
        if self.open.remove(&session) {
            self.handle(Event::Disconnected { session: SessionId(session) });
        }
    }

    pub(crate) fn hear(&mut self, session: u64, epoch: u64, event: Event) {
        if epoch != self.epoch || self.core.is_none() {
            // There is nobody at the other end.
            let lost = self.workers.iter_mut().find(|worker| worker.session == Some(session));
            lost.into_iter().for_each(|worker| worker.session = None);
            return;
        }
        if matches!(event, Event::Registered { .. }) {
            self.open.insert(session);
        }
        if session == 0 || self.open.contains(&session) {
            self.handle(event);
        }
    }

    /// One turn of the core. The master may die before or after it is durable.
    pub(crate) fn handle(&mut self, event: Event) {
        let Some(core) = &mut self.core else { return };
        let mut out = Vec::new();
        core.handle(self.now_ms, event, &mut out);
        core.check().unwrap_or_else(|wrong| panic!("{wrong}"));
        let dies = !self.quiet && !out.is_empty() && self.below(20_000) < 60;
        let is_durable = out.iter().any(|command| matches!(command, Command::Persist(_)));
        let fault = if is_durable { self.dfs.fault(Point::Turn) } else { None };
        if dies && self.chance(500) || fault == Some(Flaw::DiesBefore) {
            self.count("turn lost");
            return self.crash_master();
        }
        let (records, others): (Vec<Command>, Vec<Command>) =
            out.into_iter().partition(|command| matches!(command, Command::Persist(_)));
        for record in records {
            self.remember(&format!("{record:?}"));
            if let Command::Persist(record) = record {
                self.oracle.watch(&record);
                self.store.write(record);
            }
        }
        if dies || fault.is_some() {
            self.count("turn durable and lost");
            return self.crash_master();
        }
        others.into_iter().for_each(|command| self.carry_out(command));
    }

    fn carry_out(&mut self, command: Command) {
        if !matches!(command, Command::Changed(_)) {
            self.remember(&format!("{command:?}"));
        }
        match command {
            // The answer to the driver may be lost.
            Command::Admit { .. } if self.loses() => {}
            Command::Admit { job, .. } => self.admitted(job),
            Command::Refuse { job, refusal } => panic!("{job} is refused: {refusal:?}"),
            Command::Stage(job) => self.publish_later(job, Work::Stage),
            Command::Publish { job, manifest } => {
                let files = self.core.as_ref().expect("it has spoken").parts(job);
                self.check_publication(job, &files, &manifest);
                self.publish_later(job, Work::Publish(files, manifest.into_bytes()));
            }
            Command::Abort(job) => self.publish_later(job, Work::Abort),
            Command::Clean(job) => drop(self.oracle.cleaned.insert(job)),
            Command::Changed(_) => {}
            other => self.order(other),
        }
    }

    fn order(&mut self, order: Command) {
        let session = stream_of(&order);
        assert!(self.open.contains(&session), "{order:?} is for no open stream");
        if matches!(order, Command::RefuseWorker { .. }) {
            self.open.remove(&session);
        }
        if let Command::Welcome { worker, .. } = &order {
            self.replace_stream(worker.0, session);
        }
        if let Some(at) = self.workers.iter().position(|worker| worker.session == Some(session)) {
            self.send(at, session, false, Happening::Order(at, session, Box::new(order)));
        }
    }

    /// A worker has one stream: the one before it ends, at both ends. It may be the later one that came first.
    fn replace_stream(&mut self, worker: u64, session: u64) {
        let former = self.welcomed.insert(worker, session).filter(|former| *former != session);
        let Some(former) = former.filter(|former| self.open.remove(former)) else { return };
        let ended = self.workers.iter_mut().find(|worker| worker.session == Some(former));
        ended.into_iter().for_each(|worker| worker.session = None);
    }

    pub(crate) fn state(&self, job: JobId) -> Option<State> {
        self.core.as_ref()?.status(job).map(|status| status.state())
    }

    pub(crate) fn unended(&self) -> Vec<String> {
        let status = |job: &JobId| format!("{:?}", self.core.as_ref().map(|core| core.status(*job)));
        self.specs.keys().map(status).collect()
    }

    pub(crate) fn all_ended(&self) -> bool {
        let is_over =
            |job: &JobId| matches!(self.state(*job), Some(State::Done | State::Failed | State::Killed));
        self.driver.is_done() && self.specs.keys().all(is_over)
    }
}
