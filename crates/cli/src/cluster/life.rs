//! The life of a cluster that was just made: files in, steps, their ends, files out, the end of the cluster.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gristmill_cluster::{Cluster, ClusterError, Condition, Kept, ProviderKind, Registry};
use gristmill_proto::cluster_record::ClusterRecord;

use super::config::Config;
use super::create::master;
use super::daemon_logs;
use super::keeper::Keeper;
use super::steps::{add, show};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::job::client::{JobsClient, Master};

/// How often somebody who waits looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a cluster may be without a master before it is given up: time for a container to start again.
const NO_MASTER_MAX: Duration = Duration::from_secs(30);
/// How long an ending master may take: to cancel steps, and to push what outlives it.
const END_LIMIT: Duration = Duration::from_secs(120);

/// Does a new cluster's work. None: it goes on by itself; else how it ended, or how all its steps did.
///
/// Who waits for a cluster of containers keeps it from the first moment on: what ends before its time is started again.
pub(super) fn work(
    registry: &Registry,
    config: &Config,
    cluster: &Cluster,
    wait: bool,
    interrupted: &AtomicBool,
) -> Result<Option<ClusterRecord>, Failure> {
    let keeps = wait && cluster.spec.provider == ProviderKind::Docker;
    let keeper = if keeps { Some(Keeper::start(registry, &cluster.name)?) } else { None };
    let master = master(cluster)?;
    let jobs = JobsClient::of(&master)?;
    for (from, to) in &config.put {
        copy(cluster, &master, "put", from, to)?;
    }
    if !config.steps.is_empty() {
        add(&jobs, &master, &config.steps)?;
    }
    if !wait {
        return Ok(None);
    }
    let ends_by_itself = config.transient.unwrap_or(false) && !config.is_held();
    let is_over = || keeper.as_ref().map_or_else(|| has_said_end(cluster), Keeper::is_over);
    let stays = match ends_by_itself && keeps {
        true => None,
        false => wait_for_steps(ends_by_itself, &cluster.name, &jobs, is_over, interrupted)?,
    };
    match stays {
        None => {}
        Some(_) if config.is_held() => {
            for (from, to) in &config.get {
                copy(cluster, &master, "get", from, to)?;
            }
            terminate(&jobs, is_over)?;
        }
        Some(record) => {
            drop(keeper);
            registry.leave_custodian(&cluster.name)?;
            return Ok(Some(record));
        }
    }
    end(registry, cluster, keeper, interrupted).map(Some)
}

/// Tells the master that its cluster is to end. One that has just been killed hears it when it is back.
fn terminate(jobs: &JobsClient, is_over: impl Fn() -> bool) -> Result<(), Failure> {
    match jobs.terminate(NO_MASTER_MAX) {
        // It may have heard it, and ended, before it could answer.
        Err(error) if !is_over() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Waits for the end of a cluster that comes to it, and removes what is left.
fn end(
    registry: &Registry,
    cluster: &Cluster,
    keeper: Option<Keeper>,
    interrupted: &AtomicBool,
) -> Result<ClusterRecord, Failure> {
    let name = &cluster.name;
    if let Some(keeper) = keeper {
        return match keeper.end(interrupted)? {
            Kept::Over(bytes) => read_end(name, &bytes),
            Kept::Interrupted => Err(goes_on(name)),
            Kept::Terminated => Err(Failure::Refused(format!("somebody has terminated the cluster {name}"))),
        };
    }
    end_of_master(registry, cluster)?;
    bury(registry, cluster)?.ok_or_else(|| {
        Failure::Refused(format!("the master of the cluster {name} ended without a word: see its log"))
    })
}

fn goes_on(name: &str) -> Failure {
    Failure::Refused(format!(
        "interrupted, but the cluster {name} goes on: `gristmill cluster terminate {name}` ends it"
    ))
}

/// Tells how a cluster ended: well, if all its steps did.
pub(super) fn tell(record: &ClusterRecord, name: &str, console: &mut Console) -> Result<Exit, Failure> {
    if console.json {
        let object = serde_json::to_value(record).map_err(|error| Failure::Refused(error.to_string()))?;
        console.object(&object)?;
    } else {
        record.steps.iter().try_for_each(|step| show(step, console))?;
        console.line(format!(
            "The cluster {name} is {}: {} ({}).",
            record.state, record.message, record.reason
        ))?;
    }
    let well =
        record.state != "TERMINATED_WITH_ERRORS" && record.steps.iter().all(|step| step.state == "COMPLETED");
    Ok(if well { Exit::Done } else { Exit::Failed })
}

/// With the commands for files, as a process of its own: as if somebody had typed them.
fn copy(cluster: &Cluster, master: &Master, verb: &str, from: &str, to: &str) -> Result<(), Failure> {
    let program =
        std::env::current_exe().map_err(|source| Failure::Start { program: "gristmill".into(), source })?;
    let mut command = Command::new(&program);
    command.args(["fs", verb, "--", from, to]).env("GRISTMILL_MASTER", &master.address);
    if let Some(secret) = &cluster.secret_file {
        command.env("GRISTMILL_SECRET_FILE", secret);
    }
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = ended.map_err(|source| Failure::Start { program, source })?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::Refused(format!("cannot {verb} {from} to {to}"))),
    }
}

