//! `create`: a whole cluster on this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use gristmill_cluster::{Cluster, ClusterSpec, ProviderKind, Registry};
use gristmill_dfs::file_system::Access;
use gristmill_dfs::s3::Carried;
use gristmill_proto::auth::Secret;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use tempfile::NamedTempFile;

use super::config::Config;
use super::describe::cluster_object;
use super::life::{remove, tell, work};
use super::scaler::Scaler;
use super::step::WantedStep;
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::job::client::{JobsClient, Master};
use gristmill_process::sentence;

/// Makes a cluster, and returns when it takes jobs. What is interrupted or fails leaves nothing behind
#[derive(Args)]
pub(crate) struct Create {
    #[command(flatten)]
    wanted: Wanted,
    /// A directory in which the cluster makes its own, for all that it keeps [default: where its record is]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A file that says all of this, as --dry-run prints it; options count more
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints what would be made, as a file for --config, and makes nothing
    #[arg(long)]
    dry_run: bool,
    /// Waits until all steps have ended, and a transient cluster too; fails unless all are COMPLETED
    #[arg(long)]
    wait: bool,
}

/// What a file says as well.
#[derive(Args)]
struct Wanted {
    /// Its name [default: cluster-1, or the next number that is free]
    #[arg(long)]
    name: Option<String>,
    /// Out of what it is made [default: processes]
    #[arg(long, value_enum)]
    provider: Option<Provider>,
    /// Core workers: they keep blocks and run tasks [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    core: Option<u32>,
    /// Task workers: they only run tasks [default: 0]
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(0..=64))]
    task: Option<u32>,
    /// Task workers come when tasks wait, and go when they are idle: the fewest [default: 0, with --max-task]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=64))]
    min_task: Option<u32>,
    /// The most of them [default: no worker comes or goes by itself]
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=64))]
    max_task: Option<u32>,
    /// How long one runs nothing before it goes, as 90s [default: 1m]
    #[arg(long, value_name = "SPAN")]
    task_idle_timeout: Option<String>,
    /// Tasks that each worker runs at once [default: the machine's cores, divided among the workers]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: Option<u32>,
    /// Memory for each slot, e.g. 512MiB [default: half of the machine's, divided among the slots]
    #[arg(long, value_name = "BYTES")]
    memory_per_slot: Option<String>,
    /// Copies of a block, where a file does not say [default: 1 with up to 3 core workers, 2 up to 9, then 3]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=512))]
    replication: Option<u32>,
    /// Gives it a secret: only who can read the secret's file can use the cluster
    #[arg(long)]
    secret: bool,
    /// A script that each node runs before it joins; where it fails, the cluster is not made
    #[arg(long, value_name = "SCRIPT")]
    bootstrap: Option<PathBuf>,
    /// A step, as `gristmill cluster add-steps` takes it; may be repeated
    #[arg(long = "step", value_name = "STEP", value_parser = super::config::step)]
    steps: Vec<WantedStep>,
    /// Ends after its last step, and leaves nothing
    #[arg(long)]
    transient: bool,
    /// Ends after so long without a step or job, as 10m; `never` [default: 1h]
    #[arg(long, value_name = "SPAN")]
    idle_timeout: Option<String>,
    /// Nobody can terminate it, before `gristmill cluster protect --off`
    #[arg(long)]
    termination_protected: bool,
    /// Where logs and records go that outlive the cluster: a URI of a directory
    #[arg(long, value_name = "URI")]
    log_uri: Option<String>,
    /// Steps that run at once [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    step_concurrency: Option<u32>,
    /// The image of containers [default: gristmill, with this program's version as its tag]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// The port of this machine's loopback address by which containers' master is reached [default: one that is free]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// How long task workers that are to end, and all that `scale` takes away, may go on with their tasks [default:
    /// 30000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=240_000))]
    notice_ms: Option<u64>,
    /// Copies a file or directory of this machine into the cluster before the first step; may be repeated
    #[arg(long, value_name = "LOCAL=URI", value_parser = super::config::pair)]
    put: Vec<(String, String)>,
    /// Copies a file or directory out of it after the last step; may be repeated
    #[arg(long, value_name = "URI=LOCAL", value_parser = super::config::pair, requires = "wait")]
    get: Vec<(String, String)>,
}

