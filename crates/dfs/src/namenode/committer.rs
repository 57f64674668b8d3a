//! The one thread that changes the namespace: it takes commands in groups, makes each group one durable
//! transaction, tells the block side what came of it, and only then answers.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use gristmill_proto::ids::ClientId;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{Answer, Failure};
use tokio::sync::mpsc;

use super::blocks::Outbox;
use super::effects;
use super::facts;
use super::located;
use super::namespace::{Action, Caller, Command, Effect, Facts, RequestId, StoreError};
use super::reserve::Reserve;
use super::state::State;

/// Commands of one transaction. A sync costs as much as some hundred commands, so more would add delay, not speed.
const GROUP_COMMANDS_MAX: usize = 512;

/// Submissions that wait. Each stream has a limit of its own; this one is for all of them.
const WAITING_MAX: usize = 16 * 1024;

/// Something for the committer to do.
pub(crate) enum Submission {
    /// A call that changes the namespace.
    Call(WriteCall),
    /// The namenode's own work: recovery, trash, what deleted directories leave behind.
    Own(Action),
    /// Decisions of the block side wait.
    Wake,
}

/// A call that changes the namespace, and where its answer goes.
pub(crate) struct WriteCall {
    pub(crate) caller: Caller,
    pub(crate) host: Arc<str>,
    pub(crate) sequence: u64,
    pub(crate) settled_below: u64,
    pub(crate) request: Request,
    pub(crate) answers: mpsc::UnboundedSender<Answer>,
}

/// The way to the committer. It ends when all ways to it are gone.
pub(crate) type CommitQueue = mpsc::Sender<Submission>;

/// Starts the committer.
pub(crate) fn start(state: Arc<State>, reserve: Reserve) -> std::io::Result<(CommitQueue, JoinHandle<()>)> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let committer = Committer { state, reserve };
    let thread = thread::Builder::new().name("committer".into()).spawn(move || committer.run(receiver))?;
    Ok((sender, thread))
}

struct Committer {
    state: Arc<State>,
    reserve: Reserve,
}

/// Where the answer to one command of a group goes; the namenode's own commands have none.
struct Asker {
    sequence: u64,
    user: String,
    host: Arc<str>,
    answers: mpsc::UnboundedSender<Answer>,
}

impl Asker {
    /// A client that is gone does not need its answer: it asks again, under the same sequence.
    fn answer(&self, outcome: Outcome) {
        if self.answers.send(Answer { sequence: self.sequence, outcome: Some(outcome) }).is_err() {
            tracing::debug!(sequence = self.sequence, "the client is gone before its answer");
        }
    }
}

impl Committer {
    fn run(mut self, mut queue: mpsc::Receiver<Submission>) {
        let mut waiting = Vec::with_capacity(GROUP_COMMANDS_MAX);
        while queue.blocking_recv_many(&mut waiting, GROUP_COMMANDS_MAX) > 0 {
            let mut commands = Vec::with_capacity(waiting.len());
            let mut askers = Vec::with_capacity(waiting.len());
            for decision in self.state.take_decisions(GROUP_COMMANDS_MAX) {
                if let Some(action) = effects::action_of(decision) {
                    commands.push(self.own(action));
                    askers.push(None);
                }
            }
            for submission in waiting.drain(..) {
                self.admit(submission, &mut commands, &mut askers);
            }
            self.commit(&commands, askers);
        }
    }

    fn own(&self, action: Action) -> Command {
        let caller = Caller { client: ClientId([0; 16]), user: String::new(), groups: Vec::new() };
        Command { id: None, settled_below: 0, caller, now_ms: self.state.clock.wall_ms(), action }
    }

    fn admit(
        &mut self,
        submission: Submission,
        commands: &mut Vec<Command>,
        askers: &mut Vec<Option<Asker>>,
    ) {
        match submission {
            Submission::Wake => {}
            Submission::Own(action) => {
                commands.push(self.own(action));
                askers.push(None);
            }
            Submission::Call(call) => {
                let WriteCall { caller, host, sequence, settled_below, mut request, answers } = call;
                if let Request::Create(create) = &mut request
                    && create.replication == 0
                {
                    create.replication = self.state.default_replication();
                }
                let asker = Asker { sequence, user: caller.user.clone(), host, answers };
                match self.facts(&caller, &request, &asker.host) {
                    Err(failure) => asker.answer(Outcome::Failure(failure)),
                    Ok(facts) => {
                        let id = Some(RequestId { client: caller.client, sequence });
                        let action = Action::Request(request, facts);
                        let now_ms = self.state.clock.wall_ms();
                        commands.push(Command { id, settled_below, caller, now_ms, action });
                        askers.push(Some(asker));
                    }
                }
            }
        }
    }

