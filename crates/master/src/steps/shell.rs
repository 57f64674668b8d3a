//! What the core decides is made durable, then done: all under one lock, as steps are few and slow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gristmill_proto::cluster::{AddStepsRequest, Cluster, Step};
use gristmill_proto::cluster_record::ClusterRecord;
use gristmill_proto::wall_clock;
use tokio::sync::watch;

use super::archive::Archive;
use super::core::{Command, Core, Now, Outcome, Refusal};
use super::histories::Histories;
use super::leftovers::{self, LeftoverError};
use super::runner::{Control, Runner, Work};
use super::store::Store;
use super::{Ending, StepsOptions, StepsStartError, cluster_file};
use crate::jobs::JobsView;

/// Why the core or the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShellError {
    /// The core refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store has failed: the master ends.
    #[error("the store of steps failed")]
    Store,
}

/// The shell around the core.
pub(super) struct Shell {
    state: Mutex<State>,
    options: StepsOptions,
    jobs: JobsView,
    archive: Archive,
    histories: Histories,
    started: Instant,
    ended: watch::Sender<bool>,
    failure: watch::Sender<Option<String>>,
}

struct State {
    core: Core,
    store: Store,
    runners: HashMap<u64, Runner>,
    /// The master ends: how tries end is the next one's business.
    stopping: bool,
}

impl Shell {
    pub(super) fn start(options: StepsOptions, jobs: JobsView) -> Result<Arc<Shell>, StepsStartError> {
        let store = Store::open(&options.store)?;
        let (known, steps) = store.restore()?;
        leftovers::kill(&options.directory)?;
        let (cluster, first) = match (known, &options.cluster_file) {
            (Some(known), _) => (known, Vec::new()),
            (None, Some(file)) => cluster_file::read(file)?,
            (None, None) => (Cluster::default(), Vec::new()),
        };
        let cluster = Cluster { cluster_id: options.cluster.0.to_vec().into(), ..cluster };
        let archive = Archive::new(&options, &cluster);
        if let Some(place) = archive.place() {
            jobs.set_log_place(place);
        }
        let started = Instant::now();
        let mut core = Core::new(cluster, steps, now(started));
        if !first.is_empty() {
            let request = options.cluster.0.to_vec().into();
            let request = AddStepsRequest { request, steps: first, user: options.superuser.clone() };
            core.add(now(started), &request)
                .map_err(|refusal| StepsStartError::Steps(refusal.to_string()))?;
        }
        let state = State { core, store, runners: HashMap::new(), stopping: false };
        let shell = Shell {
            state: Mutex::new(state),
            options,
            jobs,
            archive,
            histories: Histories::default(),
            started,
            ended: watch::Sender::new(false),
            failure: watch::Sender::new(None),
        };
        let shell = Arc::new(shell);
        // What was decided at the start is durable before anybody is told anything.
        let mut state = shell.lock();
        let changes = state.core.take_changes();
        state.store.persist(&changes)?;
        shell.carry_out(&mut state);
        drop(state);
        Ok(shell)
    }

    pub(super) fn jobs(&self) -> &JobsView {
        &self.jobs
    }

    pub(super) fn options(&self) -> &StepsOptions {
        &self.options
    }

    pub(super) fn archive(&self) -> &Archive {
        &self.archive
    }

    pub(super) fn histories(&self) -> &Histories {
        &self.histories
    }

    /// Has the core decide, and does it. Nobody hears an answer before it is durable.
    pub(super) fn decide<T>(
        self: &Arc<Shell>,
        decide: impl FnOnce(&mut Core, Now) -> Result<T, Refusal>,
    ) -> Result<T, ShellError> {
        let mut state = self.lock();
        let decided = decide(&mut state.core, now(self.started));
        let changes = state.core.take_changes();
        if !changes.is_empty()
            && let Err(error) = state.store.persist(&changes)
        {
            tracing::error!(%error, "the store of steps failed: the master ends");
            self.failure.send_replace(Some(error.to_string()));
            return Err(ShellError::Store);
        }
        self.carry_out(&mut state);
        Ok(decided?)
    }

