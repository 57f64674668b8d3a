//! Bytes that go out: heads of frames from memory, and what is in files without a copy through this process.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::TcpStream;

use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::net::sockopt::set_tcp_cork;

/// Does `sending`, whose bytes leave in full segments: the end of one piece waits for the beginning of the next, up to 200 ms
/// (`TCP_CORK`). Without it each 64 KiB that `sendfile` hands over in one go ends in a segment of a few bytes on loopback,
/// and where the system paces its segments (BBR) each costs a timer.
pub fn in_full_segments<T>(stream: &TcpStream, sending: impl FnOnce() -> T) -> io::Result<T> {
    set_tcp_cork(stream, true)?;
    let sent = sending();
    set_tcp_cork(stream, false)?;
    Ok(sent)
}

/// Sends bytes that more will follow: they wait for those, to fill a segment.
pub fn send_more(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(stream, bytes, SendFlags::MORE | SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends `bytes` of a file from `offset` on; [`ErrorKind::UnexpectedEof`] if it ends before.
pub fn send_file(stream: &TcpStream, file: &File, mut offset: u64, mut bytes: u64) -> io::Result<()> {
    while bytes > 0 {
        match rustix::fs::sendfile(stream, file, Some(&mut offset), bytes as usize) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(sent) => bytes -= sent as u64,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::tcp_cork;
    use std::net::TcpListener;

    #[test]
    fn segments_are_filled_while_something_is_sent_and_no_longer() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let is_held = || tcp_cork(&stream).expect("a socket");
        assert!(in_full_segments(&stream, is_held).expect("a socket"));
        assert!(!is_held());
    }
}
