//! What a user sets on a worker.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What a worker is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// It keeps blocks of the file system.
    Core,
}

/// Options of `gristmill worker`.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerOptions {
    /// The master of the cluster; it is tried for ever
    #[arg(long, value_name = "HOST:PORT", env = "GRISTMILL_MASTER")]
    pub master: String,

    /// What the worker is there for
    #[arg(long, value_enum, default_value = "core")]
    pub role: Role,

    /// Where blocks are kept; repeated or separated by commas, one directory for each disk
    #[arg(long = "data-dir", value_name = "DIR", value_delimiter = ',', default_value = "gristmill-worker")]
    pub data_dirs: Vec<PathBuf>,

    /// Where others reach this worker. Port 0 lets the system choose. Without --secret-file only a loopback address
    /// is taken
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// The address that others are told, where it is not the one the master sees
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,

    /// The rack of this machine: copies of a block are spread over racks
    #[arg(long, value_name = "RACK", default_value = "/default")]
    pub rack: String,

    /// The name of this machine, the same for all its processes [default: the system's]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,

    /// The cluster's secret: a file of 32 bytes or more that only its owner can read
    #[arg(long, value_name = "FILE", env = "GRISTMILL_SECRET_FILE")]
    pub secret_file: Option<PathBuf>,

    /// What stays free on each disk, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub reserve_mib: u64,

    /// How fast blocks are read again in the background to find damage, in MiB a second
    #[arg(long, value_name = "MIB", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub scrub_mib_per_s: u64,

    /// Without a word from the master for this long the worker takes no new blocks: it may have been given up
    #[arg(long, value_name = "MS", default_value_t = 12_000, value_parser = clap::value_parser!(u64).range(200..))]
    pub lease_ms: u64,

    /// How long the next worker of a pipeline may take to acknowledge a packet
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub ack_timeout_ms: u64,
}
