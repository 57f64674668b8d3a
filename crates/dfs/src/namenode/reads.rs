//! Answers what changes nothing durable: reads of committed state, and what concerns only the block side.

use gristmill_proto::attendance::CheckReplica;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::ids::{BlockId, WorkerId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{
    Answer, Call, Check, CheckReport, ClusterReport, Done, Failure, Problem, Repair, ReportBad, problem,
};
use tokio::sync::mpsc;

use super::blocks::{BlockHealth, KnownBlock, Outbox};
use super::located;
use super::namespace::{CallError, Caller, Snapshot};
use super::state::State;

/// Who asks, and from where.
pub(crate) struct Reader<'c> {
    pub(crate) caller: &'c Caller,
    pub(crate) host: &'c str,
}

/// Answers calls in order, all from one snapshot: what was committed when it was taken.
pub(crate) fn answer(
    state: &State,
    reader: &Reader,
    calls: Vec<Call>,
    answers: &mpsc::UnboundedSender<Answer>,
) {
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
                located::complete(self.state, &mut outcome, &self.reader.caller.user, self.reader.host);
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
            Request::Stat(stat) => Outcome::Entry(snapshot.stat(caller, &stat.path)?),
            Request::List(list) => Outcome::Listing(snapshot.list(caller, &list)?),
            Request::Summarize(summarize) => Outcome::Summary(snapshot.summarize(caller, &summarize.path)?),
            Request::Locate(locate) => Outcome::Located(snapshot.locate(caller, &locate)?),
            Request::Space(_) => Outcome::Space(self.state.blocks().totals().space),
            Request::Report(_) => Outcome::Report(self.report()),
            Request::Check(check) => Outcome::Check(self.check(&check)?),
            Request::RenewLeases(_) => done(), // Whatever a client sends is a sign of life.
            Request::ReportBad(bad) => self.report_bad(&bad),
            Request::Repair(repair) => self.repair(&repair)?,
            _ => refused(Kind::InvalidArgument, "the call asks for nothing this master knows"),
        })
    }

    fn report(&self) -> ClusterReport {
        let names = self.snapshot.totals();
        let blocks = self.state.blocks();
        let totals = blocks.totals();
        ClusterReport {
            space: Some(totals.space),
            safe_mode: Some(blocks.safe_mode()),
            workers: blocks.worker_reports(),
            directories: names.directories,
            files: names.files,
            blocks: names.blocks,
            pending_replication: totals.pending_replication,
            pending_deletion: totals.pending_deletion,
            epoch: self.state.epoch().0,
            read_only: self.state.is_read_only(),
        }
    }

    /// A client met a bad replica. It is not taken at its word: the worker verifies what it has.
    fn report_bad(&self, bad: &ReportBad) -> Outcome {
        let order = Order::CheckReplica(CheckReplica { block: bad.block, generation: bad.generation });
        let outbox = Outbox { orders: vec![(WorkerId(bad.worker), order)], ..Outbox::default() };
        self.state.dispatch(outbox);
        done()
    }

    /// One page of a check: what is wrong with files after `check.after`.
    fn check(&self, check: &Check) -> Result<CheckReport, CallError> {
        let page = self.snapshot.check_page(self.reader.caller, check)?;
        let mut report = CheckReport {
            files: page.files.len() as u64,
            blocks: page.blocks,
            bytes: page.bytes,
            last: page.last,
            problems: Vec::new(),
        };
        let blocks = self.state.blocks();
        for file in &page.files {
            for (block, record) in &file.blocks {
                let health = blocks.problems(*block, &KnownBlock::from(*record));
                report.problems.extend(problems_of(&file.path, *block, &health));
            }
            if file.open {
                report.problems.push(Problem {
                    path: file.path.clone(),
                    kind: problem::Kind::Open.into(),
                    ..Problem::default()
                });
            }
        }
        Ok(report)
    }

    /// Has the block side look again at every block below a path, and forget former failures to mend it.
    fn repair(&self, repair: &Repair) -> Result<Outcome, CallError> {
        let mut check = Check { path: repair.path.clone(), ..Check::default() };
        loop {
            let page = self.snapshot.check_page(self.reader.caller, &check)?;
            let mut blocks = self.state.blocks();
            for (block, record) in page.files.iter().flat_map(|file| &file.blocks) {
                blocks.repair(*block, &KnownBlock::from(*record));
            }
            drop(blocks);
            if page.last.is_empty() {
                return Ok(done());
            }
            check.after = page.last;
        }
    }
}

/// Each problem of a block by itself. That it is being written is said of the file.
fn problems_of(path: &str, block: BlockId, health: &BlockHealth) -> Vec<Problem> {
    let kinds = health.problems.iter().filter(|kind| **kind != problem::Kind::Open);
    let problem = |kind: &problem::Kind| Problem {
        path: path.to_owned(),
        block: block.0,
        kind: (*kind).into(),
        replicas: health.replicas,
        target: health.target,
        workers: health.workers.iter().map(WorkerId::to_string).collect(),
    };
    kinds.map(problem).collect()
}

fn done() -> Outcome {
    Outcome::Done(Done {})
}

fn refused(kind: Kind, detail: &str) -> Outcome {
    Outcome::Failure(Failure { kind: kind.into(), path: String::new(), detail: detail.to_owned() })
}
