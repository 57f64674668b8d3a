//! A master that says what a test wants it to say, and keeps what it hears.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gristmill_dfs::datanode::{Attendance, AttendanceError, AttendanceOptions};
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::attendance_server::{self, AttendanceServer};
use gristmill_proto::attendance::notice::Notice as Kind;
use gristmill_proto::attendance::order::Order as OrderKind;
use gristmill_proto::attendance::refused::Reason;
use gristmill_proto::attendance::{
    BlockReport, Notice, Order, Orders, Refused, Register, ReportAnswer, SendReport, Welcome,
};
use gristmill_proto::auth::{CALLER_TOKEN_METADATA, Secret};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::cluster::{Cluster, PATIENCE, Worker};

pub(crate) const HEARTBEAT_MS: u64 = 50;

/// A running master.
pub(crate) struct Master {
    pub(crate) address: SocketAddr,
    /// Heartbeats are answered, as they must be.
    pub(crate) answers: Arc<AtomicBool>,
    /// While it is locked, no report is taken.
    pub(crate) report_gate: Arc<tokio::sync::Mutex<()>>,
    pub(crate) reports: Receiver<BlockReport>,
    /// Reports that have begun.
    pub(crate) begun: Arc<AtomicU32>,
    sessions: Mutex<Receiver<Session>>,
    runtime: Option<Runtime>,
}

/// A worker's stream.
pub(crate) struct Session {
    pub(crate) register: Register,
    /// In the metadata.
    pub(crate) token: Option<String>,
    orders: mpsc::Sender<Result<Orders, Status>>,
    notices: Receiver<Kind>,
}

struct Service {
    answers: Arc<AtomicBool>,
    report_gate: Arc<tokio::sync::Mutex<()>>,
    begun: Arc<AtomicU32>,
    sessions: Mutex<Sender<Session>>,
    reports: Mutex<Sender<BlockReport>>,
}

impl Master {
    pub(crate) fn start() -> Master {
        Master::start_at("127.0.0.1:0".parse().expect("an address"))
    }

    pub(crate) fn start_at(address: SocketAddr) -> Master {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (sessions, sessions_seen) = channel();
        let (reports, reports_seen) = channel();
        let answers = Arc::new(AtomicBool::new(true));
        let report_gate = Arc::new(tokio::sync::Mutex::new(()));
        let begun = Arc::new(AtomicU32::new(0));
        let service = Service {
            answers: Arc::clone(&answers),
            report_gate: Arc::clone(&report_gate),
            begun: Arc::clone(&begun),
            sessions: Mutex::new(sessions),
            reports: Mutex::new(reports),
        };
        let listener = runtime.block_on(async {
            // The port of a master that has just ended may still be its own for a moment.
            let deadline = Instant::now() + PATIENCE;
            loop {
                match tokio::net::TcpListener::bind(address).await {
                    Ok(listener) => return listener,
                    Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
                }
            }
        });
        let address = listener.local_addr().expect("an address");
        let server = tonic::transport::Server::builder();
        let connections = TcpListenerStream::new(listener);
        runtime.spawn(server.serve_with_incoming(AttendanceServer::new(service), connections));
        let sessions = Mutex::new(sessions_seen);
        Master {
            address,
            answers,
            report_gate,
            reports: reports_seen,
            begun,
            sessions,
            runtime: Some(runtime),
        }
    }

    /// The next worker that registers.
    pub(crate) fn session(&self) -> Session {
        let sessions = self.sessions.lock().expect("no panic");
        sessions.recv_timeout(PATIENCE).expect("a worker registers")
    }

