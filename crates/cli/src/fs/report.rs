//! `report`: a cluster's workers, its room, and the state of its blocks.

use clap::Args;
use gristmill_proto::ids::WorkerId;
use gristmill_proto::namespace::{ClusterReport, SafeMode, SpaceUse, WorkerReport};
use serde_json::{Value, json};

use super::failure::Failure;
use super::format::size;
use super::session::{Session, cluster};
use super::usage::percent;

/// Shows a cluster's workers, its room, and the state of its blocks
#[derive(Args)]
pub(crate) struct Report {
    /// A cluster, as dfs://HOST:PORT/; the default one if nothing is named
    at: Option<String>,
}

impl Report {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let (fs, uri) = session.cluster_at(self.at.as_deref())?;
        let report = cluster(&fs, "report on", &uri)?.report()?;
        if session.json {
            return session.object(&object(&report));
        }
        for line in lines(session, &report) {
            session.line(line)?;
        }
        Ok(())
    }
}

fn lines(session: &Session, report: &ClusterReport) -> Vec<String> {
    let space = report.space.unwrap_or_default();
    let sized = |bytes: u64| format!("{} ({bytes})", size(bytes, true));
    let mut lines = vec![
        format!("Capacity:          {}", sized(space.capacity_bytes)),
        format!(
            "Used:              {} {}",
            sized(space.used_bytes),
            percent(space.used_bytes, space.capacity_bytes)
        ),
        format!("Remaining:         {}", sized(space.remaining_bytes)),
        format!("Directories:       {}", report.directories),
        format!("Files:             {}", report.files),
        format!("Blocks:            {}", report.blocks),
        format!(
            "Under-replicated:  {} ({} copies under way)",
            space.under_replicated, report.pending_replication
        ),
        format!("Corrupt blocks:    {}", space.corrupt),
        format!("Missing blocks:    {}", space.missing),
        format!("To be deleted:     {}", report.pending_deletion),
        format!("Safe mode:         {}", safe_mode(&report.safe_mode.unwrap_or_default())),
        format!("Epoch:             {}", report.epoch),
    ];
    if report.read_only {
        lines.push("Read-only:         the disk under the master is nearly full".to_owned());
    }
    lines.push(String::new());
    lines.push(format!("Workers:           {}", report.workers.len()));
    for worker in &report.workers {
        lines.push(worker_line(session, worker));
    }
    lines
}

fn worker_line(session: &Session, worker: &WorkerReport) -> String {
    let failed = match worker.failed_volumes {
        0 => String::new(),
        count => format!(", {count} failed volumes"),
    };
    format!(
        "  {:<10} {:<15} {} ({}, rack {}): {} blocks, {} used of {}, {} left{failed}, heard of {} ms ago",
        WorkerId(worker.worker).to_string(),
        session.text(&worker.state),
        session.text(&worker.address),
        session.text(&worker.host),
        session.text(&worker.rack),
        worker.replicas,
        size(worker.used_bytes, true),
        size(worker.capacity_bytes, true),
        size(worker.remaining_bytes, true),
        worker.last_heartbeat_ms,
    )
}

/// Whether it is on, and what it waits for.
pub(crate) fn safe_mode(mode: &SafeMode) -> String {
    let reported = format!("{} of {} blocks are reported", mode.reported, mode.blocks);
    match (mode.on, mode.by_hand) {
        (false, _) => "off".to_owned(),
        (true, true) => format!("on, by hand; {reported}"),
        (true, false) => format!("on; {reported}"),
    }
}

fn object(report: &ClusterReport) -> Value {
    json!({
        "space": space_object(&report.space.unwrap_or_default()),
        "safe_mode": safe_mode_object(&report.safe_mode.unwrap_or_default()),
        "directories": report.directories,
        "files": report.files,
        "blocks": report.blocks,
        "pending_replication": report.pending_replication,
        "pending_deletion": report.pending_deletion,
        "epoch": report.epoch,
        "read_only": report.read_only,
        "workers": report.workers.iter().map(worker_object).collect::<Vec<_>>(),
    })
}

fn space_object(space: &SpaceUse) -> Value {
    json!({
        "capacity_bytes": space.capacity_bytes,
        "used_bytes": space.used_bytes,
        "remaining_bytes": space.remaining_bytes,
        "under_replicated": space.under_replicated,
        "corrupt": space.corrupt,
        "missing": space.missing,
    })
}

pub(crate) fn safe_mode_object(mode: &SafeMode) -> Value {
    json!({ "on": mode.on, "by_hand": mode.by_hand, "blocks": mode.blocks, "reported": mode.reported })
}

fn worker_object(worker: &WorkerReport) -> Value {
    json!({
        "worker": worker.worker,
        "address": worker.address,
        "host": worker.host,
        "rack": worker.rack,
        "state": worker.state,
        "capacity_bytes": worker.capacity_bytes,
        "used_bytes": worker.used_bytes,
        "remaining_bytes": worker.remaining_bytes,
        "replicas": worker.replicas,
        "failed_volumes": worker.failed_volumes,
        "last_heartbeat_ms": worker.last_heartbeat_ms,
        "version": worker.version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Streams;

    fn a_report() -> ClusterReport {
        let worker = WorkerReport {
            worker: 3,
            address: "10.0.0.3:70".to_owned(),
            host: "three".to_owned(),
            rack: "/r1".to_owned(),
            state: "live".to_owned(),
            capacity_bytes: 1 << 30,
            failed_volumes: 1,
            ..WorkerReport::default()
        };
        ClusterReport {
            space: Some(SpaceUse {
                capacity_bytes: 1 << 30,
                used_bytes: 1 << 20,
                missing: 2,
                ..SpaceUse::default()
            }),
            safe_mode: Some(SafeMode { on: true, by_hand: false, blocks: 9, reported: 7 }),
            workers: vec![worker],
            read_only: true,
            ..ClusterReport::default()
        }
    }

    #[test]
    fn a_report_names_what_an_operator_has_to_know() {
        let mut streams = Streams {
            input: Box::new(std::io::empty()),
            out: Box::new(std::io::sink()),
            err: Box::new(std::io::sink()),
            out_is_terminal: false,
            err_is_terminal: false,
        };
        let text = lines(&Session::new(&mut streams, None, false), &a_report()).join("\n");
        for part in [
            "Capacity:          1.0 GiB (1073741824)",
            "Used:              1.0 MiB (1048576) 1%",
            "Missing blocks:    2",
            "Safe mode:         on; 7 of 9 blocks are reported",
            "Read-only:",
            "worker-3   live            10.0.0.3:70 (three, rack /r1)",
            "1 failed volumes",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn programs_get_the_same() {
        let object = object(&a_report());
        assert_eq!(object["space"]["missing"], 2);
        assert_eq!(object["safe_mode"]["reported"], 7);
        assert_eq!(object["workers"][0]["rack"], "/r1");
        assert_eq!(object["read_only"], true);
    }

    #[test]
    fn safe_mode_says_whether_somebody_wants_it() {
        let mode = |on, by_hand| safe_mode(&SafeMode { on, by_hand, blocks: 2, reported: 1 });
        assert_eq!(mode(false, false), "off");
        assert_eq!(mode(true, true), "on, by hand; 1 of 2 blocks are reported");
    }
}
