//! One session with a master: from the connection to its loss.

use std::future::Future;
use std::time::{Duration, Instant};

use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::attendance_client::AttendanceClient;
use gristmill_proto::attendance::notice::Notice as Kind;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::refused::Reason;
use gristmill_proto::attendance::{Heartbeat, Notice, Orders, Refused, Register, Volume, Welcome};
use gristmill_proto::auth::{BlockKey, CALLER_TOKEN_METADATA, Role};
use gristmill_proto::ids::{ClusterId, Epoch, WorkerId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::attendance::{Attendance, AttendanceError};
use super::block_store::{Change, Identity};
use super::full_report::{ReportHead, slices};
use super::standing::wall_clock_ms;

/// For the connection, and for each answer until the welcome.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// For gRPC to take a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// For a full report of a million replicas, on a slow day.
const REPORT_TIMEOUT: Duration = Duration::from_secs(120);
/// Messages that gRPC has not taken yet.
const NOTICES_WAITING: usize = 16;
/// Messages about changes before a heartbeat gets its turn.
const CHANGES_AT_ONCE: usize = 4;
/// Orders of one message: the master sends some thousands of replicas to delete at once, not more.
const ORDERS_BYTES_MAX: usize = 16 << 20;
/// What a master may ask for.
const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
/// The service, in the tokens of its callers.
const AUDIENCE: &str = "attendance";

/// How a session ended.
pub(crate) enum Lost {
    /// Another one may come about.
    ForNow(String),
    /// This worker is not wanted.
    ForGood(AttendanceError),
}

impl From<AttendanceError> for Lost {
    fn from(error: AttendanceError) -> Lost {
        Lost::ForGood(error)
    }
}

/// A session after its welcome.
pub(crate) struct Session<'a> {
    attendance: &'a Attendance,
    client: AttendanceClient<Channel>,
    notices: mpsc::Sender<Notice>,
    worker: WorkerId,
    last_word: Instant,
    /// A full report under way: changes wait until it has arrived, so that none is overtaken by an older truth.
    report: Option<JoinHandle<Result<(), Status>>>,
    /// The next one.
    report_wanted: Option<u64>,
    volumes: Vec<Volume>,
    /// Asking the disks for their room may take long when one is sick.
    volumes_asked: Option<JoinHandle<Vec<Volume>>>,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(report) = &self.report {
            report.abort();
        }
    }
}

