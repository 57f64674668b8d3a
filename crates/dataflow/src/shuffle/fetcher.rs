//! Asks the holders of map outputs, several at a time, one connection to each, until everything is here.
//!
//! ```text
//!  Sources -> follow (the caller's thread) -> Work -> ask_holders (a few threads) -> Errand::receive
//! ```

use super::errand::{Errand, OwnOutput};
use super::failure::detail;
use super::fault::Fault;
use super::fetch::{FetchError, FetchOptions};
use super::holder::HolderConnection;
use super::intake::Pack;
use super::sources::{News, Sources};
use super::work::{Wanted, Work};
use crate::hold::{self, Moment};
use gristmill_proto::consumed::Consumed;
use gristmill_proto::task::FetchFailed;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

/// Holders that are asked at the same time. (Hadoop: mapreduce.reduce.shuffle.parallelcopies, 5)
const HOLDERS_MAX: usize = 5;
/// Parts of one holder before the next holder's turn.
const BATCH_PARTS: usize = 64;
/// Requests without an answer on a connection: enough that none waits for the way of another, and so few that they fit
/// into the socket's buffers, so that neither side ever waits for the other to read.
const REQUESTS_AHEAD: usize = 16;
/// Connections that are kept for the next turn of their holders,
const IDLE_MAX: usize = 16;
/// for so long: well below the patience of the listener.
const IDLE_TIME: Duration = Duration::from_secs(10);
/// How often is looked for a cancel, and for what is to be tried again.
pub(super) const CHECK: Duration = Duration::from_millis(100);
const THREAD_STACK_BYTES: usize = 512 << 10;

/// One fetch from all map outputs of a shuffle.
pub(super) struct Fetcher<'a, E: Errand> {
    options: &'a FetchOptions,
    sources: &'a Sources,
    errand: &'a E,
    state: Mutex<State<E::Got>>,
    /// Told when there may be something to take, or all is over.
    changed: Condvar,
    over: Arc<AtomicBool>,
    idle: Mutex<VecDeque<(u64, HolderConnection, Instant)>>,
}

struct State<Got> {
    work: Work<Got>,
    expected: Option<u32>,
    fatal: Option<FetchError>,
}

impl<'a, E: Errand> Fetcher<'a, E> {
    pub(super) fn new(options: &'a FetchOptions, sources: &'a Sources, errand: &'a E) -> Self {
        let work = Work::new(options.job);
        Self {
            options,
            sources,
            errand,
            state: Mutex::new(State { work, expected: None, fatal: None }),
            changed: Condvar::new(),
            over: Arc::default(),
            idle: Mutex::default(),
        }
    }

    /// Returns what came of each map output, in the order of tasks, when there is one of each; and which they were.
    pub(super) fn run(self) -> Result<(Vec<E::Got>, Consumed), FetchError> {
        thread::scope(|scope| {
            let mut started = Ok(());
            for _ in 0..HOLDERS_MAX {
                let thread = Builder::new().name("fetch".to_owned()).stack_size(THREAD_STACK_BYTES);
                started = started.and(thread.spawn_scoped(scope, || self.ask_holders()).map(drop));
            }
            let followed = started.map_err(FetchError::Thread).and_then(|()| self.follow());
            self.end();
            followed
        })?;
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(state.work.into_got())
    }

    /// Brings news to the work, until it is done.
    fn follow(&self) -> Result<(), FetchError> {
        let mut last = News::none();
        loop {
            let news = self.sources.news(self.options.shuffle, &last, CHECK);
            if self.options.cancel.load(Ordering::Relaxed) {
                return Err(FetchError::Cancelled);
            }
            let mut state = self.lock();
            if let Some(error) = state.fatal.take() {
                return Err(error);
            }
            if self.over.load(Ordering::Relaxed) {
                // A thread panicked: the scope passes that on.
                return Err(FetchError::Cancelled);
            }
            news.entries.iter().for_each(|entry| state.work.learn(entry.clone()));
            state.work.wake(Instant::now());
            state.expected = news.expected;
            let (named, done) = state.work.counts();
            if let Some(expected) = news.expected {
                if named > expected as usize {
                    return Err(FetchError::TooMany { expected, named });
                }
                if done == expected as usize {
                    return Ok(());
                }
            }
            if news.closed {
                return Err(FetchError::Closed { done, expected: news.expected });
            }
            drop(state);
            self.changed.notify_all();
            last = News { entries: Vec::new(), ..news };
        }
    }

    fn end(&self) {
        // Under the lock: who waits has not looked before, and not missed it after.
        let state = self.lock();
        self.over.store(true, Ordering::Relaxed);
        drop(state);
        self.changed.notify_all();
        self.sources.nudge();
    }

