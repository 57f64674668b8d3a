//! What a user sets on a master.

use std::net::{AddrParseError, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use gristmill_dfs::is_host_and_port;

/// Options of `gristmill master`.
#[derive(Clone, Debug, clap::Args)]
pub struct MasterOptions {
    /// Where clients and workers reach the master. Port 0 lets the system choose; the file `address` in the data
    /// directory says which. Without --secret-file only a loopback address is taken
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,

    /// Where pages for operators are served: /metrics, /status, /jobs; `off`: nowhere. Port 0 lets the system choose;
    /// the file `http-address` in the data directory says which. Without --secret-file only a loopback address is taken
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7080")]
    pub http: HttpListen,

    /// How clients in the workers' network call the master. All others reach workers through the master's port, as do
    /// their files. Without it all clients go straight to the workers
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub advertise: Option<String>,

    /// Where the namespace and the jobs are kept
    #[arg(long, value_name = "DIR", default_value = "gristmill-master")]
    pub data_dir: PathBuf,

    /// How the cluster is to live, and its first steps: TOML (docs/clusters.md), read at the first start on the data
    /// directory only
    #[arg(long, value_name = "FILE")]
    pub cluster_file: Option<PathBuf>,

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

    /// An attempt that takes half as long again as others, and is this far behind, gets a twin on another worker
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    pub straggler_behind_ms: u64,

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

    /// A program that no job uses for this long is removed from dfs://; 0: as soon as no job uses it
    #[arg(long, value_name = "MINUTES", default_value_t = 24 * 60, value_parser = clap::value_parser!(u64).range(..=527_040))]
    pub program_keep_minutes: u64,

    /// With more programs than this in dfs://, those that no job uses go, the longest unused first
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub programs_max: usize,

    /// The same, for the MiB of all programs
    #[arg(long, value_name = "MIB", default_value_t = 16 * 1024, value_parser = clap::value_parser!(u64).range(..=1 << 30))]
    pub programs_mib_max: u64,

    /// Does not start: says whether the namespace and the jobs in the data directory are whole, every page and row of
    /// them, changes nothing, and ends with 1 if they are not. No master may run on it
    #[arg(long)]
    pub check: bool,

    /// With less than this free on the disk of the data directory, the namespace takes nothing new
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub reserve_mib: u64,
}

fn host_and_port(text: &str) -> Result<String, &'static str> {
    if is_host_and_port(text) { Ok(text.to_owned()) } else { Err("this is no HOST:PORT") }
}

/// Where pages are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpListen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl FromStr for HttpListen {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<HttpListen, AddrParseError> {
        match text {
            "off" => Ok(HttpListen::Off),
            address => address.parse().map(HttpListen::At),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_somewhere_or_nowhere() {
        assert_eq!("off".parse(), Ok(HttpListen::Off));
        assert_eq!("127.0.0.1:0".parse(), Ok(HttpListen::At("127.0.0.1:0".parse().unwrap())));
        for bad in ["", "on", "localhost:7080", "127.0.0.1"] {
            assert!(bad.parse::<HttpListen>().is_err(), "{bad}");
        }
    }
}
