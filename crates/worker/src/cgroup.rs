//! Control groups: the kernel's own bound on the memory of an attempt's processes, and its own list of them.
//!
//! ```text
//!   <the worker's own group>/gristmill-<pid>-<start>-<n>/<attempt>/    this worker's, of one attempt
//!                            gristmill-daemon-<pid>-<start>-<n>/       version 2 alone: the worker itself
//! ```
//!
//! Groups are made where the worker may make them below its own: as root, or where systemd delegates (`Delegate=yes`).
//! Elsewhere, as in most containers, attempts are bounded by looking at them alone. With version 2 a group that hands
//! `memory` on has no processes itself, so the worker moves into a leaf; where others share its group it cannot.
//! Sources: cgroup-v2.rst ("No Internal Process Constraint", "Memory") and cgroup-v1/memory.rst of the kernel.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use thiserror::Error;

use crate::reap::{start_time, wait_for_end};

const PREFIX: &str = "gristmill-";
const PROCS: &str = "cgroup.procs";
const SUBTREE: &str = "cgroup.subtree_control";
/// A process that forks while its group is ended is found in one of so many rounds.
const ROUNDS_MAX: usize = 8;
/// How long the killed of one round may take to be gone.
const DEATH_PATIENCE: Duration = Duration::from_secs(2);
/// A group can be removed a moment after the last of it has ended: tried so often, with a pause between.
const REMOVALS_MAX: usize = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// Why there are no groups, or one cannot be used.
#[derive(Debug, Error)]
pub(crate) enum CgroupError {
    #[error("this system has no control group for memory that the worker is in")]
    None,
    #[error("{}: other processes share the worker's control group", group.display())]
    Shared { group: PathBuf },
    #[error("{}: cannot {action}", path.display())]
    Use {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    move |source| CgroupError::Use { action, path: path.to_owned(), source }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The worker's groups.
#[derive(Debug)]
pub(crate) struct Cgroups {
    version: Version,
    dir: PathBuf,
}

impl Cgroups {
    /// Finds out whether this process may make groups, and removes those of workers that are no more.
    pub(crate) fn set_up() -> Result<Cgroups, CgroupError> {
        let read = |path: &'static str| fs::read_to_string(path).map_err(failed("read", Path::new(path)));
        let (version, own) = own_group(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
            .ok_or(CgroupError::None)?;
        sweep(&own)?;
        let pid = getpid();
        let start = start_time(pid).map_err(failed("look at", Path::new("/proc/self")))?;
        let start = start.ok_or(CgroupError::None)?;
        // A process may host several workers.
        static WORKERS: AtomicU32 = AtomicU32::new(0);
        let name = format!("{pid}-{start}-{}", WORKERS.fetch_add(1, Ordering::Relaxed));
        if version == Version::Two {
            hand_memory_on(&own, &own.join(format!("{PREFIX}daemon-{name}")))?;
        }
        let groups = Cgroups { version, dir: own.join(format!("{PREFIX}{name}")) };
        fs::create_dir(&groups.dir).map_err(failed("create", &groups.dir))?;
        if version == Version::Two {
            write(&groups.dir.join(SUBTREE), "+memory")?;
        }
        Ok(groups)
    }

    /// A group of this name, of at most so much memory.
    pub(crate) fn group(&self, name: &str, limit_bytes: u64) -> Result<Cgroup, CgroupError> {
        let group = Cgroup { version: self.version, dir: self.dir.join(name) };
        fs::create_dir(&group.dir).map_err(failed("create", &group.dir))?;
        let limit = match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        let set = write(&group.dir.join(limit), &limit_bytes.to_string()).and_then(|()| match self.version {
            Version::One => Ok(()),
            // Half an attempt is of no use.
            Version::Two => write(&group.dir.join("memory.oom.group"), "1"),
        });
        match set {
            Ok(()) => Ok(group),
            Err(error) => group.remove().and(Err(error)),
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.dir) {
            tracing::warn!(error = &error as &dyn std::error::Error, "control groups are left behind");
        }
    }
}

/// One group.
#[derive(Debug)]
pub(crate) struct Cgroup {
    version: Version,
    dir: PathBuf,
}

impl Cgroup {
    /// Puts a process with all its threads into it. What it starts from now on is in it too. One that has ended is not.
    pub(crate) fn take(&self, process: Pid) -> Result<(), CgroupError> {
        match write(&self.dir.join(PROCS), &process.to_string()) {
            Err(CgroupError::Use { source, .. })
                if source.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
            {
                Ok(())
            }
            taken => taken,
        }
    }

    /// How many of its processes the kernel has killed because the group had too much.
    pub(crate) fn kills(&self) -> Result<u64, CgroupError> {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        let kills = line.and_then(|kills| kills.trim().parse().ok());
        kills.ok_or_else(|| failed("make sense of", &path)(ErrorKind::InvalidData.into()))
    }

    /// Kills all that is in it, and removes it. Returns how many processes were left in it.
    pub(crate) fn end(self) -> Result<usize, CgroupError> {
        let killed = kill_all(&self.dir)?;
        self.remove()?;
        Ok(killed)
    }

    fn remove(&self) -> Result<(), CgroupError> {
        remove(&self.dir)
    }
}

/// Lets groups below `own` bound their memory. The worker moves into `leaf` where it has to.
fn hand_memory_on(own: &Path, leaf: &Path) -> Result<(), CgroupError> {
    let words = |file: &str| {
        let path = own.join(file);
        fs::read_to_string(&path).map_err(failed("read", &path))
    };
    if !has_word(&words("cgroup.controllers")?, "memory") {
        return Err(CgroupError::None);
    }
    if has_word(&words(SUBTREE)?, "memory") {
        return Ok(());
    }
    fs::create_dir(leaf).map_err(failed("create", leaf))?;
    let pid = getpid().to_string();
    let moved = write(&leaf.join(PROCS), &pid).and_then(|()| write(&own.join(SUBTREE), "+memory"));
    let Err(error) = moved else { return Ok(()) };
    write(&own.join(PROCS), &pid)?;
    remove(leaf)?;
    match error {
        CgroupError::Use { source, .. } if source.kind() == ErrorKind::ResourceBusy => {
            Err(CgroupError::Shared { group: own.to_owned() })
        }
        error => Err(error),
    }
}

/// The group of this process that bounds memory, from its /proc/PID/cgroup and /proc/PID/mountinfo. Version 1 wins where both
/// are there, as its hierarchy has the controller then.
fn own_group(cgroup: &str, mounts: &str) -> Option<(Version, PathBuf)> {
    let of = |wanted: &dyn Fn(&str) -> bool| {
        cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            wanted(controllers).then_some(path)
        })
    };
    let one = of(&|controllers| controllers.split(',').any(|name| name == "memory"));
    if let Some(path) = one {
        return Some((Version::One, mounted(mounts, "cgroup", Some("memory"), path)?));
    }
    let path = of(&str::is_empty)?;
    Some((Version::Two, mounted(mounts, "cgroup2", None, path)?))
}

/// Where `path` of a hierarchy is seen, if it is.
fn mounted(mounts: &str, kind: &str, option: Option<&str>, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let (found, options) = (system.next()?, system.nth(1)?);
        if found != kind || option.is_some_and(|option| !options.split(',').any(|name| name == option)) {
            return None;
        }
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let below = Path::new(path).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|found| found == word)
}