    /// Looks at the core: what is seen is durable, as every change is made so under the lock.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.lock().core)
    }

    pub(super) fn tick(self: &Arc<Shell>, workers: u32, jobs_live: u32) {
        let ticked = self.decide(|core, now| {
            core.observe(now, workers, jobs_live);
            core.tick(now);
            Ok(())
        });
        if let Err(error) = ticked {
            tracing::debug!(%error, "time does not pass any more");
        }
    }

    /// A try has ended, and its logs are where they stay.
    pub(super) fn try_ended(self: &Arc<Shell>, work: &Work, log: String, outcome: Outcome) {
        let (number, try_number) = (work.step.number, work.try_number);
        {
            let mut state = self.lock();
            if state.stopping {
                return;
            }
            state.runners.remove(&number);
        }
        tracing::info!(step = number, try_number, ?outcome, "a try of a step has ended");
        if outcome != Outcome::Completed {
            self.jobs.kill(work.job, format!("step-{number} has ended without it"));
        }
        let told = self.decide(|core, now| {
            core.logged(number, log);
            core.ended(now, number, try_number, outcome);
            Ok(())
        });
        if let Err(error) = told {
            tracing::debug!(%error, "the end of a try is the next master's business");
        }
    }

    fn carry_out(self: &Arc<Shell>, state: &mut State) {
        for command in state.core.take_commands() {
            tracing::info!(?command, "steps");
            match command {
                Command::Start { number, try_number } => {
                    let step = state.core.step(number).expect("a step that is begun is there").clone();
                    state.runners.insert(number, Runner::start(self.clone(), Work::new(step, try_number)));
                }
                Command::Stop { number, kill, .. } => {
                    if let Some(runner) = state.runners.get(&number) {
                        runner.tell(if kill { Control::Kill } else { Control::Stop });
                    }
                }
                Command::KillJob(job) => self.jobs.kill(job, "its step was cancelled".to_owned()),
                Command::End => drop(self.ended.send_replace(true)),
            }
        }
    }

    /// Waits for the cluster's end; its record is where it stays then.
    pub(super) async fn ended(self: &Arc<Shell>) -> Ending {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as this.
        ended.wait_for(|ended| *ended).await.map(drop).expect("the shell is there");
        self.histories.push(self).await;
        let (cluster, steps) =
            self.read(|core| (core.cluster().clone(), core.steps().cloned().collect::<Vec<Step>>()));
        let record = ClusterRecord::new(&cluster, &steps);
        let well = cluster.state() == gristmill_proto::cluster::cluster::State::Terminated;
        let sentence = format!("the cluster is {}: {} ({})", record.state, record.message, record.reason);
        let (shell, record) = (self.clone(), record.to_json());
        let pushed = record.clone();
        let pushing = tokio::task::spawn_blocking(move || shell.archive.push_record(&pushed));
        pushing.await.expect("pushing a record does not panic");
        Ending { well, sentence, record }
    }

    pub(super) async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await.map(|failure| failure.clone());
        failed.ok().flatten().unwrap_or_else(|| "the shell of steps is gone".to_owned())
    }

    /// Kills what runs, without a word to the core: the next master takes it up.
    pub(super) fn stop(&self) {
        let runners = {
            let mut state = self.lock();
            state.stopping = true;
            std::mem::take(&mut state.runners)
        };
        for runner in runners.values() {
            runner.tell(Control::Kill);
        }
        runners.values().for_each(Runner::wait);
    }

    /// What runs in a step's directory is killed.
    pub(super) fn kill_in(&self, directory: &std::path::Path) -> Result<(), LeftoverError> {
        leftovers::kill(directory)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now(started: Instant) -> Now {
    Now { mono_ms: started.elapsed().as_millis() as u64, wall_ms: wall_clock::now_ms() }
}
