//! TCP connections to workers.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::errors::TransferError;

/// To a machine that is there a connection takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A time-out of zero would mean none at all.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// Connects to HOST:PORT. Reads and writes on the connection then fail when nothing moves for `timeout`.
pub(crate) fn connect(address: &str, timeout: Duration) -> Result<TcpStream, TransferError> {
    let resolved = address.to_socket_addrs().map_err(TransferError::Address)?;
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name leads to no address");
    for address in resolved {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT.min(timeout.max(TIMEOUT_MIN))) {
            Ok(stream) => {
                prepare(&stream, timeout).map_err(TransferError::Connect)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(TransferError::Connect(failed))
}

fn prepare(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout.max(TIMEOUT_MIN)))?;
    stream.set_write_timeout(Some(timeout.max(TIMEOUT_MIN)))
}
