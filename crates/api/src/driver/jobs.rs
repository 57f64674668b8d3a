//! Calls to the master's service Jobs, for plain threads. What is lost with a connection is asked again: every call may
//! come twice.

use super::{DriverError, DriverOptions};
use gristmill_process::sentence::with_causes;
use gristmill_proto::auth::{CALLER_TOKEN_METADATA, Role, Secret};
use gristmill_proto::ids::JobId;
use gristmill_proto::job::jobs_client::JobsClient;
use gristmill_proto::job::{
    ClusterStatus, DescribeRequest, JobSpec, JobStatus, KillRequest, SubmitPart, TaskHints, WatchRequest,
    submit_part,
};
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

/// To the first packet of the master's machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the answer to one call; then it is asked again.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a driver without a job tries to reach the master.
const FIRST_PATIENCE: Duration = Duration::from_secs(15);
/// How long a call about a job is asked again: a master restarts in less.
const CALL_PATIENCE: Duration = Duration::from_secs(60);
/// Between tries: at first, and at most.
const BACK_OFF_MIN: Duration = Duration::from_millis(20);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// A master that answers no ping for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// The report of a job names its output files: 65,536 of several outputs fit.
const STATUS_BYTES_MAX: usize = 64 << 20;

type Client = JobsClient<InterceptedService<Channel, Caller>>;

/// Shows who calls.
#[derive(Clone)]
struct Caller {
    secret: Option<Secret>,
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(secret) = &self.secret {
            let token = secret.caller_token(Role::Client, "jobs", now_ms());
            let token = MetadataValue::try_from(token).expect("hexadecimal digits");
            request.metadata_mut().insert(CALLER_TOKEN_METADATA, token);
        }
        Ok(request)
    }
}

/// Wall time since 1970, for tokens and for people.
pub(super) fn now_ms() -> u64 {
    gristmill_proto::wall_clock::now_ms()
}

/// A connection to the master, made when it is first needed.
pub(super) struct Jobs {
    runtime: Runtime,
    client: Client,
    master: String,
    /// Who asks.
    user: String,
    interrupted: Arc<AtomicBool>,
}

impl Jobs {
    /// Calls nobody yet.
    pub(super) fn new(options: &DriverOptions) -> Result<Jobs, DriverError> {
        let DriverOptions { master, secret, user, interrupted, .. } = options;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(DriverError::Start)?;
        let endpoint = Endpoint::from_shared(format!("http://{master}"))
            .map_err(|source| DriverError::Address { master: master.to_owned(), source })?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .tcp_nodelay(true);
        let channel = {
            let _entered = runtime.enter();
            endpoint.connect_lazy()
        };
        let client = JobsClient::with_interceptor(channel, Caller { secret: secret.clone() });
        let client = client.max_decoding_message_size(STATUS_BYTES_MAX);
        let (master, user, interrupted) = (master.clone(), user.clone(), interrupted.clone());
        Ok(Jobs { runtime, client, master, user, interrupted })
    }

    pub(super) fn master(&self) -> &str {
        &self.master
    }

    /// The cluster: its workers and slots.
    pub(super) fn describe(&self) -> Result<ClusterStatus, DriverError> {
        let describe = async |mut client: Client| client.describe(DescribeRequest {}).await;
        Ok(self.ask("describe its cluster", FIRST_PATIENCE, describe)?.into_inner())
    }

    /// The job as it is now; none: the master does not know it.
    pub(super) fn status(&self, job: JobId) -> Result<Option<JobStatus>, DriverError> {
        let first = async |mut client: Client| {
            let request = WatchRequest { job: job.0.to_vec().into(), driver: false };
            match client.watch(request).await {
                Ok(answer) => answer.into_inner().message().await,
                Err(status) if status.code() == Code::NotFound => Ok(None),
                Err(status) => Err(status),
            }
        };
        self.ask("say what a job does", FIRST_PATIENCE, first)
    }

