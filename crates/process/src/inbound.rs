//! Sockets with deadlines: a peer that is silent, stopped or slow on purpose holds a thread for a known time at most.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gristmill_proto::bulk::{self, FrameError, FrameHead};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::sockopt::{self, Timeout};

use crate::connect::TIMEOUT_MIN;

/// How often a thread that waits for a peer looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(200);
/// How often one that waits for a frame asks its caller. Longer than `STOP_CHECK`, so that the socket of a busy
/// connection keeps the time-out that it has.
const ROUND: Duration = Duration::from_millis(400);

/// A socket for a large body: a read waits for all that it asks for, in one call (`MSG_WAITALL`), where another one returns
/// with each segment. It gives less at the end of the stream, and when the socket's time-out or a signal comes between.
pub struct Whole<'a>(pub &'a TcpStream);

/// Whether whoever waits is to stop.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// What waiting for a frame came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// A frame begins.
    Ready,
    /// The peer has ended, or lost, the connection.
    Ended,
    /// Nothing came in time.
    Silent,
    /// The waiter is told to stop.
    Stopped,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (received, _) = rustix::net::recv(self.0, buffer, RecvFlags::WAITALL)?;
        Ok(received)
    }
}

/// The receiving end of a connection.
pub struct Inbound<S> {
    input: BufReader<Patient<S>>,
    scratch: Vec<u8>,
}

impl<S: AsFd> Inbound<S> {
    /// Heads of frames, and whatever is small, come through a buffer of so many bytes; large bodies pass by it.
    pub fn new(socket: S, buffer_bytes: usize) -> Inbound<S> {
        let input = Patient { socket, deadline: Instant::now(), stop: None, timeout: None };
        Inbound { input: BufReader::with_capacity(buffer_bytes, input), scratch: Vec::new() }
    }

    /// Nothing is waited for any more once `stop` says so, be it in the middle of a frame.
    pub fn until(mut self, stop: Stop) -> Inbound<S> {
        self.input.get_mut().stop = Some(stop);
        self
    }

    /// What is received from.
    pub fn socket(&self) -> &S {
        &self.input.get_ref().socket
    }

    /// Waits until the first bytes of a frame are here, no longer than `patience`.
    pub fn wait(&mut self, patience: Duration) -> Waited {
        self.wait_unless(patience, || false)
    }

    /// As [`Inbound::wait`], and not if `stop` says so either.
    pub fn wait_unless(&mut self, patience: Duration, stop: impl Fn() -> bool) -> Waited {
        let until = Instant::now() + patience;
        while self.input.buffer().is_empty() {
            if stop() || self.input.get_ref().is_stopped() {
                return Waited::Stopped;
            }
            let now = Instant::now();
            if now >= until {
                return Waited::Silent;
            }
            self.input.get_mut().deadline = until.min(now + ROUND);
            match self.input.fill_buf().map(<[u8]>::is_empty) {
                Ok(true) => return Waited::Ended,
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                // The next round says so.
                Err(_) if self.input.get_ref().is_stopped() => {}
                Err(_reset) => return Waited::Ended,
            }
        }
        Waited::Ready
    }

    /// The next frame up to its body; `None` if the connection ended before it. All of it must have come by `deadline`,
    /// its body too.
    pub fn frame(&mut self, deadline: Instant) -> Result<Option<FrameHead<'_>>, FrameError> {
        self.input.get_mut().deadline = deadline;
        bulk::read_frame_head(&mut self.input, &mut self.scratch)
    }

    /// The body of the frame, or its next part.
    pub fn body(&mut self, body: &mut [u8]) -> Result<(), FrameError> {
        bulk::read_body(&mut self.input, body)
    }

    /// Reads and drops what the peer still sends, until it ends or `patience` is over: closing a socket with unread
    /// bytes would reset the connection, and take back the answer that was just sent.
    pub fn drain(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.input.get_mut().deadline = deadline;
        loop {
            let got = match self.input.fill_buf() {
                Ok(bytes) => bytes.len(),
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
struct Patient<S> {
    socket: S,
    deadline: Instant,
    stop: Option<Stop>,
    /// What the socket has, if anything: far from the deadline it stays the same, and no call is needed.
    timeout: Option<Duration>,
}

impl<S: AsFd> Patient<S> {
    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop())
    }

    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        if self.timeout != Some(timeout) {
            sockopt::set_socket_timeout(&self.socket, Timeout::Recv, Some(timeout))?;
            self.timeout = Some(timeout);
        }
        Ok(())
    }
}

impl<S: AsFd> Read for Patient<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.is_stopped() {
                return Err(io::Error::other("told to stop"));
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.set_timeout(left.clamp(TIMEOUT_MIN, STOP_CHECK))?;
            match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(bytes) => return Ok(bytes),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicU32, Ordering};

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
        let mut inbound = Inbound::new(ours, 8 << 10);
        assert_eq!(inbound.wait(Duration::from_secs(10)), Waited::Ready);
        inbound.input.get_mut().deadline = started + Duration::from_millis(100);
        let mut body = [0; 10_000];
        let late = inbound.body(&mut body).expect_err("it never comes");
        assert!(matches!(&late, FrameError::Io(error) if error.kind() == ErrorKind::TimedOut), "{late}");
        assert!(started.elapsed() >= Duration::from_millis(100));
        drop(inbound);
        assert!(trickle.join().expect("no panic") > 1);
    }

    #[test]
    fn a_whole_body_is_one_read_however_it_comes_and_less_at_the_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let sending = std::thread::spawn(move || {
            let mut peer = TcpStream::connect(address).expect("a connection");
            for _ in 0..1000 {
                peer.write_all(&[7; 100]).expect("the reader is there");
            }
        });
        let (ours, _) = listener.accept().expect("a connection");
        let mut body = vec![0; 60_000];
        assert_eq!(Whole(&ours).read(&mut body).expect("all of it"), 60_000);
        assert_eq!(Whole(&ours).read(&mut body).expect("the rest"), 40_000);
        assert_eq!(Whole(&ours).read(&mut body).expect("the end"), 0);
        assert!(body.iter().all(|byte| *byte == 7));
        sending.join().expect("no panic");
    }

    #[test]
    fn a_waiter_sees_silence_the_end_and_the_call_to_stop() {
        let (peer, ours) = UnixStream::pair().expect("a pair");
        let mut inbound = Inbound::new(ours, 8 << 10);
        assert_eq!(inbound.wait(Duration::from_millis(20)), Waited::Silent);
        assert_eq!(inbound.wait_unless(Duration::from_secs(60), || true), Waited::Stopped);
        drop(peer);
        assert_eq!(inbound.wait(Duration::from_secs(60)), Waited::Ended);
    }

    #[test]
    fn a_word_to_stop_is_heard_in_the_middle_of_a_frame() {
        let (mut peer, ours) = UnixStream::pair().expect("a pair");
        peer.write_all(b"G").expect("there is room");
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        // Before the first byte, and then once more where the rest should be.
        let stop: Stop = Arc::new(move || count.fetch_add(1, Ordering::Relaxed) >= 3);
        let mut inbound = Inbound::new(ours, 8 << 10).until(stop);
        assert_eq!(inbound.wait(Duration::from_secs(60)), Waited::Ready);
        let started = Instant::now();
        let stopped = inbound.frame(started + Duration::from_secs(60)).expect_err("it never comes");
        assert!(started.elapsed() < Duration::from_secs(30), "{stopped}");
        assert!(asked.load(Ordering::Relaxed) > 3);
        assert_eq!(inbound.wait(Duration::from_secs(60)), Waited::Stopped);
    }
}
