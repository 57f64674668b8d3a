//! What attempts write into their scratch directories, held from outside: a job's share of this worker's disks, and the
//! reserve that stays free on each of them.
//!
//! The worker looks once a second. Between two looks an attempt can write more; the reserve is there for that.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gristmill_dataflow::shuffle::OutputStore;
use gristmill_proto::ids::{AttemptId, JobId};

use super::bounds::Excess;
use crate::scratch::DiskRoom;

/// Files and directories of an attempt: spills are some dozens. More cost the node its inodes, and each look its time.
pub(crate) const FILES_MAX: u64 = 100_000;
/// The unit of a file's blocks, whatever the file system's own are: stat(2).
const STAT_BLOCK_BYTES: u64 = 512;

/// What the attempts of this worker have on its disks.
#[derive(Debug)]
pub(crate) struct DiskUse {
    limits: DiskLimits,
    attempts: Mutex<HashMap<AttemptId, u64>>,
}

/// What a job may take of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskLimits {
    /// Of one job on all disks, its map outputs too. 0: all that there is.
    pub(crate) job_bytes_max: u64,
    /// Stays free on each disk.
    pub(crate) reserve_bytes: u64,
}

impl DiskUse {
    pub(crate) fn new(limits: DiskLimits) -> DiskUse {
        DiskUse { limits, attempts: Mutex::default() }
    }

    /// Follows an attempt that works in `dir`. Map outputs are in `store`.
    pub(crate) fn follow<'a>(
        &'a self,
        store: &'a OutputStore,
        attempt: AttemptId,
        dir: PathBuf,
    ) -> Footprint<'a> {
        Footprint { disk_use: self, store, attempt, dir, bytes: 0 }
    }

    fn job_bytes(&self, job: JobId) -> u64 {
        self.attempts().iter().filter(|(attempt, _)| attempt.task.job == job).map(|(_, bytes)| bytes).sum()
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<AttemptId, u64>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one attempt has on disk, until this is dropped.
pub(crate) struct Footprint<'a> {
    disk_use: &'a DiskUse,
    store: &'a OutputStore,
    attempt: AttemptId,
    dir: PathBuf,
    bytes: u64,
}

impl Footprint<'_> {
    /// Measures it. Who has nothing there, or takes no more of a disk that is full, is not to blame.
    pub(crate) fn look(&mut self) -> io::Result<Option<Excess>> {
        let mut found = Found::default();
        found.add(&self.dir)?;
        if found.files > FILES_MAX {
            return Ok(Some(Excess::Files { dir: self.dir.clone() }));
        }
        let before = std::mem::replace(&mut self.bytes, found.bytes);
        self.disk_use.attempts().insert(self.attempt, found.bytes);
        if found.bytes == 0 {
            return Ok(None);
        }
        let job = self.attempt.task.job;
        let used_bytes = self.disk_use.job_bytes(job).saturating_add(self.store.job_bytes(job));
        let room = DiskRoom::of(&self.dir, self.disk_use.limits.reserve_bytes)?;
        Ok(self.judge(found.bytes > before, used_bytes, room))
    }

    fn judge(&self, grows: bool, used_bytes: u64, room: DiskRoom) -> Option<Excess> {
        let (dir, job_bytes_max) = (self.dir.clone(), self.disk_use.limits.job_bytes_max);
        if job_bytes_max > 0 && used_bytes > job_bytes_max {
            return Some(Excess::JobDisk { dir, used_bytes, job_bytes_max });
        }
        let DiskRoom { free_bytes, reserve_bytes } = room;
        let takes_reserve = grows && free_bytes < reserve_bytes;
        takes_reserve.then_some(Excess::Reserve { dir, free_bytes, reserve_bytes })
    }
}

impl Drop for Footprint<'_> {
    fn drop(&mut self) {
        self.disk_use.attempts().remove(&self.attempt);
    }
}

/// What is below a directory.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    files: u64,
    bytes: u64,
}