/// Waits until all steps are over, in a cluster that stays; none: it comes to its end.
fn wait_for_steps(
    ends_by_itself: bool,
    name: &str,
    jobs: &JobsClient,
    is_over: impl Fn() -> bool,
    interrupted: &AtomicBool,
) -> Result<Option<ClusterRecord>, Failure> {
    let mut heard = Instant::now();
    loop {
        if is_over() {
            return Ok(None);
        }
        if interrupted.load(Ordering::Relaxed) {
            return Err(goes_on(name));
        }
        // The steps first: a cluster that is seen after its last step's end knows what follows from that.
        let steps = jobs.steps_within(Duration::ZERO);
        let seen = steps.and_then(|steps| Ok(ClusterRecord::new(&jobs.life_within(Duration::ZERO)?, &steps)));
        match seen {
            Ok(record) if record.state.starts_with("TERMINAT") => return Ok(None),
            Ok(record) => {
                heard = Instant::now();
                if !ends_by_itself && record.steps.iter().all(|step| step.ended_ms > 0) {
                    return Ok(Some(record));
                }
            }
            Err(error) if heard.elapsed() > NO_MASTER_MAX => return Err(error.into()),
            Err(error) => tracing::debug!(%error, "the master does not answer"),
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Whether a master of this machine has said how its cluster ended.
fn has_said_end(cluster: &Cluster) -> bool {
    cluster.data_dir.join("master/cluster-end.json").exists()
}

/// Waits for a master that was told to end.
pub(super) fn end_of_master(registry: &Registry, cluster: &Cluster) -> Result<(), Failure> {
    let started = Instant::now();
    while started.elapsed() < END_LIMIT && master_runs(registry, cluster)? {
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}

/// A cluster that its custodian has removed has no master.
fn master_runs(registry: &Registry, cluster: &Cluster) -> Result<bool, Failure> {
    if matches!(registry.find(&cluster.name), Err(ClusterError::Unknown { .. })) {
        return Ok(false);
    }
    let look = registry.look(cluster)?;
    let mut members = cluster.members.iter().zip(&look.conditions);
    Ok(members.any(|(member, condition)| member.role == "master" && *condition == Condition::Running))
}

/// Removes a cluster that has ended, unless somebody else has done it; the logs of its daemons go where its other
/// records are.
pub(super) fn bury(registry: &Registry, cluster: &Cluster) -> Result<Option<ClusterRecord>, Failure> {
    let end = match registry.bury(cluster, &mut daemon_logs::push) {
        Err(ClusterError::Unknown { .. }) => return Ok(None),
        buried => buried?,
    };
    end.map(|bytes| read_end(&cluster.name, &bytes)).transpose()
}

/// What a master said last.
fn read_end(name: &str, bytes: &[u8]) -> Result<ClusterRecord, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::Refused(format!("the cluster {name} ended, and its record is damaged: {error}"))
    })
}

/// Removes a cluster, unless somebody else has done it.
pub(super) fn remove(registry: &Registry, name: &str) -> Result<(), Failure> {
    match registry.terminate(name) {
        Err(ClusterError::Unknown { .. }) => Ok(()),
        ended => Ok(ended?),
    }
}
