//! Clusters of processes that only look like daemons: made, listed, ended, given up.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use gristmill_cluster::{
    Cluster, ClusterError, ClusterSpec, ProcessId, ProviderKind, Registry, State, WorkerRole,
};
use tempfile::TempDir;

/// A daemon: it says where it listens and waits for its end. Which kind of trouble it makes, a file says.
const DAEMON: &str = r#"#!/bin/sh
here=$(dirname "$0")
command=$1
while [ $# -gt 0 ]; do
    case $1 in --data-dir) dir=$2;; --role) role=$2;; esac
    shift
done
mkdir -p "$dir"
# Whole at once, as a master does it.
echo "127.0.0.1:7" > "$dir/address.draft" && mv "$dir/address.draft" "$dir/address"
if [ -e "$here/deaf" ]; then trap "" TERM; fi
if [ "$command" = worker ] && [ -e "$here/broken" ]; then echo "first line"; echo "no disk at all" >&2; exit 3; fi
if [ "$role" = task ]; then
    # A child in a session of its own, as an attempt of a task.
    GRISTMILL_ATTEMPT=3 TMPDIR=$dir/scratch setsid sleep 600 &
fi
mkfifo "$dir/wait"
touch "$dir/up"
read forever < "$dir/wait"
"#;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        let daemon = place.path("daemon");
        fs::write(&daemon, DAEMON).unwrap();
        fs::set_permissions(&daemon, fs::Permissions::from_mode(0o700)).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn registry(&self) -> Registry {
        Registry::at(self.path("clusters"))
    }

    fn spec(&self) -> ClusterSpec {
        ClusterSpec {
            name: Some("one".to_owned()),
            core: 2,
            task: 1,
            slots: Some(1),
            secret: true,
            ..ClusterSpec::new(ProviderKind::Processes, self.path("daemon"))
        }
    }

    /// Makes a cluster that is ready when all its daemons are up.
    fn create(&self, spec: &ClusterSpec) -> Result<Cluster, ClusterError> {
        self.registry().create(spec, "ann", &mut up, &AtomicBool::new(false))
    }

    /// Nothing of any cluster: no file, no process.
    #[track_caller]
    fn is_empty(&self) {
        let clusters = fs::read_dir(self.path("clusters")).map_or(0, Iterator::count);
        assert_eq!(clusters, 0, "a directory is left");
        // The shell's own helpers (`mkdir`) are no daemons, and end by themselves.
        let started = Instant::now();
        while !processes(self.dir.path()).is_empty() {
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "{:?} are left",
                processes(self.dir.path())
            );
            std::thread::yield_now();
        }
    }
}

/// How many workers are up.
fn up(cluster: &Cluster) -> usize {
    let workers = cluster.members.iter().filter(|member| member.role != "master");
    workers.filter(|member| cluster.data_dir.join(&member.role).join("up").exists()).count()
}

fn state(place: &Place, name: &str) -> State {
    let registry = place.registry();
    registry.look(&registry.find(name).unwrap()).unwrap().state
}

/// Processes that were told of a place below `dir`.
fn processes(dir: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let told = ["cmdline", "environ"].iter().any(|file| {
            let words = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(dir.to_str().unwrap())
        });
        // The test itself may be run with such an environment.
        if told && pid != std::process::id() && ProcessId::of(pid).unwrap().is_some() {
            found.push(pid);
        }
    }
    found
}

#[test]
fn a_cluster_is_made_found_and_ended_without_trace() {
    let place = Place::new();
    let made = place.create(&place.spec()).unwrap();
    assert_eq!((state(&place, "one"), made.master.as_deref()), (State::Running, Some("127.0.0.1:7")));
    let roles: Vec<&str> = made.members.iter().map(|member| member.role.as_str()).collect();
    assert_eq!(roles, ["master", "core-1", "core-2", "task-1"]);
    let secret = made.secret_file.clone().unwrap();
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&secret).unwrap().len(), 65, "32 bytes in hexadecimal, a line");
    assert!(matches!(place.create(&place.spec()), Err(ClusterError::Exists { .. })));

    let listed = place.registry().list().unwrap();
    let running = place.registry().look(&listed[0]).unwrap().running();
    assert_eq!((listed.len(), listed[0].name.as_str(), running), (1, "one", 4));
    assert!(processes(place.dir.path()).len() >= 4);
    place.registry().terminate("one").unwrap();
    place.is_empty();
    assert!(matches!(place.registry().terminate("one"), Err(ClusterError::Unknown { .. })));
}

#[test]
fn daemons_that_are_deaf_to_requests_are_killed() {
    let place = Place::new();
    fs::write(place.path("deaf"), "").unwrap();
    place.create(&ClusterSpec { core: 1, task: 0, ..place.spec() }).unwrap();
    place.registry().terminate("one").unwrap();
    place.is_empty();
}

