//! `describe`: a cluster's workers and slots, as its master sees them.

use clap::Args;
use gristmill_cluster::{Cluster, Condition, Look, Place, ProviderKind, Registry, State};
use gristmill_dfs::Uri;
use gristmill_proto::cluster_record::ClusterRecord;
use gristmill_proto::ids::{ClusterId, WorkerId};
use gristmill_proto::job::{ClusterStatus, WorkerStatus};
use serde_json::{Value, json};

use super::create::master;
use super::life::tell;
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fs::format::{counted, duration, size, time};
use crate::job::client::{JobsClient, Master};
use crate::record_file;

/// A record of ten thousand steps fits.
const RECORD_BYTES_MAX: u64 = 256 << 20;

/// Shows the workers of a cluster, its slots and its jobs, as its master sees them
#[derive(Args)]
pub(crate) struct Describe {
    /// A cluster that was made on this machine [default: that of the master]
    name: Option<String>,
    /// A cluster that has ended, by its record: the URI of cluster.json, or of the directory that holds it
    #[arg(long, value_name = "URI", conflicts_with = "name")]
    from: Option<String>,
}

impl Describe {
    pub(crate) fn run(self, address: Option<String>, console: &mut Console) -> Result<Exit, Failure> {
        if let Some(uri) = &self.from {
            let record = ended(uri)?;
            let exit = tell(&record, &record.name, console)?;
            // That the cluster ended badly is no failure of who looks at it.
            return Ok(if exit == Exit::Failed { Exit::Done } else { exit });
        }
        let look = |name: String| -> Result<(Cluster, Look), Failure> {
            let registry = Registry::from_environment()?;
            let cluster = registry.find(&name)?;
            let look = registry.look(&cluster)?;
            Ok((cluster, look))
        };
        let made = self.name.map(look).transpose()?;
        let master = match &made {
            Some((cluster, _)) => master(cluster)?,
            None => Master::named(address)?,
        };
        let jobs = JobsClient::of(&master)?;
        let status = jobs.describe()?;
        let life = ClusterRecord::new(&jobs.life()?, &jobs.steps()?);
        if console.json {
            let mut object = status_object(jobs.master(), &status);
            if let Some((cluster, look)) = &made {
                object["cluster"] = cluster_object(cluster, look);
            }
            object["life"] =
                serde_json::to_value(&life).map_err(|error| Failure::Refused(error.to_string()))?;
            console.object(&object)?;
        } else {
            console.lines(made.iter().flat_map(|(cluster, look)| made_lines(cluster, look)))?;
            console.lines(lines(jobs.master(), &status))?;
            console.lines(life_lines(&life))?;
        }
        Ok(Exit::Done)
    }
}

/// The record of a cluster that has ended.
fn ended(uri: &str) -> Result<ClusterRecord, Failure> {
    let file = if uri.ends_with(".json") {
        uri.to_owned()
    } else {
        format!("{}/cluster.json", uri.trim_end_matches('/'))
    };
    let uri = Uri::parse(&file).map_err(|error| Failure::Refused(gristmill_process::sentence(&error)))?;
    record_file::read(&uri, RECORD_BYTES_MAX, "record of a cluster")
}

/// The life of the cluster, and its last steps.
fn life_lines(life: &ClusterRecord) -> Vec<String> {
    let mut lines =
        vec![format!("State:     {}, since {}", life.state, time(life.ready_ms.max(life.created_ms), true))];
    let ends = match (life.transient, life.idle_timeout_ms) {
        (true, _) => "after its last step".to_owned(),
        (false, 0) => "when it is terminated".to_owned(),
        (false, idle_ms) => format!("after {} without a step or job", duration(idle_ms)),
    };
    let protected = if life.termination_protected { ", protected against termination" } else { "" };
    lines.push(format!("Ends:      {ends}{protected}"));
    if !life.log_uri.is_empty() {
        lines.push(format!("Records:   {}/{}", life.log_uri, life.cluster_id));
    }
    let ended = life.steps.iter().filter(|step| step.ended_ms > 0).count();
    lines.push(format!("Steps:     {}, of which {ended} have ended", life.steps.len()));
    lines
}

/// What the record says.
fn made_lines(cluster: &Cluster, look: &Look) -> Vec<String> {
    let mut lines = vec![
        format!("Name:      {}, {}", cluster.name, state_name(look.state)),
        format!("Files:     {}", cluster.data_dir.display()),
    ];
    for (member, condition) in cluster.members.iter().zip(&look.conditions) {
        if let Some(how) = condition.how() {
            lines.push(format!("Ended:     {} {how}", member.role));
        }
    }
    lines
}

