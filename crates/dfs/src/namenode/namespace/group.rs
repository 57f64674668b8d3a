//! A group of commands, one after the other, in one transaction.

use gristmill_proto::namespace::Done;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use redb::WriteTransaction;

use super::access::Actor;
use super::change::{Call, Change};
use super::refusal::{failure, is_kept, refuse};
use super::sessions::{Known, Sessions};
use super::tables::ROOT;
use super::tree::Tree;
use super::{
    Action, Applied, CallError, Command, Effect, Facts, LeaseClock, NamespaceOptions, RequestId, StoreError,
};

/// Applies all commands to a transaction, which is then to be committed; after an error it must not be.
pub(super) fn apply(
    transaction: &WriteTransaction,
    commands: &[Command],
    options: &NamespaceOptions,
    leases: &dyn LeaseClock,
) -> Result<Vec<Applied>, StoreError> {
    let mut group = Group {
        change: Change::begin(transaction, options, leases)?,
        sessions: Sessions::begin(transaction)?,
    };
    let applied = commands.iter().map(|command| group.apply(command)).collect::<Result<_, _>>()?;
    group.change.finish(transaction)?;
    group.sessions.finish()?;
    Ok(applied)
}

struct Group<'t> {
    change: Change<'t>,
    sessions: Sessions<'t>,
}

impl Group<'_> {
    fn apply(&mut self, command: &Command) -> Result<Applied, StoreError> {
        let Some(id) = command.id else { return self.apply_new(command) };
        match self.sessions.look_up(id, command.settled_below, command.now_ms)? {
            Known::New => {
                let mut applied = self.apply_new(command)?;
                if is_to_be_kept(&applied.outcome) {
                    applied.outcome = self.sessions.keep(id, applied.outcome)?;
                }
                Ok(applied)
            }
            Known::Answered(outcome) => {
                Ok(Applied { outcome: *outcome, effects: Vec::new(), replayed: true })
            }
            Known::Settled => {
                Ok(refused(id, Kind::InvalidArgument, "the client has said that it is done with this call"))
            }
            Known::Full => Ok(refused(id, Kind::Overloaded, "the client has too many unsettled calls")),
        }
    }

    fn apply_new(&mut self, command: &Command) -> Result<Applied, StoreError> {
        let done = self.perform(command).and_then(|outcome| self.change.check_quotas().map(|()| outcome));
        let outcome = match done {
            Ok(outcome) => outcome,
            Err(CallError::Store(problem)) => return Err(problem),
            Err(CallError::Refused(failure)) => {
                self.change.roll_back()?;
                Outcome::Failure(failure)
            }
        };
        Ok(Applied { outcome, effects: self.change.keep(), replayed: false })
    }

    fn perform(&mut self, command: &Command) -> Result<Outcome, CallError> {
        let change = &mut self.change;
        let root = change.expect(ROOT)?;
        let mut call = Call {
            actor: Actor::new(&command.caller, &root),
            now_ms: command.now_ms,
            facts: const { &Facts { targets: Vec::new(), durable: false, is_known: false } },
        };
        match &command.action {
            Action::Request(request, facts) => {
                call.facts = facts;
                return request_of(change, &call, request);
            }
            Action::BeginRecovery { inode, holder } => {
                return change.begin_recovery(*inode, *holder, command.now_ms);
            }
            Action::FinishRecovery { inode, block, generation, bytes } => {
                return change.finish_recovery(*inode, (*block, *generation), *bytes, command.now_ms);
            }
            Action::ExpireTrash { before_ms } => return change.expire_trash(&call, *before_ms),
            Action::EndMaintenance { worker } => change.end_maintenance(*worker)?,
            Action::Reclaim { records_max } => change.reclaim(*records_max)?,
            Action::ForgetSessions { before_ms, answers_max } => {
                if self.sessions.forget(*before_ms, *answers_max)? {
                    change.effects.push(Effect::Unfinished);
                }
            }
        }
        Ok(Outcome::Done(Done {}))
    }
}

/// What a client asks for.
fn request_of(change: &mut Change, call: &Call, request: &Request) -> Result<Outcome, CallError> {
    match request {
        Request::MakeDirectory(request) => change.make_directory(call, request),
        Request::Create(request) => change.create(call, request),
        Request::AddBlock(request) => change.add_block(call, request),
        Request::RebuildBlock(request) => change.rebuild_block(call, request),
        Request::AbandonBlock(request) => change.abandon_block(call, request),
        Request::Sync(request) => change.sync(call, request),
        Request::Complete(request) => change.complete(call, request),
        Request::Append(request) => change.append(call, request),
        Request::Truncate(request) => change.truncate(call, request),
        Request::Rename(request) => change.rename(call, request),
        Request::Delete(request) => change.delete(call, request),
        Request::Publish(request) => change.publish(call, request),
        Request::Concat(request) => change.concat(call, request),
        Request::SetReplication(request) => change.set_replication(call, request),
        Request::SetMode(request) => change.set_mode(call, request),
        Request::SetOwner(request) => change.set_owner(call, request),
        Request::SetTimes(request) => change.set_times(call, request),
        Request::SetQuota(request) => change.set_quota(call, request),
        Request::RecoverLease(request) => change.recover_lease(call, request),
        Request::ExpungeTrash(request) => change.expunge_trash(call, request),
        Request::SetWorkerState(request) => change.set_worker_state(call, request),
        Request::SetSafeMode(request) => change.set_safe_mode(call, request),
        Request::Stat(_)
        | Request::List(_)
        | Request::Summarize(_)
        | Request::Locate(_)
        | Request::Space(_)
        | Request::Report(_)
        | Request::Check(_)
        | Request::RenewLeases(_)
        | Request::ReportBad(_)
        | Request::Repair(_) => {
            Err(refuse(Kind::InvalidArgument, "", "the call is no change of the namespace"))
        }
    }
}

fn is_to_be_kept(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failure(failure) => is_kept(failure.kind()),
        _ => true,
    }
}

fn refused(id: RequestId, kind: Kind, detail: &str) -> Applied {
    let failure = failure(kind, format_args!("call {} of client {}", id.sequence, id.client), detail);
    Applied { outcome: Outcome::Failure(failure), effects: Vec::new(), replayed: false }
}
