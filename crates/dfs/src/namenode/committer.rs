//! The one thread that changes the namespace: it takes commands in groups, makes each group one durable
//! transaction, tells the block side what came of it, and only then answers.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use gristmill_proto::ids::{BlockId, ClientId, Generation, InodeId, WorkerId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{Answer, BlockEnd, Failure};
use tokio::sync::mpsc;

use super::blocks::{Decision, Outbox, PipelineWanted};
use super::located;
use super::namespace::{Action, Applied, Caller, Command, Effect, Facts, RequestId};
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
                if let Some(action) = action_of(decision) {
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

    fn admit(&mut self, submission: Submission, commands: &mut Vec<Command>, askers: &mut Vec<Option<Asker>>) {
        match submission {
            Submission::Wake => {}
            Submission::Own(action) => {
                commands.push(self.own(action));
                askers.push(None);
            }
            Submission::Call(call) => {
                let WriteCall { caller, host, sequence, settled_below, request, answers } = call;
                let asker = Asker { sequence, user: caller.user.clone(), host, answers };
                match self.facts(&request, &asker.host) {
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
    fn facts(&mut self, request: &Request, host: &str) -> Result<Facts, Failure> {
        if self.state.has_failed() {
            return Err(refusal(Kind::Internal, "the namespace's store failed and the master is ending"));
        }
        let read_only = match self.reserve.is_read_only(self.state.clock.now_ms()) {
            Ok(read_only) => read_only,
            Err(error) => return Err(refusal(Kind::Internal, &format!("cannot ask for free disk space: {error}"))),
        };
        if read_only && !frees_space(request) {
            return Err(refusal(Kind::ReadOnly, "the disk under the master is nearly full"));
        }
        // The safe mode after a start holds back what is decided from replicas, which is no reason to refuse a change
        // of names. Set by hand it is meant to stop changes.
        if self.state.blocks().safe_mode().by_hand {
            return Err(refusal(Kind::SafeMode, "the namespace is read-only until `gristmill fs safemode leave`"));
        }
        match request {
            Request::AddBlock(add) => {
                let durable = match &add.previous {
                    Some(end) => self.is_durable(add.inode, end)?,
                    None => true,
                };
                let exclude: Vec<WorkerId> = add.exclude.iter().copied().map(WorkerId).collect();
                Ok(Facts { durable, targets: self.choose_targets(add.inode, host, &exclude)? })
            }
            Request::Complete(complete) => {
                let durable = match &complete.last {
                    Some(end) => self.is_durable(complete.inode, end)?,
                    None => true,
                };
                Ok(Facts { durable, ..Facts::default() })
            }
            _ => Ok(Facts::default()),
        }
    }

    /// Whether enough copies of a block are known to be on disk, so that its writer may leave it behind.
    fn is_durable(&self, inode: u64, end: &BlockEnd) -> Result<bool, Failure> {
        let Some(file) = self.open_file(inode)? else {
            return Ok(true); // The namespace says what is wrong.
        };
        let blocks = self.state.blocks();
        let good = blocks.good_replicas(BlockId(end.block), Generation(end.generation), end.bytes);
        Ok(good >= blocks.durable_wanted(file.replication))
    }

    fn choose_targets(&self, inode: u64, host: &str, exclude: &[WorkerId]) -> Result<Vec<WorkerId>, Failure> {
        let Some(file) = self.open_file(inode)? else {
            return Ok(Vec::new());
        };
        Ok(self.state.blocks().choose_pipeline(&PipelineWanted {
            writer_host: host,
            replication: file.replication,
            block_bytes: file.block_bytes,
            exclude,
        }))
    }

    fn open_file(&self, inode: u64) -> Result<Option<super::namespace::FileShape>, Failure> {
        let read = self.state.namespace.snapshot().and_then(|snapshot| snapshot.file_shape(InodeId(inode)));
        read.map_err(|error| refusal(Kind::Internal, &error.to_string()))
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
                    self.settle(applied, asker);
                }
            }
        }
    }

    /// The block side learns of a change before the client does, so that the client's next call finds it there.
    fn settle(&self, applied: Applied, asker: Option<Asker>) {
        if !applied.effects.is_empty() {
            let mut outbox = Outbox::default();
            let mut blocks = self.state.blocks();
            for effect in applied.effects {
                take_effect(&mut blocks, effect, self.state.clock.now_ms(), &mut outbox);
            }
            drop(blocks);
            self.state.dispatch(outbox);
        }
        match asker {
            Some(asker) => {
                let mut outcome = applied.outcome;
                located::complete(&self.state, &mut outcome, &asker.user, &asker.host, super::state::WRITE);
                asker.answer(outcome);
            }
            None => {
                if let Outcome::Failure(failure) = applied.outcome {
                    tracing::warn!(kind = failure.kind, path = %failure.path, detail = %failure.detail,
                        "the namespace refused a command of the master's own");
                }
            }
        }
    }
}

fn take_effect(blocks: &mut super::blocks::Blocks, effect: Effect, now_ms: u64, out: &mut Outbox) {
    let _ = (blocks, effect, now_ms, out);
    unimplemented!()
}

fn action_of(decision: Decision) -> Option<Action> {
    let _ = decision;
    unimplemented!()
}

fn refusal(kind: Kind, detail: &str) -> Failure {
    Failure { kind: kind.into(), path: String::new(), detail: detail.to_owned() }
}

/// What helps when the disk is full.
fn frees_space(request: &Request) -> bool {
    matches!(request, Request::Delete(_) | Request::ExpungeTrash(_) | Request::AbandonBlock(_) | Request::Complete(_))
}