impl Wanted {
    fn config(self) -> Config {
        let provider = self.provider.map(|provider| match provider {
            Provider::Processes => ProviderKind::Processes.name().to_owned(),
            Provider::Docker => ProviderKind::Docker.name().to_owned(),
        });
        let given = |flag: bool| flag.then_some(true);
        Config {
            name: self.name,
            provider,
            core: self.core,
            task: self.task,
            min_task: self.min_task,
            max_task: self.max_task,
            task_idle_timeout: self.task_idle_timeout,
            slots: self.slots,
            memory_per_slot: self.memory_per_slot,
            replication: self.replication,
            secret: given(self.secret),
            bootstrap: self.bootstrap,
            transient: given(self.transient),
            idle_timeout: self.idle_timeout,
            termination_protected: given(self.termination_protected),
            log_uri: self.log_uri,
            step_concurrency: self.step_concurrency,
            put: self.put.into_iter().collect(),
            get: self.get.into_iter().collect(),
            image: self.image,
            port: self.port,
            notice_ms: self.notice_ms,
            steps: self.steps,
            ..Config::default()
        }
    }
}

/// Out of what clusters are made.
#[derive(Clone, Copy, ValueEnum)]
enum Provider {
    /// Processes on this machine
    Processes,
    /// Containers of a Docker engine (DOCKER_HOST says which): they always have a secret
    Docker,
}

impl Create {
    pub(crate) fn run(self, console: &mut Console) -> Result<Exit, Failure> {
        let file = self.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
        let config = file.overridden_by(self.wanted.config());
        config.check()?;
        if !config.get.is_empty() && !self.wait {
            return Err(Failure::Usage("files are taken out after the last step: give --wait".to_owned()));
        }
        if self.dry_run {
            console.bytes(config.to_toml()?.as_bytes())?;
            return Ok(Exit::Done);
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&interrupted)).map_err(Failure::Signals)?;
        }
        let registry = Registry::from_environment()?;
        let cluster = make(&registry, &config, self.dir, &interrupted)?;
        if !self.wait {
            registry.leave_custodian(&cluster.name)?;
        }
        if !self.wait && console.json {
            console.object(&cluster_object(&cluster, &registry.look(&cluster)?))?;
        } else if !self.wait {
            console.lines(greeting(&cluster)?)?;
        }
        // Who waits keeps it meanwhile; else its custodian does.
        let _scaler = if self.wait { Scaler::start(&cluster)? } else { None };
        match work(&registry, &config, &cluster, self.wait, &interrupted) {
            Ok(None) => Ok(Exit::Done),
            Ok(Some(record)) => tell(&record, &cluster.name, console),
            // Whoever interrupts a wait leaves the cluster to a custodian.
            Err(why) if self.wait && interrupted.load(Ordering::Relaxed) => {
                registry.leave_custodian(&cluster.name)?;
                Err(why)
            }
            Err(why) => {
                remove(&registry, &cluster.name)?;
                Err(why)
            }
        }
    }
}

/// A cluster that takes jobs.
fn make(
    registry: &Registry,
    config: &Config,
    dir: Option<PathBuf>,
    interrupted: &AtomicBool,
) -> Result<Cluster, Failure> {
    let program = std::env::current_exe();
    let program = program.map_err(|source| Failure::Start { program: "gristmill".into(), source })?;
    let file = NamedTempFile::new().map_err(Failure::ClusterFile)?;
    std::fs::write(file.path(), config.master_file()?).map_err(Failure::ClusterFile)?;
    let mut spec = spec(config, dir, program, file.path())?;
    let keys = give_store(&mut spec)?;
    // Who makes it owns it.
    let user = Access::from_environment().user;
    let mut attendance = Attendance::default();
    let made = registry.create(&spec, &user, &mut |cluster| attendance.count(cluster), interrupted);
    drop(keys);
    made.map_err(|error| match attendance.trouble {
        Some(trouble) => Failure::Refused(format!("{}; {trouble}", sentence(&error))),
        None => error.into(),
    })
}

/// Containers are told what this process knows of the object store; of its keys, in a file that goes with the result.
fn give_store(spec: &mut ClusterSpec) -> Result<Option<NamedTempFile>, Failure> {
    if spec.provider != ProviderKind::Docker {
        return Ok(None);
    }
    let carried = Carried::from_environment().map_err(|error| Failure::Usage(sentence(&error)))?;
    spec.store_variables = carried.variables;
    let Some(keys) = carried.keys else { return Ok(None) };
    let file = NamedTempFile::new().map_err(Failure::ClusterFile)?;
    std::fs::write(file.path(), keys).map_err(Failure::ClusterFile)?;
    spec.store_keys = Some(file.path().to_owned());
    Ok(Some(file))
}