fn lines(master: &str, status: &ClusterStatus) -> Vec<String> {
    let id = ClusterId::from_wire(&status.cluster_id).map_or_else(|| "?".to_owned(), |id| id.to_string());
    let mut lines = vec![
        format!("Cluster:   {id}, master {master}, version {}", status.version),
        format!("Up:        {}, epoch {}", duration(status.uptime_ms), status.epoch),
        format!("Slots:     {} of {} free", status.free_slots, status.slots),
        format!("Memory:    {} for a slot, at least", size(status.slot_memory_bytes, true)),
        format!("Jobs:      {} running, {} waiting", status.jobs_running, status.jobs_waiting),
        format!("Workers:   {}", status.workers.len()),
    ];
    lines.extend(status.workers.iter().map(worker_line));
    lines
}

fn worker_line(worker: &WorkerStatus) -> String {
    let slow = match worker.slow_attempts {
        0 => String::new(),
        attempts => format!(", {}", counted(attempts, "slow attempt")),
    };
    format!(
        "  {:<14} {:<4} {:<8} {} ({}, rack {}, process {}): {} of {} slots in use, {}, heard of {} ms ago{slow}",
        WorkerId(worker.worker).to_string(),
        worker.role,
        worker.state,
        worker.address,
        worker.host,
        worker.rack,
        worker.pid,
        worker.running,
        worker.slots,
        size(worker.memory_bytes, true),
        worker.last_heartbeat_ms,
    )
}

/// A cluster for programs, as its master sees it.
fn status_object(master: &str, status: &ClusterStatus) -> Value {
    let worker = |worker: &WorkerStatus| {
        json!({
            "worker": worker.worker,
            "role": worker.role,
            "state": worker.state,
            "address": worker.address,
            "host": worker.host,
            "rack": worker.rack,
            "slots": worker.slots,
            "running": worker.running,
            "memory_bytes": worker.memory_bytes,
            "last_heartbeat_ms": worker.last_heartbeat_ms,
            "pid": worker.pid,
            "slow_attempts": worker.slow_attempts,
        })
    };
    json!({
        "master": master,
        "cluster_id": ClusterId::from_wire(&status.cluster_id).map(|id| id.to_string()),
        "epoch": status.epoch,
        "version": status.version,
        "uptime_ms": status.uptime_ms,
        "slots": status.slots,
        "free_slots": status.free_slots,
        "slot_memory_bytes": status.slot_memory_bytes,
        "jobs_running": status.jobs_running,
        "jobs_waiting": status.jobs_waiting,
        "workers": status.workers.iter().map(worker).collect::<Vec<_>>(),
    })
}

/// A cluster for programs, as its record and its processes show it.
pub(super) fn cluster_object(cluster: &Cluster, look: &Look) -> Value {
    let member = |(member, condition): (&gristmill_cluster::Member, &Condition)| {
        let running = *condition == Condition::Running;
        match &member.place {
            Place::Process(process) => json!({
                "role": member.role,
                "pid": process.pid,
                "running": running,
                "log": cluster.log(&member.role),
            }),
            Place::Container(name) => {
                let how = condition.how();
                json!({ "role": member.role, "container": name, "running": running, "ended": how })
            }
        }
    };
    let mut object = json!({
        "name": cluster.name,
        "provider": cluster.spec.provider.name(),
        "state": state_name(look.state),
        "created_ms": cluster.created_ms,
        "data_dir": cluster.data_dir,
        "master": cluster.master,
        "http": cluster.http,
        "secret_file": cluster.secret_file,
    });
    object[members_name(cluster)] = cluster.members.iter().zip(&look.conditions).map(member).collect();
    object
}

/// What its members are.
pub(super) fn members_name(cluster: &Cluster) -> &'static str {
    match cluster.spec.provider {
        ProviderKind::Processes => "processes",
        ProviderKind::Docker => "containers",
    }
}

pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::Starting => "STARTING",
        State::Running => "RUNNING",
        State::Broken => "BROKEN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_names_every_worker() {
        let worker = WorkerStatus {
            worker: 3,
            role: "core".to_owned(),
            state: "live".to_owned(),
            address: "10.0.0.3:70".to_owned(),
            host: "three".to_owned(),
            rack: "/r1".to_owned(),
            slots: 2,
            running: 1,
            memory_bytes: 1 << 30,
            slow_attempts: 2,
            pid: 77,
            ..WorkerStatus::default()
        };
        let status = ClusterStatus {
            workers: vec![worker],
            slots: 2,
            free_slots: 1,
            uptime_ms: 61_000,
            ..ClusterStatus::default()
        };
        let text = lines("h:1", &status).join("\n");
        for part in [
            "Slots:     1 of 2 free",
            "Up:        1 min 1 s",
            "worker-3       core live     10.0.0.3:70 (three, rack /r1, process 77): 1 of 2 slots in use, 1.0 GiB",
            "heard of 0 ms ago, 2 slow attempts",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert_eq!(status_object("h:1", &status)["workers"][0]["pid"], 77);
    }
}
