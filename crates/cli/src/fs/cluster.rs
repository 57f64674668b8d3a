//! What an operator tells a cluster: `safemode`, `decommission` and its kin, `recoverLease`.

use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use gristmill_dfs::file_system::WorkerState;
use gristmill_proto::ids::WorkerId;
use gristmill_proto::namespace::{ClusterReport, SafeMode};
use serde_json::json;

use super::failure::Failure;
use super::report::{safe_mode, safe_mode_object};
use super::session::{Session, cluster};

/// How often somebody who waits asks.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Shows safe mode, enters it, leaves it, or waits for its end
#[derive(Args)]
pub(crate) struct Safemode {
    #[arg(value_enum)]
    action: SafeModeAction,
    /// A cluster, as dfs://HOST:PORT/; the default one if nothing is named
    at: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum SafeModeAction {
    Get,
    Enter,
    Leave,
    Wait,
}

impl Safemode {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let (fs, uri) = session.cluster_at(self.at.as_deref())?;
        let cluster = cluster(&fs, "look at the safe mode of", &uri)?;
        match self.action {
            SafeModeAction::Get | SafeModeAction::Wait => {}
            SafeModeAction::Enter => cluster.set_safe_mode(true)?,
            SafeModeAction::Leave => cluster.set_safe_mode(false)?,
        }
        let mut mode = cluster.report()?.safe_mode.unwrap_or_default();
        while mode.on && self.action == SafeModeAction::Wait {
            thread::sleep(ASK_INTERVAL);
            mode = cluster.report()?.safe_mode.unwrap_or_default();
        }
        show(session, &mode)
    }
}

fn show(session: &mut Session, mode: &SafeMode) -> Result<(), Failure> {
    if session.json {
        return session.object(&safe_mode_object(mode));
    }
    session.line(format!("Safe mode is {}", safe_mode(mode)))
}

/// Takes workers out of service for good: their blocks are copied elsewhere first
#[derive(Args)]
pub(crate) struct Decommission {
    #[command(flatten)]
    workers: Workers,
}

/// Puts workers back into service
#[derive(Args)]
pub(crate) struct Recommission {
    #[command(flatten)]
    workers: Workers,
}

/// Takes workers out of service for a while: their blocks are not copied
#[derive(Args)]
pub(crate) struct Maintenance {
    #[command(flatten)]
    workers: Workers,
}

#[derive(Args)]
struct Workers {
    /// A cluster, as dfs://HOST:PORT/; the default one if nothing is named
    #[arg(long)]
    at: Option<String>,
    /// Workers by number (3 or worker-3), address (HOST:PORT) or host
    #[arg(required = true)]
    workers: Vec<String>,
}

impl Decommission {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        self.workers.set(session, WorkerState::Decommission, "decommission")
    }
}

impl Recommission {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        self.workers.set(session, WorkerState::InService, "recommission")
    }
}

impl Maintenance {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        self.workers.set(session, WorkerState::Maintenance, "maintenance")
    }
}

impl Workers {
    fn set(&self, session: &mut Session, state: WorkerState, action: &'static str) -> Result<(), Failure> {
        let (fs, uri) = session.cluster_at(self.at.as_deref())?;
        let cluster = cluster(&fs, "tell the workers of", &uri)?;
        let report = cluster.report()?;
        for text in &self.workers {
            let found = find(&report, text).map_err(|why| Failure::refused("tell the workers of", &uri, why));
            for worker in session.survive(found)?.unwrap_or_default() {
                let set = cluster.set_worker_state(worker, state);
                if session.survive(set)?.is_none() {
                    continue;
                }
                if session.json {
                    session.object(&json!({ "done": action, "worker": worker }))?;
                } else {
                    session.line(format!("{}: {action}", WorkerId(worker)))?;
                }
            }
        }
        Ok(())
    }
}

/// The workers that a text names: one by its number or address, or all of a host.
fn find(report: &ClusterReport, text: &str) -> Result<Vec<u64>, String> {
    let number: Option<u64> = text.strip_prefix("worker-").unwrap_or(text).parse().ok();
    let named = report.workers.iter().filter(|worker| match number {
        Some(number) => worker.worker == number,
        None => worker.address == text || worker.host == text,
    });
    let found: Vec<u64> = named.map(|worker| worker.worker).collect();
    if found.is_empty() { Err(format!("no worker is named {text}")) } else { Ok(found) }
}

/// Takes a file from a writer that is gone, and ends it
#[derive(Args)]
#[command(name = "recoverLease")]
pub(crate) struct RecoverLease {
    /// The file
    #[arg(long = "path", value_name = "PATH")]
    path: Option<String>,
    /// How often to ask until it is done, a second apart
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    retries: u32,
    /// The file
    #[arg(conflicts_with = "path", required_unless_present = "path")]
    file: Option<String>,
}

impl RecoverLease {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let text = self.path.or(self.file).unwrap_or_default();
        let uri = session.uri(&text)?;
        let fs = session.fs(&uri)?;
        let cluster = cluster(&fs, "recover the lease of", &uri)?;
        let mut closed = cluster.recover_lease(&uri)?;
        for _ in 1..self.retries {
            if closed {
                break;
            }
            thread::sleep(ASK_INTERVAL);
            closed = cluster.recover_lease(&uri)?;
        }
        if !closed {
            return Err(Failure::refused(
                "recover the lease of",
                &uri,
                "it is still being recovered; ask again",
            ));
        }
        session.done("recoverLease", &uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::namespace::WorkerReport;

    #[test]
    fn workers_have_numbers_addresses_and_hosts() {
        let worker = |worker, port| WorkerReport {
            worker,
            address: format!("10.0.0.1:{port}"),
            host: "one".to_owned(),
            ..WorkerReport::default()
        };
        let report =
            ClusterReport { workers: vec![worker(3, 70), worker(4, 71)], ..ClusterReport::default() };
        assert_eq!(find(&report, "3"), Ok(vec![3]));
        assert_eq!(find(&report, "worker-4"), Ok(vec![4]));
        assert_eq!(find(&report, "10.0.0.1:71"), Ok(vec![4]));
        assert_eq!(find(&report, "one"), Ok(vec![3, 4]));
        assert_eq!(find(&report, "5"), Err("no worker is named 5".to_owned()));
    }
}
