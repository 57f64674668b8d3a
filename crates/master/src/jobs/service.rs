//! The gRPC service Jobs: what drivers and users ask.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gristmill_proto::ids::{AttemptId, JobId, TaskId, WorkerId};
use gristmill_proto::job::job_status::State;
use gristmill_proto::job::jobs_server::{Jobs, JobsServer};
use gristmill_proto::job::{
    ClusterStatus, DescribeRequest, DrainAnswer, DrainRequest, JobStatus, KillAnswer, KillRequest, ListJobs,
    ListTasksRequest, LogChunk, ReadLogRequest, SubmitAnswer, SubmitPart, TaskPage, TaskStatus, WatchRequest,
};
use gristmill_proto::task::LogPage;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::callers::check_client;
use super::shared::{LOOK_JOBS_MAX, Shared, ending, wall_ms};
use super::submission::{BadSubmission, PART_BYTES_MAX, Submission};
use super::turns::{LogRequest, Turn};
use super::watch;
use crate::core::{Event, Refusal};

/// How long a submission waits for the directories of jobs, after a start of the master.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two parts of a submission. A driver that is slower has hung.
const PART_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two pages of a log.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that wait for a caller to read them.
const MESSAGES_WAITING_MAX: usize = 4;
/// Jobs of a list where the caller does not say how many.
const LIST_DEFAULT: usize = 1000;
/// Tasks that are looked at between two turns: the workers do not wait for a list.
const LOOK_TASKS: usize = 500;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service, to be added to a gRPC server.
pub(super) fn service(shared: Arc<Shared>) -> JobsServer<JobsService> {
    JobsServer::new(JobsService { shared }).max_decoding_message_size(PART_BYTES_MAX)
}

