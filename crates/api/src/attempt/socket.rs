//! The socket that the worker left this process in the place of its standard input.

use rustix::fs::{FileType, fstat};
use rustix::stdio::dup2_stdin;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// Takes the socket, and leaves an empty input where it was: programs that the author's functions start get that.
pub(super) fn take() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    if FileType::from_raw_mode(fstat(&stdin)?.st_mode) != FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the standard input is no socket"));
    }
    // The copy is closed on exec.
    let socket = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}
