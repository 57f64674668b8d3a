//! Why an operation on the distributed file system failed.

use std::fmt;
use std::io;
use std::sync::Arc;

use gristmill_process::sentence;
use gristmill_proto::bulk::FrameError;
use gristmill_proto::ids::{BlockId, ClusterId, Epoch, WorkerId};
use gristmill_proto::messages::bulk_failure;
use gristmill_proto::namespace::failure::Kind;

/// Why an operation of a client failed.
#[derive(Debug, thiserror::Error)]
pub enum DfsError {
    /// The namenode decided against it. Nothing was changed.
    #[error("{path}: {}{}", reason(*kind), detail_after_colon(detail))]
    Refused {
        /// The reason, to be matched.
        kind: Kind,
        /// What the refusal is about.
        path: String,
        /// For people.
        detail: String,
    },
    /// The master did not answer, and has certainly not done what was asked: the call never left, or only reads.
    #[error("cannot {call} {path}: the master at {master} did not answer within {waited_ms} ms")]
    Unreachable {
        /// HOST:PORT.
        master: String,
        /// What was asked, as a verb.
        call: &'static str,
        /// About what.
        path: String,
        /// How long the client tried.
        waited_ms: u64,
        /// What it met at last.
        #[source]
        source: Arc<ConnectError>,
    },
    /// The call left, and no answer came: it may have been done, now or later, or not.
    #[error("cannot tell whether the master at {master} did {call} {path}: no answer within {waited_ms} ms")]
    OutcomeUnknown {
        /// HOST:PORT.
        master: String,
        /// What was asked, as a verb.
        call: &'static str,
        /// About what.
        path: String,
        /// How long the client waited.
        waited_ms: u64,
        /// What it met at last.
        #[source]
        source: Arc<ConnectError>,
    },
    /// The answer does not fit the call: the master is broken, or of another release.
    #[error("the master at {master} gave an answer to {call} {path} that does not belong to it")]
    UnexpectedAnswer {
        /// HOST:PORT.
        master: String,
        /// What was asked.
        call: &'static str,
        /// About what.
        path: String,
    },
    /// The client's own threads could not be started.
    #[error("cannot start the client's threads")]
    Start(#[source] io::Error),
    /// No worker of a block's pipeline is left. What was acknowledged is on their disks, if those come back.
    #[error("cannot write {path}: {block} lost all of its workers after {acked_bytes} bytes{}", list(causes))]
    PipelineLost {
        /// The file.
        path: String,
        /// The block that was being written.
        block: BlockId,
        /// Bytes of it that all workers had acknowledged.
        acked_bytes: u64,
        /// What each attempt met, in order.
        causes: Vec<ReplicaFailure>,
    },
    /// No replica could give the bytes.
    #[error("cannot read {path} at offset {offset}: no replica of {block} could be read{}", list(causes))]
    ReadFailed {
        /// The file.
        path: String,
        /// In the file: all bytes before it were read and verified.
        offset: u64,
        /// The block that holds the offset.
        block: BlockId,
        /// What each attempt met, in order.
        causes: Vec<ReplicaFailure>,
    },
    /// The name leads to another file, or to other bytes, than when it was opened.
    #[error("{path} was replaced or changed while it was in use")]
    FileChanged {
        /// The file.
        path: String,
    },
    /// An earlier error ended the writer.
    #[error("cannot write {path}: an earlier write to it failed")]
    WriterFailed {
        /// The file.
        path: String,
    },
}

/// What one worker could not do.
#[derive(Debug)]
pub struct ReplicaFailure {
    /// The worker.
    pub worker: WorkerId,
    /// Where it listens.
    pub address: String,
    /// What happened.
    pub cause: TransferError,
}

impl fmt::Display for ReplicaFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.worker, self.address, sentence(&self.cause))
    }
}