fn spec(
    config: &Config,
    dir: Option<PathBuf>,
    program: PathBuf,
    file: &Path,
) -> Result<ClusterSpec, Failure> {
    let provider = match config.provider.as_deref() {
        None | Some("processes") => ProviderKind::Processes,
        Some("docker") => ProviderKind::Docker,
        Some(other) => return Err(Failure::Usage(format!("no clusters are made out of {other:?}"))),
    };
    let standard = ClusterSpec::new(provider, program);
    let task_range = config.task_range()?;
    Ok(ClusterSpec {
        name: config.name.clone(),
        core: config.core.unwrap_or(1),
        task: match task_range {
            Some(range) => config.task.unwrap_or(0).clamp(range.min, range.max),
            None => config.task.unwrap_or(0),
        },
        slots: config.slots,
        replication: config.replication,
        dir,
        secret: config.secret.unwrap_or(false),
        memory_per_slot_bytes: config.memory_per_slot_bytes()?,
        cluster_file: Some(file.to_owned()),
        bootstrap: config.bootstrap.clone(),
        image: config.image.clone(),
        port: config.port,
        notice_ms: config.notice_ms.unwrap_or(standard.notice_ms),
        task_range,
        ..standard
    })
}

/// Asks a young cluster how many of its workers have come.
#[derive(Default)]
pub(super) struct Attendance {
    jobs: Option<JobsClient>,
    trouble: Option<String>,
}

impl Attendance {
    /// How many workers with slots the master has.
    pub(super) fn count(&mut self, cluster: &Cluster) -> usize {
        match self.ask(cluster) {
            Ok(count) => {
                self.trouble = None;
                count
            }
            // It may only be too early. If it never gets better, this is why.
            Err(failure) => {
                self.trouble = Some(sentence(&failure));
                0
            }
        }
    }

    fn ask(&mut self, cluster: &Cluster) -> Result<usize, Failure> {
        let jobs = match self.jobs.take() {
            Some(jobs) => jobs,
            None => JobsClient::of(&master(cluster)?)?,
        };
        let described = jobs.describe_within(Duration::ZERO);
        self.jobs = Some(jobs);
        Ok(described?.workers.iter().filter(|worker| worker.state == "live" && worker.slots > 0).count())
    }
}

/// The master of a cluster, and what it takes to be let in.
pub(super) fn master(cluster: &Cluster) -> Result<Master, Failure> {
    let address = address(cluster)?.to_owned();
    let secret = cluster.secret_file.as_deref().map(Secret::read).transpose()?;
    // Who made it started its master: the superuser.
    Ok(Master { address, secret, user: Access::from_environment().user })
}

fn address(cluster: &Cluster) -> Result<&str, Failure> {
    let missing = || Failure::Refused(format!("the cluster {} has no master yet", cluster.name));
    cluster.master.as_deref().ok_or_else(missing)
}

/// What somebody who has a new cluster does next.
fn greeting(cluster: &Cluster) -> Result<Vec<String>, Failure> {
    let address = address(cluster)?;
    let mut lines = vec![format!("The cluster {} takes jobs at {address}.", cluster.name)];
    if let Some(http) = &cluster.http {
        lines.push(format!("Its state: http://{http}/status"));
    }
    if cluster.spec.provider == ProviderKind::Processes {
        lines.push(format!("Its logs:  {}", cluster.data_dir.join("*.log").display()));
    }
    lines.push(String::new());
    lines.push(format!("  export GRISTMILL_MASTER={address}"));
    if let Some(secret) = &cluster.secret_file {
        lines.push(format!("  export GRISTMILL_SECRET_FILE={}", quoted(&secret.display().to_string())));
    }
    lines.push("  gristmill job submit --wait PROGRAM -- ARGS".to_owned());
    lines.push(format!("  gristmill cluster terminate {}", cluster.name));
    Ok(lines)
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    let plain = |each: char| each.is_ascii_alphanumeric() || "/._-+".contains(each);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_get_names_as_they_are() {
        assert_eq!(quoted("/home/ann/.local/x_y"), "/home/ann/.local/x_y");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }
}