impl<'a> Session<'a> {
    /// Attends until the master is lost. `welcomed` is set when it has been found.
    pub(crate) async fn attend(attendance: &'a Attendance, welcomed: &mut bool) -> Lost {
        let (mut session, mut orders, interval) = match Session::register(attendance).await {
            Ok(begun) => begun,
            Err(lost) => return lost,
        };
        *welcomed = true;
        let mut heartbeats = tokio::time::interval(interval);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                message = orders.message() => session.hear(message),
                _ = heartbeats.tick() => session.heartbeat().await,
                () = attendance.news.wait() => Ok(()),
                reported = ended(&mut session.report) => session.reported(reported),
                volumes = ended(&mut session.volumes_asked) => session.set_volumes(volumes),
            };
            let step = match step {
                Ok(()) => session.tell().await,
                lost => lost,
            };
            if let Err(lost) = step {
                return lost;
            }
        }
    }

    /// Connects and registers. The welcome settles who this worker is.
    async fn register(
        attendance: &'a Attendance,
    ) -> Result<(Session<'a>, Streaming<Orders>, Duration), Lost> {
        let master = &attendance.options.master;
        let mut client = connect(master).await?;
        let volumes = {
            let store = attendance.store.clone();
            let volumes = tokio::task::spawn_blocking(move || store.volumes());
            volumes.await.map_err(|error| for_now("asking the disks", &error))?
        };
        let (notices, queue) = mpsc::channel(NOTICES_WAITING);
        let register = Notice { notice: Some(Kind::Register(introduction(attendance, volumes.clone()))) };
        notices.try_send(register).map_err(|error| for_now("registering", &error))?;
        attendance.news.start_anew();
        // A full report is about good replicas only.
        attendance.store.bad_replicas().into_iter().for_each(|bad| attendance.news.change(Change::Bad(bad)));
        let request = authentic(attendance, ReceiverStream::new(queue))?;
        let mut orders = greeted(master, client.attend(request)).await?.into_inner();
        let first = greeted(master, orders.message()).await?;
        let Some(first) = first else { return Err(Lost::ForNow("the master ended the stream".to_owned())) };

        let epoch = Epoch(first.epoch);
        if !attendance.standing.hear(epoch) {
            let highest = attendance.standing.epoch();
            return Err(Lost::ForNow(format!("a master of {epoch} is no more: {highest} was seen")));
        }
        let mut rest = first.orders.into_iter().filter_map(|order| order.order);
        let welcome = match rest.next() {
            Some(Order::Welcome(welcome)) => welcome,
            Some(Order::Refused(refused)) => return Err(refusal(master, refused)),
            other => {
                return Err(Lost::ForNow(format!("the master starts with {other:?}, not with a welcome")));
            }
        };
        let worker = settle_identity(attendance, &welcome)?;
        let lease = attendance.standing.lease();
        let interval = Duration::from_millis(welcome.heartbeat_interval_ms);
        let interval = interval.clamp(HEARTBEAT_MIN, (lease / 3).max(HEARTBEAT_MIN));
        tracing::info!(%master, %worker, %epoch, "attends");
        let mut session = Session {
            attendance,
            client,
            notices,
            worker,
            last_word: Instant::now(),
            report: None,
            report_wanted: None,
            volumes,
            volumes_asked: None,
        };
        for order in rest {
            session.obey(epoch, order)?;
        }
        Ok((session, orders, interval))
    }

    fn hear(&mut self, message: Result<Option<Orders>, Status>) -> Result<(), Lost> {
        let orders = message.map_err(|status| for_now("the stream of orders", &status))?;
        let orders = orders.ok_or_else(|| Lost::ForNow("the master ended the stream".to_owned()))?;
        let epoch = Epoch(orders.epoch);
        if !self.attendance.standing.hear(epoch) {
            let highest = self.attendance.standing.epoch();
            return Err(Lost::ForNow(format!("orders of {epoch} come too late: {highest} was seen")));
        }
        self.last_word = Instant::now();
        for order in orders.orders.into_iter().filter_map(|order| order.order) {
            self.obey(epoch, order)?;
        }
        Ok(())
    }

    fn obey(&mut self, epoch: Epoch, order: Order) -> Result<(), Lost> {
        match order {
            Order::Refused(refused) => return Err(refusal(&self.attendance.options.master, refused)),
            Order::Welcome(_) => tracing::warn!("a second welcome in one session"),
            Order::SendReport(report) => self.report_wanted = Some(report.report_id),
            order => self.attendance.orders.take(epoch, order),
        }
        Ok(())
    }

    async fn heartbeat(&mut self) -> Result<(), Lost> {
        let silent = self.last_word.elapsed();
        if silent > self.attendance.standing.lease() {
            return Err(Lost::ForNow(format!("the master has been silent for {} ms", silent.as_millis())));
        }
        if self.volumes_asked.is_none() {
            let store = self.attendance.store.clone();
            self.volumes_asked = Some(tokio::task::spawn_blocking(move || store.volumes()));
        }
        let server = &self.attendance.server;
        let heartbeat = Heartbeat {
            epoch: self.attendance.standing.epoch().0,
            volumes: self.volumes.clone(),
            writers: server.writers(),
            transfers: server.transfers(),
        };
        self.send(Kind::Heartbeat(heartbeat)).await
    }

    fn set_volumes(&mut self, volumes: Result<Vec<Volume>, tokio::task::JoinError>) -> Result<(), Lost> {
        self.volumes = volumes.map_err(|error| for_now("asking the disks", &error))?;
        Ok(())
    }

    fn reported(&mut self, reported: Result<Result<(), Status>, tokio::task::JoinError>) -> Result<(), Lost> {
        reported
            .map_err(|error| for_now("a full report", &error))?
            .map_err(|status| for_now("a full report", &status))
    }

    /// Starts the full report that is wanted, and sends all news that may be sent now.
    async fn tell(&mut self) -> Result<(), Lost> {
        if self.attendance.news.is_incomplete() {
            return Err(Lost::ForNow("too many changes to tell: a full report is needed".to_owned()));
        }
        while let Some(stopped) = self.attendance.news.take_stopped() {
            self.send(Kind::Stopped(stopped)).await?;
        }
        if self.report.is_some() {
            return Ok(());
        }
        if let Some(report_id) = self.report_wanted.take() {
            self.report = Some(tokio::spawn(self.full_report(report_id)?));
            return Ok(());
        }
        let epoch = self.attendance.standing.epoch();
        for _ in 0..CHANGES_AT_ONCE {
            let Some(changes) = self.attendance.news.take_changes(epoch) else { return Ok(()) };
            self.send(Kind::Changes(changes)).await?;
        }
        self.attendance.news.call_again();
        Ok(())
    }

    fn full_report(
        &self,
        report_id: u64,
    ) -> Result<impl Future<Output = Result<(), Status>> + Send + use<>, Lost> {
        let Attendance { standing, store, incarnation, .. } = self.attendance;
        let (epoch, worker, incarnation) = (standing.epoch(), self.worker, *incarnation);
        let head = ReportHead { report_id, epoch, worker, incarnation };
        let request = authentic(self.attendance, slices(store.clone(), head))?;
        let mut client = self.client.clone();
        Ok(async move {
            let answer = timeout(REPORT_TIMEOUT, client.report(request)).await;
            let answer = answer.map_err(|_late| Status::deadline_exceeded("it was not taken in time"))??;
            tracing::info!(report_id, replicas = answer.get_ref().replicas, "reported all replicas");
            Ok(())
        })
    }

    async fn send(&self, kind: Kind) -> Result<(), Lost> {
        let sent = timeout(SEND_TIMEOUT, self.notices.send(Notice { notice: Some(kind) })).await;
        let sent = sent.map_err(|late| for_now("sending to the master", &late))?;
        sent.map_err(|gone| for_now("sending to the master", &gone))
    }
}

