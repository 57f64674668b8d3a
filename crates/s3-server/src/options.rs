//! What a user sets on a local S3 server.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Options of `gristmill s3-server`.
#[derive(Clone, Debug, clap::Args)]
pub struct S3ServerOptions {
    /// Where buckets are kept
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,

    /// Where clients reach the server. Port 0 lets the system choose; the file `address` in the directory says which.
    /// Without credentials in the environment only a loopback address is taken
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
}
