//! Sees a child through, from its start to its end, on one thread that waits for everything at once.

use std::io::{self, ErrorKind, Read};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gristmill_proto::attempt::from_attempt::Message;
use gristmill_proto::attempt::{Sign, ToAttempt, to_attempt};
use gristmill_proto::task::FetchFailed;
use gristmill_proto::task::attempt_failure::Kind;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use thiserror::Error;

use super::assignment::Outcome;
use super::bounds::{Bounds, Excess, LookError};
use super::frames::{Filled, Inbound, Outbound, frame};
use super::launch::Process;
use super::logs::{AttemptLogs, Capture};
use super::mailbox::{Letter, Mailbox};
use super::progress::ProgressCell;
use super::signing::Signing;
use super::verdict::{KILL_GRACE, Verdict};
use crate::reap::{signal_group, timespec};

/// Times that the socket of a child that has ended is read. A process that it left may go on writing into it.
const LAST_WORDS_MAX: usize = 1024;
/// Read of a pipe before others get their turn.
const PIPE_TURN_BYTES: usize = 1 << 20;

/// Why a child cannot be seen through.
#[derive(Debug, Error)]
pub(crate) enum ConductError {
    #[error("cannot follow the process")]
    Process(#[from] io::Error),
    #[error(transparent)]
    Look(#[from] LookError),
}

/// What the thread of an attempt tells while it runs, and listens to.
pub(crate) struct Company<'a> {
    pub(crate) mailbox: &'a Mailbox,
    pub(crate) progress: &'a ProgressCell,
    pub(crate) logs: &'a AttemptLogs,
    pub(crate) complain: &'a mut dyn FnMut(FetchFailed),
    pub(crate) signing: &'a Signing,
}

/// How it went.
pub(crate) struct Conducted {
    pub(crate) outcome: Outcome,
    /// There may be processes that left the group: somebody else has the pipes still, or there were too many.
    pub(crate) stragglers: bool,
}

/// A child and what surrounds it.
pub(crate) struct Conduct<'a> {
    process: Process,
    company: Company<'a>,
    inbound: Inbound,
    outbound: Outbound,
    verdict: Verdict,
    bounds: Bounds<'a>,
    /// It took more than it may: what left its group is ended too.
    exceeded: bool,
    socket_open: bool,
    stdout_open: bool,
    stderr_open: bool,
    /// The disk of the logs has failed: told once.
    log_lost: bool,
}

/// What is ready.
#[derive(Clone, Copy, Default)]
struct Ready {
    mail: bool,
    ended: bool,
    socket: bool,
    stdout: bool,
    stderr: bool,
}

impl<'a> Conduct<'a> {
    /// The first frames are what the child is to read first.
    pub(crate) fn new(
        process: Process,
        verdict: Verdict,
        bounds: Bounds<'a>,
        frames: Vec<Bytes>,
        company: Company<'a>,
    ) -> Self {
        let mut outbound = Outbound::default();
        for frame in frames {
            // As many as there are: they are bounded by the job's size.
            outbound.push(frame);
        }
        Conduct {
            process,
            company,
            inbound: Inbound::default(),
            outbound,
            verdict,
            bounds,
            exceeded: false,
            socket_open: true,
            stdout_open: true,
            stderr_open: true,
            log_lost: false,
        }
    }

    /// Until the process and its group have ended. An error leaves processes: the caller must kill what is marked.
    pub(crate) fn run(mut self) -> Result<Conducted, ConductError> {
        loop {
            let ready = self.wait()?;
            if ready.mail {
                self.read_mail()?;
            }
            if ready.stdout {
                self.stdout_open = self.read_stdout()?;
            }
            if ready.stderr {
                self.stderr_open = self.read_stderr()?;
            }
            if ready.socket {
                self.serve_socket()?;
            }
            if ready.ended {
                return self.finish();
            }
            self.keep_bounds()?;
            let signal = self.verdict.pass(Instant::now());
            self.signal(signal)?;
        }
    }

