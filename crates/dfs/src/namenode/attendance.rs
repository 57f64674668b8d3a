//! The service that core workers attend: what they hold comes in, orders go out.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::attendance_server::{Attendance, AttendanceServer};
use gristmill_proto::attendance::notice::Notice as Kind;
use gristmill_proto::attendance::order::Order as OrderKind;
use gristmill_proto::attendance::{
    BlockReport, Notice, Order, Orders, Refused, Register, ReplicaInfo, ReportAnswer, Welcome, refused,
};
use gristmill_proto::auth::Role;
use gristmill_proto::ids::{BlockId, Generation, Incarnation, WorkerId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::blocks::{KnownBlock, Outbox};
use super::committer::{CommitQueue, Submission};
use super::namespace::{Snapshot, StoreError};
use super::state::State;

/// Replicas of one slice of a report. The block side is held while a slice is taken in, so it has to be short.
const SLICE_REPLICAS_MAX: usize = 10_000;
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

    async fn attend(&self, request: Request<Streaming<Notice>>) -> Result<Response<Self::AttendStream>, Status> {
        super::callers::check(&self.state, request.metadata(), Role::Worker, "attendance")?;
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
            Ok((worker, incarnation, orders)) => {
                let welcome = Ok(self.orders(OrderKind::Welcome(self.welcome(worker))));
                let attending = Attending { state: self.state.clone(), committer: self.committer.clone(), worker, incarnation };
                tokio::spawn(attending.serve(notices));
                Ok(Response::new(Box::pin(tokio_stream::once(welcome).chain(ReceiverStream::new(orders).map(Ok)))))
            }
        }
    }

    async fn report(&self, request: Request<Streaming<BlockReport>>) -> Result<Response<ReportAnswer>, Status> {
        super::callers::check(&self.state, request.metadata(), Role::Worker, "attendance")?;
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
    ) -> Result<(WorkerId, Incarnation, mpsc::Receiver<Orders>), Refused> {
        let cluster = self.state.namespace.cluster();
        if register.version != PROTOCOL_VERSION {
            let detail = format!("the worker speaks version {}, this master {PROTOCOL_VERSION}", register.version);
            return Err(Refused { reason: refused::Reason::WrongVersion.into(), detail });
        }
        if !register.cluster_id.is_empty() && register.cluster_id[..] != cluster.0 {
            let detail = format!("its data belongs to another cluster than {cluster}");
            return Err(Refused { reason: refused::Reason::WrongCluster.into(), detail });
        }
        let Some(incarnation) = Incarnation::from_wire(&register.incarnation) else {
            let detail = "an incarnation has 16 bytes".to_owned();
            return Err(Refused { reason: refused::Reason::Unspecified.into(), detail });
        };
        let address = address_of(&register.address, peer)?;
        let mut outbox = Outbox::default();
        let now_ms = self.state.clock.now_ms();
        let mut blocks = self.state.blocks();
        let worker = blocks.register(&register, address.clone(), now_ms, &mut outbox)?;
        // Under the lock of the blocks: no order to this worker is lost in between.
        let orders = self.state.connect(worker, incarnation);
        drop(blocks);
        self.state.dispatch(outbox);
        tracing::info!(%worker, %address, host = %register.host, rack = %register.rack, "worker registered");
        Ok((worker, incarnation, orders))
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
    let (host, port) = address.rsplit_once(':').ok_or_else(|| refused(format!("{address:?} is no HOST:PORT")))?;
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
    worker: WorkerId,
    incarnation: Incarnation,
}

impl Attending {
    async fn serve(self, mut notices: Streaming<Notice>) {
        loop {
            let notice = match notices.message().await {
                Ok(Some(notice)) => notice,
                Ok(None) => break,
                Err(status) => {
                    tracing::info!(worker = %self.worker, %status, "the worker's stream broke");
                    break;
                }
            };
            if let Err(error) = self.take(notice) {
                self.state.fail(error.to_string());
                break;
            }
            wake(&self.committer);
        }
        if self.state.disconnect(self.worker, self.incarnation) {
            let now_ms = self.state.clock.now_ms();
            self.state.blocks().disconnected(self.worker, self.incarnation, now_ms);
        }
    }

