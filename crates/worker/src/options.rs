//! What a user sets on a worker.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What a worker is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// It keeps blocks of the file system.
    Core,
}

/// Options of a core worker, of `gristmill worker`.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerOptions {
    /// The master
    #[arg(long, value_name = "HOST:PORT", env = "GRISTMILL_MASTER")]
    pub master: String,

    /// What the worker is there for
    #[arg(long, value_enum, default_value = "core")]
    pub role: Role,

    /// Where blocks are kept: repeated or separated by commas, one directory for each disk
    #[arg(long = "data-dir", value_name = "DIR", value_delimiter = ',', default_value = "gristmill-worker")]
    pub data_dirs: Vec<PathBuf>,

    /// Where clients and other workers reach this one. Port 0 lets the system choose; the file `address` in the first
    /// data directory says which. Without --secret-file only a loopback address is taken
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Name of this machine, the same for all processes on it [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,

    /// Where this machine stands
    #[arg(long, value_name = "RACK", default_value = "/default-rack")]
    pub rack: String,

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

    /// How long blocks under way may hold up a worker that was told to end
    #[arg(long, value_name = "MS", default_value_t = 3_000)]
    pub goodbye_ms: u64,
}