/// Answers drivers and users.
pub(crate) struct JobsService {
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Jobs for JobsService {
    type WatchStream = Messages<JobStatus>;
    type ListStream = Messages<JobStatus>;
    type ListTasksStream = Messages<TaskPage>;
    type ReadLogStream = Messages<LogChunk>;

    async fn submit(
        &self,
        request: Request<Streaming<SubmitPart>>,
    ) -> Result<Response<SubmitAnswer>, Status> {
        check_client(&self.shared, request.metadata())?;
        let submission = self.receive(request.into_inner()).await?;
        self.await_directories().await?;
        let Submission { job, spec, hints, .. } = submission;
        let event = Event::Submit { spec: Box::new(spec), hints, wall_ms: wall_ms() };
        let (answer, answered) = oneshot::channel();
        self.shared.send(Turn::Submit { job, event, answer }).await?;
        match answered.await.map_err(|_| ending())? {
            Ok(known_before) => Ok(Response::new(SubmitAnswer { job: job.0.to_vec().into(), known_before })),
            Err(Refusal::Bad(detail)) => Err(Status::invalid_argument(detail)),
            Err(Refusal::Conflict(detail)) => Err(Status::already_exists(detail)),
            Err(Refusal::Full(detail)) => Err(Status::resource_exhausted(detail)),
        }
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        check_client(&self.shared, request.metadata())?;
        let WatchRequest { job, driver } = request.into_inner();
        let job = job_id(&job)?;
        let (answer, answered) = oneshot::channel();
        self.shared.send(Turn::Watch { job, driver, answer }).await?;
        let states = answered.await.map_err(|_| no_job(job))?;
        let (messages, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
        tokio::spawn(watch::watch(self.shared.clone(), job, driver, states, messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list(&self, request: Request<ListJobs>) -> Result<Response<Self::ListStream>, Status> {
        check_client(&self.shared, request.metadata())?;
        let (messages, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
        tokio::spawn(list(self.shared.clone(), request.into_inner(), messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn kill(&self, request: Request<KillRequest>) -> Result<Response<KillAnswer>, Status> {
        check_client(&self.shared, request.metadata())?;
        let request = request.into_inner();
        let job = job_id(&request.job)?;
        let Some(status) = self.shared.read(move |core, _| core.status(job)).await? else {
            return Ok(Response::new(KillAnswer { found: false, detail: format!("there is no job {job}") }));
        };
        if request.user != status.user && request.user != self.shared.superuser {
            let who = if request.user.is_empty() { "nobody" } else { &request.user };
            let detail = format!("cannot kill {job}: it is {}'s, and {who} asks", status.user);
            return Err(Status::permission_denied(detail));
        }
        if watch::has_ended(status.state()) {
            let detail = format!("job {job} has ended already");
            return Ok(Response::new(KillAnswer { found: true, detail }));
        }
        if status.state() == State::Committing {
            let detail = format!("job {job} is being published: nothing can stop it any more");
            return Ok(Response::new(KillAnswer { found: true, detail }));
        }
        let (event, detail) = kill_event(job, &request)?;
        self.shared.send(Turn::Event(event)).await?;
        Ok(Response::new(KillAnswer { found: true, detail }))
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<Self::ListTasksStream>, Status> {
        check_client(&self.shared, request.metadata())?;
        let request = request.into_inner();
        let job = job_id(&request.job)?;
        let status = self.shared.read(move |core, _| core.status(job)).await?.ok_or_else(|| no_job(job))?;
        let stages = match request.stage {
            Some(stage) => stage..stage.saturating_add(1),
            None => 0..status.stages.len() as u32,
        };
        let (messages, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
        tokio::spawn(list_tasks(self.shared.clone(), job, stages, request.failed_only, messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn read_log(
        &self,
        request: Request<ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        check_client(&self.shared, request.metadata())?;
        let ReadLogRequest { job, stage, task, number, stderr, offset } = request.into_inner();
        let attempt = TaskId { job: job_id(&job)?, stage, task }.attempt(number);
        let (answer, answered) = oneshot::channel();
        self.shared.send(Turn::ReadLog(LogRequest { attempt, stderr, offset, answer })).await?;
        let pages = answered.await.map_err(|_| ending())??;
        let (messages, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
        tokio::spawn(pass_on(attempt, pages, messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<ClusterStatus>, Status> {
        check_client(&self.shared, request.metadata())?;
        Ok(Response::new(self.shared.cluster_status().await?))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainAnswer>, Status> {
        check_client(&self.shared, request.metadata())?;
        let DrainRequest { worker, undo, user } = request.into_inner();
        if user != self.shared.superuser {
            let detail = format!("cannot drain worker-{worker}: only {} may", self.shared.superuser);
            return Err(Status::permission_denied(detail));
        }
        self.shared.send(Turn::Event(Event::Drain { worker: WorkerId(worker), undo })).await?;
        let workers = self.shared.cluster_status().await?.workers;
        let state = workers.into_iter().find(|each| each.worker == worker).map(|worker| worker.state);
        Ok(Response::new(DrainAnswer { found: state.is_some(), state: state.unwrap_or_default() }))
    }
}

impl JobsService {
    async fn receive(&self, mut parts: Streaming<SubmitPart>) -> Result<Submission, Status> {
        let refused = |error: BadSubmission| {
            tracing::warn!(%error, "a submission is refused");
            Status::invalid_argument(error.to_string())
        };
        let mut submission = None;
        while let Some(part) = next_part(&mut parts).await? {
            match &mut submission {
                None => {
                    let secret = self.shared.secret.as_ref();
                    submission = Some(Submission::begin(part, secret).map_err(refused)?);
                }
                Some(submission) => submission.add(part).map_err(refused)?,
            }
        }
        submission.ok_or_else(|| Status::invalid_argument("cannot take the job: the submission is empty"))
    }

    async fn await_directories(&self) -> Result<(), Status> {
        let mut ready = self.shared.ready.clone();
        match tokio::time::timeout(READY_TIMEOUT, ready.wait_for(|&ready| ready)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ending()),
            Err(_) => Err(Status::unavailable(
                "cannot take the job: the namespace takes no changes, so there is no place for its files; try again later",
            )),
        }
    }
}

impl Shared {
    /// The cluster as people see it.
    pub(super) async fn cluster_status(&self) -> Result<ClusterStatus, Status> {
        let status = self.read(|core, now_ms| core.cluster(now_ms)).await?;
        Ok(ClusterStatus {
            cluster_id: self.cluster().0.to_vec().into(),
            epoch: self.epoch().0,
            uptime_ms: self.uptime_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..status
        })
    }
}

async fn next_part(parts: &mut Streaming<SubmitPart>) -> Result<Option<SubmitPart>, Status> {
    let part = tokio::time::timeout(PART_TIMEOUT, parts.message()).await;
    part.map_err(|_| Status::deadline_exceeded("cannot take the job: its next part does not come"))?
}

fn job_id(bytes: &[u8]) -> Result<JobId, Status> {
    JobId::from_wire(bytes).ok_or_else(|| Status::invalid_argument("a job's id has 16 bytes"))
}

fn no_job(job: JobId) -> Status {
    Status::not_found(format!("there is no job {job}"))
}

/// What is killed, and how it is said.
fn kill_event(job: JobId, request: &KillRequest) -> Result<(Event, String), Status> {
    match (request.stage, request.task, request.number) {
        (None, None, None) => {
            let reason = match request.reason.trim() {
                "" => format!("killed by {}", request.user),
                reason => format!("killed by {}: {reason}", request.user),
            };
            Ok((Event::KillJob { job, reason }, format!("job {job} is killed")))
        }
        (Some(stage), Some(task), None) => {
            let detail = format!("attempts of {} are killed", TaskId { job, stage, task });
            Ok((Event::KillTask { job, stage, task }, detail))
        }
        (Some(stage), Some(task), Some(number)) => {
            let attempt = TaskId { job, stage, task }.attempt(number);
            Ok((Event::KillAttempt { attempt }, format!("{attempt} is killed")))
        }
        _ => Err(Status::invalid_argument("a task has a stage and a number, and an attempt has a task")),
    }
}

async fn list(shared: Arc<Shared>, request: ListJobs, messages: mpsc::Sender<Result<JobStatus, Status>>) {
    let mut left = if request.limit == 0 { LIST_DEFAULT } else { request.limit as usize };
    let jobs = match shared.read(|core, _| core.jobs()).await {
        Ok(jobs) => jobs,
        Err(status) => return close(&messages, status).await,
    };
    for some in jobs.chunks(LOOK_JOBS_MAX) {
        let some = match shared.statuses(some.to_vec()).await {
            Ok(some) => some,
            Err(status) => return close(&messages, status).await,
        };
        for status in some.into_iter().filter(|status| request.all || !watch::has_ended(status.state())) {
            if left == 0 || messages.send(Ok(status)).await.is_err() {
                return;
            }
            left -= 1;
        }
    }
}

async fn list_tasks(
    shared: Arc<Shared>,
    job: JobId,
    stages: std::ops::Range<u32>,
    failed_only: bool,
    messages: mpsc::Sender<Result<TaskPage, Status>>,
) {
    for stage in stages {
        let mut next = 0;
        loop {
            let read = shared.read(move |core, _| core.tasks(job, Some(stage), next, LOOK_TASKS)).await;
            let mut tasks = match read {
                Ok(tasks) => tasks,
                Err(status) => return close(&messages, status).await,
            };
            if tasks.is_empty() {
                break;
            }
            next += tasks.len() as u32;
            tasks.retain(|task| !failed_only || has_failed(task));
            if !tasks.is_empty() && messages.send(Ok(TaskPage { tasks })).await.is_err() {
                return;
            }
        }
    }
}

fn has_failed(task: &TaskStatus) -> bool {
    task.attempts.iter().any(|attempt| attempt.state == "failed")
}

/// Passes the pages of a log on, until the last.
async fn pass_on(
    attempt: AttemptId,
    mut pages: mpsc::Receiver<LogPage>,
    messages: mpsc::Sender<Result<LogChunk, Status>>,
) {
    loop {
        let page = match tokio::time::timeout(PAGE_TIMEOUT, pages.recv()).await {
            Ok(Some(page)) => page,
            Ok(None) => {
                let detail = format!("cannot read more of the log of {attempt}: its worker has gone");
                return close(&messages, Status::unavailable(detail)).await;
            }
            Err(_) => {
                let detail = format!("cannot read the log of {attempt}: its worker does not answer");
                return close(&messages, Status::deadline_exceeded(detail)).await;
            }
        };
        if !page.failure.is_empty() {
            return close(&messages, Status::not_found(page.failure)).await;
        }
        let LogPage { bytes, dropped_bytes, last, .. } = page;
        let more = messages.send(Ok(LogChunk { bytes, dropped_bytes })).await.is_ok();
        if last || !more {
            return;
        }
    }
}

/// The last word of a stream, if somebody listens.
async fn close<T>(messages: &mpsc::Sender<Result<T, Status>>, status: Status) {
    if messages.send(Err(status)).await.is_err() {
        tracing::debug!("a caller is gone before the end of its answer");
    }
}