    fn ask_holders(&self) {
        let _end = EndOnPanic(self);
        let mut pack = Pack::new(&self.options.scratch);
        while let Some((holder, batch)) = self.next() {
            if holder == self.options.worker.0 {
                self.ask_own(batch, &mut pack);
            } else {
                self.ask_other(holder, batch, &mut pack);
            }
            self.lock().work.leave(holder);
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<(u64, Vec<Wanted>)> {
        let mut state = self.lock();
        loop {
            if self.over.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(turn) = state.work.take(BATCH_PARTS) {
                return Some(turn);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ask_own(&self, batch: Vec<Wanted>, pack: &mut Pack) {
        for wanted in batch {
            if self.is_over() {
                return;
            }
            let got =
                OwnOutput::open(self.options, &wanted).and_then(|own| self.errand.own(own, &wanted, pack));
            match got {
                Ok(got) => self.got(&wanted, got),
                Err(fault) => self.failed(wanted, fault),
            }
        }
    }

    fn ask_other(&self, holder: u64, batch: Vec<Wanted>, pack: &mut Pack) {
        let Some(address) = self.sources.address(holder) else {
            return self.all_failed(batch.into(), Fault::NoAddress { holder });
        };
        let mut batch = VecDeque::from(batch);
        if let Some(kept) = self.take_idle(holder, &address) {
            match self.ask_over(holder, kept, batch, pack) {
                Ok(()) => return,
                // It was over before anything was asked: that says nothing about the map outputs.
                Err(cut) if !cut.answered && cut.fault.is_lost_connection() => batch = cut.left,
                Err(cut) => return self.all_failed(cut.left, cut.fault),
            }
        }
        let (cancel, over) = (self.options.cancel.clone(), self.over.clone());
        let stop = move || cancel.load(Ordering::Relaxed) || over.load(Ordering::Relaxed);
        match HolderConnection::connect(address, Arc::new(stop)) {
            Err(fault) => self.all_failed(batch, fault),
            Ok(connection) => {
                if let Err(cut) = self.ask_over(holder, connection, batch, pack) {
                    self.all_failed(cut.left, cut.fault);
                }
            }
        }
    }

    /// Asks over one connection, which is kept if it can be.
    fn ask_over(
        &self,
        holder: u64,
        mut connection: HolderConnection,
        mut unasked: VecDeque<Wanted>,
        pack: &mut Pack,
    ) -> Result<(), CutOff> {
        let mut unanswered = VecDeque::new();
        let mut answered = false;
        loop {
            while unanswered.len() < REQUESTS_AHEAD
                && let Some(wanted) = unasked.pop_front()
            {
                // If the other side has ended the connection, it may have said why: the answer tells.
                if let Err(error) = connection.ask(&self.options.token, self.errand.operation(&wanted)) {
                    tracing::debug!(%error, "a request for a map output is not taken");
                }
                unanswered.push_back(wanted);
            }
            let Some(wanted) = unanswered.pop_front() else { break };
            match self.errand.receive(&mut connection, &wanted, pack) {
                Ok(got) => self.got(&wanted, got),
                Err(fault) if fault.keeps_connection() => self.failed(wanted, fault),
                Err(fault) => {
                    connection.close();
                    unanswered.push_front(wanted);
                    unanswered.extend(unasked);
                    return Err(CutOff { left: unanswered, fault, answered });
                }
            }
            answered = true;
        }
        self.keep_idle(holder, connection);
        Ok(())
    }

    /// The first has failed; the others have not been tried.
    fn all_failed(&self, mut batch: VecDeque<Wanted>, fault: Fault) {
        let Some(first) = batch.pop_front() else { return };
        self.lock().work.give_back(batch);
        self.failed(first, fault);
    }

    fn got(&self, wanted: &Wanted, got: E::Got) {
        hold::reach(Moment::Shuffle);
        let mut state = self.lock();
        state.work.got(wanted, got);
        let (_, done) = state.work.counts();
        let all = state.expected.is_some_and(|expected| done == expected as usize);
        drop(state);
        if all {
            self.sources.nudge();
        }
    }

    fn failed(&self, wanted: Wanted, fault: Fault) {
        if self.is_over() {
            return;
        }
        let detail = detail(&fault);
        tracing::debug!(attempt = %wanted.output, holder = wanted.holder, %detail, "a fetch has failed");
        let mut reports = Vec::new();
        let mut state = self.lock();
        let fatal = match fault {
            Fault::Scratch(error) => Some(FetchError::Scratch(error)),
            Fault::Descriptors(source) => Some(FetchError::Descriptors(source)),
            fault => {
                state.work.failed(Instant::now(), wanted, &fault, &mut reports);
                None
            }
        };
        if let Some(error) = fatal {
            state.fatal.get_or_insert(error);
            drop(state);
            return self.sources.nudge();
        }
        drop(state);
        for report in reports {
            (self.options.report)(FetchFailed {
                // Whoever passes it on knows it.
                epoch: 0,
                reader: Some(self.options.reader.to_wire()),
                output: Some(report.output.to_wire()),
                holder: report.holder,
                kind: report.kind as i32,
                detail: detail.clone(),
            });
        }
    }

    fn take_idle(&self, holder: u64, address: &str) -> Option<HolderConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|(of, _, _)| *of == holder)?;
        let (_, connection, since) = idle.remove(at)?;
        (since.elapsed() < IDLE_TIME && connection.address() == address).then_some(connection)
    }

    fn keep_idle(&self, holder: u64, connection: HolderConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push_back((holder, connection, Instant::now()));
        if idle.len() > IDLE_MAX
            && let Some((_, oldest, _)) = idle.pop_front()
        {
            oldest.close();
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.options.cancel.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State<E::Got>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is of no more use.
struct CutOff {
    /// What is not here; the first of it was being received.
    left: VecDeque<Wanted>,
    fault: Fault,
    /// Something came before.
    answered: bool,
}

/// Whoever waits for a thread that panics must not wait for ever.
struct EndOnPanic<'f, 'a, E: Errand>(&'f Fetcher<'a, E>);

impl<E: Errand> Drop for EndOnPanic<'_, '_, E> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end();
        }
    }
}
