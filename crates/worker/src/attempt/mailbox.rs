//! What an attempt's thread is told while it waits for its child.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gristmill_proto::task::attempt_failure::Kind;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// Messages that wait for the thread. The thread takes them at once; more wait only while it fetches a program, and
/// then pages of 1000 map outputs each, of at most a million.
const LETTERS_MAX: usize = 4096;

/// One thing to know.
#[derive(Clone, Debug)]
pub(crate) enum Letter {
    /// A frame for the child.
    Outputs(Bytes),
    /// End the attempt.
    Kill {
        kind: Kind,
        reason: String,
        /// Between asking the processes to end and ending them.
        grace: Duration,
    },
}

/// The letters of one attempt. Its descriptor can be waited for together with others.
#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    bell: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    letters: VecDeque<Letter>,
    /// A kill has come, taken out or not.
    killed: bool,
    overflown: bool,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Mailbox> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Mailbox { state: Mutex::default(), bell })
    }

    /// Puts a letter in. If there is no room for news of outputs, the attempt must end: it would wait for them for ever.
    pub(crate) fn put(&self, letter: Letter) -> io::Result<()> {
        let mut state = self.state();
        let is_kill = matches!(letter, Letter::Kill { .. });
        state.killed |= is_kill;
        if is_kill || state.letters.len() < LETTERS_MAX {
            state.letters.push_back(letter);
        } else {
            state.overflown = true;
        }
        drop(state);
        match rustix::io::write(&self.bell, &1_u64.to_ne_bytes()) {
            // It rings already.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes all letters out, and whether some were lost.
    pub(crate) fn take(&self) -> io::Result<(VecDeque<Letter>, bool)> {
        let mut rings = [0; 8];
        match rustix::io::read(&self.bell, &mut rings) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut state = self.state();
        Ok((std::mem::take(&mut state.letters), state.overflown))
    }

    /// Whether the attempt is to end.
    pub(crate) fn is_killed(&self) -> bool {
        self.state().killed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_always_finds_room() {
        let mailbox = Mailbox::new().expect("a mailbox");
        assert!(mailbox.take().expect("taken").0.is_empty(), "nothing rings");
        for _ in 0..=LETTERS_MAX {
            mailbox.put(Letter::Outputs(Bytes::new())).expect("put");
        }
        assert!(!mailbox.is_killed());
        let kill = Letter::Kill { kind: Kind::Killed, reason: String::new(), grace: Duration::ZERO };
        mailbox.put(kill).expect("put");
        assert!(mailbox.is_killed());
        let (letters, overflown) = mailbox.take().expect("taken");
        assert_eq!((letters.len(), overflown), (LETTERS_MAX + 1, true));
        assert!(matches!(letters.back(), Some(Letter::Kill { .. })));
    }
}
