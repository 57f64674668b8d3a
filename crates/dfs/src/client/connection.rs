//! The one stream of calls to the master: many calls in flight, and what is unanswered survives a lost stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::auth::{CALLER_TOKEN_METADATA, Role, Secret};
use gristmill_proto::ids::{ClientId, ClusterId, Epoch};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::namespace_client::NamespaceClient;
use gristmill_proto::namespace::{Answers, Calls, Hello, Welcome};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_stream::Stream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::errors::{ConnectError, DfsError};
use super::exchange::{Exchange, Waiting};
use super::{ClientOptions, request};

/// Calls of one client without an answer: the master refuses more. Who asks for another one waits.
const CALLS_IN_FLIGHT_MAX: usize = 4096;
/// A call counts once for each such piece, so that the calls in flight hold 64 MiB at most.
const CALL_BYTES_PER_SLOT: usize = 16 << 10;
/// One call, as publishing a hundred thousand files. The master takes messages of this length.
pub(crate) const CALL_BYTES_MAX: usize = 16 << 20;
/// One message of answers; the master keeps far below.
const ANSWERS_BYTES_MAX: usize = 16 << 20;
/// To the first packet of the master's machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From there to its greeting, which costs it nothing.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// A master that answers no ping for this long twice is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// Between attempts to connect: at first, and at most.
const BACK_OFF_MIN: Duration = Duration::from_millis(20);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// How exactly the deadlines of calls are kept.
const SWEEP: Duration = Duration::from_millis(100);
/// Bytes the master may send ahead of this client reading them.
const WINDOW_BYTES: u32 = 4 << 20;

type Answered = Result<Outcome, DfsError>;

/// Who waits for a call, and the slots it holds until then.
struct Waiter {
    answer: oneshot::Sender<Answered>,
    _slots: OwnedSemaphorePermit,
}

/// What all streams of one client share.
pub(crate) struct Connection {
    options: ClientOptions,
    client: ClientId,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    exchange: Exchange<Waiter>,
    /// The number of the present stream, and whether the master greeted on it.
    stream: u64,
    open: bool,
    /// Wakes the present stream when there is something to send.
    sender: Option<Waker>,
    /// Waits for the first greeting.
    first: Option<oneshot::Sender<Result<(), Arc<ConnectError>>>>,
    cluster: Option<ClusterId>,
    seen_epoch: Epoch,
    welcome: Option<Arc<Welcome>>,
    trouble: Arc<ConnectError>,
}

impl Connection {
    /// Prepares one; [`Connection::run`] then keeps it alive. The receiver gets the outcome of the first greeting.
    pub(crate) fn new(
        options: ClientOptions,
    ) -> (Arc<Connection>, oneshot::Receiver<Result<(), Arc<ConnectError>>>) {
        let (first, greeted) = oneshot::channel();
        let state = State {
            exchange: Exchange::new(),
            stream: 0,
            open: false,
            sender: None,
            first: Some(first),
            cluster: None,
            seen_epoch: Epoch(0),
            welcome: None,
            trouble: Arc::new(ConnectError::NotYet),
        };
        let slots = Arc::new(Semaphore::new(CALLS_IN_FLIGHT_MAX));
        let connection = Connection { options, client: ClientId::random(), slots, state: Mutex::new(state) };
        (Arc::new(connection), greeted)
    }

    pub(crate) fn client(&self) -> ClientId {
        self.client
    }

    /// The latest greeting.
    pub(crate) fn welcome(&self) -> Option<Arc<Welcome>> {
        self.lock().welcome.clone()
    }

    /// What the client met at last.
    pub(crate) fn trouble(&self) -> Arc<ConnectError> {
        self.lock().trouble.clone()
    }