/// Removes the groups of workers that are no more, with all that runs in them. What cannot be removed, as another user's, stays.
fn sweep(own: &Path) -> Result<(), CgroupError> {
    for dir in groups_in(own)? {
        let maker = dir.file_name().and_then(|name| maker(name.to_str()?));
        let Some((pid, start)) = maker else { continue };
        let found = start_time(pid).map_err(failed("look at the process of", &dir))?;
        if found == Some(start) {
            continue;
        }
        if let Err(error) = end_tree(&dir) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an earlier worker's control groups stay"
            );
        }
    }
    Ok(())
}

/// The process that made a group of this name, and when that started.
fn maker(name: &str) -> Option<(Pid, u64)> {
    let name = name.strip_prefix(PREFIX)?;
    let mut parts = name.strip_prefix("daemon-").unwrap_or(name).split('-');
    let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((Pid::from_raw(pid)?, start))
}

fn end_tree(dir: &Path) -> Result<(), CgroupError> {
    let groups = groups_in(dir)?;
    for group in groups.iter().map(PathBuf::as_path).chain([dir]) {
        let killed = kill_all(group)?;
        if killed > 0 {
            tracing::warn!(group = %group.display(), killed, "ended processes that an earlier worker left");
        }
        remove(group)?;
    }
    Ok(())
}

/// Other workers come and go meanwhile: what is no more has no groups in it.
fn groups_in(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", dir))?,
    };
    let mut groups = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", dir))?;
        if entry.file_type().map_err(failed("look at", &entry.path()))?.is_dir() {
            groups.push(entry.path());
        }
    }
    Ok(groups)
}

/// Kills whatever is in a group until nothing is. Returns how many were.
fn kill_all(group: &Path) -> Result<usize, CgroupError> {
    let (path, mut killed) = (group.join(PROCS), 0);
    for _round in 0..ROUNDS_MAX {
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(killed),
            text => text.map_err(failed("read", &path))?,
        };
        let mut dying = Vec::new();
        for pid in text.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)) {
            match pidfd_open(pid, PidfdFlags::empty()).and_then(|process| {
                pidfd_send_signal(&process, Signal::KILL)?;
                Ok(process)
            }) {
                Ok(process) => dying.push(process),
                Err(Errno::SRCH) => {}
                Err(errno) => return Err(failed("end a process of", group)(errno.into())),
            }
        }
        if dying.is_empty() {
            break;
        }
        killed += dying.len();
        let deadline = Instant::now() + DEATH_PATIENCE;
        for process in &dying {
            wait_for_end(process, deadline).map_err(failed("wait for a process of", group))?;
        }
    }
    Ok(killed)
}