/// What happened on the way to or from one worker.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Its address cannot be resolved.
    #[error("no address")]
    Address(#[source] io::Error),
    /// No connection.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The connection broke, or nothing moved for as long as the time-out.
    #[error("the connection failed while {doing}")]
    Io {
        /// What the client did.
        doing: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Nothing came for too long.
    #[error("no answer for {waited_ms} ms while {doing}")]
    Silent {
        /// What the client waited for.
        doing: &'static str,
        /// How long.
        waited_ms: u64,
    },
    /// What came is no frame.
    #[error("a bad frame")]
    Frame(#[from] FrameError),
    /// The worker says no.
    #[error("refused as {}: {detail}", kind.as_str_name())]
    Refused {
        /// Why.
        kind: bulk_failure::Kind,
        /// For people.
        detail: String,
    },
    /// The master does not lead to the worker.
    #[error("the master gives no way through its port, {}: {detail}", kind.as_str_name())]
    Gateway {
        /// Why.
        kind: bulk_failure::Kind,
        /// For people.
        detail: String,
    },
    /// Bytes came that are not those that were written.
    #[error("damaged bytes at offset {offset} of the block")]
    Corrupt {
        /// Where the chunk starts, in the block.
        offset: u64,
    },
    /// The replica, or the connection, ended before the bytes that were asked for.
    #[error("ended at offset {offset} of the block")]
    EndedEarly {
        /// In the block.
        offset: u64,
    },
    /// Its disk, or the way to it, holds up the other workers of a pipeline.
    #[error("holds up the others: it took {took_ms} ms for what took each of them {others_ms} ms at most")]
    Slow {
        /// For all packets of the pipeline.
        took_ms: u64,
        /// The slowest of the others.
        others_ms: u64,
        /// It may be the writer's own way that is slow.
        by_the_way_in: bool,
    },
    /// The frames are sound and make no sense.
    #[error("broke the protocol: {0}")]
    Protocol(&'static str),
}

impl TransferError {
    /// An error of a socket, with its time-out told apart.
    pub(crate) fn io(doing: &'static str, source: io::Error, timeout_ms: u64) -> TransferError {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                TransferError::Silent { doing, waited_ms: timeout_ms }
            }
            _ => TransferError::Io { doing, source },
        }
    }

    /// An error of reading a frame, with the time-out told apart.
    pub(crate) fn frame(doing: &'static str, error: FrameError, timeout_ms: u64) -> TransferError {
        match error {
            FrameError::Io(source) => TransferError::io(doing, source, timeout_ms),
            other => TransferError::Frame(other),
        }
    }

    /// Whether it says nothing of the worker but that it could not be spoken with just now.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            TransferError::Connect(_) | TransferError::Io { .. } | TransferError::Silent { .. } => true,
            TransferError::EndedEarly { .. } => true,
            TransferError::Refused { kind, .. } => *kind == bulk_failure::Kind::Busy,
            // A worker that the master cannot reach, or does not know yet after a start of its own.
            TransferError::Gateway { kind, .. } => {
                use bulk_failure::Kind::{Busy, Hop, NotFound};
                matches!(kind, Busy | Hop | NotFound)
            }
            _ => false,
        }
    }
}

