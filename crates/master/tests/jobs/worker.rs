//! A worker that does by hand what a real one does by itself.

use std::collections::VecDeque;
use std::time::Duration;

use gristmill_proto::auth::{CALLER_TOKEN_METADATA, Role};
use gristmill_proto::ids::{AttemptId, Incarnation};
use gristmill_proto::task::ended::Outcome;
use gristmill_proto::task::from_worker::Notice;
use gristmill_proto::task::order::Order;
use gristmill_proto::task::tasks_client::TasksClient;
use gristmill_proto::task::{
    AttemptResult, Ended, FromWorker, Heartbeat, Part, Register, StartJob, ToWorker, Welcome,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::process::{Master, PATIENCE};
use crate::user::wall_ms;

/// Who a worker is, over all its streams.
#[derive(Clone)]
pub struct Identity {
    pub worker: u64,
    pub incarnation: Incarnation,
}

impl Identity {
    pub fn new(worker: u64) -> Identity {
        Identity { worker, incarnation: Incarnation::random() }
    }
}

/// One stream of a worker.
pub struct Worker {
    notices: mpsc::Sender<FromWorker>,
    messages: Streaming<ToWorker>,
    orders: VecDeque<Order>,
    pub welcome: Welcome,
    pub epoch: u64,
}

/// Opens a stream, with the first message.
pub async fn attend(
    master: &Master,
    register: Register,
) -> Result<(mpsc::Sender<FromWorker>, Streaming<ToWorker>), Status> {
    let mut client = TasksClient::connect(format!("http://{}", master.address())).await.unwrap();
    let (notices, receiver) = mpsc::channel(64);
    notices.send(FromWorker { notice: Some(Notice::Register(register)) }).await.unwrap();
    let mut request = Request::new(ReceiverStream::new(receiver));
    if let Some(secret) = master.secret() {
        let token = secret.caller_token(Role::Worker, "tasks", wall_ms());
        request.metadata_mut().insert(CALLER_TOKEN_METADATA, token.parse().unwrap());
    }
    Ok((notices, client.attend(request).await?.into_inner()))
}

pub fn register(identity: &Identity, running: &[AttemptId]) -> Register {
    Register {
        version: 1,
        worker: identity.worker,
        incarnation: identity.incarnation.0.to_vec().into(),
        slots: 1,
        memory_bytes: 1 << 30,
        host: "node".to_owned(),
        rack: "/default-rack".to_owned(),
        address: ":4000".to_owned(),
        running: running.iter().map(|attempt| attempt.to_wire()).collect(),
        ..Register::default()
    }
}

impl Worker {
    /// Registers, and is welcome.
    pub async fn join(master: &Master, identity: &Identity, running: &[AttemptId]) -> Worker {
        let (notices, messages) = attend(master, register(identity, running)).await.unwrap();
        let mut worker =
            Worker { notices, messages, orders: VecDeque::new(), welcome: Welcome::default(), epoch: 0 };
        let Order::Welcome(welcome) = worker.order().await else { panic!("a welcome comes first") };
        worker.welcome = welcome;
        worker
    }

    async fn order(&mut self) -> Order {
        self.next().await.expect("the stream goes on")
    }

    /// The next order; none: the stream has ended. Sends heartbeats meanwhile.
    pub async fn next(&mut self) -> Option<Order> {
        let waiting = async {
            loop {
                if let Some(order) = self.orders.pop_front() {
                    return Some(order);
                }
                let message = tokio::select! {
                    message = self.messages.message() => message,
                    () = tokio::time::sleep(Duration::from_millis(100)) => {
                        let heartbeat = Heartbeat { epoch: self.epoch, ..Heartbeat::default() };
                        self.say(Notice::Heartbeat(heartbeat)).await;
                        continue;
                    }
                };
                let message = message.unwrap_or_default()?;
                self.epoch = message.epoch;
                self.orders.extend(message.orders.into_iter().filter_map(|order| order.order));
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("an order comes in time")
    }

    /// To a master that is gone nothing is said.
    pub async fn say(&self, notice: Notice) {
        if self.notices.send(FromWorker { notice: Some(notice) }).await.is_err() {
            eprintln!("the stream has ended");
        }
    }

    /// Waits for a job's start and for its first attempt.
    pub async fn launched(&mut self) -> (StartJob, AttemptId) {
        let mut started = None;
        loop {
            match self.order().await {
                Order::StartJob(start) => started = Some(start),
                Order::Launch(launch) => {
                    let attempt = AttemptId::from_wire(&launch.attempt.unwrap()).unwrap();
                    return (started.expect("a job starts before its first attempt"), attempt);
                }
                _ => {}
            }
        }
    }

    /// Says that an attempt is done, with the parts that it left.
    pub async fn done(&self, attempt: AttemptId, parts: Vec<Part>) {
        let result = AttemptResult { records_out: 1, parts, ..AttemptResult::default() };
        let ended = Ended {
            epoch: self.epoch,
            attempt: Some(attempt.to_wire()),
            outcome: Some(Outcome::Done(result)),
        };
        self.say(Notice::Ended(ended)).await;
    }

    /// Waits until the end of an attempt is durable; whether it counts.
    pub async fn accepted(&mut self, attempt: AttemptId) -> bool {
        loop {
            if let Order::Accepted(accepted) = self.order().await {
                assert_eq!(AttemptId::from_wire(&accepted.attempt.unwrap()), Ok(attempt));
                return accepted.winner;
            }
        }
    }
}
