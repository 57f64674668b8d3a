//! The worker's scratch directories: one for each disk, each this process's alone.
//!
//! ```text
//!   <scratch>/lock                          held while the worker runs
//!   <scratch>/attempts/<job>/<attempt>/     pid; work/ is the attempt's own, its working directory
//!   <scratch>/shuffle/                      map outputs: these outlive the process
//!   <scratch>/programs/ job-files/ logs/    on the first disk
//! ```
//!
//! What an earlier life left is swept at the start: its processes are killed, and everything is removed but map outputs
//! and programs, which are looked at again before they are used.
//!
//! A disk that cannot be used at the start is left out, as long as there is another. A job whose attempt has failed for its
//! disk avoids that disk from then on, and no other job does: a full disk has room again when its job has ended.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gristmill_proto::ids::{AttemptId, JobId};
use rustix::process::{Pid, Signal};
use thiserror::Error;

use crate::reap;

const ATTEMPTS: &str = "attempts";
/// Of a scratch disk at most a tenth is kept free.
const RESERVE_PART: u64 = 10;
/// Of what an earlier life left, what no later one has a use for.
const SWEPT: [&str; 3] = [ATTEMPTS, "job-files", "logs"];

/// Why a scratch directory cannot be used.
#[derive(Debug, Error)]
pub enum ScratchError {
    /// Another worker has it.
    #[error("{}: in use by another worker", directory.display())]
    InUse {
        /// The scratch directory.
        directory: PathBuf,
    },
    /// The disk.
    #[error("cannot {action} {}", path.display())]
    Disk {
        /// As "create".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What an earlier life left running cannot be ended.
    #[error("cannot end what an earlier life of this worker left running in {}", directory.display())]
    Reap {
        /// The scratch directory.
        directory: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// All scratch directories of this worker.
#[derive(Debug)]
pub(crate) struct ScratchHome {
    dirs: Vec<PathBuf>,
    /// Held for as long as this lives.
    _locks: Vec<File>,
    /// What stays free on each disk.
    reserve_bytes: u64,
    turn: AtomicUsize,
    /// Disks on which attempts of a job have failed for the disk.
    avoided: Mutex<HashMap<JobId, HashSet<usize>>>,
}

impl ScratchHome {
    /// Makes the directories where they are not there, locks them, and sweeps them.
    pub(crate) fn open(dirs: &[PathBuf], reserve_bytes: u64) -> Result<ScratchHome, ScratchError> {
        let (mut absolute, mut locks, mut failed) = (Vec::new(), Vec::new(), None);
        for dir in dirs {
            match open(dir) {
                Ok((dir, lock)) => {
                    locks.push(lock);
                    absolute.push(dir);
                }
                Err(error @ ScratchError::Disk { .. }) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "a scratch disk is left out");
                    failed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = failed.filter(|_| absolute.is_empty()) {
            return Err(error);
        }
        let (turn, avoided) = (AtomicUsize::new(0), Mutex::default());
        let home = ScratchHome { dirs: absolute, _locks: locks, reserve_bytes, turn, avoided };
        for dir in [home.programs(), home.job_files(), home.logs()] {
            make(&dir)?;
        }
        Ok(home)
    }

    /// Where map outputs are, by number of the disk.
    pub(crate) fn shuffle_dirs(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| dir.join("shuffle")).collect()
    }

    pub(crate) fn programs(&self) -> PathBuf {
        self.dirs[0].join("programs")
    }

    pub(crate) fn job_files(&self) -> PathBuf {
        self.dirs[0].join("job-files")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.dirs[0].join("logs")
    }

    /// What attempts may take of the roomiest disk.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.room().into_iter().max().unwrap_or(0)
    }

    /// A directory for an attempt, on one of the disks that have room.
    pub(crate) fn attempt(&self, attempt: AttemptId) -> Result<AttemptScratch, ScratchError> {
        let disk = self.disk(attempt.task.job);
        self.attempt_on(disk, attempt).inspect_err(|_| self.avoid(attempt.task.job, disk))
    }

    /// An attempt has failed for its disk: others of its job go elsewhere, if there is another disk.
    pub(crate) fn avoid(&self, job: JobId, disk: usize) {
        if self.avoided().entry(job).or_default().insert(disk) {
            tracing::warn!(%job, scratch = %self.dirs[disk].display(), "the job avoids this disk");
        }
    }

    fn attempt_on(&self, disk: usize, attempt: AttemptId) -> Result<AttemptScratch, ScratchError> {
        let job = self.dirs[disk].join(ATTEMPTS).join(attempt.task.job.to_string());
        let dir = job.join(attempt.name());
        // An attempt is launched once; what has its name is debris.
        remove(&dir)?;
        make(&dir.join("work"))?;
        Ok(AttemptScratch { disk, dir })
    }

    /// Where the attempts of a job have their directories, on each disk.
    pub(crate) fn job_dirs(&self, job: JobId) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| dir.join(ATTEMPTS).join(job.to_string())).collect()
    }

