//! Clusters of processes on this machine.
//!
//! Nothing but a directory tells what belongs to a cluster: its daemons are given data directories in it, and attempts
//! have their scratch there. So what nobody got to record is found all the same.

mod process;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gristmill_process::spawn;
use rustix::process::Signal;

pub use process::ProcessId;
pub(crate) use process::boot_id;

use crate::error::ClusterError;
use crate::provider::{Condition, End, Patience, Provider, all_run};
use crate::record::{Cluster, END_FILE, Member, Place};
use crate::registry::make;
use crate::terminate::{remove, wait};
use process::working_in;

/// Set for a daemon that is to begin a session of its own, so that no terminal's end is its end.
pub const NEW_SESSION_VARIABLE: &str = "GRISTMILL_NEW_SESSION";

/// So much of the end of a log is looked at for its last line.
const LOG_TAIL_BYTES: usize = 4 << 10;
/// For daemons to end in good order: their own limits are shorter.
const GRACE: Duration = Duration::from_secs(8);
/// For the system to end what was killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at processes.
const POLL: Duration = Duration::from_millis(5);

/// Makes daemons as processes of this machine. Those that this process started are its children.
#[derive(Default)]
pub(crate) struct Processes {
    children: Vec<Child>,
}

impl Provider for Processes {
    fn make(&mut self, cluster: &mut Cluster, patience: &Patience<'_>) -> Result<(), ClusterError> {
        prepare(cluster)?;
        patience.check()?;
        self.start(cluster, "master", master_args(cluster))?;
        let said = cluster.data_dir.join("master/address");
        let announced = || -> Result<Option<()>, ClusterError> {
            if said.exists() {
                return Ok(Some(()));
            }
            all_run(cluster, self.conditions(cluster)?)?;
            Ok(None)
        };
        patience.until(announced, || "the master does not listen".to_owned())?;
        cluster.master = Some(read_line(&said)?);
        let http = cluster.data_dir.join("master/http-address");
        cluster.http = if http.exists() { Some(read_line(&http)?) } else { None };
        let workers = cluster.spec.first_workers();
        self.add(cluster, &workers, patience)
    }

    fn add(
        &mut self,
        cluster: &mut Cluster,
        names: &[String],
        patience: &Patience<'_>,
    ) -> Result<(), ClusterError> {
        for name in names {
            patience.check()?;
            let args = worker_args(cluster, name)?;
            self.start(cluster, name, args)?;
            all_run(cluster, self.conditions(cluster)?)?;
        }
        Ok(())
    }

    fn look(&mut self, cluster: &Cluster) -> Result<Vec<Condition>, ClusterError> {
        self.conditions(cluster)
    }

    fn remove(&mut self, cluster: &mut Cluster, names: &[String]) -> Result<(), ClusterError> {
        let leaving = members(cluster, names);
        signal(cluster, leaving.iter().copied(), Signal::TERM)?;
        wait(GRACE, || leaving.iter().all(|process| !process.is_alive()));
        for name in names {
            let place = cluster.data_dir.join(name);
            let mut left = BTreeSet::from_iter(members(cluster, std::slice::from_ref(name)));
            left.extend(found_in(&place)?);
            kill(cluster, || {
                left.extend(found_in(&place)?);
                Ok(left.iter().copied().filter(|process| process.is_alive()).collect())
            })?;
            remove(&place)?;
            remove(&cluster.log(name))?;
            cluster.members.retain(|member| member.role != *name);
            cluster.write()?;
        }
        Ok(())
    }

    fn revive(&mut self, cluster: &Cluster, name: &str) -> Result<(), ClusterError> {
        // Its address was its process's: nobody would find it again.
        tracing::debug!(cluster = cluster.name, name, "a process that has ended is not started again");
        Ok(())
    }

    fn end_report(&mut self, cluster: &Cluster) -> Result<Option<Vec<u8>>, ClusterError> {
        let path = cluster.data_dir.join("master").join(END_FILE);
        match fs::read(&path) {
            Ok(report) => Ok(Some(report)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ClusterError::File { action: "read", path, source }),
        }
    }

