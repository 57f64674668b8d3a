//! Carries out the rule by which a cluster gets and loses task workers: as long as somebody keeps or waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gristmill_cluster::{Cluster, ClusterError, Elastic, Load, Registry, TaskRange, WorkerRole};
use gristmill_process::sentence;
use gristmill_proto::job::{ClusterStatus, JobStatus, WorkerStatus};

use super::create::master;
use super::scale::{Scaling, number};
use crate::failure::Failure;
use crate::job::client::JobsClient;

/// Between two looks at what there is to do.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// After a look or a change that failed.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks at whether it is to stop.
const POLL: Duration = Duration::from_millis(20);

/// A thread that scales a cluster; it ends with this.
pub(super) struct Scaler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scaler {
    /// Begins, if the cluster has a range for its task workers.
    pub(super) fn start(cluster: &Cluster) -> Result<Option<Scaler>, Failure> {
        let Some(range) = cluster.spec.task_range else { return Ok(None) };
        let stop = Arc::new(AtomicBool::new(false));
        let registry = Registry::from_environment()?;
        let scaling = Scaling { registry, name: cluster.name.clone(), interrupted: Arc::clone(&stop) };
        let thread = thread::Builder::new().name("scaler".to_owned()).spawn(move || run(&scaling, range));
        let thread =
            thread.map_err(|source| Failure::Start { program: "the thread that scales".into(), source })?;
        Ok(Some(Scaler { stop, thread: Some(thread) }))
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that scales the cluster panicked");
        }
    }
}

fn run(scaling: &Scaling, range: TaskRange) {
    let (mut rule, started) = (Elastic::new(range), Instant::now());
    while !scaling.interrupted.load(Ordering::Relaxed) {
        let pause = match look(scaling, &mut rule, started) {
            Ok(()) => LOOK_INTERVAL,
            Err(Failure::Cluster(ClusterError::Unknown { .. })) => return,
            Err(error) => {
                tracing::warn!(cluster = scaling.name, error = sentence(&error), "cannot scale the cluster");
                TROUBLE_INTERVAL
            }
        };
        let paused = Instant::now();
        while paused.elapsed() < pause && !scaling.interrupted.load(Ordering::Relaxed) {
            thread::sleep(POLL);
        }
    }
}

/// Looks once, and does what follows from it.
fn look(scaling: &Scaling, rule: &mut Elastic, started: Instant) -> Result<(), Failure> {
    let cluster = scaling.registry.find(&scaling.name)?;
    let jobs = JobsClient::of(&master(&cluster)?)?;
    let status = jobs.describe_within(Duration::ZERO)?;
    let waiting = match status.free_slots {
        0 => tasks_waiting(&jobs.list(false)?),
        _ => 0,
    };
    let present = cluster.workers(WorkerRole::Task);
    let idle = idle_ones(&cluster, &present, &status);
    let load = Load {
        workers: present.len() as u32,
        idle_workers: idle.len() as u32,
        slots_per_worker: cluster.spec.slots.unwrap_or(1),
        free_slots: status.free_slots,
        tasks_waiting: waiting,
    };
    let wanted = rule.wanted(started.elapsed().as_millis() as u64, load);
    if wanted > load.workers {
        tracing::info!(cluster = scaling.name, wanted, waiting, "tasks wait: task workers come");
        scaling.scale(WorkerRole::Task, wanted)?;
    } else if wanted < load.workers {
        // The latest go first.
        let surplus = (load.workers - wanted) as usize;
        let leaving: Vec<String> = idle.into_iter().rev().take(surplus).collect();
        tracing::info!(cluster = scaling.name, wanted, ?leaving, "task workers are idle: they go");
        scaling.dismiss(&cluster, WorkerRole::Task, leaving)?;
    }
    Ok(())
}

/// Tasks of running jobs that nobody runs, those included that wait for other tasks.
fn tasks_waiting(jobs: &[JobStatus]) -> u64 {
    let stages = jobs.iter().flat_map(|job| &job.stages);
    stages.map(|stage| u64::from(stage.tasks.saturating_sub(stage.done + stage.running))).sum()
}

/// Those of the members that run nothing.
fn idle_ones(cluster: &Cluster, names: &[String], status: &ClusterStatus) -> Vec<String> {
    let idle = |worker: &&WorkerStatus| worker.state == "live" && worker.running == 0;
    let idle: Vec<u64> = status.workers.iter().filter(idle).map(|worker| worker.worker).collect();
    let is_idle =
        |name: &&String| number(cluster, name, &status.workers).is_some_and(|number| idle.contains(&number));
    names.iter().filter(is_idle).cloned().collect()
}
