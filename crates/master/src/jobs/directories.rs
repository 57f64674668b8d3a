//! `/.gristmill`: where drivers put programs and job files. Made by the master at each start, as the owner of `/`; and
//! swept by it then and once an hour: a driver that dies before it submits leaves files that no job's end removes, and
//! programs outlive their jobs, for the next ones.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gristmill_dfs::client::{ClientOptions, DfsClient, DfsError};
use gristmill_proto::ids::JobId;
use tokio::sync::mpsc::WeakSender;
use tokio::sync::{oneshot, watch};

use super::JobsOptions;
use super::programs::{ProgramLimits, StoredProgram, Use, surplus};
use super::publisher::own_client;
use super::shared::{LOOK_JOBS_MAX, wall_ms};
use super::turns::Turn;
use super::watch::has_ended;
use crate::core::Core;

/// Directory of files that are the master's business.
const HOME: &str = "/.gristmill";
/// Programs by their SHA-256, shared by all jobs.
const PROGRAMS: &str = "/.gristmill/programs";
/// A directory for each job, until it has ended.
pub(super) const JOBS: &str = "/.gristmill/jobs";
/// Everybody may look up what is there.
const HOME_MODE: u32 = 0o755;
/// Everybody may make names, and only their owner may remove them.
const OPEN_MODE: u32 = 0o1777;
/// Between two tries, while the namespace takes no changes.
const PAUSE: Duration = Duration::from_millis(200);
/// For one answer of the namespace, which is this very process.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A directory without a job is a driver's that has not submitted yet, until it is older than this.
const ORPHAN_AGE: Duration = Duration::from_secs(24 * 3600);
/// Between two sweeps, unless programs are kept for less,
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// and at least.
const SWEEP_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Directories that one sweep removes. The next one goes on.
const SWEPT_MAX: usize = 10_000;

/// The thread that makes and sweeps them.
pub(super) struct Directories {
    ready: watch::Receiver<bool>,
    stop: mpsc::Sender<()>,
    keeping: JoinHandle<()>,
}

impl Directories {
    /// Tries until they are there, in the background. What jobs there are is asked by way of `turns`.
    pub(super) fn start(options: &JobsOptions, turns: WeakSender<Turn>) -> io::Result<Directories> {
        let (say, ready) = watch::channel(false);
        let (stop, stopped) = mpsc::channel();
        let client = ClientOptions {
            // The thread itself tries again, and looks whether it is to end meanwhile.
            connect_timeout: PAUSE,
            call_timeout: ANSWER_TIMEOUT,
            retry_timeout: ANSWER_TIMEOUT,
            ..own_client(&options.own_address.to_string(), options.secret.clone(), &options.superuser)
        };
        let programs = options.programs;
        let keep = move || {
            while let Err(error) = make(&client) {
                tracing::debug!(%error, "cannot make {HOME} yet");
                match stopped.recv_timeout(PAUSE) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            tracing::info!(programs = PROGRAMS, jobs = JOBS, "directories for jobs are there");
            say.send_replace(true);
            let sweeper = Sweeper { client, programs, turns, stopped };
            sweeper.run();
        };
        let keeping = thread::Builder::new().name("directories".into()).spawn(keep)?;
        Ok(Directories { ready, stop, keeping })
    }

    /// Whether they are there.
    pub(super) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Ends the thread.
    pub(super) fn stop(self) {
        drop(self.stop);
        self.keeping.join().expect("keeping directories does not panic");
    }
}

fn make(options: &ClientOptions) -> Result<(), DfsError> {
    let client = DfsClient::connect(options.clone())?;
    client.make_directory(HOME, true, HOME_MODE)?;
    for directory in [PROGRAMS, JOBS] {
        client.make_directory(directory, true, OPEN_MODE)?;
        client.set_mode(directory, OPEN_MODE)?;
    }
    Ok(())
}

/// Removes what drivers left that died before they submitted their jobs, and programs of jobs that have long ended.
struct Sweeper {
    client: ClientOptions,
    programs: ProgramLimits,
    turns: WeakSender<Turn>,
    stopped: mpsc::Receiver<()>,
}

/// Why a sweep did not come to its end.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Namespace(#[from] DfsError),
    #[error("the master is ending")]
    Ending,
}

