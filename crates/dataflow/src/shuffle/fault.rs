//! Why something of a map output could not be had, and what follows from it.

use super::run_bytes::{RunBytesError, kind_of};
use crate::run_file::RunError;
use crate::scratch::ScratchError;
use gristmill_proto::bulk::FrameError;
use gristmill_proto::messages::BulkFailure;
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::task::fetch_failed::Kind as Reported;
use rustix::io::Errno;
use std::io;
use thiserror::Error;

/// Why a try failed.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("worker-{holder} has no address")]
    NoAddress { holder: u64 },
    #[error("cannot connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("cannot ask {address}")]
    Ask { address: String, source: io::Error },
    #[error("no answer from {address}")]
    Answer { address: String, source: FrameError },
    #[error("{address} has ended the connection")]
    Ended { address: String },
    #[error("{address} refuses: {}", .failure.detail)]
    Refused { address: String, failure: BulkFailure },
    #[error("the answer of {address} is not to what was asked: {what}")]
    Mismatch { address: String, what: &'static str },
    #[error("from {address}")]
    Bytes { address: String, source: RunBytesError },
    #[error("from {address}")]
    Run { address: String, source: RunError },
    /// The part's blocks are right, but not those that were announced.
    #[error("{address} has sent {found} {what} where {expected} were announced")]
    Count { address: String, what: &'static str, expected: u64, found: u64 },
    #[error("it is not on any disk here")]
    NotHere,
    #[error("cannot be read here")]
    Own(#[from] RunError),
    /// Of this attempt's own disk: no other try helps.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// Of this process, which can open nothing more: that says nothing about the map output or its holder.
    #[error("nothing more can be opened here")]
    Descriptors(#[source] io::Error),
}

impl Fault {
    /// Why a file could not be opened, or a connection made, if it was this process that could not; else what it says of
    /// the other side.
    pub(super) fn of_opening(source: io::Error, otherwise: impl FnOnce(io::Error) -> Self) -> Self {
        let is_own =
            [Errno::MFILE, Errno::NFILE].iter().any(|own| Errno::from_io_error(&source) == Some(*own));
        if is_own { Self::Descriptors(source) } else { otherwise(source) }
    }

    /// What the master is told.
    pub(super) fn reported(&self) -> Reported {
        match self {
            Self::NoAddress { .. } | Self::Connect { .. } | Self::Ask { .. } | Self::Ended { .. } => {
                Reported::Unreachable
            }
            Self::Answer { source, .. } | Self::Bytes { source: RunBytesError::Frame(source), .. } => {
                of_frame(source)
            }
            Self::Bytes { source: RunBytesError::Ended, .. } => Reported::Unreachable,
            Self::Refused { failure, .. } | Self::Bytes { source: RunBytesError::Broken(failure), .. } => {
                of_kind(kind_of(failure))
            }
            Self::NotHere => Reported::NotFound,
            Self::Mismatch { .. }
            | Self::Bytes { source: RunBytesError::OutOfStep { .. }, .. }
            | Self::Run { .. }
            | Self::Count { .. }
            | Self::Own(_)
            | Self::Scratch(_)
            | Self::Descriptors(_) => Reported::Damaged,
        }
    }

    /// The holder serves nobody now, or not yet: this does not speak against it.
    pub(super) fn is_busy(&self) -> bool {
        match self {
            Self::Refused { failure, .. } | Self::Bytes { source: RunBytesError::Broken(failure), .. } => {
                kind_of(failure) == Kind::Busy
            }
            _ => false,
        }
    }

    /// The connection was over, and nothing was answered.
    pub(super) fn is_lost_connection(&self) -> bool {
        match self {
            Self::Ended { .. } | Self::Ask { .. } => true,
            Self::Answer { source, .. } => of_frame(source) == Reported::Unreachable,
            _ => false,
        }
    }

    /// Whatever else this holder is asked will fail as well.
    pub(super) fn is_of_holder(&self) -> bool {
        self.is_busy() || matches!(self, Self::NoAddress { .. } | Self::Connect { .. })
    }

    /// The connection can be used on: the answer ended where it should.
    pub(super) fn keeps_connection(&self) -> bool {
        matches!(self, Self::Refused { failure, .. } if kind_of(failure) != Kind::Busy)
            || matches!(self, Self::Bytes { source: RunBytesError::Broken(_), .. })
    }
}

fn of_frame(error: &FrameError) -> Reported {
    match error {
        FrameError::Io(_) | FrameError::Truncated { .. } => Reported::Unreachable,
        _ => Reported::Damaged,
    }
}

fn of_kind(kind: Kind) -> Reported {
    match kind {
        Kind::NotFound => Reported::NotFound,
        Kind::Corrupt | Kind::Disk => Reported::Damaged,
        _ => Reported::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_open_nothing_says_nothing_of_the_other_side() {
        let of = |errno: Errno| {
            Fault::of_opening(errno.into(), |source| Fault::Connect { address: "h:1".to_owned(), source })
        };
        for own in [Errno::MFILE, Errno::NFILE] {
            assert!(matches!(of(own), Fault::Descriptors(_)), "{own:?}");
        }
        assert!(matches!(of(Errno::CONNREFUSED), Fault::Connect { .. }));
        let silent = Fault::of_opening(io::ErrorKind::TimedOut.into(), |source| Fault::Ask {
            address: "h:1".to_owned(),
            source,
        });
        assert!(matches!(silent, Fault::Ask { .. }), "an error without a number is of the other side");
    }
}
