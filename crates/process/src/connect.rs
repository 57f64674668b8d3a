//! TCP connections for bulk frames, made from here or taken.

use std::io;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

/// A time-out of zero would mean none at all.
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// A peer whose machine is gone is noticed after a silence of this, and then `KEEPALIVE_PROBES` probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Connects to the first address of HOST:PORT that answers, before `deadline`. A write on the connection fails when
/// nothing moves for `send_timeout`.
pub fn connect(address: &str, deadline: Instant, send_timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for place in address.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&place, left) {
            Ok(stream) => {
                prepare(&stream, send_timeout)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Makes a connection fit for frames: no waiting for more to send, dead peers noticed, a bound on each write.
pub(crate) fn prepare(stream: &TcpStream, send_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(send_timeout.max(TIMEOUT_MIN)))?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

/// Ends a direction of a connection. That it has ended already is fine.
pub fn shut(stream: &TcpStream, which: Shutdown) {
    if let Err(error) = stream.shutdown(which) {
        tracing::trace!(%error, "a connection had ended before");
    }
}
