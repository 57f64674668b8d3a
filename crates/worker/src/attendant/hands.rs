//! Carries out what the agent decides: starts the threads of attempts, puts letters into their mailboxes, and gives
//! chores to the housekeeper.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use gristmill_proto::attempt::ToAttempt;
use gristmill_proto::attempt::to_attempt::Message;
use gristmill_proto::ids::AttemptId;
use gristmill_proto::task::AttemptProgress;
use gristmill_proto::task::attempt_failure::Kind;
use tokio::sync::mpsc;

use super::agent::Action;
use super::housekeeper::{Chore, Housekeeper};
use crate::attempt::{
    Assignment, Event, Letter, Mailbox, Outcome, ProgressCell, Workplace, failure, frame, live,
};

/// Of the thread of an attempt: it reads into buffers of 16 KiB.
const STACK_BYTES: usize = 512 << 10;
/// What attempts say that nobody has looked at yet. They wait then.
pub(super) const EVENTS_WAITING: usize = 256;

/// See the top of the file.
pub(super) struct Hands {
    workplace: Arc<Workplace>,
    events: mpsc::Sender<Event>,
    housekeeper: Housekeeper,
    attempts: HashMap<AttemptId, Attempt>,
}

struct Attempt {
    mailbox: Arc<Mailbox>,
    progress: Arc<ProgressCell>,
    thread: JoinHandle<()>,
}

impl Hands {
    pub(super) fn new(workplace: Arc<Workplace>, events: mpsc::Sender<Event>) -> io::Result<Hands> {
        let housekeeper = Housekeeper::start(Arc::clone(&workplace), events.clone())?;
        Ok(Hands { workplace, events, housekeeper, attempts: HashMap::new() })
    }

    pub(super) fn workplace(&self) -> &Workplace {
        &self.workplace
    }

    /// How far an attempt is.
    pub(super) fn progress(&self, now: Instant, attempt: AttemptId) -> Option<AttemptProgress> {
        Some(self.attempts.get(&attempt)?.progress.tell(now, attempt))
    }

    /// Does it. An event that follows at once is returned.
    pub(super) fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Start(assignment) => return self.start(*assignment),
            Action::Tell(attempt, outputs) => {
                match frame(&ToAttempt { message: Some(Message::Outputs(outputs)) }) {
                    Ok(frame) => self.put(attempt, Letter::Outputs(frame)),
                    Err(error) => {
                        let reason = format!("news of map outputs do not fit into a message: {error}");
                        self.put(attempt, Letter::Kill { kind: Kind::Fetch, reason, grace: Duration::ZERO });
                    }
                }
            }
            Action::Kill { attempt, kind, reason, grace } => {
                tracing::info!(%attempt, kind = kind.as_str_name(), %reason, "ends an attempt");
                self.put(attempt, Letter::Kill { kind, reason, grace });
            }
            Action::RemoveJob { job, files, has_ended } => {
                return self.housekeeper.give(Chore::RemoveJob { job, files, has_ended });
            }
            Action::DropOutput(attempt) => return self.housekeeper.give(Chore::DropOutput(attempt)),
            Action::DropAllOutputs => return self.housekeeper.give(Chore::DropAllOutputs),
            Action::ReadLog(order) => return self.housekeeper.give(Chore::ReadLog(order)),
        }
        None
    }

    /// To be called once in a while.
    pub(super) fn forget_logs(&self) -> Option<Event> {
        self.housekeeper.give(Chore::ForgetLogs)
    }

    /// The attempt has ended: its thread is about to.
    pub(super) fn ended(&mut self, attempt: AttemptId) {
        if let Some(Attempt { thread, .. }) = self.attempts.remove(&attempt)
            && thread.join().is_err()
        {
            tracing::error!(%attempt, "the thread of an attempt panicked");
        }
    }

    fn start(&mut self, assignment: Assignment) -> Option<Event> {
        let attempt = assignment.attempt;
        let started = Mailbox::new().and_then(|mailbox| {
            let (mailbox, progress) = (Arc::new(mailbox), Arc::new(ProgressCell::new(Instant::now())));
            let thread = Builder::new().name("attempt".to_owned()).stack_size(STACK_BYTES);
            let (workplace, events) = (Arc::clone(&self.workplace), self.events.clone());
            let (ears, cell) = (Arc::clone(&mailbox), Arc::clone(&progress));
            let thread = thread.spawn(move || run(&workplace, &assignment, &ears, &cell, &events))?;
            Ok(Attempt { mailbox, progress, thread })
        });
        match started {
            Ok(started) => {
                self.attempts.insert(attempt, started);
                None
            }
            Err(error) => {
                let reason = format!("the worker cannot start a thread for the attempt: {error}");
                let outcome = Outcome::Failed(failure(Kind::Scratch, reason));
                Some(Event::Ended { attempt, outcome })
            }
        }
    }

    fn put(&self, attempt: AttemptId, letter: Letter) {
        let Some(found) = self.attempts.get(&attempt) else { return };
        if let Err(error) = found.mailbox.put(letter) {
            tracing::error!(%attempt, %error, "an attempt cannot be reached");
        }
    }
}

fn run(
    workplace: &Workplace,
    assignment: &Assignment,
    mailbox: &Mailbox,
    progress: &ProgressCell,
    events: &mpsc::Sender<Event>,
) {
    let attempt = assignment.attempt;
    // The worker has ended already if nobody takes what is said.
    let tell = |event| {
        if events.blocking_send(event).is_err() {
            tracing::debug!(%attempt, "ends after its worker");
        }
    };
    let mut complain = |report| tell(Event::FetchFailed { attempt, report });
    let outcome = live(workplace, assignment, mailbox, progress, &mut complain);
    tell(Event::Ended { attempt, outcome });
}
