//! What a user sets on a master.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Options of `gristmill master`.
#[derive(Clone, Debug, clap::Args)]
pub struct MasterOptions {
    /// Where clients and workers reach the master. Port 0 lets the system choose; the file `address` in the data
    /// directory says which. Without --secret-file only a loopback address is taken
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,

    /// Where the namespace is kept
    #[arg(long, value_name = "DIR", default_value = "gristmill-master")]
    pub data_dir: PathBuf,

    /// The cluster's secret: a file of 32 bytes or more that only its owner can read
    #[arg(long, value_name = "FILE", env = "GRISTMILL_SECRET_FILE")]
    pub secret_file: Option<PathBuf>,

    /// Copies of a block, where a file does not say [default: 1 with up to 3 core workers, 2 up to 9, then 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub replication: Option<u32>,

    /// Size of a block in MiB, where a file does not say
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub block_mib: u64,

    /// Memory for pages of the namespace, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..=1048576))]
    pub cache_mib: u64,

    /// A worker not heard for this long is lost, and its blocks are copied elsewhere
    #[arg(long, value_name = "MS", default_value_t = 12_000, value_parser = clap::value_parser!(u64).range(200..))]
    pub worker_lost_ms: u64,

    /// How often workers send heartbeats
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(20..))]
    pub heartbeat_interval_ms: u64,

    /// A writer silent for this long loses its file to another that asks for it
    #[arg(long, value_name = "MS", default_value_t = 60_000)]
    pub lease_soft_limit_ms: u64,

    /// The file of a writer silent for this long is closed
    #[arg(long, value_name = "MS", default_value_t = 20 * 60_000)]
    pub lease_hard_limit_ms: u64,

    /// The safe mode after a start lasts for this long after all blocks are reported
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    pub safe_mode_grace_ms: u64,

    /// What `fs rm` removes can be taken back for this long
    #[arg(long, value_name = "MINUTES", default_value_t = 360)]
    pub trash_minutes: u64,

    /// With less than this free on the disk of the data directory, the namespace takes nothing new
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub reserve_mib: u64,
}
