//! A fake of the master's service Jobs: keeps what is submitted, shows what the story says.

use gristmill_proto::ids::JobId;
use gristmill_proto::job::jobs_server::Jobs;
use gristmill_proto::job::submit_part::Part;
use gristmill_proto::job::{
    ClusterStatus, DescribeRequest, DrainAnswer, DrainRequest, JobSpec, JobStatus, KillAnswer, KillRequest,
    ListJobs, ListTasksRequest, LogChunk, ReadLogRequest, SubmitAnswer, SubmitPart, TaskHints, TaskPage,
    WatchRequest, WorkerStatus, job_status,
};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Nothing that a story waits for takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the fake knows. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct FakeJobs {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// In order of submission.
    submitted: Vec<Submitted>,
    shown: HashMap<JobId, watch::Sender<Result<JobStatus, Code>>>,
    killed: Vec<JobId>,
    watches: u32,
    /// So many calls of Submit are carried out, and their answers lost.
    answers_lost: u32,
}

type Code = tonic::Code;

/// A job as it came.
#[derive(Clone)]
pub(crate) struct Submitted {
    pub(crate) spec: JobSpec,
    pub(crate) hints: Vec<TaskHints>,
}

impl FakeJobs {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something holds.
    fn wait<T>(&self, what: &str, holds: impl Fn(&State) -> Option<T>) -> T {
        let (_, changed) = &*self.state;
        let waited = changed.wait_timeout_while(self.lock(), PATIENCE, |state| holds(state).is_none());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        holds(&state).unwrap_or_else(|| panic!("{what} did not happen within {PATIENCE:?}"))
    }

    /// Waits for the job number `number`.
    pub(crate) fn submitted(&self, number: usize) -> Submitted {
        self.wait("the submission", |state| state.submitted.get(number).cloned())
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().submitted.len()
    }

    pub(crate) fn wait_for_kill(&self, job: JobId) {
        self.wait("the order to kill", |state| state.killed.contains(&job).then_some(()));
    }

    pub(crate) fn wait_for_watches(&self, watches: u32) {
        self.wait("watching", |state| (state.watches >= watches).then_some(()));
    }

    pub(crate) fn watches(&self) -> u32 {
        self.lock().watches
    }

    pub(crate) fn lose_answers(&self, answers: u32) {
        self.lock().answers_lost = answers;
    }

    /// Shows this of a job from now on.
    pub(crate) fn show(&self, job: JobId, change: impl FnOnce(&mut JobStatus)) {
        let state = self.lock();
        let shown = &state.shown[&job];
        let mut status = shown.borrow().clone().unwrap_or_default();
        change(&mut status);
        status.version += 1;
        drop(shown.send_replace(Ok(status)));
    }

    /// Ends all streams that watch the job, as a master does that dies; it can be watched again.
    pub(crate) fn break_watches(&self, job: JobId) {
        let shown = &self.lock().shown[&job];
        let status = shown.borrow().clone();
        drop(shown.send_replace(Err(Code::Unavailable)));
        // Whoever watches sees the latest value only: it is shown when all have gone.
        let (shown, watched) = (shown.clone(), PATIENCE);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(async {
                tokio::time::timeout(watched, shown.closed()).await.expect("the watchers see the end");
            });
            drop(shown.send_replace(status));
        });
    }
}

fn job_of(bytes: &[u8]) -> Result<JobId, Status> {
    JobId::from_wire(bytes).ok_or_else(|| Status::invalid_argument("no job"))
}

#[tonic::async_trait]
impl Jobs for FakeJobs {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<JobStatus, Status>> + Send>>;
    type ListStream = Self::WatchStream;
    type ListTasksStream = Pin<Box<dyn Stream<Item = Result<TaskPage, Status>> + Send>>;
    type ReadLogStream = Pin<Box<dyn Stream<Item = Result<LogChunk, Status>> + Send>>;

    async fn submit(&self, parts: Request<Streaming<SubmitPart>>) -> Result<Response<SubmitAnswer>, Status> {
        let mut parts = parts.into_inner();
        let (mut spec, mut hints) = (None, Vec::new());
        while let Some(part) = parts.message().await? {
            match part.part {
                Some(Part::Spec(first)) => spec = Some(first),
                Some(Part::Hints(page)) => hints.push(page),
                None => return Err(Status::invalid_argument("an empty part")),
            }
        }
        let spec = spec.ok_or_else(|| Status::invalid_argument("no spec"))?;
        let job = job_of(&spec.job)?;
        let mut state = self.lock();
        let known_before = state.shown.contains_key(&job);
        if !known_before {
            let status = JobStatus {
                job: spec.job.clone(),
                name: spec.name.clone(),
                program: spec.program.as_ref().map_or(String::new(), |program| program.name.clone()),
                state: job_status::State::Running.into(),
                ..JobStatus::default()
            };
            state.shown.insert(job, watch::Sender::new(Ok(status)));
            state.submitted.push(Submitted { spec: spec.clone(), hints });
        }
        self.state.1.notify_all();
        if state.answers_lost > 0 {
            state.answers_lost -= 1;
            return Err(Status::unavailable("lost on the way"));
        }
        Ok(Response::new(SubmitAnswer { job: spec.job, known_before }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let job = job_of(&request.into_inner().job)?;
        let mut state = self.lock();
        let Some(shown) = state.shown.get(&job) else {
            return Err(Status::not_found(format!("there is no job {job}")));
        };
        let (mut shown, (sender, stream)) = (shown.subscribe(), mpsc::channel(1));
        tokio::spawn(async move {
            loop {
                let item = shown.borrow_and_update().clone();
                let last = item.is_err();
                let item = item.map_err(|code| Status::new(code, "the master ends"));
                if sender.send(item).await.is_err() || last || shown.changed().await.is_err() {
                    return;
                }
            }
        });
        state.watches += 1;
        self.state.1.notify_all();
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn list(&self, _: Request<ListJobs>) -> Result<Response<Self::ListStream>, Status> {
        Err(Status::unimplemented("no story asks"))
    }

    async fn kill(&self, request: Request<KillRequest>) -> Result<Response<KillAnswer>, Status> {
        let KillRequest { job, user, .. } = request.into_inner();
        let job = job_of(&job)?;
        let mut state = self.lock();
        if !state.submitted.iter().any(|known| known.spec.job[..] == job.0 && known.spec.user == user) {
            return Err(Status::permission_denied(format!("the job is not of {user:?}")));
        }
        state.killed.push(job);
        drop(state);
        self.state.1.notify_all();
        Ok(Response::new(KillAnswer { found: true, detail: String::new() }))
    }

    async fn list_tasks(
        &self,
        _: Request<ListTasksRequest>,
    ) -> Result<Response<Self::ListTasksStream>, Status> {
        Err(Status::unimplemented("no story asks"))
    }

    async fn read_log(&self, _: Request<ReadLogRequest>) -> Result<Response<Self::ReadLogStream>, Status> {
        Err(Status::unimplemented("no story asks"))
    }

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<ClusterStatus>, Status> {
        let worker = |worker: u64| WorkerStatus {
            worker,
            role: "core".to_owned(),
            state: "live".to_owned(),
            slots: 1,
            ..WorkerStatus::default()
        };
        let workers = vec![worker(1), worker(2)];
        Ok(Response::new(ClusterStatus { workers, slots: 2, free_slots: 2, ..ClusterStatus::default() }))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainAnswer>, Status> {
        Err(Status::unimplemented("no story asks"))
    }
}
