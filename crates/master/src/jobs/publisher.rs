//! Outputs of jobs, staged and published as the job's user: a few threads that may wait for file systems, so that the
//! thread of turns never does.
//!
//! What concerns one job is done in order and never at once; jobs do not wait for each other while a thread is free.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use gristmill_dfs::client::{ClientOptions, DfsClient, DfsError, TransferError};
use gristmill_dfs::s3::S3Error;
use gristmill_dfs::{Credential, DfsIdentity, Existing, SharedOutputs, StageError, StagedFile, Uri};
use gristmill_process::sentence;
use gristmill_proto::auth::Secret;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::JobSpec;
use gristmill_proto::namespace::failure::Kind;
use tokio::sync::mpsc::WeakSender;

use super::JobsOptions;
use super::directories::JOBS;
use super::hold::{Hold, Moment};
use super::turns::Turn;
use crate::core::Event;

/// Jobs whose outputs are worked on at a time.
const THREADS: usize = 4;
/// How long a file system that does not answer is asked again before the job fails, or what is left of it stays.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Between two tries at first,
const PAUSE: Duration = Duration::from_millis(200);
/// and at most.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What is to be done with the outputs of a job.
pub(super) enum Work {
    Stage,
    Publish { files: Vec<(usize, StagedFile)>, manifest: Vec<u8> },
    Abort,
    Clean,
}

impl Work {
    fn name(&self) -> &'static str {
        match self {
            Work::Stage => "stage",
            Work::Publish { .. } => "publish",
            Work::Abort => "abort",
            Work::Clean => "clean",
        }
    }
}

/// The threads and what waits for them. Bounded by the jobs that the core takes: each has at most one of each work.
pub(super) struct Publisher {
    place: Place,
    hold: Hold,
    events: WeakSender<Turn>,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Of each job that is worked on or waits, in order; a job that is worked on is not in `ready`.
    jobs: HashMap<JobId, VecDeque<(Arc<JobSpec>, Work)>>,
    ready: VecDeque<JobId>,
    at_work: usize,
    ending: bool,
}

/// Where the outputs are reached from.
struct Place {
    secret: Option<Secret>,
    superuser: String,
    /// HOST:PORT of this process.
    own: String,
    /// The connection of the owner of `/`, once there is one.
    client: Mutex<Option<DfsClient>>,
}

impl Publisher {
    /// Starts the threads. They end by themselves after [`Publisher::settle`].
    pub(super) fn start(options: &JobsOptions, events: WeakSender<Turn>) -> io::Result<Arc<Publisher>> {
        let place = Place {
            secret: options.secret.clone(),
            superuser: options.superuser.clone(),
            own: options.own_address.to_string(),
            client: Mutex::default(),
        };
        let (hold, waiting, changed) = (Hold::from_environment(), Mutex::default(), Condvar::new());
        let publisher = Arc::new(Publisher { place, hold, events, waiting, changed });
        for _ in 0..THREADS {
            let publisher = publisher.clone();
            thread::Builder::new().name("publisher".into()).spawn(move || publisher.run())?;
        }
        Ok(publisher)
    }

