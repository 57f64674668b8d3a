//! Calls of the master's service `Jobs`, one at a time, on one thread.
//!
//! Every call can be made again without harm. So a master that does not answer is asked again for a while: it may only
//! just be starting, or starting again.

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use gristmill_dfs::file_system::Access;
use gristmill_proto::auth::{CALLER_TOKEN_METADATA, Role, Secret};
use gristmill_proto::cluster::clusters_client::ClustersClient as ClustersStub;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::jobs_client::JobsClient as Stub;
use gristmill_proto::job::{
    ClusterStatus, DescribeRequest, DrainAnswer, DrainRequest, JobStatus, KillAnswer, KillRequest, ListJobs,
    ListTasksRequest, LogChunk, ReadLogRequest, TaskStatus, WatchRequest, job_status::State,
};
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::failure::Failure;

/// The service for which caller tokens are made.
const AUDIENCE: &str = "jobs";
/// To the first packet of the master's machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A master that takes longer over one call is not well.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a master that cannot be reached is tried: as long as `gristmill fs` does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// The same, for who waits for a job anyway: time to start the master's machine again.
const WATCH_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// A master that answers no ping for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// Between tries: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// A page of tasks, a job's report. The master keeps far below.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// More jobs than a master keeps.
const JOBS_MAX: u32 = 1_000_000;

/// Where a master is, what it takes to be let in, and who asks.
#[derive(Clone)]
pub(crate) struct Master {
    pub(crate) address: String,
    pub(crate) secret: Option<Secret>,
    pub(crate) user: String,
}

impl Master {
    /// The master that an option or the environment names.
    pub(crate) fn named(option: Option<String>) -> Result<Master, Failure> {
        let access = Access::from_environment();
        let missing =
            || Failure::Usage("no master is named: give --master HOST:PORT, or set GRISTMILL_MASTER".into());
        let address = option.or(access.master).ok_or_else(missing)?;
        let secret = access.secret_file.as_deref().map(Secret::read).transpose()?;
        Ok(Master { address, secret, user: access.user })
    }
}

