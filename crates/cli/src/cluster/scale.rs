//! `scale`: more workers, or fewer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use gristmill_cluster::{Cluster, Registry, WorkerRole};
use gristmill_dfs::client::{ClientOptions, DfsClient};
use gristmill_proto::ids::WorkerId;
use gristmill_proto::job::WorkerStatus;
use gristmill_proto::namespace::ClusterReport;
use gristmill_proto::namespace::set_worker_state::State;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::create::{Attendance, master};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::job::client::JobsClient;

/// Between two looks at workers that are leaving.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// What a worker is called that has nothing of jobs any more,
const DRAINED: &str = "drained";
/// and one whose blocks are elsewhere.
const DECOMMISSIONED: &str = "decommissioned";

/// Gives a cluster more workers, or fewer: those that leave finish what they run within their notice, and core workers
/// give their blocks away first
#[derive(Args)]
#[command(group(clap::ArgGroup::new("wanted").required(true).multiple(true)))]
pub(crate) struct Scale {
    /// The cluster
    name: String,
    /// Core workers, afterwards
    #[arg(long, group = "wanted", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    core: Option<u32>,
    /// Task workers, afterwards
    #[arg(long, group = "wanted", value_name = "M", value_parser = clap::value_parser!(u32).range(0..=64))]
    task: Option<u32>,
}

impl Scale {
    pub(crate) fn run(self, console: &mut Console) -> Result<Exit, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&interrupted)).map_err(Failure::Signals)?;
        }
        let registry = Registry::from_environment()?;
        let scaling = Scaling { registry, name: self.name, interrupted };
        for (role, wanted) in [(WorkerRole::Core, self.core), (WorkerRole::Task, self.task)] {
            let Some(wanted) = wanted else { continue };
            let (come, gone) = scaling.scale(role, wanted)?;
            if console.json {
                let object = json!({ "role": role.name(), "workers": wanted, "come": come, "gone": gone });
                console.object(&object)?;
            } else {
                console.lines(come.iter().map(|name| format!("{name} has come")))?;
                console.lines(gone.iter().map(|name| format!("{name} has gone")))?;
                console.line(format!(
                    "The cluster {} has {wanted} {} workers.",
                    scaling.name,
                    role.name()
                ))?;
            }
        }
        Ok(Exit::Done)
    }
}

/// Changes the number of a cluster's workers.
pub(super) struct Scaling {
    pub(super) registry: Registry,
    pub(super) name: String,
    pub(super) interrupted: Arc<AtomicBool>,
}

impl Scaling {
    /// The names of the workers that have come, and of those that have gone.
    pub(super) fn scale(&self, role: WorkerRole, wanted: u32) -> Result<(Vec<String>, Vec<String>), Failure> {
        let cluster = self.registry.find(&self.name)?;
        let present = cluster.workers(role);
        let wanted = wanted as usize;
        if wanted >= present.len() {
            let count = (wanted - present.len()) as u32;
            let mut attendance = Attendance::default();
            let mut registered = |cluster: &Cluster| attendance.count(cluster);
            let come = match count {
                0 => Vec::new(),
                _ => self.registry.grow(&self.name, role, count, &mut registered, &self.interrupted)?,
            };
            return Ok((come, Vec::new()));
        }
        // The latest go first.
        let names = present[wanted..].to_vec();
        self.dismiss(&cluster, role, names.clone())?;
        Ok((Vec::new(), names))
    }

    /// Has workers leave, in good order.
    pub(super) fn dismiss(
        &self,
        cluster: &Cluster,
        role: WorkerRole,
        names: Vec<String>,
    ) -> Result<(), Failure> {
        let left = cluster.workers(role).len().saturating_sub(names.len());
        let leaving = Leaving::of(cluster, names.clone(), &self.interrupted)?;
        if role == WorkerRole::Core {
            leaving.may_leave(left)?;
        }
        if let Err(failure) = leaving.prepare(role) {
            leaving.stay(role)?;
            return Err(failure);
        }
        Ok(self.registry.shrink(&self.name, &names)?)
    }
}