    /// Who takes too much is not asked to end: it would take more meanwhile.
    fn keep_bounds(&mut self) -> Result<(), ConductError> {
        let now = Instant::now();
        let Some(excess) = self.bounds.look(now)?.filter(|_| !self.exceeded) else { return Ok(()) };
        self.exceed(now, &excess);
        Ok(self.signal(Some(Signal::KILL))?)
    }

    fn exceed(&mut self, now: Instant, excess: &Excess) {
        self.exceeded = true;
        let kind = match excess {
            Excess::Memory { .. } => Kind::Memory,
            Excess::Threads { .. } | Excess::Files { .. } => Kind::Exited,
            Excess::JobDisk { .. } | Excess::Reserve { .. } => Kind::Scratch,
        };
        self.verdict.kill(now, kind, &excess.to_string(), Duration::ZERO);
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let Process { ended, socket, stdout, stderr, .. } = &self.process;
        let wanted = if self.outbound.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut fds =
            vec![PollFd::new(self.company.mailbox, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        let streams = [
            (self.socket_open, PollFd::new(socket, wanted)),
            (self.stdout_open, PollFd::new(stdout, PollFlags::IN)),
            (self.stderr_open, PollFd::new(stderr, PollFlags::IN)),
        ];
        // A closed descriptor would be ready for ever.
        let mut places = [None; 3];
        for (place, (open, fd)) in places.iter_mut().zip(streams) {
            if open {
                *place = Some(fds.len());
                fds.push(fd);
            }
        }
        let [socket, stdout, stderr] = places;
        let look = self.bounds.next_look();
        let until = self.verdict.deadline().map_or(look, |deadline| deadline.min(look));
        let left = until.saturating_duration_since(Instant::now());
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |place: Option<usize>| place.is_some_and(|place| !fds[place].revents().is_empty());
        Ok(Ready {
            mail: is_ready(Some(0)),
            ended: is_ready(Some(1)),
            socket: is_ready(socket),
            stdout: is_ready(stdout),
            stderr: is_ready(stderr),
        })
    }

    fn read_mail(&mut self) -> io::Result<()> {
        let (letters, mut overflown) = self.company.mailbox.take()?;
        for letter in letters {
            match letter {
                Letter::Outputs(_) if !self.socket_open => {}
                Letter::Outputs(frame) => overflown |= !self.outbound.push(frame),
                Letter::Kill { kind, reason, grace } => {
                    let signal = self.verdict.kill(Instant::now(), kind, &reason, grace);
                    self.signal(signal)?;
                }
            }
        }
        if overflown {
            let reason = "the program does not read what it is told about map outputs";
            let signal = self.verdict.kill(Instant::now(), Kind::Exited, reason, KILL_GRACE);
            self.signal(signal)?;
        }
        Ok(())
    }

    fn serve_socket(&mut self) -> io::Result<()> {
        if let Err(error) = self.outbound.flush(&self.process.socket) {
            // What it has said before can still be read.
            tracing::debug!(pid = %self.process.pid, %error, "a child does not listen any more");
            self.outbound.clear();
        }
        self.hear().map(drop)
    }

    /// Reads once, and takes what is whole. False if there was nothing.
    fn hear(&mut self) -> io::Result<bool> {
        let filled = self.inbound.fill(&self.process.socket);
        let heard = filled.and_then(|filled| {
            while let Some(message) = self.inbound.next()? {
                if let Some(message) = message.message {
                    let signal = self.take(message);
                    self.signal(signal).map_err(super::frames::FrameError::Socket)?;
                }
            }
            Ok(filled)
        });
        match heard {
            Ok(Filled::Closed) => {
                self.close_socket();
                self.verdict.closed(Instant::now());
                Ok(false)
            }
            Ok(filled) => Ok(filled == Filled::Some),
            Err(error) => {
                self.close_socket();
                let signal = self.verdict.garbage(Instant::now(), &error);
                self.signal(signal)?;
                Ok(false)
            }
        }
    }

    fn take(&mut self, message: Message) -> Option<Signal> {
        let now = Instant::now();
        match message {
            Message::Hello(hello) => return self.verdict.hello(now, &hello),
            Message::Progress(progress) => self.company.progress.set(now, progress.records, progress.bytes),
            Message::FetchFailed(failed) => (self.company.complain)(failed),
            Message::Sign(sign) => return self.sign(sign),
            Message::Done(result) => {
                self.company.progress.set(now, result.records_in, result.bytes_in);
                return self.verdict.done(now, result);
            }
            Message::Failed(failure) => self.verdict.failed(now, failure),
        }
        None
    }

    /// Signs a request to S3, or says why not.
    fn sign(&mut self, sign: Sign) -> Option<Signal> {
        let signed =
            ToAttempt { message: Some(to_attempt::Message::Signed(self.company.signing.sign(sign))) };
        let taken = frame(&signed).is_ok_and(|frame| self.outbound.push(frame));
        if taken {
            return None;
        }
        let reason = "the program does not read what was signed for it";
        self.verdict.kill(Instant::now(), Kind::Exited, reason, KILL_GRACE)
    }

    fn close_socket(&mut self) {
        self.socket_open = false;
        self.outbound.clear();
    }

    fn signal(&self, signal: Option<Signal>) -> io::Result<()> {
        match signal {
            // The child has not been waited for: the number of its group is still its own.
            Some(signal) => signal_group(self.process.pid, signal).map(drop),
            None => Ok(()),
        }
    }

    /// The child has ended: what it left in its socket and its pipes is read, and its group ends with it.
    fn finish(mut self) -> Result<Conducted, ConductError> {
        signal_group(self.process.pid, Signal::KILL)?;
        let status: ExitStatus = self.process.child.wait()?;
        if let Some(excess) = self.bounds.look_at_group()?.filter(|_| !self.exceeded) {
            // Unless it has said itself how it ended.
            self.exceed(Instant::now(), &excess);
        }
        let mut words = 0;
        while self.socket_open && words < LAST_WORDS_MAX && self.hear()? {
            words += 1;
        }
        self.stdout_open = self.stdout_open && self.read_stdout()?;
        self.stderr_open = self.stderr_open && self.read_stderr()?;
        let stragglers = self.exceeded || self.stdout_open || self.stderr_open;
        Ok(Conducted { outcome: self.verdict.exited(status), stragglers })
    }

    fn read_stdout(&mut self) -> io::Result<bool> {
        let (open, error) = drain(&mut self.process.stdout, &self.company.logs.stdout)?;
        self.note_lost(error);
        Ok(open)
    }

    fn read_stderr(&mut self) -> io::Result<bool> {
        let (open, error) = drain(&mut self.process.stderr, &self.company.logs.stderr)?;
        self.note_lost(error);
        Ok(open)
    }

    /// An attempt does not fail for its logs.
    fn note_lost(&mut self, error: Option<io::Error>) {
        if let Some(error) = error
            && !self.log_lost
        {
            self.log_lost = true;
            tracing::warn!(pid = %self.process.pid, %error, "what an attempt prints is lost");
        }
    }
}

/// Reads what is in a pipe, up to a limit. Whether it is still open, and what the log's disk said.
fn drain(pipe: &mut dyn Read, log: &Capture) -> io::Result<(bool, Option<io::Error>)> {
    let mut piece = [0; 16 << 10];
    let (mut read, mut failed) = (0, None);
    while read < PIPE_TURN_BYTES {
        match pipe.read(&mut piece) {
            Ok(0) => return Ok((false, failed)),
            Ok(bytes) => {
                read += bytes;
                if let Err(error) = log.write(&piece[..bytes]) {
                    failed.get_or_insert(error);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((true, failed))
}