/// Waits for a task, if there is one, and takes it away.
async fn ended<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(handle) => {
            let ended = handle.await;
            *task = None;
            ended
        }
        None => std::future::pending().await,
    }
}

async fn connect(master: &str) -> Result<AttendanceClient<Channel>, Lost> {
    let endpoint = Endpoint::from_shared(format!("http://{master}"))
        .map_err(|error| AttendanceError::Address { master: master.to_owned(), detail: error.to_string() })?;
    let endpoint = endpoint.connect_timeout(GREETING_TIMEOUT).tcp_nodelay(true);
    let channel = endpoint.connect().await.map_err(|error| for_now("connecting", &error))?;
    Ok(AttendanceClient::new(channel).max_decoding_message_size(ORDERS_BYTES_MAX))
}

/// The answer of a master that has not welcomed this worker yet.
async fn greeted<T>(master: &str, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Lost> {
    match timeout(GREETING_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(for_now("registering", &status)),
        Err(_late) => Err(Lost::ForNow(format!("{master} does not answer"))),
    }
}

fn introduction(attendance: &Attendance, volumes: Vec<Volume>) -> Register {
    let options = &attendance.options;
    let identity = attendance.store.identity();
    Register {
        version: PROTOCOL_VERSION,
        cluster_id: identity.map_or_else(Vec::new, |identity| identity.cluster.0.to_vec()).into(),
        worker: identity.map_or(0, |identity| identity.worker.0),
        incarnation: attendance.incarnation.0.to_vec().into(),
        address: options.address.clone(),
        host: options.host.clone(),
        rack: options.rack.clone(),
        socket: options.socket.clone(),
        volumes,
    }
}

/// Makes sure that the disks and the master agree who this is, or notes it on the disks, and joins.
fn settle_identity(attendance: &Attendance, welcome: &Welcome) -> Result<WorkerId, Lost> {
    let master = attendance.options.master.clone();
    if welcome.version != PROTOCOL_VERSION {
        let (theirs, ours) = (welcome.version, PROTOCOL_VERSION);
        return Err(AttendanceError::WrongVersion { master, theirs, ours }.into());
    }
    let cluster = ClusterId::from_wire(&welcome.cluster_id);
    let (Some(cluster), worker @ WorkerId(1..)) = (cluster, WorkerId(welcome.worker)) else {
        return Err(Lost::ForNow("the welcome names no cluster or no worker".to_owned()));
    };
    let key = match &attendance.options.secret {
        Some(secret) => Some(BlockKey::from_secret(secret, cluster)),
        None => BlockKey::from_wire(&welcome.open_key),
    };
    let key = key.ok_or_else(|| Lost::ForNow("the cluster has a secret, and this worker not".to_owned()))?;
    // An error if the disks belong to another cluster, or are another worker's.
    attendance.store.adopt(Identity { cluster, worker }).map_err(AttendanceError::Adopt)?;
    attendance.standing.join(cluster, worker, key);
    Ok(worker)
}

fn refusal(master: &str, refused: Refused) -> Lost {
    let reason = refused.reason();
    match reason {
        Reason::Fenced | Reason::Unspecified | Reason::Unauthenticated => {
            Lost::ForNow(format!("refused ({}): {}", reason.as_str_name(), refused.detail))
        }
        Reason::WrongCluster | Reason::WrongVersion | Reason::Replaced | Reason::UnknownWorker => {
            let (reason, detail) = (reason.as_str_name(), refused.detail);
            Lost::ForGood(AttendanceError::Refused { master: master.to_owned(), reason, detail })
        }
    }
}

/// A request with proof that its sender knows the cluster's secret.
fn authentic<T>(attendance: &Attendance, message: T) -> Result<Request<T>, Lost> {
    let mut request = Request::new(message);
    if let Some(secret) = &attendance.options.secret {
        let token = secret.caller_token(Role::Worker, AUDIENCE, wall_clock_ms());
        let token: MetadataValue<Ascii> =
            token.parse().map_err(|error| for_now("the caller token", &error))?;
        request.metadata_mut().insert(CALLER_TOKEN_METADATA, token);
    }
    Ok(request)
}

fn for_now(what: &str, error: &dyn std::error::Error) -> Lost {
    Lost::ForNow(format!("{what}: {}", gristmill_process::sentence(error)))
}
