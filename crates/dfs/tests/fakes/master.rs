//! The fake master: the service, what it was asked, and how it misbehaves.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::auth::{CALLER_TOKEN_METADATA, Role, Secret};
use gristmill_proto::ids::ClusterId;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::namespace_server::{Namespace, NamespaceServer};
use gristmill_proto::namespace::{Answer, Answers, Call, Calls, Failure, Welcome};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Response, Status, Streaming};

use super::BLOCK_BYTES;
use super::namespace::FakeNamespace;
use super::worker::FakeWorker;

/// What becomes of one call.
pub enum Verdict {
    /// Done and answered.
    Answer,
    /// Refused; nothing is done.
    Refuse(Kind),
    /// Neither done nor answered.
    Swallow,
    /// Not done, and the stream breaks.
    Break,
    /// Done, and the stream breaks before the answer.
    DoAndBreak,
    /// Done, and never answered.
    DoAndSwallow,
}

type Judge = Box<dyn FnMut(&Request) -> Verdict + Send>;

/// What the master is and what it saw.
pub struct Seen {
    pub namespace: FakeNamespace,
    pub calls: Vec<(Vec<u8>, u64, Request)>,
    /// Calls in each message.
    pub batches: Vec<usize>,
    pub settled_below: u64,
    pub streams: usize,
    pub welcome: Welcome,
    pub secret: Option<Secret>,
    judge: Judge,
    answered: HashMap<(Vec<u8>, u64), Option<Outcome>>,
}

#[derive(Clone)]
struct Service(Arc<Mutex<Seen>>);

pub struct FakeMaster {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl FakeMaster {
    pub fn start(workers: &[FakeWorker]) -> FakeMaster {
        FakeMaster::with(FakeNamespace::new(workers), workers.len())
    }

    pub fn with(namespace: FakeNamespace, workers: usize) -> FakeMaster {
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            cluster_id: ClusterId::random().0.to_vec().into(),
            epoch: 1,
            lease_soft_limit_ms: 60_000,
            replication: workers.clamp(1, 3) as u32,
            block_bytes: BLOCK_BYTES,
            user_home: "/user/ann".to_owned(),
            inside_address: String::new(),
        };
        let seen = Seen {
            namespace,
            calls: Vec::new(),
            batches: Vec::new(),
            settled_below: 0,
            streams: 0,
            welcome,
            secret: None,
            judge: Box::new(|_| Verdict::Answer),
            answered: HashMap::new(),
        };
        let mut master = FakeMaster { port: 0, seen: Arc::new(Mutex::new(seen)), runtime: None };
        master.up();
        master
    }

    /// Listens, on the port it had before if it was up before.
    pub fn up(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listen = tokio::net::TcpListener::bind(("127.0.0.1", self.port));
        let listener = runtime.block_on(listen).expect("a port");
        self.port = listener.local_addr().expect("an address").port();
        let service = NamespaceServer::new(Service(self.seen.clone())).max_decoding_message_size(32 << 20);
        let server = tonic::transport::Server::builder().add_service(service);
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        self.runtime = Some(runtime);
    }

    /// As if killed: all streams break, the state stays.
    pub fn down(&mut self) {
        let runtime = self.runtime.take().expect("it was up");
        // The port must be free when this returns.
        runtime.shutdown_timeout(std::time::Duration::from_secs(10));
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on each call that arrives for the first time is judged.
    pub fn judge(&self, judge: impl FnMut(&Request) -> Verdict + Send + 'static) {
        self.seen().judge = Box::new(judge);
    }

    /// How many calls of a kind came, each sending counted.
    pub fn count(&self, wanted: impl Fn(&Request) -> bool) -> usize {
        self.seen().calls.iter().filter(|(_, _, request)| wanted(request)).count()
    }
}

impl Drop for FakeMaster {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tonic::async_trait]
impl Namespace for Service {
    type CallStream = Pin<Box<dyn Stream<Item = Result<Answers, Status>> + Send>>;

    async fn call(
        &self,
        request: tonic::Request<Streaming<Calls>>,
    ) -> Result<Response<Self::CallStream>, Status> {
        let token = request.metadata().get(CALLER_TOKEN_METADATA).cloned();
        let mut calls = request.into_inner();
        let hello = calls.message().await?.and_then(|first| first.hello);
        let hello = hello.ok_or_else(|| Status::invalid_argument("no hello"))?;
        let welcome = {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(secret) = &seen.secret {
                let token = token.as_ref().and_then(|token| token.to_str().ok()).unwrap_or_default();
                let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
                let checked = secret.check_caller(token, Role::Client, "namespace", now_ms);
                checked.map_err(|error| Status::unauthenticated(error.to_string()))?;
            }
            seen.streams += 1;
            seen.welcome.clone()
        };
        let (sender, receiver) = mpsc::channel(16);
        let first = Answers { welcome: Some(welcome), answers: Vec::new() };
        sender.send(Ok(first)).await.map_err(|_| Status::cancelled("gone"))?;
        let seen = self.0.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = calls.message().await {
                let (answers, end) =
                    take(&mut seen.lock().unwrap_or_else(PoisonError::into_inner), &hello.client_id, message);
                let message = Answers { welcome: None, answers };
                if sender.send(Ok(message)).await.is_err() || end {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// The answers to one message, and whether the stream breaks then.
fn take(seen: &mut Seen, client: &[u8], message: Calls) -> (Vec<Answer>, bool) {
    seen.batches.push(message.calls.len());
    seen.settled_below = seen.settled_below.max(message.settled_below);
    let mut answers = Vec::new();
    for Call { sequence, request } in message.calls {
        let request = request.expect("a request");
        seen.calls.push((client.to_vec(), sequence, request.clone()));
        let name = (client.to_vec(), sequence);
        if let Some(Some(outcome)) = seen.answered.get(&name) {
            answers.push(Answer { sequence, outcome: Some(outcome.clone()) });
            continue;
        }
        let (apply, answer, end) = match (seen.judge)(&request) {
            Verdict::Answer => (true, true, false),
            Verdict::Refuse(kind) => {
                answers.push(Answer { sequence, outcome: Some(failure(kind, "as the story says")) });
                continue;
            }
            Verdict::Swallow => (false, false, false),
            Verdict::Break => (false, false, true),
            Verdict::DoAndBreak => (true, false, true),
            Verdict::DoAndSwallow => (true, false, false),
        };
        if apply {
            let outcome = seen.namespace.apply(&request).unwrap_or_else(|kind| failure(kind, ""));
            seen.answered.insert(name, Some(outcome.clone()));
            if answer {
                answers.push(Answer { sequence, outcome: Some(outcome) });
            }
        }
        if end {
            return (answers, true);
        }
    }
    (answers, false)
}

fn failure(kind: Kind, detail: &str) -> Outcome {
    Outcome::Failure(Failure { kind: kind.into(), path: String::new(), detail: detail.to_owned() })
}