fn remove(group: &Path) -> Result<(), CgroupError> {
    for _again in 0..REMOVALS_MAX {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => std::thread::sleep(REMOVAL_PAUSE),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            removed => return removed.map_err(failed("remove", group)),
        }
    }
    Err(failed("remove", group)(ErrorKind::ResourceBusy.into()))
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    fs::write(path, text).map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    #[test]
    fn a_groups_name_tells_its_maker() {
        assert_eq!(maker("gristmill-12-345-0"), Some((Pid::from_raw(12).expect("a number"), 345)));
        assert_eq!(maker("gristmill-daemon-12-345-1"), maker("gristmill-12-345-0"));
        for other in ["12-345-0", "gristmill-12", "gristmill-x-1-0", "gristmill-0-1-0", "gristmill-"] {
            assert_eq!(maker(other), None, "{other}");
        }
    }

    #[test]
    fn the_group_that_bounds_memory_is_found() {
        let mounts = "25 20 0:22 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      30 20 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                      31 20 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let both = "4:memory:/a/b\n1:cpu:/c\n0::/d\n";
        assert_eq!(own_group(both, mounts), Some((Version::One, "/sys/fs/cgroup/memory/a/b".into())));
        assert_eq!(own_group("0::/d\n", mounts), Some((Version::Two, "/sys/fs/cgroup/unified/d".into())));
        // In a container that sees a part of the hierarchy: what is mounted is the worker's group or above it, or not seen.
        let part = "30 20 0:27 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let seen = own_group("4:memory:/docker/1\n", part);
        assert_eq!(seen, Some((Version::One, "/sys/fs/cgroup/memory".into())));
        assert_eq!(own_group("4:memory:/docker/2\n", part), None);
        assert_eq!(own_group("1:cpu:/c\n", mounts), None);
        assert_eq!(own_group("", ""), None);
    }

    /// Groups, where this process may make them. A system without cannot tell.
    fn groups() -> Option<Cgroups> {
        match Cgroups::set_up() {
            Ok(groups) => Some(groups),
            Err(error) => {
                eprintln!("left out: {error}");
                None
            }
        }
    }

    /// A process in a group that waits until it is told to go on, then does what the script says.
    fn shell(group: &Cgroup, script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("read go; {script}")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a shell");
        group.take(Pid::from_child(&child)).expect("taken");
        drop(child.stdin.take());
        child
    }

    #[test]
    fn what_takes_more_than_its_group_may_is_killed_and_counted_and_others_are_not() {
        let Some(groups) = groups() else { return };
        let small = groups.group("small", 16 << 20).expect("a group");
        let other = groups.group("other", 16 << 20).expect("a group");
        let mut spared = shell(&other, "exec sleep 600");
        // It fills a buffer of 64 MiB.
        let mut greedy = shell(&small, "exec dd if=/dev/zero of=/dev/null bs=64M count=1");
        assert_eq!(greedy.wait().expect("it ended").signal(), Some(9));
        assert!(small.kills().expect("told") >= 1);
        assert_eq!(other.kills().expect("told"), 0);
        assert!(spared.try_wait().expect("asked").is_none());
        assert_eq!(small.end().expect("removed"), 0);
        assert_eq!(other.end().expect("removed"), 1);
        spared.wait().expect("it was killed");
        let dir = groups.dir.clone();
        drop(groups);
        assert!(!dir.exists());
    }

    #[test]
    fn who_leaves_its_session_and_its_environment_is_still_in_its_group() {
        let Some(groups) = groups() else { return };
        let group = groups.group("daemon", 64 << 20).expect("a group");
        let mut parent = shell(&group, "setsid env -i /bin/sh -c 'echo $$; exec sleep 600' & wait $!");
        let mut line = String::new();
        let said = parent.stdout.take().expect("a pipe");
        io::BufReader::new(said).read_line(&mut line).expect("it says its number");
        let daemon = line.trim().parse().ok().and_then(Pid::from_raw).expect("a number");
        parent.kill().expect("killed");
        parent.wait().expect("it ended");
        let daemon = pidfd_open(daemon, PidfdFlags::empty()).expect("it is there");
        assert!(!wait_for_end(&daemon, Instant::now()).expect("looked"), "it lives on");
        assert!(group.end().expect("ended") >= 1);
        assert!(wait_for_end(&daemon, Instant::now()).expect("looked"));
    }

    #[test]
    fn what_an_earlier_worker_left_is_ended_and_removed() {
        let Some(groups) = groups() else { return };
        let own = groups.dir.parent().expect("it is below one");
        // No process has this number and this start.
        let left = Cgroups { version: groups.version, dir: own.join(format!("{PREFIX}1-1-0")) };
        fs::create_dir(&left.dir).expect("a group");
        if left.version == Version::Two {
            write(&left.dir.join(SUBTREE), "+memory").expect("handed on");
        }
        let mut orphan = shell(&left.group("attempt", 64 << 20).expect("a group"), "exec sleep 600");
        sweep(own).expect("swept");
        assert_eq!(orphan.wait().expect("it ended").signal(), Some(9));
        assert!(!left.dir.exists() && groups.dir.exists());
    }
}