    fn halt(&mut self, cluster: &Cluster) -> Result<(), ClusterError> {
        let found = processes(cluster)?;
        signal(cluster, found.iter().copied(), Signal::TERM)?;
        wait(GRACE, || found.iter().all(|process| !process.is_alive()));
        // Who has not ended is killed, and so is what their end has left: attempts, daemons that nobody recorded.
        kill(cluster, || processes(cluster))
    }

    fn copy_log(&mut self, cluster: &Cluster, role: &str, to: &mut dyn Write) -> Result<(), ClusterError> {
        let path = cluster.log(role);
        let copied = fs::File::open(&path).and_then(|mut log| std::io::copy(&mut log, to));
        copied.map(drop).map_err(|source| ClusterError::File { action: "copy", path, source })
    }

    fn end(&mut self, cluster: &Cluster) -> Result<(), ClusterError> {
        self.halt(cluster)?;
        for child in &mut self.children {
            // It has ended; what is left of it is its exit status, which is ours to take.
            if let Err(error) = child.wait() {
                tracing::warn!(pid = child.id(), %error, "cannot learn how a process ended");
            }
        }
        let is_home = cluster.home.canonicalize().is_ok_and(|home| home == cluster.data_dir);
        if !is_home && cluster.data_dir != cluster.home {
            remove(&cluster.data_dir)?;
        }
        Ok(())
    }
}

impl Processes {
    /// Starts one process, and records it before anything else happens.
    fn start(&mut self, cluster: &mut Cluster, role: &str, args: Vec<String>) -> Result<(), ClusterError> {
        let data_dir = cluster.data_dir.join(role);
        let path = cluster.log(role);
        let mut log = OpenOptions::new();
        let log = log.create(true).append(true).mode(0o600).open(&path);
        let log = log.map_err(|source| ClusterError::File { action: "write", path, source })?;
        let failed = |source| ClusterError::Start { role: role.to_owned(), source };
        let mut daemon = Command::new(&cluster.spec.program);
        daemon.arg(if role == "master" { "master" } else { "worker" }).args(args);
        daemon.arg("--data-dir").arg(&data_dir).env(NEW_SESSION_VARIABLE, "1");
        daemon.env_remove("GRISTMILL_MASTER").env_remove("GRISTMILL_SECRET_FILE");
        if let Some(secret) = &cluster.secret_file {
            daemon.env("GRISTMILL_SECRET_FILE", secret);
        }
        // No directory of the user's is kept from being removed.
        daemon.current_dir("/").stdin(Stdio::null());
        daemon.stdout(log.try_clone().map_err(failed)?).stderr(log);
        let child = spawn(&mut daemon).map_err(failed)?;
        let pid = child.id();
        self.children.push(child);
        // If it has ended already, the next look says so.
        let process = ProcessId::of(pid).map_err(failed)?.unwrap_or(ProcessId { pid, started_ticks: 0 });
        cluster.members.push(Member { role: role.to_owned(), place: Place::Process(process) });
        cluster.write()
    }

    fn conditions(&mut self, cluster: &Cluster) -> Result<Vec<Condition>, ClusterError> {
        cluster.members.iter().map(|member| self.condition(cluster, member)).collect()
    }

    fn condition(&mut self, cluster: &Cluster, member: &Member) -> Result<Condition, ClusterError> {
        if cluster.is_alive(member) {
            return Ok(Condition::Running);
        }
        let Place::Process(process) = member.place else { return Ok(Condition::Ended(End::Gone, None)) };
        let own = self.children.iter_mut().find(|child| child.id() == process.pid);
        let failed = |source| ClusterError::Start { role: member.role.clone(), source };
        let status = own.map(Child::try_wait).transpose().map_err(failed)?.flatten();
        let end = status.map_or(End::Gone, End::Status);
        Ok(Condition::Ended(end, Some(last_line(&cluster.log(&member.role)))))
    }
}

