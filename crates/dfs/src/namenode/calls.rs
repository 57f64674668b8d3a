//! The service that clients call: one stream each way, many calls in flight.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::auth::JobCaller;
use gristmill_proto::ids::ClientId;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::namespace_server::{Namespace, NamespaceServer};
use gristmill_proto::namespace::{Answer, Answers, Call, Calls, Failure, Hello, Welcome};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request as Incoming, Response, Status, Streaming};

use super::committer::{CommitQueue, Submission, WriteCall};
use super::namespace::Caller;
use super::reads::{self, Reader};
use super::state::State;

/// Calls of one stream that are not answered yet. A client that keeps to the protocol never has more.
const CALLS_IN_FLIGHT_MAX: usize = 4096;
/// The largest message of calls: a publication of very many names, with some room.
const CALLS_BYTES_MAX: usize = 17 * 1024 * 1024;
/// Answers are sent together up to about this size, well below what gRPC takes in one message.
const ANSWERS_BYTES_MAX: usize = 1024 * 1024;
/// Answers of one message, so that the first of them does not wait for long.
const ANSWERS_MAX: usize = 512;
/// Messages of answers that wait for the client to read them.
const MESSAGES_WAITING_MAX: usize = 4;
/// Users, groups and hosts are names, not texts.
const NAME_BYTES_MAX: usize = 255;
/// As on Linux.
const GROUPS_MAX: usize = 64;

/// The service, to be added to a gRPC server.
pub(crate) fn service(state: Arc<State>, committer: CommitQueue) -> NamespaceServer<CallService> {
    NamespaceServer::new(CallService { state, committer }).max_decoding_message_size(CALLS_BYTES_MAX)
}

/// Answers the calls of clients.
pub struct CallService {
    state: Arc<State>,
    committer: CommitQueue,
}

#[tonic::async_trait]
impl Namespace for CallService {
    type CallStream = Pin<Box<dyn Stream<Item = Result<Answers, Status>> + Send>>;