    /// Submits a job. Whether the master knew it already makes no difference.
    pub(super) fn submit(&self, spec: JobSpec, hints: &[TaskHints]) -> Result<(), DriverError> {
        let hints = hints.iter().cloned().map(submit_part::Part::Hints);
        let parts: Vec<SubmitPart> = std::iter::once(submit_part::Part::Spec(spec))
            .chain(hints)
            .map(|part| SubmitPart { part: Some(part) })
            .collect();
        let submit = async |mut client: Client| client.submit(tokio_stream::iter(parts.clone())).await;
        self.ask("take the job", CALL_PATIENCE, submit).map(drop)
    }

    /// Ends a job of this user.
    pub(super) fn kill(&self, job: JobId, reason: &str) -> Result<(), DriverError> {
        let kill = async |mut client: Client| {
            let (job, reason, user) = (job.0.to_vec().into(), reason.to_owned(), self.user.clone());
            client.kill(KillRequest { job, reason, user, ..KillRequest::default() }).await
        };
        // Who is interrupted wants the job killed all the more: one try is made in any case.
        self.ask("kill the job", CALL_PATIENCE, kill).map(drop)
    }

    /// Begins to watch a job: one try.
    pub(super) fn watch(&self, job: JobId, driver: bool) -> Result<Streaming<JobStatus>, Status> {
        let mut client = self.client.clone();
        let request = WatchRequest { job: job.0.to_vec().into(), driver };
        self.runtime.block_on(async {
            let answer = timeout(CONNECT_TIMEOUT, client.watch(request)).await;
            Ok(answer.map_err(|_| Status::deadline_exceeded("it does not answer"))??.into_inner())
        })
    }

    /// The next status within `wait`; `Ok(None)`: nothing new. The end of the stream is an error.
    pub(super) fn next(
        &self,
        stream: &mut Streaming<JobStatus>,
        wait: Duration,
    ) -> Result<Option<JobStatus>, Status> {
        self.runtime.block_on(async {
            match timeout(wait, stream.message()).await {
                Err(_) => Ok(None),
                Ok(Ok(None)) => Err(Status::unavailable("the master has ended the stream")),
                Ok(Ok(Some(status))) => Ok(Some(status)),
                Ok(Err(status)) => Err(status),
            }
        })
    }

    /// Lets the connection live for `wait`.
    pub(super) fn pause(&self, wait: Duration) {
        // The timer is made within the runtime.
        self.runtime.block_on(async { sleep(wait).await });
    }

    fn ask<T, F>(
        &self,
        call: &'static str,
        patience: Duration,
        ask: impl Fn(Client) -> F,
    ) -> Result<T, DriverError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let started = Instant::now();
        let mut back_off = BACK_OFF_MIN;
        self.runtime.block_on(async {
            loop {
                let asked = timeout(CALL_TIMEOUT, ask(self.client.clone())).await;
                let status = match asked {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(status)) => status,
                    Err(_) => Status::deadline_exceeded("it took the call and did not answer"),
                };
                if !is_lost(&status) {
                    return Err(self.refused(call, &status));
                }
                let waited = started.elapsed();
                if waited >= patience || self.interrupted.load(Ordering::Relaxed) {
                    let (master, detail) = (self.master.clone(), detail(&status));
                    return Err(DriverError::Unreachable { master, call, waited, detail });
                }
                sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF_MAX);
            }
        })
    }

    pub(super) fn refused(&self, call: &'static str, status: &Status) -> DriverError {
        let detail = match status.code() {
            Code::Unimplemented => "it runs no jobs".to_owned(),
            _ => detail(status),
        };
        DriverError::Refused { master: self.master.clone(), call, detail }
    }
}

/// Whether the call, or its answer, was lost on the way; otherwise the master has spoken.
pub(super) fn is_lost(status: &Status) -> bool {
    use Code::{Aborted, Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(status.code(), Aborted | Cancelled | DeadlineExceeded | Internal | Unavailable | Unknown)
}

/// What went wrong, and what led to it.
pub(super) fn detail(status: &Status) -> String {
    let text = with_causes(status.message().to_owned(), status.source());
    if text.is_empty() { status.code().description().to_owned() } else { text }
}