    /// What only the block side knows about a request, or why it cannot be taken now.
    fn facts(&mut self, caller: &Caller, request: &Request, host: &str) -> Result<Facts, Failure> {
        if self.state.has_failed() {
            return Err(refusal(Kind::Internal, "the namespace's store failed and the master is ending"));
        }
        let read_only = match self.reserve.is_read_only(self.state.clock.now_ms()) {
            Ok(read_only) => read_only,
            Err(error) => {
                return Err(refusal(Kind::Internal, &format!("cannot ask for free disk space: {error}")));
            }
        };
        self.state.set_read_only(read_only);
        if read_only && !frees_space(request) && !is_of_operator(request) {
            return Err(refusal(Kind::ReadOnly, "the disk under the master is nearly full"));
        }
        // The safe mode after a start holds back what is decided from replicas, which is no reason to refuse a change
        // of names. Set by hand it is meant to stop changes.
        if self.state.blocks().safe_mode().by_hand && !is_of_operator(request) {
            return Err(refusal(
                Kind::ReadOnlyByHand,
                "the namespace is read-only until `gristmill fs safemode leave`",
            ));
        }
        let snapshot = self.state.namespace.snapshot();
        let facts = snapshot
            .and_then(|snapshot| facts::facts(|| self.state.blocks(), &snapshot, caller, request, host));
        facts.map_err(|error| refusal(Kind::Internal, &error.to_string()))
    }

    fn commit(&self, commands: &[Command], askers: Vec<Option<Asker>>) {
        if commands.is_empty() {
            return;
        }
        match self.state.namespace.apply_group(commands, &*self.state) {
            Err(error) => {
                self.state.fail(error.to_string());
                for asker in askers.into_iter().flatten() {
                    asker.answer(Outcome::Failure(refusal(Kind::Internal, &error.to_string())));
                }
            }
            Ok(applied) => {
                for (applied, asker) in applied.into_iter().zip(askers) {
                    if let Err(error) = self.take_effects(applied.effects) {
                        self.state.fail(error.to_string());
                    }
                    self.answer(applied.outcome, asker);
                }
            }
        }
    }

    /// The block side learns of a change before the client does, so that the client's next call finds it there.
    fn take_effects(&self, effects: Vec<Effect>) -> Result<(), StoreError> {
        if effects.is_empty() {
            return Ok(());
        }
        let snapshot = self.state.namespace.snapshot()?;
        let mut outbox = Outbox::default();
        let mut blocks = self.state.blocks();
        let now_ms = self.state.clock.now_ms();
        for effect in effects {
            effects::take(&mut blocks, &snapshot, effect, now_ms, &mut outbox)?;
        }
        drop(blocks);
        self.state.dispatch(outbox);
        Ok(())
    }

    fn answer(&self, outcome: Outcome, asker: Option<Asker>) {
        match (asker, outcome) {
            (Some(asker), mut outcome) => {
                located::complete(&self.state, &mut outcome, &asker.user, &asker.host);
                asker.answer(outcome);
            }
            (None, Outcome::Failure(failure)) => {
                tracing::warn!(kind = failure.kind, path = %failure.path, detail = %failure.detail,
                    "the namespace refused a command of the master's own");
            }
            (None, _) => {}
        }
    }
}

fn refusal(kind: Kind, detail: &str) -> Failure {
    Failure { kind: kind.into(), path: String::new(), detail: detail.to_owned() }
}

/// What an operator may do whatever is the matter.
fn is_of_operator(request: &Request) -> bool {
    matches!(request, Request::SetSafeMode(_) | Request::SetWorkerState(_))
}

/// What helps when the disk is full.
fn frees_space(request: &Request) -> bool {
    matches!(
        request,
        Request::Delete(_) | Request::ExpungeTrash(_) | Request::AbandonBlock(_) | Request::Complete(_)
    )
}
