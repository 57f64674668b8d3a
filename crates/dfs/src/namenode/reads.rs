//! Answers what changes nothing durable: reads of committed state, and what concerns only the block side.

use gristmill_proto::attendance::CheckReplica;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::ids::WorkerId;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{
    Answer, Call, Check, CheckReport, ClusterReport, Done, Failure, Problem, Repair, ReportBad, SetSafeMode,
    SetWorkerState, problem, set_worker_state,
};
use tokio::sync::mpsc;

use super::blocks::{KnownBlock, Outbox};
use super::located;
use super::namespace::{CallError, Caller, CheckedFile, Snapshot, StoreError};
use super::state::{READ, State};

/// Files that one page of a check looks at, unless the caller wants fewer.
const CHECK_FILES_MAX: u32 = 1_000;

/// Who asks, and from where.
pub(crate) struct Reader<'c> {
    pub(crate) caller: &'c Caller,
    pub(crate) host: &'c str,
}

/// Answers calls in order, all from one snapshot: what was committed when it was taken.
pub(crate) fn answer(state: &State, reader: &Reader, calls: Vec<Call>, answers: &mpsc::UnboundedSender<Answer>) {
    let snapshot = state.namespace.snapshot();
    for call in calls {
        let Some(request) = call.request else {
            continue; // Sorted out before.
        };
        let outcome = match &snapshot {
            Ok(snapshot) => Reading { state, reader, snapshot }.outcome(request),
            Err(error) => refused(Kind::Internal, &error.to_string()),
        };
        if answers.send(Answer { sequence: call.sequence, outcome: Some(outcome) }).is_err() {
            return; // The client is gone.
        }
    }
}

struct Reading<'s> {
    state: &'s State,
    reader: &'s Reader<'s>,
    snapshot: &'s Snapshot,
}