/// Workers on their way out.
struct Leaving<'s> {
    jobs: JobsClient,
    files: DfsClient,
    numbers: Vec<u64>,
    notice: Duration,
    interrupted: &'s AtomicBool,
}

impl<'s> Leaving<'s> {
    fn of(
        cluster: &Cluster,
        names: Vec<String>,
        interrupted: &'s AtomicBool,
    ) -> Result<Leaving<'s>, Failure> {
        let master = master(cluster)?;
        let jobs = JobsClient::of(&master)?;
        let workers = jobs.describe()?.workers;
        let numbers = names.iter().filter_map(|name| number(cluster, name, &workers)).collect();
        let options =
            ClientOptions { secret: master.secret, user: master.user, ..ClientOptions::new(&master.address) };
        let files = DfsClient::connect(options)?;
        let notice = Duration::from_millis(cluster.spec.notice_ms);
        Ok(Leaving { jobs, files, numbers, notice, interrupted })
    }

    /// Whether `left` core workers are enough for the copies that blocks have.
    fn may_leave(&self, left: usize) -> Result<(), Failure> {
        let summary = self.files.summarize("/")?;
        let copies = summary.space_bytes.div_ceil(summary.bytes.max(1));
        if (left as u64) < copies {
            return Err(Failure::Refused(format!(
                "blocks have {copies} copies: with {left} core workers there is no place for them; `gristmill fs setrep` \
                 lowers their number"
            )));
        }
        Ok(())
    }

    /// They get no more tasks, finish those that they have as long as their notice lasts, and give their blocks away.
    fn prepare(&self, role: WorkerRole) -> Result<(), Failure> {
        for &number in &self.numbers {
            self.jobs.drain(number, false)?;
            if role == WorkerRole::Core {
                self.files.set_worker_state(number, State::Decommission)?;
            }
        }
        let told = Instant::now();
        while told.elapsed() < self.notice && !self.all_drained()? {
            self.pause()?;
        }
        // Blocks take as long as they take: nobody else may have them.
        while role == WorkerRole::Core && !self.all_decommissioned()? {
            self.pause()?;
        }
        Ok(())
    }

    /// Back into service.
    fn stay(&self, role: WorkerRole) -> Result<(), Failure> {
        for &number in &self.numbers {
            self.jobs.drain(number, true)?;
            if role == WorkerRole::Core {
                self.files.set_worker_state(number, State::InService)?;
            }
        }
        Ok(())
    }

    fn pause(&self) -> Result<(), Failure> {
        thread::sleep(ASK_INTERVAL);
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::Refused("interrupted: the workers stay in service".to_owned()));
        }
        Ok(())
    }

    fn all_drained(&self) -> Result<bool, Failure> {
        let workers = self.jobs.describe()?.workers;
        // Who has been lost meanwhile runs nothing.
        let runs = |worker: &&WorkerStatus| worker.state != DRAINED && worker.state != "lost";
        Ok(!workers.iter().filter(runs).any(|worker| self.numbers.contains(&worker.worker)))
    }

    fn all_decommissioned(&self) -> Result<bool, Failure> {
        let report = self.files.report()?;
        if let Some(lost) = self.numbers.iter().find(|&&number| state(&report, number) == Some("lost")) {
            let name = WorkerId(*lost);
            return Err(Failure::Refused(format!("{name} was lost before its blocks were elsewhere")));
        }
        Ok(self.numbers.iter().all(|&number| state(&report, number) == Some(DECOMMISSIONED)))
    }
}

/// The master's number of a member; `None` if it never attended.
pub(super) fn number(cluster: &Cluster, name: &str, workers: &[WorkerStatus]) -> Option<u64> {
    let member = cluster.members.iter().find(|member| member.role == name)?;
    // A container's host is named as its role; processes are known by their numbers.
    let found = workers.iter().find(|worker| match member.process() {
        Some(process) => worker.pid == process.pid,
        None => worker.host == name,
    });
    found.map(|worker| worker.worker)
}

fn state(report: &ClusterReport, number: u64) -> Option<&str> {
    report.workers.iter().find(|worker| worker.worker == number).map(|worker| worker.state.as_str())
}