    fn take(&self, notice: Notice) -> Result<(), StoreError> {
        let now_ms = self.state.clock.now_ms();
        let mut outbox = Outbox::default();
        match notice.notice {
            Some(Kind::Heartbeat(heartbeat)) => {
                self.state.blocks().heartbeat(self.worker, self.incarnation, &heartbeat, now_ms, &mut outbox);
            }
            Some(Kind::Stopped(stopped)) => {
                self.state.blocks().stopped(self.worker, self.incarnation, &stopped, now_ms, &mut outbox);
            }
            Some(Kind::Changes(changes)) => {
                let count = changes.finished.len() + changes.deleted.len() + changes.bad.len();
                if count > CHANGES_MAX {
                    tracing::warn!(worker = %self.worker, count, "a message of changes is too long and was dropped");
                    return Ok(());
                }
                let mut blocks = self.state.blocks();
                let snapshot = self.state.namespace.snapshot()?;
                let finished = known(&snapshot, &changes.finished)?;
                let deleted = known(&snapshot, &changes.deleted)?;
                let bad = known(&snapshot, &changes.bad)?;
                blocks.finished(self.worker, self.incarnation, &finished, now_ms, &mut outbox);
                blocks.deleted(self.worker, self.incarnation, &deleted, now_ms, &mut outbox);
                blocks.bad(self.worker, self.incarnation, &bad, now_ms, &mut outbox);
            }
            Some(Kind::Register(_)) | None => {
                tracing::warn!(worker = %self.worker, "a notice that makes no sense here was dropped");
            }
        }
        self.state.dispatch(outbox);
        Ok(())
    }
}

/// Decisions may wait now. A full queue needs no waking.
fn wake(committer: &CommitQueue) {
    if let Err(mpsc::error::TrySendError::Closed(_)) = committer.try_send(Submission::Wake) {
        tracing::debug!("the committer has ended");
    }
}

/// Takes in one slice of a full report; returns how many replicas it had, and how many of them are of no block.
fn take_slice(state: &State, slice: &BlockReport) -> Result<(u64, u64), Status> {
    let incarnation = Incarnation::from_wire(&slice.incarnation)
        .ok_or_else(|| Status::invalid_argument("an incarnation has 16 bytes"))?;
    let replicas = replicas_of(slice)?;
    let mut outbox = Outbox::default();
    let mut blocks = state.blocks();
    let snapshot = state.namespace.snapshot().map_err(store_failed)?;
    let reported = known(&snapshot, &replicas).map_err(store_failed)?;
    blocks.report_slice(
        WorkerId(slice.worker),
        incarnation,
        slice.report_id,
        (BlockId(slice.first), BlockId(slice.last)),
        &reported,
        state.clock.now_ms(),
        &mut outbox,
    );
    drop(blocks);
    state.dispatch(outbox);
    let unknown = reported.iter().filter(|(_, known)| known.is_none()).count();
    Ok((reported.len() as u64, unknown as u64))
}

fn store_failed(error: StoreError) -> Status {
    Status::internal(error.to_string())
}

/// The replicas of a slice, checked: as many of each column, ascending, within the slice.
fn replicas_of(slice: &BlockReport) -> Result<Vec<ReplicaInfo>, Status> {
    let count = slice.block_steps.len();
    if count > SLICE_REPLICAS_MAX || slice.generations.len() != count || slice.bytes.len() != count {
        return Err(Status::invalid_argument("a slice of a report is too long, or its columns differ in length"));
    }
    let mut replicas = Vec::with_capacity(count);
    let mut block = 0u64;
    for (index, step) in slice.block_steps.iter().enumerate() {
        let next = block.checked_add(*step).filter(|next| *next > block || index == 0);
        let Some(next) = next.filter(|next| (slice.first..=slice.last).contains(next)) else {
            return Err(Status::invalid_argument(format!("replica {index} of a slice is out of order")));
        };
        block = next;
        replicas.push(ReplicaInfo { block, generation: slice.generations[index], bytes: slice.bytes[index] });
    }
    Ok(replicas)
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

impl From<super::namespace::BlockRecord> for KnownBlock {
    fn from(record: super::namespace::BlockRecord) -> KnownBlock {
        KnownBlock {
            generation: Generation(record.generation.0),
            bytes: record.bytes,
            replication: record.replication,
            complete: record.complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(steps: &[u64], first: u64, last: u64) -> BlockReport {
        let count = steps.len();
        BlockReport {
            first,
            last,
            block_steps: steps.to_vec(),
            generations: vec![1; count],
            bytes: vec![5; count],
            ..BlockReport::default()
        }
    }

    #[test]
    fn a_slice_is_taken_apart_and_checked() {
        let blocks: Vec<u64> = replicas_of(&slice(&[7, 1, 10], 0, 20)).unwrap().iter().map(|each| each.block).collect();
        assert_eq!(blocks, [7, 8, 18]);
        assert!(replicas_of(&slice(&[7, 0], 0, 20)).is_err(), "twice the same");
        assert!(replicas_of(&slice(&[7, u64::MAX], 0, u64::MAX)).is_err(), "past the last id");
        assert!(replicas_of(&slice(&[7], 8, 20)).is_err(), "before the slice");
        assert!(replicas_of(&slice(&[21], 0, 20)).is_err(), "after the slice");
        let mut uneven = slice(&[7], 0, 20);
        uneven.bytes.clear();
        assert!(replicas_of(&uneven).is_err());
        assert!(replicas_of(&slice(&vec![1; SLICE_REPLICAS_MAX + 1], 0, u64::MAX)).is_err());
    }

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