#[test]
fn a_daemon_that_ends_is_quoted_and_everything_is_taken_back() {
    let place = Place::new();
    fs::write(place.path("broken"), "").unwrap();
    let refused = place.create(&place.spec()).unwrap_err();
    let sentence = refused.to_string();
    assert!(sentence.contains("exit status: 3") && sentence.contains("no disk at all"), "{sentence}");
    assert!(sentence.starts_with("the core-") || sentence.starts_with("the task-"), "{sentence}");
    place.is_empty();
}

#[test]
fn whoever_interrupts_gets_everything_taken_back() {
    let place = Place::new();
    // At once, and when all but the last is done.
    for looks in [0, 1, 3] {
        let (interrupted, looked) = (AtomicBool::new(looks == 0), Cell::new(0));
        let mut registered = |_: &Cluster| {
            looked.set(looked.get() + 1);
            interrupted.store(looked.get() >= looks, std::sync::atomic::Ordering::Relaxed);
            0
        };
        let refused =
            place.registry().create(&place.spec(), "ann", &mut registered, &interrupted).unwrap_err();
        assert!(matches!(refused, ClusterError::Interrupted { .. }), "{refused}");
        place.is_empty();
    }
}

#[test]
fn half_a_cluster_is_ended_as_a_whole_one() {
    let place = Place::new();
    let made = place.create(&place.spec()).unwrap();
    for member in &made.members[..2] {
        let process = member.process().unwrap();
        let killed = Command::new("kill").args(["-9", &process.pid.to_string()]).status().unwrap();
        assert!(killed.success());
        while process.is_alive() {
            std::thread::yield_now();
        }
    }
    let found = place.registry().find("one").unwrap();
    let look = place.registry().look(&found).unwrap();
    assert_eq!((look.state, look.running()), (State::Broken, 2));
    place.registry().terminate("one").unwrap();
    place.is_empty();
}

#[test]
fn a_stranger_with_a_members_number_is_not_harmed() {
    let place = Place::new();
    let made = place.create(&place.spec()).unwrap();
    let mut stranger = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
    // The record as it would be had the master's number gone to the stranger since.
    let record = place.path("clusters/one/cluster.json");
    let text = fs::read_to_string(&record).unwrap();
    let number = |pid: u32| format!("\"pid\": {pid},");
    let text = text.replace(&number(made.members[0].process().unwrap().pid), &number(stranger.id()));
    fs::write(&record, text).unwrap();
    place.registry().terminate("one").unwrap();
    place.is_empty();
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives on");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_directory_of_somebody_else_is_not_taken() {
    let place = Place::new();
    fs::create_dir_all(place.path("big/one")).unwrap();
    fs::write(place.path("big/one/precious"), "x").unwrap();
    let spec = ClusterSpec { dir: Some(place.path("big")), ..place.spec() };
    assert!(matches!(place.create(&spec), Err(ClusterError::File { .. })));
    place.is_empty();
    assert!(place.path("big/one/precious").exists());
    fs::remove_dir_all(place.path("big/one")).unwrap();

    let made = place.create(&spec).unwrap();
    assert!(made.data_dir.ends_with("big/one") && made.data_dir.join("core-1/up").exists());
    place.registry().terminate("one").unwrap();
    place.is_empty();
    assert_eq!(fs::read_dir(place.path("big")).unwrap().count(), 0);
}

#[test]
fn workers_come_and_go() {
    let place = Place::new();
    let made = place.create(&place.spec()).unwrap();
    let grow = |role, count| place.registry().grow("one", role, count, &mut up, &AtomicBool::new(false));
    assert_eq!(grow(WorkerRole::Task, 2).unwrap(), ["task-2", "task-3"]);
    assert_eq!(grow(WorkerRole::Core, 1).unwrap(), ["core-3"]);
    assert_eq!(
        place.registry().find("one").unwrap().workers(WorkerRole::Task),
        ["task-1", "task-2", "task-3"]
    );

    // They leave with their attempts, their files and their logs; the others stay.
    place.registry().shrink("one", &["task-1".to_owned(), "task-3".to_owned()]).unwrap();
    let left = place.registry().find("one").unwrap();
    assert_eq!(left.workers(WorkerRole::Task), ["task-2"]);
    assert_eq!(state(&place, "one"), State::Running);
    for gone in ["task-1", "task-3"] {
        assert!(!made.data_dir.join(gone).exists() && !made.log(gone).exists(), "{gone}");
        assert_eq!(processes(&made.data_dir.join(gone)), Vec::<u32>::new(), "{gone}");
    }

    // Who does not start is not there afterwards, and neither is who would have come with it.
    fs::write(place.path("broken"), "").unwrap();
    assert!(matches!(grow(WorkerRole::Task, 2), Err(ClusterError::Ended { .. })));
    fs::remove_file(place.path("broken")).unwrap();
    assert_eq!(place.registry().find("one").unwrap().workers(WorkerRole::Task), ["task-2"]);
    place.registry().terminate("one").unwrap();
    place.is_empty();
}
