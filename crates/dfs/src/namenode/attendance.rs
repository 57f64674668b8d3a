//! The service that core workers attend: what they hold comes in, orders go out.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::attendance_server::{Attendance, AttendanceServer};
use gristmill_proto::attendance::notice::Notice as Kind;
use gristmill_proto::attendance::order::Order as OrderKind;
use gristmill_proto::attendance::{
    BlockReport, Changes, Notice, Order, Orders, Refused, Register, ReplicaInfo, ReportAnswer, Welcome,
    refused,
};
use gristmill_proto::ids::{BlockId, Incarnation, WorkerId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::blocks::{self, Attendant, KnownBlock, Outbox, Slice};
use super::committer::{CommitQueue, Submission};
use super::namespace::{Snapshot, StoreError};
use super::state::State;

/// Replicas of one message of changes.
const CHANGES_MAX: usize = 10_000;

/// The service, to be added to a gRPC server.
pub(crate) fn service(state: Arc<State>, committer: CommitQueue) -> AttendanceServer<AttendanceService> {
    AttendanceServer::new(AttendanceService { state, committer })
}

/// Takes the notices of workers.
pub struct AttendanceService {
    state: Arc<State>,
    committer: CommitQueue,
}

#[tonic::async_trait]
impl Attendance for AttendanceService {
    type AttendStream = Pin<Box<dyn Stream<Item = Result<Orders, Status>> + Send>>;

    async fn attend(
        &self,
        request: Request<Streaming<Notice>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        super::callers::check_worker(&self.state, request.metadata())?;
        let peer = request.remote_addr();
        let mut notices = request.into_inner();
        let Some(Kind::Register(register)) = notices.message().await?.and_then(|notice| notice.notice) else {
            return Err(Status::invalid_argument("the first message of a worker's stream registers it"));
        };
        match self.register(register, peer) {
            Err(refused) => {
                tracing::warn!(reason = refused.reason, detail = %refused.detail, "a worker was refused");
                let orders = self.orders(OrderKind::Refused(refused));
                Ok(Response::new(Box::pin(tokio_stream::once(Ok(orders)))))
            }
            Ok((from, orders)) => {
                let welcome = Ok(self.orders(OrderKind::Welcome(self.welcome(from.worker))));
                let attending =
                    Attending { state: self.state.clone(), committer: self.committer.clone(), from };
                tokio::spawn(attending.serve(notices));
                Ok(Response::new(Box::pin(
                    tokio_stream::once(welcome).chain(ReceiverStream::new(orders).map(Ok)),
                )))
            }
        }
    }

    async fn report(
        &self,
        request: Request<Streaming<BlockReport>>,
    ) -> Result<Response<ReportAnswer>, Status> {
        super::callers::check_worker(&self.state, request.metadata())?;
        let mut slices = request.into_inner();
        let mut answer = ReportAnswer::default();
        while let Some(slice) = slices.message().await? {
            let state = self.state.clone();
            let taken = tokio::task::spawn_blocking(move || take_slice(&state, &slice));
            let (replicas, unknown) = taken.await.map_err(|error| Status::internal(error.to_string()))??;
            answer.replicas += replicas;
            answer.unknown += unknown;
            wake(&self.committer);
        }
        Ok(Response::new(answer))
    }
}

impl AttendanceService {
    fn register(
        &self,
        register: Register,
        peer: Option<SocketAddr>,
    ) -> Result<(Attendant, mpsc::Receiver<Orders>), Refused> {
        let cluster = self.state.namespace.cluster();
        if register.version != PROTOCOL_VERSION {
            let detail =
                format!("the worker speaks version {}, this master {PROTOCOL_VERSION}", register.version);
            return Err(Refused { reason: refused::Reason::WrongVersion.into(), detail });
        }
        if !register.cluster_id.is_empty() && register.cluster_id[..] != cluster.0 {
            let detail = format!("its data belongs to another cluster than {cluster}");
            return Err(Refused { reason: refused::Reason::WrongCluster.into(), detail });
        }
        let address = address_of(&register.address, peer)?;
        let mut outbox = Outbox::default();
        let now_ms = self.state.clock.now_ms();
        let mut blocks = self.state.blocks();
        let from = blocks.register(&register, address.clone(), now_ms, &mut outbox)?;
        // Under the lock of the blocks: no order to this worker is lost in between.
        let orders = self.state.connect(from);
        drop(blocks);
        self.state.dispatch(outbox);
        tracing::info!(worker = %from.worker, %address, host = %register.host, rack = %register.rack, "worker registered");
        Ok((from, orders))
    }

    fn welcome(&self, worker: WorkerId) -> Welcome {
        Welcome {
            version: PROTOCOL_VERSION,
            cluster_id: self.state.namespace.cluster().0.to_vec().into(),
            worker: worker.0,
            heartbeat_interval_ms: self.state.options.heartbeat_interval_ms,
            open_key: self.state.open_key().into(),
        }
    }

    fn orders(&self, order: OrderKind) -> Orders {
        Orders { epoch: self.state.epoch().0, orders: vec![Order { order: Some(order) }] }
    }
}

/// The address of the worker's bulk listener: an empty host is the one it comes from.
fn address_of(address: &str, peer: Option<SocketAddr>) -> Result<String, Refused> {
    let refused = |detail: String| Refused { reason: refused::Reason::Unspecified.into(), detail };
    let (host, port) =
        address.rsplit_once(':').ok_or_else(|| refused(format!("{address:?} is no HOST:PORT")))?;
    let port: u16 = port.parse().map_err(|error| refused(format!("{address:?} has no port: {error}")))?;
    match (host, peer) {
        ("", Some(peer)) => Ok(SocketAddr::new(peer.ip(), port).to_string()),
        ("", None) => Err(refused("the worker gave no host, and the connection has none".into())),
        (host, _) => Ok(format!("{host}:{port}")),
    }
}

/// One worker's open stream.
struct Attending {
    state: Arc<State>,
    committer: CommitQueue,
    from: Attendant,
}

impl Attending {
    async fn serve(self, mut notices: Streaming<Notice>) {
        loop {
            let notice = match notices.message().await {
                Ok(Some(notice)) => notice,
                Ok(None) => break,
                Err(status) => {
                    tracing::info!(worker = %self.from.worker, %status, "the worker's stream broke");
                    break;
                }
            };
            match self.take(notice) {
                Ok(Ok(())) => wake(&self.committer),
                Ok(Err(refused)) => {
                    self.state.refuse(self.from, refused);
                    break;
                }
                Err(error) => {
                    self.state.fail(error.to_string());
                    break;
                }
            }
        }
        if self.state.disconnect(self.from) {
            self.state.blocks().disconnected(self.from, self.state.clock.now_ms());
        }
    }

    /// Takes one notice; a refusal ends the stream, and is its last order.
    fn take(&self, notice: Notice) -> Result<Result<(), Refused>, StoreError> {
        let now_ms = self.state.clock.now_ms();
        let mut outbox = Outbox::default();
        let taken = match notice.notice {
            Some(Kind::Heartbeat(heartbeat)) => {
                let taken = self.state.blocks().heartbeat(self.from, &heartbeat, now_ms);
                self.state.answer_heartbeat(self.from);
                taken
            }
            Some(Kind::Stopped(stopped)) => {
                self.state.blocks().stopped(self.from, &stopped, now_ms, &mut outbox)
            }
            Some(Kind::Changes(changes)) => self.take_changes(&changes, now_ms, &mut outbox)?,
            Some(Kind::Register(_)) | None => Err(Refused {
                reason: refused::Reason::Unspecified.into(),
                detail: "a notice makes no sense here".to_owned(),
            }),
        };
        self.state.dispatch(outbox);
        Ok(taken)
    }

    fn take_changes(
        &self,
        changes: &Changes,
        now_ms: u64,
        out: &mut Outbox,
    ) -> Result<Result<(), Refused>, StoreError> {
        let count = changes.finished.len() + changes.deleted.len() + changes.bad.len();
        if count > CHANGES_MAX {
            let detail = format!("{count} changes in a message, of {CHANGES_MAX}");
            return Ok(Err(Refused { reason: refused::Reason::Unspecified.into(), detail }));
        }
        let snapshot = self.state.namespace.snapshot()?;
        let finished = known(&snapshot, &changes.finished)?;
        let bad = known(&snapshot, &changes.bad)?;
        let mut blocks = self.state.blocks();
        Ok(blocks
            .finished(self.from, &finished, now_ms, out)
            .and_then(|()| blocks.deleted(self.from, &changes.deleted, now_ms))
            .and_then(|()| blocks.bad(self.from, &bad, now_ms)))
    }
}

/// Decisions may wait now. A full queue needs no waking.
fn wake(committer: &CommitQueue) {
    if let Err(mpsc::error::TrySendError::Closed(_)) = committer.try_send(Submission::Wake) {
        tracing::debug!("the committer has ended");
    }
}

/// Takes in one slice of a full report; returns how many replicas it had, and how many of them are of no block. The
/// block side is held meanwhile: a slice is short.
fn take_slice(state: &State, report: &BlockReport) -> Result<(u64, u64), Status> {
    let incarnation = Incarnation::from_wire(&report.incarnation)
        .ok_or_else(|| Status::invalid_argument("an incarnation has 16 bytes"))?;
    let replicas =
        blocks::replicas_of(report).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let snapshot = state.namespace.snapshot().map_err(store_failed)?;
    let unfinished = known(&snapshot, &report.unfinished).map_err(store_failed)?;
    let known = known(&snapshot, &replicas).map_err(store_failed)?;
    let slice = Slice {
        worker: WorkerId(report.worker),
        incarnation,
        report_id: report.report_id,
        first: BlockId(report.first),
        last: BlockId(report.last),
        replicas: &known,
    };
    let mut outbox = Outbox::default();
    let taken = {
        let mut blocks = state.blocks();
        let taken = blocks.report_slice(&slice, state.clock.now_ms(), &mut outbox);
        if taken.is_ok() {
            blocks.report_unfinished(slice.worker, &unfinished);
        }
        taken
    };
    state.dispatch(outbox);
    let taken = taken.map_err(|error| {
        tracing::warn!(worker = report.worker, %error, "a slice of a report was refused");
        Status::failed_precondition(error.to_string())
    })?;
    Ok((known.len() as u64, taken.unknown))
}

fn store_failed(error: StoreError) -> Status {
    Status::internal(error.to_string())
}

/// What the namespace knows of each replica's block.
fn known(
    snapshot: &Snapshot,
    replicas: &[ReplicaInfo],
) -> Result<Vec<(ReplicaInfo, Option<KnownBlock>)>, StoreError> {
    let look = |replica: &ReplicaInfo| {
        let found = snapshot.block(BlockId(replica.block))?;
        Ok((*replica, found.map(KnownBlock::from)))
    };
    replicas.iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_without_a_host_is_where_it_comes_from() {
        let peer = Some("10.0.0.7:9999".parse().unwrap());
        assert_eq!(address_of(":4000", peer).unwrap(), "10.0.0.7:4000");
        assert_eq!(address_of("node:4000", peer).unwrap(), "node:4000");
        for bad in ["", "node", "node:", "node:70000", "node:x"] {
            assert!(address_of(bad, peer).is_err(), "{bad}");
        }
        assert!(address_of(":4000", None).is_err());
    }
}