    async fn call(&self, request: Incoming<Streaming<Calls>>) -> Result<Response<Self::CallStream>, Status> {
        let attempt = super::callers::check_client(&self.state, request.metadata())?;
        let mut calls = request.into_inner();
        let first = calls.message().await?;
        let Some(mut hello) = first.and_then(|calls| calls.hello) else {
            return Err(Status::invalid_argument("the first message of a stream holds a hello"));
        };
        if let Some(JobCaller { user, groups, .. }) = attempt {
            (hello.user, hello.groups) = (user, groups);
        }
        let session = Session::open(self.state.clone(), self.committer.clone(), hello)?;
        let (messages, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
        let welcome = Answers { welcome: Some(session.welcome()), answers: Vec::new() };
        if messages.send(Ok(welcome)).await.is_err() {
            return Err(Status::cancelled("the client is gone"));
        }
        let (answers, answered) = mpsc::unbounded_channel();
        tokio::spawn(pump(answered, messages, session.in_flight.clone()));
        tokio::spawn(session.serve(calls, answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// One stream of one client.
struct Session {
    state: Arc<State>,
    committer: CommitQueue,
    caller: Caller,
    host: Arc<str>,
    in_flight: Arc<AtomicUsize>,
}

impl Session {
    fn open(state: Arc<State>, committer: CommitQueue, hello: Hello) -> Result<Session, Status> {
        if hello.version != PROTOCOL_VERSION {
            let (theirs, ours) = (hello.version, PROTOCOL_VERSION);
            return Err(Status::failed_precondition(format!(
                "the client speaks version {theirs} of the protocol and this master version {ours}: use the same release"
            )));
        }
        let Some(client) = ClientId::from_wire(&hello.client_id) else {
            return Err(Status::invalid_argument("a client id has 16 bytes"));
        };
        let named = [&hello.user, &hello.host].into_iter().chain(&hello.groups);
        if hello.user.is_empty() || hello.groups.len() > GROUPS_MAX {
            return Err(Status::invalid_argument("a caller has a name, and at most 64 groups"));
        }
        for name in named {
            if name.len() > NAME_BYTES_MAX || name.chars().any(|each| each.is_control() || each == '/') {
                return Err(Status::invalid_argument("a name of a user, group or host is no plain name"));
            }
        }
        let caller = Caller { client, user: hello.user, groups: hello.groups };
        state.leases().heard(client, state.clock.now_ms());
        Ok(Session { state, committer, caller, host: hello.host.into(), in_flight: Arc::default() })
    }

    fn welcome(&self) -> Welcome {
        let options = &self.state.options;
        Welcome {
            version: PROTOCOL_VERSION,
            cluster_id: self.state.namespace.cluster().0.to_vec().into(),
            epoch: self.state.epoch().0,
            lease_soft_limit_ms: options.lease_soft_limit_ms,
            replication: self.state.default_replication(),
            block_bytes: options.block_bytes,
            user_home: format!("/user/{}", self.caller.user),
            inside_address: options.inside_address.clone(),
        }
    }

    /// Takes calls until the client ends the stream or it breaks.
    async fn serve(self, mut calls: Streaming<Calls>, answers: mpsc::UnboundedSender<Answer>) {
        loop {
            match calls.message().await {
                Ok(Some(message)) => {
                    self.state.leases().heard(self.caller.client, self.state.clock.now_ms());
                    if !self.take(message, &answers).await {
                        return;
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(client = %self.caller.client, %status, "the client's stream broke");
                    return;
                }
            }
        }
    }

    /// Sorts the calls of one message into reads and changes. False: the master is ending.
    async fn take(&self, message: Calls, answers: &mpsc::UnboundedSender<Answer>) -> bool {
        let mut reads = Vec::new();
        for call in message.calls {
            if self.in_flight.fetch_add(1, Ordering::Relaxed) >= CALLS_IN_FLIGHT_MAX {
                refuse(
                    answers,
                    call.sequence,
                    Kind::Overloaded,
                    "too many calls of this client are in flight",
                );
                continue;
            }
            match call.request {
                None => refuse(
                    answers,
                    call.sequence,
                    Kind::InvalidArgument,
                    "the call asks for nothing this master knows",
                ),
                Some(request) if is_change(&request) => {
                    let call = WriteCall {
                        caller: self.caller.clone(),
                        host: self.host.clone(),
                        sequence: call.sequence,
                        settled_below: message.settled_below,
                        request,
                        answers: answers.clone(),
                    };
                    if self.committer.send(Submission::Call(call)).await.is_err() {
                        return false;
                    }
                }
                Some(_) => reads.push(call),
            }
        }
        if !reads.is_empty() {
            self.read(reads, answers.clone());
        }
        true
    }

    /// Reads touch the disk, so they leave the network's threads.
    fn read(&self, calls: Vec<Call>, answers: mpsc::UnboundedSender<Answer>) {
        let (state, caller, host) = (self.state.clone(), self.caller.clone(), self.host.clone());
        tokio::task::spawn_blocking(move || {
            reads::answer(&state, &Reader { caller: &caller, host: &host }, calls, &answers);
        });
    }
}

/// Whether the call goes through the committer.
fn is_change(request: &Request) -> bool {
    !matches!(
        request,
        Request::Stat(_)
            | Request::List(_)
            | Request::Summarize(_)
            | Request::Locate(_)
            | Request::Space(_)
            | Request::Report(_)
            | Request::Check(_)
            | Request::RenewLeases(_)
            | Request::ReportBad(_)
            | Request::Repair(_)
    )
}

/// Who is gone needs no answer.
fn refuse(answers: &mpsc::UnboundedSender<Answer>, sequence: u64, kind: Kind, detail: &str) {
    let failure = Failure { kind: kind.into(), path: String::new(), detail: detail.to_owned() };
    if answers.send(Answer { sequence, outcome: Some(Outcome::Failure(failure)) }).is_err() {
        tracing::debug!(sequence, "the client is gone before its answer");
    }
}

/// Sends answers as they come, many in a message. The queue before it is bounded by the calls in flight.
async fn pump(
    mut answered: mpsc::UnboundedReceiver<Answer>,
    messages: mpsc::Sender<Result<Answers, Status>>,
    in_flight: Arc<AtomicUsize>,
) {
    let mut waiting = Vec::with_capacity(ANSWERS_MAX);
    while answered.recv_many(&mut waiting, ANSWERS_MAX).await > 0 {
        in_flight.fetch_sub(waiting.len(), Ordering::Relaxed);
        for answers in messages_of(&mut waiting) {
            if messages.send(Ok(answers)).await.is_err() {
                return; // The client is gone.
            }
        }
    }
}

/// Splits answers into messages of a bounded size. One answer is bounded by itself.
fn messages_of(waiting: &mut Vec<Answer>) -> Vec<Answers> {
    let mut messages = vec![Answers::default()];
    let mut bytes = 0;
    for answer in waiting.drain(..) {
        let length = answer.encoded_len();
        if bytes > 0 && bytes + length > ANSWERS_BYTES_MAX {
            messages.push(Answers::default());
            bytes = 0;
        }
        bytes += length;
        messages.last_mut().expect("there is always one").answers.push(answer);
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::namespace::{Done, Entry, Listing};

    #[test]
    fn large_answers_travel_alone_and_in_order() {
        let large = |sequence| {
            let entry = Entry { path: "x".repeat(700 * 1024), ..Entry::default() };
            let outcome = Some(Outcome::Listing(Listing { entries: vec![entry], more: false }));
            Answer { sequence, outcome }
        };
        let small = |sequence| Answer { sequence, outcome: Some(Outcome::Done(Done {})) };
        let mut waiting = vec![small(1), large(2), large(3), small(4)];
        let messages = messages_of(&mut waiting);
        let sequences: Vec<Vec<u64>> = messages
            .iter()
            .map(|message| message.answers.iter().map(|answer| answer.sequence).collect())
            .collect();
        assert_eq!(sequences, [vec![1, 2], vec![3, 4]]);
        assert!(waiting.is_empty());
    }
}
