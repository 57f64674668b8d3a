//! Bytes that go out: heads of frames from memory, and what is in files without a copy through this process.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::TcpStream;

use rustix::io::Errno;
use rustix::net::SendFlags;

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