    /// Sends one call and waits for its answer; a refusal is [`DfsError::Refused`]. Dropped early, the call goes on.
    pub(crate) async fn call(self: Arc<Self>, request: Request) -> Answered {
        let slots = self.slots_of(&request)?;
        let permit = self.slots.clone().acquire_many_owned(slots).await.expect("it is never closed");
        let (answer, answered) = oneshot::channel();
        let waker = {
            let mut state = self.lock();
            state.exchange.add(request, Instant::now(), Waiter { answer, _slots: permit });
            if state.open { state.sender.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        answered.await.expect("the sweep answers every call")
    }

    fn slots_of(&self, request: &Request) -> Result<u32, DfsError> {
        let bytes = request.encoded_len();
        if bytes > CALL_BYTES_MAX {
            let (call, path) = request::subject(request);
            let detail = format!("the call to {call} it has {bytes} bytes, of at most {CALL_BYTES_MAX}");
            return Err(DfsError::Refused { kind: Kind::Limit, path, detail });
        }
        // At most 1025: it fits.
        Ok(1 + (bytes / CALL_BYTES_PER_SLOT) as u32)
    }

    /// Keeps a stream open, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut back_off = BACK_OFF_MIN;
        loop {
            let started = Instant::now();
            let Err(trouble) = self.clone().one_stream().await;
            tracing::debug!(master = %self.options.master, %trouble, "no stream of calls");
            self.lost(trouble);
            if started.elapsed() > BACK_OFF_MAX {
                back_off = BACK_OFF_MIN;
            }
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    /// Answers the calls whose time is over, for ever.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(limit) = Instant::now().checked_sub(self.options.call_timeout) else { continue };
            let (expired, trouble) = {
                let mut state = self.lock();
                let slow = state.open.then(|| Arc::new(ConnectError::Slow));
                (state.exchange.expired(limit), slow.unwrap_or_else(|| state.trouble.clone()))
            };
            self.fail(expired, &trouble);
        }
    }

    /// One stream, until it breaks.
    async fn one_stream(self: Arc<Self>) -> Result<std::convert::Infallible, ConnectError> {
        let mut client = NamespaceClient::new(self.channel().await?)
            .max_decoding_message_size(ANSWERS_BYTES_MAX)
            .max_encoding_message_size(CALL_BYTES_MAX + CALL_BYTES_PER_SLOT);
        let mut call = tonic::Request::new(self.clone().outgoing());
        if let Some(token) = self.token() {
            let token = token.parse().map_err(|_| ConnectError::BadWelcome("a token is hexadecimal"))?;
            call.metadata_mut().insert(CALLER_TOKEN_METADATA, token);
        }
        let greeting = async {
            let mut answers = client.call(call).await.map_err(refused)?.into_inner();
            let first = answers.message().await.map_err(refused)?.ok_or(ConnectError::Closed)?;
            Ok((answers, first))
        };
        let waited_ms = WELCOME_TIMEOUT.as_millis() as u64;
        let (mut answers, first) = tokio::time::timeout(WELCOME_TIMEOUT, greeting)
            .await
            .map_err(|_| ConnectError::NoWelcome { waited_ms })??;
        self.greeted(first)?;
        self.receive(&mut answers).await
    }

    /// What proves to the master who is asking.
    fn token(&self) -> Option<String> {
        let made = |secret: &Secret| secret.caller_token(Role::Client, "namespace", wall_ms());
        self.options.token.clone().or_else(|| self.options.secret.as_ref().map(made))
    }

    async fn channel(&self) -> Result<tonic::transport::Channel, ConnectError> {
        let master = &self.options.master;
        Endpoint::from_shared(format!("http://{master}"))
            .map_err(|source| ConnectError::Address { master: master.clone(), source })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect()
            .await
            .map_err(ConnectError::Transport)
    }

    /// What this client sends on a new stream: a hello, and the calls once the master has greeted.
    fn outgoing(self: Arc<Self>) -> Outgoing {
        let stream = {
            let mut state = self.lock();
            state.stream += 1;
            state.exchange.stream_lost();
            state.stream
        };
        let hello = Hello {
            version: PROTOCOL_VERSION,
            client_id: self.client.0.to_vec().into(),
            user: self.options.user.clone(),
            groups: self.options.groups.clone(),
            host: self.options.host.clone(),
        };
        Outgoing { connection: self, stream, hello: Some(hello), yielded: false }
    }

    /// Checks the greeting, and lets the calls go.
    fn greeted(&self, first: Answers) -> Result<(), ConnectError> {
        let welcome = first.welcome.ok_or(ConnectError::BadWelcome("the first message holds none"))?;
        if welcome.version != PROTOCOL_VERSION {
            return Err(ConnectError::WrongVersion { theirs: welcome.version, ours: PROTOCOL_VERSION });
        }
        let cluster = ClusterId::from_wire(&welcome.cluster_id)
            .ok_or(ConnectError::BadWelcome("a cluster id has 16 bytes"))?;
        let mut state = self.lock();
        let expected = *state.cluster.get_or_insert(cluster);
        if expected != cluster {
            return Err(ConnectError::OtherCluster { expected, found: cluster });
        }
        let (seen, found) = (state.seen_epoch, Epoch(welcome.epoch));
        if found < seen {
            return Err(ConnectError::OldMaster { seen, found });
        }
        state.seen_epoch = found;
        state.welcome = Some(Arc::new(welcome));
        state.open = true;
        let (sender, waiting) = (state.sender.take(), state.first.take());
        drop(state);
        if let Some(sender) = sender {
            sender.wake();
        }
        if let Some(waiting) = waiting {
            // Whoever connected may have given up: the connection is dropped then.
            drop(waiting.send(Ok(())));
        }
        Ok(())
    }

    async fn receive(
        &self,
        answers: &mut Streaming<Answers>,
    ) -> Result<std::convert::Infallible, ConnectError> {
        let mut done = Vec::new();
        while let Some(message) = answers.message().await.map_err(ConnectError::Broken)? {
            {
                let mut state = self.lock();
                for answer in message.answers {
                    if let Some(waiting) = state.exchange.answered(answer.sequence) {
                        done.push((waiting, answer.outcome));
                    }
                }
            }
            for (waiting, outcome) in done.drain(..) {
                let outcome = self.judge(&waiting.request, outcome);
                // Who asked may be gone.
                drop(waiting.waiter.answer.send(outcome));
            }
        }
        Err(ConnectError::Closed)
    }

    fn judge(&self, request: &Request, outcome: Option<Outcome>) -> Answered {
        match outcome {
            Some(Outcome::Failure(failure)) => {
                let kind = Kind::try_from(failure.kind).unwrap_or(Kind::Unspecified);
                let path = if failure.path.is_empty() { request::subject(request).1 } else { failure.path };
                Err(DfsError::Refused { kind, path, detail: failure.detail })
            }
            Some(outcome) => Ok(outcome),
            None => Err(self.unexpected(request)),
        }
    }

    pub(crate) fn unexpected(&self, request: &Request) -> DfsError {
        let (call, path) = request::subject(request);
        DfsError::UnexpectedAnswer { master: self.options.master.clone(), call, path }
    }

    /// The stream is gone. Calls wait for the next one, unless the master wants none of this client.
    fn lost(&self, trouble: ConnectError) {
        let trouble = Arc::new(trouble);
        let (refused, first) = {
            let mut state = self.lock();
            state.open = false;
            state.sender = None;
            state.stream += 1;
            state.trouble = trouble.clone();
            if !trouble.is_refusal() {
                return;
            }
            (state.exchange.give_up(), state.first.take())
        };
        if let Some(first) = first {
            drop(first.send(Err(trouble.clone())));
        }
        self.fail(refused, &trouble);
    }

    fn fail(&self, calls: Vec<Waiting<Waiter>>, trouble: &Arc<ConnectError>) {
        for waiting in calls {
            let (call, path) = request::subject(&waiting.request);
            let master = self.options.master.clone();
            let (waited_ms, source) = (waiting.since.elapsed().as_millis() as u64, trouble.clone());
            let error = if waiting.sent && request::is_change(&waiting.request) {
                DfsError::OutcomeUnknown { master, call, path, waited_ms, source }
            } else {
                DfsError::Unreachable { master, call, path, waited_ms, source }
            };
            drop(waiting.waiter.answer.send(Err(error)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messages of one stream. Each takes all calls that queued up while the one before it was on its way.
struct Outgoing {
    connection: Arc<Connection>,
    stream: u64,
    hello: Option<Hello>,
    /// Others had their turn since the last message.
    yielded: bool,
}

impl Stream for Outgoing {
    type Item = Calls;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Calls>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(Calls { hello: Some(hello), ..Calls::default() }));
        }
        let outgoing = &mut *self;
        let mut state = outgoing.connection.lock();
        if state.stream != outgoing.stream {
            return Poll::Ready(None);
        }
        if state.open && state.exchange.has_unsent() && !outgoing.yielded {
            // The answers that are here wake callers, whose next calls then leave with this message.
            outgoing.yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        outgoing.yielded = false;
        let calls = if state.open { state.exchange.next_batch() } else { Vec::new() };
        if calls.is_empty() {
            state.sender = Some(context.waker().clone());
            return Poll::Pending;
        }
        let settled_below = state.exchange.settled_below();
        Poll::Ready(Some(Calls { hello: None, calls, settled_below }))
    }
}

/// A status before the greeting: some mean that asking again is of no use.
fn refused(status: tonic::Status) -> ConnectError {
    use tonic::Code;
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument => {
            ConnectError::Refused(status)
        }
        Code::Unimplemented => ConnectError::Refused(status),
        _ => ConnectError::Broken(status),
    }
}

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    // A clock before 1970 makes tokens that no master takes: it says so.
    gristmill_proto::wall_clock::now_ms()
}

/// Runs a future on this thread, which sleeps meanwhile. All work is done by other threads, so that this is fine on
/// any thread but the client's own.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }
    thread_local! {
        static WAKER: Waker = Arc::new(Unpark(std::thread::current())).into();
    }
    let waker = WAKER.with(Waker::clone);
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
