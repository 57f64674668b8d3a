//! Sockets with deadlines: a peer that is silent, stopped or slow on purpose holds a thread for a known time at most.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use gristmill_proto::bulk::{self, FrameError, FrameHead};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};

/// Heads of frames come through this buffer; bodies mostly pass by it.
const HEAD_BUFFER_BYTES: usize = 8 << 10;
/// How often a thread that waits for a peer looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(500);
/// A time-out of zero would mean none at all.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// A peer whose machine is gone is noticed after a silence of this, and then `KEEPALIVE_PROBES` probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Makes a TCP connection fit for bulk frames: no waiting for more to send, dead peers noticed, a bound on each write.
pub(crate) fn prepare(stream: &TcpStream, send_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(send_timeout.max(TIMEOUT_MIN)))?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

/// What waiting for a frame came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// A frame begins.
    Ready,
    /// The peer has ended, or lost, the connection.
    Ended,
    /// Nothing came in time.
    Silent,
    /// The waiter is told to stop.
    Stopped,
}

/// The receiving end of a connection.
pub(crate) struct Inbound<S> {
    input: BufReader<UntilDeadline<S>>,
    scratch: Vec<u8>,
}

impl<S: AsFd> Inbound<S> {
    pub(crate) fn new(socket: S) -> Inbound<S> {
        let input = UntilDeadline { socket, deadline: Instant::now() };
        Inbound { input: BufReader::with_capacity(HEAD_BUFFER_BYTES, input), scratch: Vec::new() }
    }

    pub(crate) fn socket(&self) -> &S {
        &self.input.get_ref().socket
    }

    /// Waits until the first bytes of a frame are here, no longer than `patience`, or until `stop` says so.
    pub(crate) fn wait(&mut self, patience: Duration, stop: impl Fn() -> bool) -> Waited {
        let until = Instant::now() + patience;
        while self.input.buffer().is_empty() {
            if stop() {
                return Waited::Stopped;
            }
            let now = Instant::now();
            if now >= until {
                return Waited::Silent;
            }
            self.input.get_mut().deadline = until.min(now + STOP_CHECK);
            match self.input.fill_buf() {
                Ok([]) => return Waited::Ended,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                Err(_reset) => return Waited::Ended,
            }
        }
        Waited::Ready
    }

    /// The frame, its body and all, must have come by then.
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.input.get_mut().deadline = deadline;
    }

    /// The next frame up to its body; `None` if the connection ended before it.
    pub(crate) fn frame(&mut self) -> Result<Option<FrameHead<'_>>, FrameError> {
        bulk::read_frame_head(&mut self.input, &mut self.scratch)
    }

    /// The body of the frame, or its next part.
    pub(crate) fn body(&mut self, body: &mut [u8]) -> Result<(), FrameError> {
        bulk::read_body(&mut self.input, body)
    }

    /// Reads and drops what the peer still sends, until it ends or `patience` is over: closing a socket with unread
    /// bytes would reset the connection, and take back the answer that was just sent.
    pub(crate) fn drain(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.set_deadline(deadline);
        loop {
            let got = match self.input.fill_buf() {
                Ok(bytes) => bytes.len(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_over) => return,
            };
            if got == 0 || Instant::now() >= deadline {
                return;
            }
            self.input.consume(got);
        }
    }
}

/// Reads fail when the deadline has passed, however the bytes trickle.
struct UntilDeadline<S> {
    socket: S,
    deadline: Instant,
}

impl<S: AsFd> Read for UntilDeadline<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        sockopt::set_socket_timeout(&self.socket, Timeout::Recv, Some(left.max(TIMEOUT_MIN)))?;
        match rustix::io::read(&self.socket, buffer) {
            Ok(bytes) => Ok(bytes),
            Err(Errno::AGAIN) => Err(ErrorKind::TimedOut.into()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn bytes_that_trickle_do_not_move_the_deadline() {
        let (mut peer, ours) = UnixStream::pair().expect("a pair");
        let trickle = std::thread::spawn(move || {
            let mut sent = 0;
            while peer.write_all(b"G").is_ok() {
                sent += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            sent
        });
        let started = Instant::now();
        let mut inbound = Inbound::new(ours);
        assert_eq!(inbound.wait(Duration::from_secs(10), || false), Waited::Ready);
        inbound.set_deadline(started + Duration::from_millis(100));
        let mut body = [0; 10_000];
        let late = inbound.body(&mut body).expect_err("it never comes");
        assert!(matches!(&late, FrameError::Io(error) if error.kind() == ErrorKind::TimedOut), "{late}");
        assert!(started.elapsed() >= Duration::from_millis(100));
        drop(inbound);
        assert!(trickle.join().expect("no panic") > 1);
    }

    #[test]
    fn a_waiter_sees_silence_the_end_and_the_call_to_stop() {
        let (peer, ours) = UnixStream::pair().expect("a pair");
        let mut inbound = Inbound::new(ours);
        assert_eq!(inbound.wait(Duration::from_millis(20), || false), Waited::Silent);
        assert_eq!(inbound.wait(Duration::from_secs(60), || true), Waited::Stopped);
        drop(peer);
        assert_eq!(inbound.wait(Duration::from_secs(60), || false), Waited::Ended);
    }
}
