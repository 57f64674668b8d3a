//! Pages in JSON: what messages say, with ids as people write them.

use gristmill_proto::ids::{ClusterId, JobId};
use gristmill_proto::job::{ClusterStatus, JobStatus, StageStatus, WorkerStatus};
use serde_json::{Map, Value, json};

/// The cluster.
pub(super) fn cluster(status: &ClusterStatus) -> String {
    let workers: Vec<Value> = status.workers.iter().map(worker).collect();
    let cluster = ClusterId::from_wire(&status.cluster_id).map(|cluster| cluster.to_string());
    text(json!({
        "cluster_id": cluster,
        "epoch": status.epoch,
        "version": status.version,
        "uptime_ms": status.uptime_ms,
        "slots": status.slots,
        "free_slots": status.free_slots,
        "slot_memory_bytes": status.slot_memory_bytes,
        "jobs_running": status.jobs_running,
        "jobs_waiting": status.jobs_waiting,
        "workers": workers,
    }))
}

fn worker(status: &WorkerStatus) -> Value {
    json!({
        "worker": status.worker,
        "role": status.role,
        "state": status.state,
        "address": status.address,
        "host": status.host,
        "rack": status.rack,
        "slots": status.slots,
        "running": status.running,
        "memory_bytes": status.memory_bytes,
        "last_heartbeat_ms": status.last_heartbeat_ms,
        "pid": status.pid,
        "slow_attempts": status.slow_attempts,
    })
}

/// A line of the page of all jobs.
pub(super) fn job_row(status: &JobStatus) -> Value {
    let sum = |count: fn(&StageStatus) -> u32| {
        status.stages.iter().map(|stage| u64::from(count(stage))).sum::<u64>()
    };
    json!({
        "job": job_id(status),
        "name": status.name,
        "user": status.user,
        "queue": status.queue,
        "state": state(status),
        "reason": status.reason,
        "tasks": sum(|stage| stage.tasks),
        "running": sum(|stage| stage.running),
        "done": sum(|stage| stage.done),
        "submitted_ms": status.submitted_ms,
        "committing_ms": status.committing_ms,
        "ended_ms": status.ended_ms,
    })
}

/// All jobs.
pub(super) fn jobs(rows: Vec<Value>) -> String {
    text(json!({ "jobs": rows }))
}

/// One job.
pub(super) fn job(status: &JobStatus) -> String {
    let counters: Map<String, Value> =
        status.counters.iter().map(|counter| (counter.name.clone(), counter.value.into())).collect();
    let stages: Vec<Value> = status.stages.iter().map(stage).collect();
    // The report is JSON that this master wrote; of a job that is not done there is none.
    let report: Option<Value> = serde_json::from_str(&status.report_json).ok();
    text(json!({
        "job": job_id(status),
        "name": status.name,
        "user": status.user,
        "queue": status.queue,
        "priority": status.priority,
        "program": status.program,
        "state": state(status),
        "reason": status.reason,
        "warnings": status.warnings,
        "stages": stages,
        "counters": counters,
        "submitted_ms": status.submitted_ms,
        "started_ms": status.started_ms,
        "ended_ms": status.ended_ms,
        "version": status.version,
        "report": report,
    }))
}

fn stage(status: &StageStatus) -> Value {
    json!({
        "name": status.name,
        "tasks": status.tasks,
        "running": status.running,
        "done": status.done,
        "failed_attempts": status.failed_attempts,
        "lost_attempts": status.lost_attempts,
        "twins": status.twins,
        "twins_won": status.twins_won,
        "records": status.records,
        "bytes": status.bytes,
        "input_bytes": status.input_bytes,
        "local": status.local,
        "rack_local": status.rack_local,
        "started_ms": status.started_ms,
        "ended_ms": status.ended_ms,
    })
}

fn job_id(status: &JobStatus) -> Option<String> {
    JobId::from_wire(&status.job).map(|job| job.to_string())
}

fn state(status: &JobStatus) -> &'static str {
    status.state().as_str_name()
}

fn text(value: Value) -> String {
    format!("{value}\n")
}