/// Why a call was not answered as it should have been.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    #[error("cannot use the master {master}: an address is HOST:PORT")]
    Address { master: String, source: tonic::transport::Error },
    #[error("cannot start a thread for calls")]
    Start(#[source] io::Error),
    #[error("cannot {operation}: the master {master} did not answer for {waited_ms} ms")]
    Unreachable { operation: &'static str, master: String, waited_ms: u64, source: Box<Status> },
    /// The master's own words.
    #[error("{}", refusal(operation, .status))]
    Refused { operation: &'static str, status: Box<Status> },
    #[error("cannot {operation}: the master {master} answers with {what}")]
    Nonsense { operation: &'static str, master: String, what: &'static str },
}

/// What the master said; with what was wanted, if it does not say that itself.
fn refusal(operation: &str, status: &Status) -> String {
    let said = status.message();
    if said.starts_with("cannot ") { said.to_owned() } else { format!("cannot {operation}: {said}") }
}

/// A master's service `Jobs`.
pub(crate) struct JobsClient {
    runtime: Runtime,
    stub: Stub<Channel>,
    /// The service of steps and of the cluster's life: another of the same master, on the same connection.
    clusters: ClustersStub<Channel>,
    master: Master,
}

impl JobsClient {
    /// Prepares calls; none is made.
    pub(crate) fn of(master: &Master) -> Result<JobsClient, CallError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(CallError::Start)?;
        let endpoint = Endpoint::from_shared(format!("http://{}", master.address))
            .map_err(|source| CallError::Address { master: master.address.clone(), source })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_lazy()
        };
        let clusters = ClustersStub::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let stub = Stub::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(JobsClient { runtime, stub, clusters, master: master.clone() })
    }

    /// In whose name calls are made.
    pub(crate) fn user(&self) -> &str {
        &self.master.user
    }

    /// HOST:PORT.
    pub(crate) fn master(&self) -> &str {
        &self.master.address
    }

    /// Live jobs, or all that the master remembers; the latest first.
    pub(crate) fn list(&self, all: bool) -> Result<Vec<JobStatus>, CallError> {
        self.call("list the jobs", PATIENCE, async |mut stub| {
            within_limit(async {
                gather(stub.list(self.request(ListJobs { all, limit: JOBS_MAX })?).await?.into_inner()).await
            })
            .await
        })
    }

    /// A job's state now.
    pub(crate) fn status(&self, job: JobId) -> Result<JobStatus, CallError> {
        let request = WatchRequest { job: wire(job), driver: false };
        let first = self.call("look at the job", PATIENCE, async |mut stub| {
            within_limit(async {
                stub.watch(self.request(request.clone())?).await?.into_inner().message().await
            })
            .await
        })?;
        first.ok_or_else(|| self.nonsense("look at the job", "no state at all"))
    }

    /// A job's state at its end. `seen` gets it now, and whenever it has changed.
    pub(crate) fn wait(&self, job: JobId, seen: impl Fn(&JobStatus)) -> Result<JobStatus, CallError> {
        const OPERATION: &str = "wait for the job";
        let request = WatchRequest { job: wire(job), driver: false };
        loop {
            let last = self.call(OPERATION, WATCH_PATIENCE, async |mut stub| {
                let mut states = stub.watch(self.request(request.clone())?).await?.into_inner();
                let mut last = None;
                loop {
                    match states.message().await {
                        Ok(Some(state)) => {
                            seen(&state);
                            last = Some(state);
                        }
                        Ok(None) => return Ok(last),
                        // The stream is opened again, with a patience of its own.
                        Err(status) if last.is_some() && is_lost(&status) => return Ok(last),
                        Err(status) => return Err(status),
                    }
                }
            })?;
            match last {
                Some(status) if is_ended(&status) => return Ok(status),
                Some(_) => {}
                None => return Err(self.nonsense(OPERATION, "no state at all")),
            }
        }
    }

    /// Tasks of a job, of one stage or all, in order.
    pub(crate) fn tasks(
        &self,
        job: JobId,
        stage: Option<u32>,
        failed_only: bool,
    ) -> Result<Vec<TaskStatus>, CallError> {
        let request = ListTasksRequest { job: wire(job), stage, failed_only };
        let pages = self.call("list the tasks of the job", PATIENCE, async |mut stub| {
            within_limit(async {
                gather(stub.list_tasks(self.request(request.clone())?).await?.into_inner()).await
            })
            .await
        })?;
        Ok(pages.into_iter().flat_map(|page| page.tasks).collect())
    }

    /// Reads what an attempt wrote; `chunk` is called with each piece.
    pub(crate) fn read_log(
        &self,
        request: ReadLogRequest,
        mut chunk: impl FnMut(LogChunk) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        // Only the opening is tried again: what was shown would be shown twice.
        let mut chunks = self.call("read the log", PATIENCE, async |mut stub| {
            Ok(within_limit(stub.read_log(self.request(request.clone())?)).await?.into_inner())
        })?;
        loop {
            let message = self.runtime.block_on(within_limit(chunks.message()));
            match message.map_err(|status| self.failed("read the log", status, Duration::ZERO))? {
                Some(piece) => chunk(piece)?,
                None => return Ok(()),
            }
        }
    }

    /// Kills a job, a task of it, or an attempt.
    pub(crate) fn kill(&self, request: KillRequest) -> Result<KillAnswer, CallError> {
        let request = KillRequest { user: self.master.user.clone(), ..request };
        self.call("kill the job", PATIENCE, async |mut stub| {
            Ok(within_limit(stub.kill(self.request(request.clone())?)).await?.into_inner())
        })
    }

    /// The cluster's workers, slots and jobs.
    pub(crate) fn describe(&self) -> Result<ClusterStatus, CallError> {
        self.describe_within(PATIENCE)
    }

    /// The same, if the master answers within `patience`.
    pub(crate) fn describe_within(&self, patience: Duration) -> Result<ClusterStatus, CallError> {
        self.call("describe the cluster", patience, async |mut stub| {
            Ok(within_limit(stub.describe(self.request(DescribeRequest {})?)).await?.into_inner())
        })
    }

    /// Takes a worker's slots out of service, or back into it.
    pub(crate) fn drain(&self, worker: u64, undo: bool) -> Result<DrainAnswer, CallError> {
        let request = DrainRequest { worker, undo, user: self.master.user.clone() };
        self.call("drain the worker", PATIENCE, async |mut stub| {
            Ok(within_limit(stub.drain(self.request(request.clone())?)).await?.into_inner())
        })
    }

    /// Makes one call, again and again for `patience` if the master cannot be reached.
    fn call<T>(
        &self,
        operation: &'static str,
        patience: Duration,
        one: impl AsyncFn(Stub<Channel>) -> Result<T, Status>,
    ) -> Result<T, CallError> {
        self.call_on(&self.stub, operation, patience, one)
    }

    /// Makes one call of the service of clusters, in the same way.
    pub(crate) fn call_clusters<T>(
        &self,
        operation: &'static str,
        patience: Duration,
        one: impl AsyncFn(ClustersStub<Channel>) -> Result<T, Status>,
    ) -> Result<T, CallError> {
        self.call_on(&self.clusters, operation, patience, async |stub| within_limit(one(stub)).await)
    }

    fn call_on<S: Clone, T>(
        &self,
        stub: &S,
        operation: &'static str,
        patience: Duration,
        one: impl AsyncFn(S) -> Result<T, Status>,
    ) -> Result<T, CallError> {
        let started = Instant::now();
        let mut back_off = BACK_OFF.0;
        self.runtime.block_on(async {
            loop {
                match one(stub.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(status) if is_lost(&status) && started.elapsed() + back_off < patience => {
                        tracing::debug!(master = %self.master.address, %status, "no answer");
                        tokio::time::sleep(back_off).await;
                        back_off = (back_off * 2).min(BACK_OFF.1);
                    }
                    Err(status) => return Err(self.failed(operation, status, started.elapsed())),
                }
            }
        })
    }

    /// A message with what proves that it may be sent.
    pub(crate) fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        if let Some(secret) = &self.master.secret {
            let token = secret.caller_token(Role::Client, AUDIENCE, wall_ms());
            let token: MetadataValue<_> =
                token.parse().map_err(|_| Status::internal("a token is hexadecimal"))?;
            request.metadata_mut().insert(CALLER_TOKEN_METADATA, token);
        }
        Ok(request)
    }

    fn failed(&self, operation: &'static str, status: Status, waited: Duration) -> CallError {
        let status = Box::new(status);
        if is_lost(&status) {
            let (master, waited_ms) = (self.master.address.clone(), waited.as_millis() as u64);
            return CallError::Unreachable { operation, master, waited_ms, source: status };
        }
        CallError::Refused { operation, status }
    }

    fn nonsense(&self, operation: &'static str, what: &'static str) -> CallError {
        CallError::Nonsense { operation, master: self.master.address.clone(), what }
    }
}

/// Whether a job is what it will be for ever.
pub(crate) fn is_ended(status: &JobStatus) -> bool {
    matches!(status.state(), State::Done | State::Failed | State::Killed)
}

/// Whether nobody answered, as opposed to an answer that says no.
fn is_lost(status: &Status) -> bool {
    // Only what happened on this side has a source.
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

async fn within_limit<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::unavailable(format!("no answer within {} s", CALL_TIMEOUT.as_secs())));
    tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or_else(late)
}

async fn gather<T>(mut stream: Streaming<T>) -> Result<Vec<T>, Status> {
    let mut all = Vec::new();
    while let Some(each) = stream.message().await? {
        all.push(each);
    }
    Ok(all)
}

pub(crate) fn wire(job: JobId) -> bytes::Bytes {
    job.0.to_vec().into()
}

fn wall_ms() -> u64 {
    // A clock before 1970 gives tokens that have expired: the master says so.
    gristmill_proto::wall_clock::now_ms()
}