    /// Removes what is left of a job's attempts. None of them may run any more.
    pub(crate) fn remove_job(&self, job: JobId) -> Result<(), ScratchError> {
        self.avoided().remove(&job);
        self.job_dirs(job).iter().try_for_each(|dir| remove(dir))
    }

    /// In turn, of those disks that the job does not avoid and that have half as much room as the roomiest, or more. A job
    /// that avoids all has to take any.
    fn disk(&self, job: JobId) -> usize {
        let mut room: Vec<(usize, u64)> = self.room().into_iter().enumerate().collect();
        if let Some(avoided) = self.avoided().get(&job).filter(|avoided| avoided.len() < room.len()) {
            room.retain(|(disk, _)| !avoided.contains(disk));
        }
        let least = room.iter().map(|(_, bytes)| *bytes).max().map_or(0, |most| most / 2);
        let roomy = room.iter().filter(|(_, bytes)| *bytes >= least);
        let roomy: Vec<usize> = roomy.map(|(disk, _)| *disk).collect();
        roomy[self.turn.fetch_add(1, Ordering::Relaxed) % roomy.len()]
    }

    fn avoided(&self) -> MutexGuard<'_, HashMap<JobId, HashSet<usize>>> {
        self.avoided.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of each disk, beyond its reserve. One that does not say has none.
    fn room(&self) -> Vec<u64> {
        let room = |dir: &PathBuf| match DiskRoom::of(dir, self.reserve_bytes) {
            Ok(room) => room.free_bytes.saturating_sub(room.reserve_bytes),
            Err(error) => {
                tracing::warn!(scratch = %dir.display(), %error, "a scratch disk does not say how much is free");
                0
            }
        };
        self.dirs.iter().map(room).collect()
    }
}

/// How much of a disk is free, and how much of that stays so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskRoom {
    pub(crate) free_bytes: u64,
    pub(crate) reserve_bytes: u64,
}

impl DiskRoom {
    /// Of the disk of a directory. A small one keeps less than `reserve_bytes`: of what is for a terabyte, nothing would be left.
    pub(crate) fn of(dir: &Path, reserve_bytes: u64) -> io::Result<DiskRoom> {
        let disk = rustix::fs::statvfs(dir)?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
        Ok(DiskRoom { free_bytes, reserve_bytes: reserve_bytes.min(bytes / RESERVE_PART) })
    }
}

/// What one attempt has on disk, but for its map output and its logs.
#[derive(Debug)]
pub(crate) struct AttemptScratch {
    disk: usize,
    dir: PathBuf,
}

impl AttemptScratch {
    /// Number of its disk.
    pub(crate) fn disk(&self) -> usize {
        self.disk
    }

    /// The whole of it: what its processes are known by.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The attempt's working directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Notes the process, for the next life of the worker.
    pub(crate) fn note_process(&self, pid: Pid) -> io::Result<()> {
        let Some(start) = reap::start_time(pid)? else { return Ok(()) };
        fs::write(self.dir.join("pid"), format!("{pid} {start}\n"))
    }

    /// Removes it.
    pub(crate) fn remove(&self) -> Result<(), ScratchError> {
        remove(&self.dir)
    }
}

fn disk(action: &'static str, path: &Path, source: io::Error) -> ScratchError {
    ScratchError::Disk { action, path: path.to_owned(), source }
}

/// One directory, made, locked and swept.
fn open(dir: &Path) -> Result<(PathBuf, File), ScratchError> {
    make(dir)?;
    // Children have another working directory.
    let dir = dir.canonicalize().map_err(|source| disk("find", dir, source))?;
    let lock = lock(&dir)?;
    sweep(&dir)?;
    for name in ["shuffle", ATTEMPTS] {
        make(&dir.join(name))?;
    }
    Ok((dir, lock))
}

fn make(dir: &Path) -> Result<(), ScratchError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).map_err(|source| disk("create", dir, source))
}

fn remove(dir: &Path) -> Result<(), ScratchError> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(disk("remove", dir, source)),
        _ => Ok(()),
    }
}

fn lock(dir: &Path) -> Result<File, ScratchError> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| disk("create", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ScratchError::InUse { directory: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(disk("lock", &path, source)),
    }
}

/// Kills what an earlier life left running, and removes what it left lying.
fn sweep(dir: &Path) -> Result<(), ScratchError> {
    let attempts = dir.join(ATTEMPTS);
    let reap = |source| ScratchError::Reap { directory: dir.to_owned(), source };
    for job in entries(&attempts)? {
        for attempt in entries(&job)? {
            kill_noted(&attempt.join("pid")).map_err(reap)?;
        }
    }
    let killed = reap::kill_marked(&attempts).map_err(reap)?;
    if killed > 0 {
        tracing::warn!(scratch = %dir.display(), killed, "ended processes that an earlier life left");
    }
    SWEPT.iter().try_for_each(|name| remove(&dir.join(name)))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, ScratchError> {
    let list = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        list => list.map_err(|source| disk("list", dir, source))?,
    };
    let paths = list.map(|entry| Ok(entry.map_err(|source| disk("list", dir, source))?.path()));
    paths.collect()
}