    /// Whether nobody registers for a while.
    pub(crate) fn is_left_alone(&self, time: Duration) -> bool {
        let sessions = self.sessions.lock().expect("no panic");
        matches!(sessions.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// Ends at once, with all its connections.
    pub(crate) fn kill(mut self) -> SocketAddr {
        self.runtime.take().expect("it runs").shutdown_background();
        self.address
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Session {
    /// Orders of `epoch`. That the session is over is for the test to find out.
    pub(crate) fn order(&self, epoch: u64, orders: Vec<OrderKind>) {
        let orders = orders.into_iter().map(|order| Order { order: Some(order) }).collect();
        if self.orders.blocking_send(Ok(Orders { epoch, orders })).is_err() {
            assert!(self.orders.is_closed());
        }
    }

    pub(crate) fn welcome(&self, cluster: &Cluster, epoch: u64, worker: u64) {
        self.order(epoch, vec![OrderKind::Welcome(welcome(cluster, worker))]);
    }

    pub(crate) fn refuse(&self, epoch: u64, reason: Reason) {
        let detail = "so says the test".to_owned();
        self.order(epoch, vec![OrderKind::Refused(Refused { reason: reason as i32, detail })]);
    }

    pub(crate) fn ask_report(&self, epoch: u64, report_id: u64) {
        self.order(epoch, vec![OrderKind::SendReport(SendReport { report_id })]);
    }

    /// The next notice of which `pick` makes something; others are passed over.
    pub(crate) fn next<T>(&self, what: &str, mut pick: impl FnMut(Kind) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.notices.recv_timeout(left) {
                Ok(notice) => {
                    if let Some(found) = pick(notice) {
                        return found;
                    }
                }
                Err(error) => panic!("no {what}: {error}"),
            }
        }
    }

    /// Waits until the worker has ended the stream.
    pub(crate) fn wait_end(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.notices.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("the stream goes on"),
            }
        }
    }
}

pub(crate) fn welcome(cluster: &Cluster, worker: u64) -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        cluster_id: cluster.id.0.to_vec().into(),
        worker,
        heartbeat_interval_ms: HEARTBEAT_MS,
        open_key: cluster.key.to_wire().into(),
    }
}

#[tonic::async_trait]
impl attendance_server::Attendance for Service {
    type AttendStream = ReceiverStream<Result<Orders, Status>>;

    async fn attend(
        &self,
        request: Request<Streaming<Notice>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let token = request.metadata().get(CALLER_TOKEN_METADATA);
        let token = token.map(|token| token.to_str().expect("text").to_owned());
        let mut stream = request.into_inner();
        let (orders, for_worker) = mpsc::channel(64);
        let (notices, seen) = channel();
        let sessions = self.sessions.lock().expect("no panic").clone();
        let answers = Arc::clone(&self.answers);
        tokio::spawn(async move {
            let mut epoch = 0;
            let mut begun = Some((seen, orders.clone(), token));
            while let Ok(Some(notice)) = stream.message().await {
                match notice.notice.expect("a notice") {
                    Kind::Register(register) => {
                        let (notices, orders, token) = begun.take().expect("the first, and once");
                        // The test may be over.
                        sessions.send(Session { register, token, orders, notices }).unwrap_or(());
                    }
                    other => {
                        if let Kind::Heartbeat(heartbeat) = &other {
                            epoch = epoch.max(heartbeat.epoch);
                            if answers.load(Ordering::Acquire) {
                                let answer = Ok(Orders { epoch, orders: Vec::new() });
                                orders.send(answer).await.unwrap_or(());
                            }
                        }
                        notices.send(other).unwrap_or(());
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(for_worker)))
    }

    async fn report(
        &self,
        request: Request<Streaming<BlockReport>>,
    ) -> Result<Response<ReportAnswer>, Status> {
        self.begun.fetch_add(1, Ordering::AcqRel);
        let _open = self.report_gate.lock().await;
        let mut slices = request.into_inner();
        let mut replicas = 0;
        while let Some(slice) = slices.message().await? {
            replicas += slice.block_steps.len() as u64;
            self.reports.lock().expect("no panic").send(slice).unwrap_or(());
        }
        Ok(Response::new(ReportAnswer { replicas, unknown: 0 }))
    }
}

/// The attendance of a worker, on a thread of its own.
pub(crate) struct Attending {
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<(), AttendanceError>>,
}

pub(crate) fn options(master: SocketAddr, secret: Option<Secret>) -> AttendanceOptions {
    AttendanceOptions {
        master: master.to_string(),
        secret,
        address: "here:1".to_owned(),
        host: "host-1".to_owned(),
        rack: "/rack-1".to_owned(),
        socket: "/nowhere".to_owned(),
        retry: (Duration::from_millis(5), Duration::from_millis(50)),
    }
}

impl Attending {
    pub(crate) fn start(worker: &Worker, options: AttendanceOptions) -> Attending {
        let (store, standing) = (worker.store.clone(), Arc::clone(&worker.standing));
        let attendance = Attendance::new(options, store, standing, Arc::clone(&worker.server));
        let attendance = attendance.expect("threads");
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(attendance.run(stopped))
        });
        Attending { stop, thread }
    }

    /// Ends it from outside.
    pub(crate) fn stop(self) -> Result<(), AttendanceError> {
        self.stop.send_replace(true);
        self.join()
    }

    /// Waits until it ends by itself.
    pub(crate) fn join(self) -> Result<(), AttendanceError> {
        self.thread.join().expect("no panic")
    }
}