/// Why there is no stream of calls to the master.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name of the master makes no URI.
    #[error("{master:?} is no HOST:PORT")]
    Address {
        /// As given.
        master: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// No connection.
    #[error("cannot connect")]
    Transport(#[source] tonic::transport::Error),
    /// The master ended the stream with an error.
    #[error("the stream of calls broke: {} ({:?})", .0.message(), .0.code())]
    Broken(tonic::Status),
    /// The master does not want this client.
    #[error("the master refuses this client: {} ({:?})", .0.message(), .0.code())]
    Refused(tonic::Status),
    /// The master ended the stream.
    #[error("the master ended the stream of calls")]
    Closed,
    /// The master took the connection and said nothing.
    #[error("the master did not greet within {waited_ms} ms")]
    NoWelcome {
        /// How long the client waited.
        waited_ms: u64,
    },
    /// The greeting makes no sense.
    #[error("the master's greeting is malformed: {0}")]
    BadWelcome(&'static str),
    /// Another release.
    #[error("the master speaks version {theirs} of the protocol and this client version {ours}")]
    WrongVersion {
        /// The master's.
        theirs: u32,
        /// This build's.
        ours: u32,
    },
    /// Another cluster answers where the first one did.
    #[error("the master is of cluster {found}, and this client of cluster {expected}")]
    OtherCluster {
        /// As before.
        expected: ClusterId,
        /// Now.
        found: ClusterId,
    },
    /// A master answers that was replaced long ago.
    #[error("the master is of term {found}, and this client has spoken with one of {seen}")]
    OldMaster {
        /// The highest ever seen.
        seen: Epoch,
        /// Now.
        found: Epoch,
    },
    /// No stream has been opened yet.
    #[error("no connection was made yet")]
    NotYet,
    /// No stream is broken: the master was slow.
    #[error("the connection stands, but the answer did not come")]
    Slow,
}

impl ConnectError {
    /// Whether trying again soon is of no use to the calls that wait.
    pub(crate) fn is_refusal(&self) -> bool {
        use ConnectError::{Address, OldMaster, OtherCluster, Refused, WrongVersion};
        matches!(
            self,
            Address { .. } | Refused(_) | WrongVersion { .. } | OtherCluster { .. } | OldMaster { .. }
        )
    }
}

impl DfsError {
    /// The namenode's reason, if it is one.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            DfsError::Refused { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    /// Whether the name led nowhere.
    pub fn is_not_found(&self) -> bool {
        self.kind() == Some(Kind::NotFound)
    }

    fn io_kind(&self) -> io::ErrorKind {
        match self {
            DfsError::Refused { kind, .. } => io_kind_of(*kind),
            DfsError::Unreachable { .. } => io::ErrorKind::NotConnected,
            DfsError::OutcomeUnknown { .. } => io::ErrorKind::TimedOut,
            DfsError::UnexpectedAnswer { .. } => io::ErrorKind::InvalidData,
            DfsError::PipelineLost { .. } => io::ErrorKind::ConnectionAborted,
            DfsError::ReadFailed { causes, .. } => {
                let corrupt =
                    |failure: &ReplicaFailure| matches!(failure.cause, TransferError::Corrupt { .. });
                if causes.iter().any(corrupt) {
                    io::ErrorKind::InvalidData
                } else {
                    io::ErrorKind::NotConnected
                }
            }
            DfsError::FileChanged { .. } => io::ErrorKind::StaleNetworkFileHandle,
            DfsError::Start(source) => source.kind(),
            DfsError::WriterFailed { .. } => io::ErrorKind::Other,
        }
    }
}

impl From<DfsError> for io::Error {
    fn from(error: DfsError) -> io::Error {
        io::Error::new(error.io_kind(), error)
    }
}

fn io_kind_of(kind: Kind) -> io::ErrorKind {
    match kind {
        Kind::NotFound => io::ErrorKind::NotFound,
        Kind::AlreadyExists => io::ErrorKind::AlreadyExists,
        Kind::NotADirectory => io::ErrorKind::NotADirectory,
        Kind::IsADirectory => io::ErrorKind::IsADirectory,
        Kind::NotEmpty => io::ErrorKind::DirectoryNotEmpty,
        Kind::PermissionDenied | Kind::Unauthenticated => io::ErrorKind::PermissionDenied,
        Kind::InvalidName | Kind::InvalidArgument | Kind::RenameIntoItself | Kind::Limit => {
            io::ErrorKind::InvalidInput
        }
        Kind::QuotaNames | Kind::QuotaSpace => io::ErrorKind::QuotaExceeded,
        Kind::LeaseHeld | Kind::UnderConstruction | Kind::NotYet | Kind::SafeMode | Kind::Overloaded => {
            io::ErrorKind::ResourceBusy
        }
        Kind::LeaseLost | Kind::StaleGeneration => io::ErrorKind::StaleNetworkFileHandle,
        Kind::ReadOnly | Kind::ReadOnlyByHand => io::ErrorKind::ReadOnlyFilesystem,
        Kind::NoWorkers => io::ErrorKind::StorageFull,
        Kind::MissingBlock => io::ErrorKind::InvalidData,
        Kind::Version => io::ErrorKind::Unsupported,
        Kind::Precondition | Kind::Internal | Kind::Unspecified => io::ErrorKind::Other,
    }
}

/// A refusal as the end of a sentence about its path.
fn reason(kind: Kind) -> &'static str {
    match kind {
        Kind::NotFound => "no such file or directory",
        Kind::AlreadyExists => "already exists",
        Kind::NotADirectory => "not a directory",
        Kind::IsADirectory => "is a directory",
        Kind::NotEmpty => "the directory is not empty",
        Kind::PermissionDenied => "permission denied",
        Kind::InvalidName => "not a valid path",
        Kind::InvalidArgument => "invalid argument",
        Kind::QuotaNames => "the quota of names is used up",
        Kind::QuotaSpace => "the quota of space is used up",
        Kind::Limit => "over a limit of the file system",
        Kind::LeaseHeld => "another client is writing it",
        Kind::LeaseLost => "the right to write it was lost",
        Kind::StaleGeneration => "the block was taken over by a later writer",
        Kind::NotYet => "too few durable replicas yet",
        Kind::SafeMode => "the file system is in safe mode",
        Kind::ReadOnly => "the master's disk is nearly full",
        Kind::ReadOnlyByHand => "an operator has set safe mode",
        Kind::NoWorkers => "no worker can take a block of it",
        Kind::RenameIntoItself => "cannot be moved into itself",
        Kind::Precondition => "not what was expected there",
        Kind::MissingBlock => "a block has no replica",
        Kind::Version => "not supported by this version of the master",
        Kind::Unauthenticated => "not authenticated",
        Kind::Internal => "the master could not use its store",
        Kind::UnderConstruction => "still being written",
        Kind::Overloaded => "the master has too much to do",
        Kind::Unspecified => "refused",
    }
}

fn detail_after_colon(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

fn list(causes: &[ReplicaFailure]) -> String {
    let mut text = String::new();
    for cause in causes {
        text.push_str("; ");
        text.push_str(&cause.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_sentence_with_all_causes() {
        let cause = |worker, cause| ReplicaFailure {
            worker: WorkerId(worker),
            address: format!("10.0.0.{worker}:70"),
            cause,
        };
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = DfsError::ReadFailed {
            path: "/a".to_owned(),
            offset: 70,
            block: BlockId(5),
            causes: vec![
                cause(1, TransferError::Connect(reset)),
                cause(2, TransferError::Corrupt { offset: 64 }),
            ],
        };
        assert_eq!(
            error.to_string(),
            "cannot read /a at offset 70: no replica of block-5 could be read; worker-1 at 10.0.0.1:70: cannot \
             connect: connection reset; worker-2 at 10.0.0.2:70: damaged bytes at offset 64 of the block"
        );
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_refusal_keeps_its_kind() {
        let refused =
            |kind, detail: &str| DfsError::Refused { kind, path: "/a".to_owned(), detail: detail.to_owned() };
        assert_eq!(refused(Kind::NotFound, "").to_string(), "/a: no such file or directory");
        assert_eq!(refused(Kind::Limit, "depth").to_string(), "/a: over a limit of the file system: depth");
        assert_eq!(io::Error::from(refused(Kind::NotFound, "")).kind(), io::ErrorKind::NotFound);
        assert!(refused(Kind::NotFound, "").is_not_found());
    }
}
