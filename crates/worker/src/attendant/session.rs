//! One stream to the master: from the connection to its loss.

use std::future::Future;
use std::time::Duration;

use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::auth::{CALLER_TOKEN_METADATA, Role, Secret};
use gristmill_proto::ids::{ClusterId, Epoch, WorkerId};
use gristmill_proto::task::from_worker::Notice;
use gristmill_proto::task::order::Order;
use gristmill_proto::task::refused::Reason;
use gristmill_proto::task::tasks_client::TasksClient;
use gristmill_proto::task::{FromWorker, Held, Refused, Register, ToWorker, Welcome};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;
use tonic::{Request, Status, Streaming};

use super::identity::IdentityError;

/// For the connection, and for each answer until the welcome.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// For gRPC to take a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// A master that says nothing is asked for a sign of life so often,
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// and is gone if it gives none for so long.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// Messages that gRPC has not taken yet.
const NOTICES_WAITING: usize = 16;
/// Orders of one message: specs of jobs are the longest.
const ORDERS_BYTES_MAX: usize = 64 << 20;
/// The service, in the tokens of its callers.
const AUDIENCE: &str = "tasks";

/// Why a worker cannot run anything for its master, ever: the process should end.
#[derive(Debug, Error)]
pub enum TasksError {
    /// The master refused this worker for good.
    #[error("the master at {master} refuses this worker's attempts ({reason}): {detail}")]
    Refused {
        /// HOST:PORT.
        master: String,
        /// As `WRONG_CLUSTER`.
        reason: &'static str,
        /// What the master says.
        detail: String,
    },
    /// The master is of another version.
    #[error("the master at {master} speaks version {theirs}, this worker version {ours}")]
    WrongVersion {
        /// HOST:PORT.
        master: String,
        /// Of the master.
        theirs: u32,
        /// Of this build.
        ours: u32,
    },
    /// The address of the master is none.
    #[error("{master} is no address of a master: {detail}")]
    Address {
        /// As given.
        master: String,
        /// What is wrong.
        detail: String,
    },
    /// The master takes this worker for another one.
    #[error("the master at {master} welcomes this worker as {theirs}, and it is {ours}")]
    OtherWorker {
        /// HOST:PORT.
        master: String,
        /// What the master says.
        theirs: WorkerId,
        /// What the disks here say.
        ours: WorkerId,
    },
    /// A task worker cannot note who it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// How a session ended.
pub(super) enum Lost {
    /// Another one may come about.
    ForNow(String),
    /// The master has given this worker up: it must start anew.
    Fenced(String),
    /// This worker is not wanted.
    ForGood(TasksError),
    /// The cluster has ended, and so does this worker.
    Ended,
}

impl From<TasksError> for Lost {
    fn from(error: TasksError) -> Lost {
        Lost::ForGood(error)
    }
}

/// A stream that has begun.
pub(super) struct Session {
    notices: mpsc::Sender<FromWorker>,
    pub(super) orders: Streaming<ToWorker>,
}

/// What the master says at first.
pub(super) struct Begun {
    pub(super) session: Session,
    pub(super) epoch: Epoch,
    pub(super) welcome: Welcome,
    pub(super) cluster: ClusterId,
    /// What it says at once.
    pub(super) orders: Vec<Order>,
}

impl Session {
    /// Connects, registers, tells what is held here, and is welcomed.
    pub(super) async fn begin(
        master: String,
        secret: Option<Secret>,
        register: Register,
        held: Vec<Held>,
    ) -> Result<Begun, Lost> {
        let endpoint = Endpoint::from_shared(format!("http://{master}"));
        let endpoint = endpoint
            .map_err(|error| TasksError::Address { master: master.clone(), detail: error.to_string() })?
            .connect_timeout(GREETING_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await.map_err(|error| for_now("connecting", &error))?;
        let mut client = TasksClient::new(channel).max_decoding_message_size(ORDERS_BYTES_MAX);
        let (notices, queue) = mpsc::channel(NOTICES_WAITING);
        notices
            .try_send(message(Notice::Register(register)))
            .map_err(|error| for_now("registering", &error))?;
        let request = authentic(secret.as_ref(), ReceiverStream::new(queue))?;
        // The stream is answered when the master has seen the first message; the pages are sent meanwhile.
        let (answer, told) =
            tokio::join!(greeted(&master, client.attend(request)), tell_held(&notices, held));
        let mut orders = answer?.into_inner();
        told?;
        let first = greeted(&master, orders.message()).await?;
        let first = first.ok_or_else(|| Lost::ForNow("the master ended the stream".to_owned()))?;
        let mut rest = first.orders.into_iter().filter_map(|order| order.order);
        let welcome = match rest.next() {
            Some(Order::Welcome(welcome)) => welcome,
            Some(Order::Refused(refused)) => return Err(refusal(&master, refused)),
            other => {
                return Err(Lost::ForNow(format!("the master starts with {other:?}, not with a welcome")));
            }
        };
        if welcome.version != PROTOCOL_VERSION {
            let (theirs, ours) = (welcome.version, PROTOCOL_VERSION);
            return Err(TasksError::WrongVersion { master, theirs, ours }.into());
        }
        let cluster = ClusterId::from_wire(&welcome.cluster_id);
        let cluster = cluster.filter(|_| welcome.worker > 0);
        let cluster =
            cluster.ok_or_else(|| Lost::ForNow("the welcome names no cluster or no worker".to_owned()))?;
        let session = Session { notices, orders };
        Ok(Begun { session, epoch: Epoch(first.epoch), welcome, cluster, orders: rest.collect() })
    }

    pub(super) async fn send(&self, notice: Notice) -> Result<(), Lost> {
        send(&self.notices, notice).await
    }
}

async fn tell_held(notices: &mpsc::Sender<FromWorker>, held: Vec<Held>) -> Result<(), Lost> {
    for page in held {
        send(notices, Notice::Held(page)).await?;
    }
    Ok(())
}

async fn send(notices: &mpsc::Sender<FromWorker>, notice: Notice) -> Result<(), Lost> {
    let sent = timeout(SEND_TIMEOUT, notices.send(message(notice))).await;
    let sent = sent.map_err(|late| for_now("sending to the master", &late))?;
    sent.map_err(|gone| for_now("sending to the master", &gone))
}

fn message(notice: Notice) -> FromWorker {
    FromWorker { notice: Some(notice) }
}

/// The answer of a master that has not welcomed this worker yet.
async fn greeted<T>(master: &str, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Lost> {
    match timeout(GREETING_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(for_now("registering", &status)),
        Err(_late) => Err(Lost::ForNow(format!("{master} does not answer"))),
    }
}

/// What a refusal means, at the beginning of a stream or in its middle.
pub(super) fn refusal(master: &str, refused: Refused) -> Lost {
    let reason = refused.reason();
    match reason {
        Reason::Fenced => Lost::Fenced(refused.detail),
        Reason::Ended => Lost::Ended,
        Reason::Unspecified | Reason::Unauthenticated => {
            Lost::ForNow(format!("refused ({}): {}", reason.as_str_name(), refused.detail))
        }
        Reason::WrongCluster | Reason::WrongVersion | Reason::Replaced => {
            let (reason, detail) = (reason.as_str_name(), refused.detail);
            Lost::ForGood(TasksError::Refused { master: master.to_owned(), reason, detail })
        }
    }
}

/// A request with proof that its sender knows the cluster's secret.
fn authentic<T>(secret: Option<&Secret>, message: T) -> Result<Request<T>, Lost> {
    let mut request = Request::new(message);
    if let Some(secret) = secret {
        let token = secret.caller_token(Role::Worker, AUDIENCE, wall_clock_ms());
        let token: MetadataValue<Ascii> =
            token.parse().map_err(|error| for_now("the caller token", &error))?;
        request.metadata_mut().insert(CALLER_TOKEN_METADATA, token);
    }
    Ok(request)
}

/// Milliseconds since 1970, for the expiry of tokens only. 0 if the clock stands before that: then all have expired or none.
fn wall_clock_ms() -> u64 {
    gristmill_proto::wall_clock::now_ms()
}

pub(super) fn for_now(what: &str, error: &dyn std::error::Error) -> Lost {
    Lost::ForNow(format!("{what}: {}", gristmill_process::sentence(error)))
}
