//! What a cluster uses between two jobs: it must not grow with the number of jobs that it has run.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::cluster::Cluster;
use crate::process::Process;
use crate::processes::processes_of;

/// Resident memory may grow by this much over its first measure: allocators keep what they have had, and the master
/// remembers jobs that have ended (a few KiB each, and no more than its options say).
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// Connections come and go between two looks.
const GROWTH_FILES_MAX: usize = 24;
/// Logs of attempts and the history of jobs stay on disk, up to limits of their own.
const GROWTH_DISK_BYTES_MAX: u64 = 256 << 20;

/// What a cluster uses while it has nothing to do.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// Of the daemon that has the most.
    pub resident_bytes: u64,
    /// Of the daemon that has the most.
    pub open_files: usize,
    /// Of the whole cluster: its daemons, and whatever it has left running.
    pub processes: usize,
    /// Of all data directories.
    pub disk_bytes: u64,
}

impl Baseline {
    /// Measured now.
    pub fn of(cluster: &Cluster) -> Baseline {
        let workers = (0..cluster.worker_count()).map(|index| cluster.worker_id(index));
        let daemons: Vec<Process> = workers.chain([cluster.master_id()]).map(Process::of).collect();
        let largest = |of: fn(&Process) -> u64| daemons.iter().map(of).max().expect("there is a master");
        let dir = cluster.path("");
        Baseline {
            resident_bytes: largest(Process::resident_bytes),
            open_files: daemons.iter().map(Process::open_files).max().expect("there is a master"),
            processes: processes_of(&dir).len(),
            disk_bytes: bytes_below(&dir),
        }
    }

    /// What has grown beyond what is explained.
    pub fn excess_of(&self, later: &Baseline) -> Option<Excess> {
        let is_more = |grown: bool| grown.then(|| Excess { before: self.clone(), after: later.clone() });
        is_more(
            later.resident_bytes > self.resident_bytes + GROWTH_BYTES_MAX
                || later.open_files > self.open_files + GROWTH_FILES_MAX
                || later.processes > self.processes
                || later.disk_bytes > self.disk_bytes + GROWTH_DISK_BYTES_MAX,
        )
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        let Baseline { resident_bytes, open_files, processes, disk_bytes } = self;
        let (memory, disk) = (mib(*resident_bytes), mib(*disk_bytes));
        write!(
            f,
            "{memory} MiB resident, {open_files} descriptors, {processes} processes, {disk} MiB on disk"
        )
    }
}

/// Something has grown.
#[derive(Clone, Debug)]
pub struct Excess {
    before: Baseline,
    after: Baseline,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the cluster has not come back to its baseline: it had {}, now it has {}",
            self.before, self.after
        )
    }
}

fn bytes_below(dir: &Path) -> u64 {
    // What vanishes while it is looked at takes no room.
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_gone) => 0,
    };
    entries.flatten().map(of).sum()
}