impl Sweeper {
    fn run(&self) {
        loop {
            match self.sweep() {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "directories without a job are removed"),
                Err(error) => tracing::debug!(%error, "directories without a job are left to the next sweep"),
            }
            match self.sweep_programs() {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "programs that no job uses are removed"),
                Err(error) => tracing::debug!(%error, "programs that no job uses are left to the next sweep"),
            }
            let interval = SWEEP_INTERVAL.min(self.programs.keep / 2).max(SWEEP_INTERVAL_MIN);
            if self.is_stopped(interval) {
                return;
            }
        }
    }

    /// How many directories it removed.
    fn sweep(&self) -> Result<usize, SweepError> {
        let client = DfsClient::connect(self.client.clone())?;
        let oldest_ms = wall_ms().saturating_sub(ORPHAN_AGE.as_millis() as u64);
        let mut old = Vec::new();
        for entry in client.list(JOBS)? {
            let entry = entry?;
            let job = entry.path.rsplit_once('/').and_then(|(_, name)| JobId::from_text(name));
            let is_old = entry.is_directory && entry.modified_ms < oldest_ms;
            old.extend(job.filter(|_| is_old));
            if old.len() == SWEPT_MAX || self.is_stopped(Duration::ZERO) {
                break;
            }
        }
        let mut removed = 0;
        for some in old.chunks(LOOK_JOBS_MAX) {
            // Asked after the look at their age: what was submitted meanwhile is known.
            for job in self.orphans(some.to_vec())? {
                if self.is_stopped(Duration::ZERO) {
                    return Ok(removed);
                }
                client.delete(&format!("{JOBS}/{job}"), true, true)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// How many programs it removed.
    fn sweep_programs(&self) -> Result<usize, SweepError> {
        let client = DfsClient::connect(self.client.clone())?;
        let mut programs = Vec::new();
        for entry in client.list(PROGRAMS)?.take(SWEPT_MAX) {
            let entry = entry?;
            if !entry.is_directory {
                let (path, bytes, stored_ms) = (entry.path, entry.bytes, entry.modified_ms);
                programs.push(StoredProgram { path, bytes, stored_ms });
            }
        }
        // Asked after the look at their age: what was submitted meanwhile is known. A driver that found its program just
        // before it goes looks again when its job is known, and brings it again.
        let gone = surplus(programs, &self.uses()?, wall_ms(), &self.programs);
        for program in &gone {
            client.delete(&program.path, false, true)?;
            tracing::info!(
                path = program.path,
                bytes = program.bytes,
                "a program that no job uses is removed"
            );
        }
        Ok(gone.len())
    }

    /// Who uses programs, by path.
    fn uses(&self) -> Result<HashMap<String, Use>, SweepError> {
        let jobs = self.look(|core| core.jobs())?;
        let mut uses = HashMap::new();
        for some in jobs.chunks(LOOK_JOBS_MAX) {
            let some = some.to_vec();
            let of = move |core: &Core| -> Vec<(String, Use)> {
                let of = |job: &JobId| {
                    let (status, spec) = (core.status(*job)?, core.spec(*job)?);
                    let used = if has_ended(status.state()) { Use::Until(status.ended_ms) } else { Use::Now };
                    Some((spec.program.as_ref()?.path.clone(), used))
                };
                some.iter().filter_map(of).collect()
            };
            for (path, used) in self.look(of)? {
                uses.entry(path).and_modify(|known: &mut Use| *known = known.or(used)).or_insert(used);
            }
        }
        Ok(uses)
    }

    /// Those of which no job is under way.
    fn orphans(&self, jobs: Vec<JobId>) -> Result<Vec<JobId>, SweepError> {
        self.look(move |core| {
            let is_orphan = |job: &JobId| core.status(*job).is_none_or(|status| has_ended(status.state()));
            jobs.into_iter().filter(is_orphan).collect()
        })
    }

    /// Looks at the core between two turns.
    fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, SweepError> {
        let (answer, answered) = oneshot::channel();
        let look = move |core: &Core, _| {
            if answer.send(look(core)).is_err() {
                tracing::debug!("a sweep has ended before its answer");
            }
        };
        let turns = self.turns.upgrade().ok_or(SweepError::Ending)?;
        turns.blocking_send(Turn::Read(Box::new(look))).map_err(|_| SweepError::Ending)?;
        drop(turns);
        answered.blocking_recv().map_err(|_| SweepError::Ending)
    }

    /// Whether the thread is told to end, within `wait`.
    fn is_stopped(&self, wait: Duration) -> bool {
        !matches!(self.stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
    }
}
