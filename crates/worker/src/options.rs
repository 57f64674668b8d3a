//! What a user sets on a worker.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gristmill_process::machine;

pub(crate) const MIB: u64 = 1 << 20;

/// What a worker is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// It keeps blocks of the file system, and runs attempts.
    Core,
    /// It runs attempts. It may vanish at any moment.
    Task,
}

/// Whether attempts are put into control groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CgroupUse {
    /// Where the worker may make them.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// Options of a worker, of `gristmill worker`.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerOptions {
    /// The master
    #[arg(long, value_name = "HOST:PORT", env = "GRISTMILL_MASTER")]
    pub master: String,

    /// What the worker is there for
    #[arg(long, value_enum, default_value = "core")]
    pub role: Role,

    /// Where blocks are kept: repeated or separated by commas, one directory for each disk. A task worker keeps its
    /// name there
    #[arg(long = "data-dir", value_name = "DIR", value_delimiter = ',', default_value = "gristmill-worker")]
    pub data_dirs: Vec<PathBuf>,

    /// Where clients and other workers reach the blocks of a core worker. Port 0 lets the system choose; the file
    /// `address` in the first data directory says which. Without --secret-file only a loopback address is taken
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Where other workers fetch map outputs [default: the host of --listen, with a port that the system chooses]
    #[arg(long, value_name = "HOST:PORT")]
    pub shuffle_listen: Option<SocketAddr>,

    /// Attempts at once; 0: none [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1024))]
    pub slots: Option<u32>,

    /// Memory for attempts, all together, in bytes or as 8GiB [default: half of the machine's or the container's]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: Option<u64>,

    /// Where attempts work and map outputs are kept: repeated or separated by commas, one directory for each disk
    /// [default: `scratch` in each data directory]
    #[arg(long = "scratch-dir", value_name = "DIR", value_delimiter = ',')]
    pub scratch_dirs: Vec<PathBuf>,

    /// What one job may have on the scratch disks of this worker, all together; 0: all but the reserve
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    pub job_disk_mib: u64,

    /// Whether the kernel bounds the memory of attempts by control groups: where the worker may make them, or never
    #[arg(long, value_enum, default_value_t)]
    pub cgroups: CgroupUse,

    /// Programs of jobs that are kept for the next time
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub program_cache_mib: u64,

    /// Name of this machine, the same for all processes on it [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,

    /// Where this machine stands
    #[arg(long, value_name = "RACK", default_value = "/default-rack")]
    pub rack: String,

    /// A script of /bin/sh that runs before the worker joins; where it fails, the worker ends, and a cluster that is being
    /// made with it
    #[arg(long, value_name = "FILE")]
    pub bootstrap: Option<PathBuf>,

    /// The cluster's secret: a file of 32 bytes or more that only its owner can read
    #[arg(long, value_name = "FILE", env = "GRISTMILL_SECRET_FILE")]
    pub secret_file: Option<PathBuf>,

    /// What stays free on each disk
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub reserve_mib: u64,

    /// How fast blocks are read in the background to find damage; 0: not at all
    #[arg(long, value_name = "MIB/S", default_value_t = 8)]
    pub scrub_mib_per_s: u64,

    /// Without a word of the master for this long, no more blocks are taken. At most the master's --worker-lost-ms
    #[arg(long, value_name = "MS", default_value_t = 12_000, value_parser = clap::value_parser!(u64).range(200..))]
    pub lease_ms: u64,

    /// Blocks written and read at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub transfers: u32,

    /// How fast blocks are copied to other workers by order of the master, all together; 0: as fast as it goes
    #[arg(long, value_name = "MIB/S", default_value_t = 0)]
    pub copy_mib_per_s: u64,

    /// How long the next worker of a pipeline may take to acknowledge a packet
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub ack_timeout_ms: u64,

    /// How long a task worker that was told to end by SIGTERM goes on with its attempts; it takes no new ones, and ends
    /// as soon as it has none. 0: they are ended at once, and go to other workers
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3_600_000))]
    pub notice_ms: u64,

    /// How long blocks under way may hold up a worker that was told to end
    #[arg(long, value_name = "MS", default_value_t = 3_000)]
    pub goodbye_ms: u64,
}

impl WorkerOptions {
    pub(crate) fn slots(&self) -> u32 {
        self.slots.unwrap_or_else(machine::cores)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.unwrap_or_else(|| machine::memory_bytes() / 2)
    }

    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.reserve_mib.saturating_mul(MIB)
    }

    pub(crate) fn scratch_dirs(&self) -> Vec<PathBuf> {
        if self.scratch_dirs.is_empty() {
            return self.data_dirs.iter().map(|dir| dir.join("scratch")).collect();
        }
        self.scratch_dirs.clone()
    }

    pub(crate) fn shuffle_listen(&self) -> SocketAddr {
        self.shuffle_listen.unwrap_or(SocketAddr::new(self.listen.ip(), 0))
    }

    /// A core worker's attempts end at once: its blocks are elsewhere, too.
    pub(crate) fn notice(&self) -> Duration {
        match self.role {
            Role::Core => Duration::ZERO,
            Role::Task => Duration::from_millis(self.notice_ms),
        }
    }

    pub(crate) fn host(&self) -> String {
        self.host.clone().unwrap_or_else(machine::host)
    }
}

/// A number of bytes, with KiB, MiB, GiB or TiB behind it, or none of them.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    let number = number.trim_end().parse::<u64>().ok().filter(|number| *number > 0);
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("{text:?} is no size: a number of bytes, or as 512MiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_or_not() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(parse_bytes("2 GiB"), Ok(2 << 30));
        for nonsense in ["", "0", "-1", "2GB", "MiB", "99999999999TiB"] {
            assert!(parse_bytes(nonsense).is_err(), "{nonsense}");
        }
    }
}