    /// Puts work in the job's line. Never waits.
    pub(super) fn submit(&self, job: JobId, spec: Arc<JobSpec>, work: Work) {
        let mut waiting = self.waiting();
        let line = waiting.jobs.entry(job).or_default();
        let idle = line.is_empty();
        line.push_back((spec, work));
        if idle {
            waiting.ready.push_back(job);
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// Begins nothing new, and waits for what was begun, for at most `patience`.
    pub(super) fn settle(&self, patience: Duration) {
        let mut waiting = self.waiting();
        waiting.ending = true;
        self.changed.notify_all();
        let wait = self.changed.wait_timeout_while(waiting, patience, |waiting| waiting.at_work > 0);
        let (waiting, _) = wait.expect("no thread panics with the line of outputs");
        if waiting.at_work > 0 {
            tracing::warn!(jobs = waiting.at_work, "outputs are left to the next master");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no thread panics with the line of outputs")
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            self.work_on(job);
            let mut waiting = self.waiting();
            waiting.at_work -= 1;
            let line = waiting.jobs.get_mut(&job).expect("a job at work has a line");
            line.pop_front();
            if line.is_empty() {
                waiting.jobs.remove(&job);
            } else {
                waiting.ready.push_back(job);
            }
            drop(waiting);
            self.changed.notify_all();
        }
    }

    /// The next job to work on; none when the master ends.
    fn next(&self) -> Option<JobId> {
        let idle = |waiting: &mut Waiting| waiting.ready.is_empty() && !waiting.ending;
        let waiting = self.changed.wait_while(self.waiting(), idle);
        let mut waiting = waiting.expect("no thread panics with the line of outputs");
        if waiting.ending {
            return None;
        }
        waiting.at_work += 1;
        waiting.ready.pop_front()
    }

    /// Does the first work of the job's line, which stays in it meanwhile.
    fn work_on(&self, job: JobId) {
        let (spec, work) = {
            let mut waiting = self.waiting();
            let (spec, work) =
                waiting.jobs.get_mut(&job).and_then(VecDeque::front_mut).expect("a job at work has work");
            // What is left in its place is never carried out.
            (spec.clone(), std::mem::replace(work, Work::Clean))
        };
        let name = work.name();
        let publishes = matches!(work, Work::Publish { .. });
        if publishes && !self.is_let_go(Moment::Before) {
            return;
        }
        let result = self.patiently(job, name, || self.place.carry_out(job, &spec, &work));
        if publishes && !self.is_let_go(Moment::After) {
            return;
        }
        let result = match result {
            // The job is done: what is left of it must not look like a failure.
            Err(OutputError::Stage(error @ StageError::LeftOver { .. })) => {
                tracing::warn!(%job, error = %sentence(&error), "what was staged is left");
                Ok(())
            }
            ended => ended.map_err(|error| sentence(&error)),
        };
        match (&work, &result) {
            (_, Ok(())) => tracing::info!(%job, work = name, "outputs are done with"),
            (_, Err(error)) => tracing::warn!(%job, work = name, %error, "outputs cannot be done with"),
        }
        let event = match work {
            Work::Stage => Event::Staged { job, result },
            Work::Publish { .. } => Event::Published { job, result },
            Work::Abort | Work::Clean => return,
        };
        let told =
            self.events.upgrade().is_some_and(|events| events.blocking_send(Turn::Event(event)).is_ok());
        if !told {
            tracing::debug!(%job, work = name, "the master ends before it learns of this");
        }
    }

    /// Waits while a test holds publications; false if the master ends first, and its successor is to do it.
    fn is_let_go(&self, moment: Moment) -> bool {
        let mut waiting = self.waiting();
        while self.hold.holds(moment) && !waiting.ending {
            let wait = self.changed.wait_timeout(waiting, PAUSE);
            (waiting, _) = wait.expect("no thread panics with the line of outputs");
        }
        !self.hold.holds(moment)
    }

    /// Tries again while the trouble may pass.
    fn patiently(
        &self,
        job: JobId,
        work: &'static str,
        mut attempt: impl FnMut() -> Result<(), OutputError>,
    ) -> Result<(), OutputError> {
        let (started, mut pause) = (Instant::now(), PAUSE);
        loop {
            let error = match attempt() {
                Err(error) if may_pass(&error) && started.elapsed() < PATIENCE => error,
                done => return done,
            };
            tracing::warn!(%job, work, error = %sentence(&error), "a file system does not answer: it is asked again");
            let still = |waiting: &mut Waiting| !waiting.ending;
            let (waiting, _) = self
                .changed
                .wait_timeout_while(self.waiting(), pause, still)
                .expect("no thread panics with the line of outputs");
            if waiting.ending {
                return Err(error);
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Why outputs cannot be staged, published or removed.
#[derive(Debug, thiserror::Error)]
enum OutputError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("cannot write {uri}: {source}")]
    Uri { uri: String, source: gristmill_dfs::UriError },
    #[error("cannot remove {path}")]
    Clean { path: String, source: DfsError },
}

impl Place {
    fn carry_out(&self, job: JobId, spec: &JobSpec, work: &Work) -> Result<(), OutputError> {
        match work {
            Work::Stage => Ok(self.outputs(job, spec)?.begin()?),
            Work::Publish { files, manifest } => Ok(self.outputs(job, spec)?.publish(files, manifest)?),
            Work::Abort => Ok(self.outputs(job, spec)?.abort()?),
            Work::Clean => self.clean(job),
        }
    }

    fn outputs(&self, job: JobId, spec: &JobSpec) -> Result<SharedOutputs, OutputError> {
        let parse = |output: &gristmill_proto::job::Output| {
            Uri::parse(&output.uri).map_err(|source| OutputError::Uri { uri: output.uri.clone(), source })
        };
        let uris: Vec<Uri> = spec.outputs.iter().map(parse).collect::<Result<_, _>>()?;
        let existing = Existing::of(spec.overwrite, spec.append);
        let identity = DfsIdentity {
            user: spec.user.clone(),
            groups: spec.groups.clone(),
            credential: self.secret.clone().map_or(Credential::None, Credential::Secret),
            aliases: vec![(spec.master.clone(), self.own.clone())],
            host: None,
            inside: true,
        };
        Ok(SharedOutputs::new(&uris, job, existing, Some(&identity))?)
    }

    /// Removes the job's own files, as the owner of `/`.
    fn clean(&self, job: JobId) -> Result<(), OutputError> {
        let path = format!("{JOBS}/{job}");
        let failed = |source| OutputError::Clean { path: path.clone(), source };
        self.client().and_then(|client| client.delete(&path, true, true)).map(drop).map_err(failed)
    }

    fn client(&self) -> Result<DfsClient, DfsError> {
        let mut known = self.client.lock().expect("connecting does not panic");
        if let Some(client) = &*known {
            return Ok(client.clone());
        }
        let client = DfsClient::connect(own_client(&self.own, self.secret.clone(), &self.superuser))?;
        *known = Some(client.clone());
        Ok(client)
    }
}

/// How the master reaches its own namespace.
pub(super) fn own_client(own: &str, secret: Option<Secret>, superuser: &str) -> ClientOptions {
    ClientOptions { secret, user: superuser.to_owned(), inside: true, ..ClientOptions::new(own) }
}

/// Whether another try may go better: nobody answered, or said "not now", or the workers that a master needs for blocks
/// have not come back to it since it started.
fn may_pass(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<DfsError>() {
        let not_now = [Kind::SafeMode, Kind::NotYet, Kind::Overloaded, Kind::ReadOnly, Kind::NoWorkers];
        return match error {
            DfsError::Unreachable { .. }
            | DfsError::OutcomeUnknown { .. }
            | DfsError::PipelineLost { .. } => true,
            DfsError::ReadFailed { causes, .. } => {
                !causes.iter().any(|failure| matches!(failure.cause, TransferError::Corrupt { .. }))
            }
            DfsError::Refused { kind, .. } => not_now.contains(kind),
            _ => false,
        };
    }
    if let Some(error) = error.downcast_ref::<S3Error>() {
        return error.may_pass();
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        let inner = error.get_ref().is_some_and(|inner| may_pass(inner));
        return inner || matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Interrupted);
    }
    error.source().is_some_and(may_pass)
}

#[cfg(test)]
mod tests {
    use gristmill_dfs::client::ReplicaFailure;
    use gristmill_proto::ids::{BlockId, WorkerId};

    use super::*;

    fn unread(causes: Vec<TransferError>) -> io::Error {
        let failure =
            |cause| ReplicaFailure { worker: WorkerId(1), address: "10.0.0.1:7080".to_owned(), cause };
        let causes = causes.into_iter().map(failure).collect();
        let path = "/out/_SUCCESS".to_owned();
        io::Error::other(DfsError::ReadFailed { path, offset: 0, block: BlockId(5), causes })
    }

    #[test]
    fn a_block_whose_workers_are_still_coming_is_asked_for_again_and_a_damaged_one_is_not() {
        assert!(may_pass(&unread(vec![])));
        assert!(may_pass(&unread(vec![TransferError::Connect(io::ErrorKind::ConnectionRefused.into())])));
        assert!(!may_pass(&unread(vec![TransferError::Corrupt { offset: 0 }])));
    }
}