impl Found {
    /// Adds what is there, until there are too many. The attempt goes on: what it removes meanwhile is not there. It may
    /// nest directories as it likes: they wait in a list.
    fn add(&mut self, dir: &Path) -> io::Result<()> {
        let mut dirs = vec![dir.to_owned()];
        while let Some(dir) = dirs.pop() {
            let Some(entries) = unless_gone(fs::read_dir(&dir))? else { continue };
            for entry in entries {
                let entry = entry?;
                let Some(found) = unless_gone(entry.metadata())? else { continue };
                self.files += 1;
                self.bytes += found.blocks() * STAT_BLOCK_BYTES;
                if self.files > FILES_MAX {
                    return Ok(());
                }
                if found.is_dir() {
                    dirs.push(entry.path());
                }
            }
        }
        Ok(())
    }
}

/// What is gone, or what the attempt has locked away from itself, is nothing.
fn unless_gone<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(None),
        looked => looked.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::ids::TaskId;

    fn attempt(job: u8, number: u32) -> AttemptId {
        TaskId { job: JobId([job; 16]), stage: 0, task: 0 }.attempt(number)
    }

    /// A directory with one file of so many bytes, which are all on disk.
    fn dir_with(bytes: usize) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("below")).expect("a directory");
        fs::write(dir.path().join("below/spill"), vec![1; bytes]).expect("written");
        dir
    }

    #[test]
    fn the_attempts_of_a_job_have_its_share_together_and_give_it_back_when_they_end() {
        let map_outputs = tempfile::tempdir().expect("a directory");
        let store = OutputStore::open(&[map_outputs.path().to_owned()]).expect("opened");
        let disk_use = DiskUse::new(DiskLimits { job_bytes_max: 3 << 20, reserve_bytes: 0 });
        let dirs = [dir_with(2 << 20), dir_with(2 << 20), dir_with(2 << 20)];
        let follow = |job, number, dir: &tempfile::TempDir| {
            disk_use.follow(&store, attempt(job, number), dir.path().to_owned())
        };
        let (mut first, mut second) = (follow(1, 1, &dirs[0]), follow(1, 2, &dirs[1]));
        let mut stranger = follow(2, 1, &dirs[2]);
        assert_eq!(first.look().expect("looked"), None);
        assert_eq!(stranger.look().expect("looked"), None, "another job has its own");
        let excess = second.look().expect("looked").expect("4 MiB of 3");
        let said = excess.to_string();
        assert!(said.contains("has 4 MiB") && said.contains("limit is 3 MiB"), "{said}");
        assert!(said.contains(&dirs[1].path().display().to_string()), "{said}");
        drop(first);
        assert_eq!(second.look().expect("looked"), None);
    }

    #[test]
    fn who_takes_of_the_reserve_is_ended_and_who_takes_nothing_more_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = OutputStore::open(&[dir.path().to_owned()]).expect("opened");
        let disk_use = DiskUse::new(DiskLimits { job_bytes_max: 0, reserve_bytes: 1 << 30 });
        let footprint = disk_use.follow(&store, attempt(1, 1), dir.path().to_owned());
        let room = |free_mib: u64| DiskRoom { free_bytes: free_mib << 20, reserve_bytes: 100 << 20 };
        assert_eq!(footprint.judge(true, 1 << 40, room(100)), None);
        assert_eq!(footprint.judge(false, 1 << 40, room(99)), None, "it has not grown");
        let said = footprint.judge(true, 1 << 40, room(99)).expect("it is over").to_string();
        assert!(said.contains("has 99 MiB left, of which 100 stay free"), "{said}");
        // However much is to stay free: of a disk that is there, a tenth at most.
        let room = DiskRoom::of(dir.path(), u64::MAX).expect("looked");
        assert!(room.reserve_bytes < u64::MAX / 10);
    }

    #[test]
    fn holes_cost_nothing_and_what_is_gone_is_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let hole = fs::File::create(dir.path().join("hole")).expect("a file");
        hole.set_len(1 << 40).expect("a length");
        let mut found = Found::default();
        found.add(dir.path()).expect("looked");
        assert!(found.files == 1 && found.bytes < 1 << 20, "{found:?}");
        found.add(&dir.path().join("gone")).expect("looked");
        assert_eq!(found.files, 1);
    }
}