/// The directories.
fn prepare(cluster: &mut Cluster) -> Result<(), ClusterError> {
    let wanted = match &cluster.spec.dir {
        Some(dir) => dir.join(&cluster.name),
        None => cluster.home.clone(),
    };
    if wanted != cluster.home && !make(&wanted)? {
        // It is somebody's: nothing in it may be touched, not even to take this cluster back.
        let source = std::io::ErrorKind::AlreadyExists.into();
        return Err(ClusterError::File { action: "make", path: wanted, source });
    }
    // Daemons and their descendants are found by the one true name of the directory.
    let failed = |source| ClusterError::File { action: "find", path: wanted.clone(), source };
    cluster.data_dir = wanted.canonicalize().map_err(failed)?;
    cluster.write()
}

fn master_args(cluster: &Cluster) -> Vec<String> {
    // Port 0: the system chooses ports that are free.
    let mut args =
        ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--worker", "never"].map(str::to_owned).to_vec();
    if let Some(replication) = cluster.spec.replication {
        args.extend(["--replication".to_owned(), replication.to_string()]);
    }
    if let Some(file) = cluster.cluster_file() {
        args.extend(["--cluster-file".to_owned(), file.display().to_string()]);
    }
    args.extend(bootstrap(cluster));
    args
}

fn worker_args(cluster: &Cluster, name: &str) -> Result<Vec<String>, ClusterError> {
    let missing = || ClusterError::NoMaster { name: cluster.name.clone() };
    let master = cluster.master.as_deref().ok_or_else(missing)?;
    let mut args = cluster.spec.worker_args(name, master);
    args.extend(bootstrap(cluster));
    Ok(args)
}

/// The script that every node runs first, if there is one.
fn bootstrap(cluster: &Cluster) -> impl Iterator<Item = String> {
    let script = |script: PathBuf| ["--bootstrap".to_owned(), script.display().to_string()];
    cluster.bootstrap().map(script).into_iter().flatten()
}

/// The processes of members that run.
fn members(cluster: &Cluster, names: &[String]) -> Vec<ProcessId> {
    let named = cluster.members.iter().filter(|member| names.contains(&member.role));
    named.filter(|member| cluster.is_alive(member)).filter_map(Member::process).collect()
}

/// The processes that were recorded and run, and all others that work in the cluster's directory.
fn processes(cluster: &Cluster) -> Result<BTreeSet<ProcessId>, ClusterError> {
    let recorded = cluster.members.iter().filter(|member| cluster.is_alive(member));
    let mut found: BTreeSet<ProcessId> = recorded.filter_map(Member::process).collect();
    found.extend(found_in(&cluster.data_dir)?);
    Ok(found)
}

fn found_in(dir: &Path) -> Result<Vec<ProcessId>, ClusterError> {
    let path = PathBuf::from("/proc");
    working_in(dir).map_err(|source| ClusterError::File { action: "look for processes in", path, source })
}

/// Kills what `left` finds, until it finds nothing.
pub(crate) fn kill(
    cluster: &Cluster,
    mut left: impl FnMut() -> Result<BTreeSet<ProcessId>, ClusterError>,
) -> Result<(), ClusterError> {
    let started = Instant::now();
    loop {
        let found = left()?;
        if found.is_empty() {
            return Ok(());
        }
        if started.elapsed() > KILL_LIMIT {
            let pids = found.iter().map(|process| process.pid).collect();
            return Err(ClusterError::Survivors { name: cluster.name.clone(), pids });
        }
        signal(cluster, found, Signal::KILL)?;
        thread::sleep(POLL);
    }
}

pub(crate) fn signal(
    cluster: &Cluster,
    processes: impl IntoIterator<Item = ProcessId>,
    signal: Signal,
) -> Result<(), ClusterError> {
    for process in processes {
        let failed = |source| ClusterError::Signal { name: cluster.name.clone(), pid: process.pid, source };
        process.signal(signal).map_err(failed)?;
    }
    Ok(())
}

fn read_line(path: &Path) -> Result<String, ClusterError> {
    let read = fs::read_to_string(path);
    let text = read.map_err(|source| ClusterError::File { action: "read", path: path.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

/// The last thing that a daemon said.
fn last_line(log: &Path) -> String {
    let Ok(bytes) = fs::read(log) else { return format!("it left no log in {}", log.display()) };
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned();
    let said = tail.lines().rev().find(|line| !line.trim().is_empty());
    said.map_or_else(|| "it said nothing".to_owned(), str::to_owned)
}
