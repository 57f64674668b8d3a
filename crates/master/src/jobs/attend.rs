//! The gRPC service Tasks: a stream for each worker. What it says goes to the thread of turns, one notice after the
//! other; what it is told comes out of its queue.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gristmill_proto::task::from_worker::Notice;
use gristmill_proto::task::order::Order as Kind;
use gristmill_proto::task::tasks_server::{Tasks, TasksServer};
use gristmill_proto::task::{FromWorker, Order, Refused, ToWorker};
use prost::Message;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::callers::check_worker;
use super::notices::{self, NOTICE_BYTES_MAX};
use super::sessions::{self, Incoming};
use super::shared::Shared;
use super::turns::Turn;
use crate::core::SessionId;

/// How long an open stream may take to register its worker.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);

/// The service, to be added to a gRPC server.
pub(super) fn service(shared: Arc<Shared>) -> TasksServer<TasksService> {
    let service = TasksService { shared, last_session: AtomicU64::new(0) };
    TasksServer::new(service).max_decoding_message_size(NOTICE_BYTES_MAX)
}

/// Takes the notices of workers.
pub(crate) struct TasksService {
    shared: Arc<Shared>,
    last_session: AtomicU64,
}

#[tonic::async_trait]
impl Tasks for TasksService {
    type AttendStream = Pin<Box<dyn Stream<Item = Result<ToWorker, Status>> + Send>>;

    async fn attend(
        &self,
        request: Request<Streaming<FromWorker>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        check_worker(&self.shared, request.metadata())?;
        let peer = request.remote_addr();
        let mut notices = request.into_inner();
        let first = tokio::time::timeout(REGISTER_TIMEOUT, notices.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the worker does not register"))??;
        let Some(Notice::Register(register)) = first.and_then(|notice| notice.notice) else {
            return Err(Status::invalid_argument("the first message of a worker's stream registers it"));
        };
        let session = SessionId(self.last_session.fetch_add(1, Ordering::Relaxed) + 1);
        let event = match notices::registered(session, self.shared.cluster(), register, peer) {
            Ok(event) => event,
            Err(refused) => return Ok(Response::new(self.refusal(refused, peer))),
        };
        let (outgoing, incoming) = sessions::outgoing();
        self.shared.send(Turn::Open { session, outgoing, event }).await?;
        let Incoming { messages, waiting_bytes, closed } = incoming;
        let reader = Reader { shared: self.shared.clone(), session };
        tokio::spawn(reader.run(notices, closed));
        let orders = ReceiverStream::new(messages).map(move |message| {
            waiting_bytes.fetch_sub(message.encoded_len(), Ordering::Relaxed);
            Ok(message)
        });
        Ok(Response::new(Box::pin(orders)))
    }
}

impl TasksService {
    /// A stream that says why, and ends.
    fn refusal(&self, refused: Refused, peer: Option<SocketAddr>) -> <Self as Tasks>::AttendStream {
        tracing::warn!(?peer, reason = ?refused.reason(), detail = %refused.detail, "a worker is refused");
        let order = Order { order: Some(Kind::Refused(refused)) };
        let message = ToWorker { epoch: self.shared.epoch().0, orders: vec![order] };
        Box::pin(tokio_stream::once(Ok(message)))
    }
}

/// Reads the notices of one stream.
struct Reader {
    shared: Arc<Shared>,
    session: SessionId,
}

impl Reader {
    /// Until the worker ends the stream, it breaks, or the thread of turns has closed it.
    async fn run(
        self,
        notices: Streaming<FromWorker>,
        closed: tokio::sync::oneshot::Receiver<std::convert::Infallible>,
    ) {
        tokio::select! {
            () = self.read(notices) => {}
            _ = closed => return, // By the thread itself, which needs no telling.
        }
        if self.shared.send(Turn::Closed(self.session)).await.is_err() {
            tracing::debug!(session = self.session.0, "the master ends with its streams");
        }
    }

    async fn read(&self, mut notices: Streaming<FromWorker>) {
        let session = self.session;
        loop {
            let notice = match notices.message().await {
                Ok(Some(notice)) => notice.notice,
                Ok(None) => return,
                Err(status) => {
                    tracing::info!(session = session.0, %status, "a worker's stream broke");
                    return;
                }
            };
            match notices::turn_of(session, self.shared.epoch(), notice) {
                Ok(None) => {}
                Ok(Some(turn)) => {
                    if self.shared.send(turn).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(session = session.0, %error, "a worker's stream makes no sense: it is closed");
                    return;
                }
            }
        }
    }
}