/// Kills the group of a noted process, if its number is still its own. What the note does not say, marks do.
fn kill_noted(note: &Path) -> io::Result<()> {
    let text = match fs::read_to_string(note) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(error),
    };
    // A note that was being written when the worker died makes no sense.
    let Some((pid, start)) = text.trim_end().split_once(' ') else { return Ok(()) };
    let (Some(pid), Ok(start)) = (pid.parse().ok().and_then(Pid::from_raw), start.parse()) else {
        return Ok(());
    };
    if reap::start_time(pid)? == Some(start) {
        reap::signal_group(pid, Signal::KILL)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::ids::TaskId;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    fn attempt(number: u32) -> AttemptId {
        TaskId { job: JobId([7; 16]), stage: 0, task: 0 }.attempt(number)
    }

    #[test]
    fn a_directory_is_one_workers_and_swept_by_the_next() {
        let directory = tempfile::tempdir().expect("a directory");
        let dirs = [directory.path().join("a"), directory.path().join("b")];
        let home = ScratchHome::open(&dirs, 0).expect("opened");
        assert!(matches!(ScratchHome::open(&dirs, 0), Err(ScratchError::InUse { .. })));
        let scratch = home.attempt(attempt(1)).expect("a directory");
        // In a group of its own, as attempts are.
        let mut left = Command::new("sleep");
        left.arg("600").env("TMPDIR", scratch.work()).process_group(0);
        let mut left = left.spawn().expect("a process");
        scratch.note_process(Pid::from_child(&left)).expect("noted");
        let output = home.shuffle_dirs()[1].join("kept");
        fs::write(&output, "x").expect("written");
        drop(home);
        let home = ScratchHome::open(&dirs, 0).expect("opened again");
        assert!(!left.wait().expect("it ended").success(), "the process was killed");
        assert!(!scratch.dir().exists() && output.exists());
        assert!(home.free_bytes() > 0);
    }

    #[test]
    fn a_job_avoids_the_disk_on_which_it_failed_and_no_other_job_does() {
        let directory = tempfile::tempdir().expect("a directory");
        let dirs = [directory.path().join("a"), directory.path().join("b")];
        let home = ScratchHome::open(&dirs, 0).expect("opened");
        let (job, other) = (attempt(0).task.job, TaskId { job: JobId([8; 16]), stage: 0, task: 0 });
        home.avoid(job, 0);
        let disks = |number: u32| home.attempt(attempt(number)).expect("a directory").disk();
        assert_eq!((0..4).map(disks).collect::<HashSet<usize>>(), HashSet::from([1]));
        let disks = |number: u32| home.attempt(other.attempt(number)).expect("a directory").disk();
        assert_eq!((0..4).map(disks).collect::<HashSet<usize>>(), HashSet::from([0, 1]));
        // Where it has failed everywhere it is tried everywhere; and its end is the end of it.
        home.avoid(job, 1);
        home.attempt(attempt(5)).expect("any disk will do");
        home.remove_job(job).expect("removed");
        assert!(home.avoided().is_empty());
    }

    #[test]
    fn a_disk_that_cannot_be_used_is_left_out_unless_it_is_the_only_one() {
        let directory = tempfile::tempdir().expect("a directory");
        // A file where the directory should be: as good as a disk that is gone.
        let (broken, good) = (directory.path().join("file"), directory.path().join("good"));
        fs::write(&broken, "").expect("a file");
        let home = ScratchHome::open(&[broken.clone(), good.clone()], 0).expect("one disk is enough");
        assert!(home.attempt(attempt(1)).expect("a directory").dir().starts_with(&good));
        assert!(home.programs().starts_with(&good));
        let refused = ScratchHome::open(&[broken], 0).expect_err("there is no other");
        assert!(matches!(refused, ScratchError::Disk { .. }), "{refused}");
    }

    #[test]
    fn attempts_go_round_the_disks_and_leave_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let dirs = [directory.path().join("a"), directory.path().join("b")];
        let home = ScratchHome::open(&dirs, 0).expect("opened");
        let both = [1, 2].map(|number| home.attempt(attempt(number)).expect("a directory"));
        assert_ne!(both[0].disk(), both[1].disk());
        assert!(both.iter().all(|scratch| scratch.work().is_dir()));
        both[0].remove().expect("removed");
        assert!(!both[0].dir().exists());
        home.remove_job(attempt(0).task.job).expect("removed");
        home.remove_job(attempt(0).task.job).expect("removed already");
        assert!(home.job_dirs(attempt(0).task.job).iter().all(|dir| !dir.exists()));
    }
}