impl Reading<'_> {
    fn outcome(&self, request: Request) -> Outcome {
        match self.read(request) {
            Ok(mut outcome) => {
                located::complete(self.state, &mut outcome, &self.reader.caller.user, self.reader.host, READ);
                outcome
            }
            Err(CallError::Refused(failure)) => Outcome::Failure(failure),
            Err(CallError::Store(error)) => {
                tracing::error!(%error, "cannot read the namespace");
                refused(Kind::Internal, &error.to_string())
            }
        }
    }

    fn read(&self, request: Request) -> Result<Outcome, CallError> {
        let (snapshot, caller) = (self.snapshot, self.reader.caller);
        Ok(match request {
            Request::Stat(stat) => Outcome::Entry(snapshot.stat(caller, &stat)?),
            Request::List(list) => Outcome::Listing(snapshot.list(caller, &list)?),
            Request::Summarize(summarize) => Outcome::Summary(snapshot.summarize(caller, &summarize)?),
            Request::Locate(locate) => Outcome::Located(snapshot.locate(caller, &locate)?),
            Request::Space(_) => Outcome::Space(self.state.blocks().space()),
            Request::Report(_) => Outcome::Report(self.report()?),
            Request::Check(check) => Outcome::Check(self.check(&check)?),
            Request::RenewLeases(_) => done(), // Whatever a client sends is a sign of life.
            Request::ReportBad(bad) => self.report_bad(&bad),
            Request::SetWorkerState(set) => self.as_superuser(|| self.set_worker_state(&set))?,
            Request::SetSafeMode(set) => self.as_superuser(|| self.set_safe_mode(&set))?,
            Request::Repair(repair) => self.repair(&repair)?,
            _ => refused(Kind::InvalidArgument, "the call asks for nothing this master knows"),
        })
    }

    fn report(&self) -> Result<ClusterReport, StoreError> {
        let totals = self.snapshot.totals()?;
        let now_ms = self.state.clock.now_ms();
        let blocks = self.state.blocks();
        Ok(ClusterReport {
            space: Some(blocks.space()),
            safe_mode: Some(blocks.safe_mode()),
            workers: blocks.worker_reports(now_ms),
            directories: totals.directories,
            files: totals.files,
            blocks: totals.blocks,
            pending_replication: blocks.pending_replication(),
            pending_deletion: blocks.pending_deletion(),
            epoch: self.state.epoch().0,
            read_only: self.state.is_read_only(),
        })
    }

    /// A client met a bad replica. It is not taken at its word: the worker verifies what it has.
    fn report_bad(&self, bad: &ReportBad) -> Outcome {
        let order = Order::CheckReplica(CheckReplica { block: bad.block, generation: bad.generation });
        let outbox = Outbox { orders: vec![(WorkerId(bad.worker), order)], ..Outbox::default() };
        self.state.dispatch(outbox);
        done()
    }

    fn as_superuser(&self, act: impl FnOnce() -> Outcome) -> Result<Outcome, CallError> {
        match self.snapshot.is_superuser(self.reader.caller)? {
            true => Ok(act()),
            false => Ok(refused(Kind::PermissionDenied, "only the superuser may do this")),
        }
    }

    fn set_worker_state(&self, set: &SetWorkerState) -> Outcome {
        let Ok(wanted) = set_worker_state::State::try_from(set.state) else {
            return refused(Kind::InvalidArgument, "no such state of a worker");
        };
        let mut outbox = Outbox::default();
        let now_ms = self.state.clock.now_ms();
        let known = self.state.blocks().set_worker_state(WorkerId(set.worker), wanted, now_ms, &mut outbox);
        self.state.dispatch(outbox);
        match known {
            true => done(),
            false => refused(Kind::NotFound, &format!("there is no worker-{}", set.worker)),
        }
    }

    fn set_safe_mode(&self, set: &SetSafeMode) -> Outcome {
        self.state.blocks().set_safe_mode(set.on, self.state.clock.now_ms());
        done()
    }

    /// One page of a check: what is wrong with files after `check.after`.
    fn check(&self, check: &Check) -> Result<CheckReport, CallError> {
        let limit = if check.limit == 0 { CHECK_FILES_MAX } else { check.limit.min(CHECK_FILES_MAX) };
        let page = self.snapshot.check_page(self.reader.caller, &check.path, &check.after, limit as usize)?;
        let mut report = CheckReport { last: page.last, ..CheckReport::default() };
        let blocks = self.state.blocks();
        for file in &page.files {
            report.files += 1;
            if file.open {
                report.problems.push(Problem {
                    path: file.path.clone(),
                    kind: problem::Kind::Open.into(),
                    ..Problem::default()
                });
            }
            for (block, record) in &file.blocks {
                report.blocks += 1;
                report.bytes += record.bytes;
                for found in blocks.problems(*block, &KnownBlock::from(*record)) {
                    report.problems.push(Problem { path: file.path.clone(), block: block.0, ..found });
                }
            }
        }
        Ok(report)
    }

    /// Tells the block side once more what to expect of every block below a path.
    fn repair(&self, repair: &Repair) -> Result<Outcome, CallError> {
        let mut after = String::new();
        loop {
            let page =
                self.snapshot.check_page(self.reader.caller, &repair.path, &after, CHECK_FILES_MAX as usize)?;
            let mut blocks = self.state.blocks();
            let complete = |file: &CheckedFile| file.blocks.clone();
            for (block, record) in page.files.iter().flat_map(complete) {
                if record.complete {
                    blocks.expect(block, record.replication);
                }
            }
            drop(blocks);
            if page.last.is_empty() {
                return Ok(done());
            }
            after = page.last;
        }
    }
}

fn done() -> Outcome {
    Outcome::Done(Done {})
}

fn refused(kind: Kind, detail: &str) -> Outcome {
    Outcome::Failure(Failure { kind: kind.into(), path: String::new(), detail: detail.to_owned() })
}
