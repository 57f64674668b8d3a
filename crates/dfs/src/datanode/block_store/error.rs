//! How things with replicas go wrong.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use gristmill_proto::ids::{BlockId, Generation};
use gristmill_proto::messages::bulk_failure::Kind;
use thiserror::Error;

use super::Identity;

/// Why something could not be done with a replica.
#[derive(Debug, Error)]
pub enum ReplicaError {
    /// There is no such replica here (or, for a reader, only a copy on its way).
    #[error("{block} is not here")]
    NotFound {
        /// The block.
        block: BlockId,
    },
    /// The replica here is older than what was asked for.
    #[error("the replica of {block} here has {has}, older than {wanted}")]
    TooOld {
        /// The block.
        block: BlockId,
        /// What is here.
        has: Generation,
        /// The least that would do.
        wanted: Generation,
    },
    /// Whoever asked is older than what is here: nothing was changed.
    #[error("{asked} of {block} is over: the replica here has {has}")]
    Stale {
        /// The block.
        block: BlockId,
        /// The generation of whoever asked.
        asked: Generation,
        /// What is here, or what writers have been stopped for.
        has: Generation,
    },
    /// A replica is there already, and may not be replaced by this.
    #[error("a replica of {block} with {generation} is here already")]
    AlreadyExists {
        /// The block.
        block: BlockId,
        /// What is here.
        generation: Generation,
    },
    /// Another writer has the replica.
    #[error("{block} with {generation} is being written by another")]
    Busy {
        /// The block.
        block: BlockId,
        /// What is here.
        generation: Generation,
    },
    /// The writer has lost its replica: it was rebuilt, stopped, settled or deleted.
    #[error("the writer of {block} with {generation} has lost its replica")]
    Fenced {
        /// The block.
        block: BlockId,
        /// The writer's generation.
        generation: Generation,
    },
    /// The replica is damaged. It is kept, and not served.
    #[error("the replica of {block} with {generation} is bad: {}: {fault}", path.display())]
    Corrupt {
        /// The block.
        block: BlockId,
        /// What is here.
        generation: Generation,
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
    /// Data that was to be written does not match the sums that came with it. Nothing was written.
    #[error(
        "bytes for offset {offset} of {block} do not match their checksums: chunk {chunk} of the block is bad"
    )]
    Mismatch {
        /// The block.
        block: BlockId,
        /// Where the data was to go.
        offset: u64,
        /// The first bad chunk, counted from the start of the block.
        chunk: u64,
    },
    /// Data that does not continue the replica. Nothing was written.
    #[error("{bytes} bytes at offset {offset} do not continue {block}, which has {has} bytes")]
    Misplaced {
        /// The block.
        block: BlockId,
        /// Where the data was to go.
        offset: u64,
        /// How much it was.
        bytes: u64,
        /// Bytes of the replica.
        has: u64,
    },
    /// Data that repeats the partial last chunk, but with other bytes. Nothing was written.
    #[error("the bytes at offset {offset} of {block} were others when they were written first")]
    Rewritten {
        /// The block.
        block: BlockId,
        /// Start of the chunk.
        offset: u64,
    },
    /// The replica has fewer good bytes than are to be kept.
    #[error("the replica of {block} here has {has} good bytes, {wanted} are to be kept")]
    TooShort {
        /// The block.
        block: BlockId,
        /// Good bytes here.
        has: u64,
        /// Bytes to keep.
        wanted: u64,
    },
    /// No volume has room for another replica.
    #[error("none of the {volumes} volumes that work has room for {block}")]
    NoRoom {
        /// The block.
        block: BlockId,
        /// Volumes that have not failed.
        volumes: usize,
    },
    /// All volumes have failed.
    #[error("no volume works that could take {block}")]
    NoVolume {
        /// The block.
        block: BlockId,
    },
    /// The volume has no room left.
    #[error("{} is full: {source}", volume.display())]
    Full {
        /// The directory of the volume.
        volume: PathBuf,
        /// What was tried, and what the system said.
        #[source]
        source: DiskError,
    },
    /// The volume failed, now or before. Its replicas are gone until the worker starts again.
    #[error("the volume {} has failed", volume.display())]
    VolumeFailed {
        /// The directory of the volume.
        volume: PathBuf,
        /// What was tried, and what the system said, if it failed just now.
        #[source]
        source: Option<DiskError>,
    },
    /// One file could not be worked with, though its volume seems well.
    #[error(transparent)]
    Disk(DiskError),
}

impl ReplicaError {
    /// What the other side of a bulk transfer is told.
    pub fn kind(&self) -> Kind {
        match self {
            ReplicaError::NotFound { .. } => Kind::NotFound,
            ReplicaError::TooOld { .. } | ReplicaError::Stale { .. } | ReplicaError::Fenced { .. } => {
                Kind::StaleGeneration
            }
            ReplicaError::AlreadyExists { .. } | ReplicaError::Busy { .. } => Kind::BusyReplica,
            ReplicaError::Corrupt { .. } | ReplicaError::Mismatch { .. } => Kind::Corrupt,
            ReplicaError::Misplaced { .. }
            | ReplicaError::Rewritten { .. }
            | ReplicaError::TooShort { .. } => Kind::Protocol,
            ReplicaError::NoRoom { .. }
            | ReplicaError::NoVolume { .. }
            | ReplicaError::Full { .. }
            | ReplicaError::VolumeFailed { .. }
            | ReplicaError::Disk(_) => Kind::Disk,
        }
    }
}

/// What is wrong with a file of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The file is gone.
    #[error("the file is missing")]
    Missing,
    /// The disk does not give it back.
    #[error("the disk cannot read it")]
    Unreadable,
    /// The header of the checksum file is not one.
    #[error("the header is damaged")]
    Header,
    /// The checksum file is of a format that this build does not know.
    #[error("the format has version {version}, known is {}", super::sum_file::VERSION)]
    Version {
        /// Its version.
        version: u32,
    },
    /// The header is whole, but that of another replica.
    #[error("it belongs to {block} with {generation}")]
    OfAnother {
        /// Whose it is.
        block: BlockId,
        /// Of which generation.
        generation: Generation,
    },
    /// The marks of the checksum file do not say what its name says.
    #[error("its marks are not those of {bytes} bytes")]
    Length {
        /// What the name says.
        bytes: u64,
    },
    /// The file ends too early.
    #[error("it has {bytes} bytes, of {wanted}")]
    Truncated {
        /// Its length.
        bytes: u64,
        /// Its least length.
        wanted: u64,
    },
    /// Bytes do not match their checksum.
    #[error("chunk {chunk} does not match its checksum")]
    Chunk {
        /// The first bad chunk.
        chunk: u64,
    },
    /// It was found to be bad before.
    #[error("it was found to be bad before")]
    Known,
}

/// Why the system did not do what it was asked to do with a file.
#[derive(Debug, Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried.
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    pub(super) fn on<'p>(
        what: &'static str,
        path: &'p Path,
    ) -> impl FnOnce(io::Error) -> DiskError + use<'p> {
        move |source| DiskError { what, path: path.to_owned(), source }
    }

    pub(super) fn is(&self, errno: rustix::io::Errno) -> bool {
        self.source.raw_os_error() == Some(errno.raw_os_error())
    }

    /// Whether nothing more can be written to the volume for now, though all that is there is well.
    pub(super) fn is_full(&self) -> bool {
        self.is(rustix::io::Errno::NOSPC) || self.is(rustix::io::Errno::DQUOT)
    }

    /// Whether it is this process, not the disk, that has too little of something.
    pub(super) fn is_ours(&self) -> bool {
        use rustix::io::Errno;
        [Errno::MFILE, Errno::NFILE, Errno::NOMEM].iter().any(|errno| self.is(*errno))
    }

    /// Whether the volume is broken beyond doubt.
    pub(super) fn is_fatal(&self) -> bool {
        self.is(rustix::io::Errno::IO) || self.is(rustix::io::Errno::ROFS)
    }
}

/// Why a store could not be opened.
#[derive(Debug, Error)]
pub enum StoreOpenError {
    /// No directory was given.
    #[error("no directory for replicas was named")]
    NoDirectory,
    /// More directories than a store can have.
    #[error("{directories} directories for replicas are too many, at most {} can be used", u16::MAX)]
    TooMany {
        /// How many.
        directories: usize,
    },
    /// Another process uses the directory, or it was given twice.
    #[error("{} is in use by process {holder}", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// The id of the process, as it wrote it.
        holder: String,
    },
    /// The directory is no volume, and not empty either.
    #[error("{} holds no replicas of ours but has {}", directory.display(), name.display())]
    NotAVolume {
        /// The directory.
        directory: PathBuf,
        /// Something in it.
        name: OsString,
    },
    /// A VERSION file that says nothing.
    #[error("{} is damaged in line {line}", path.display())]
    BadVersion {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
    },
    /// A VERSION file of another version.
    #[error("{}: the volume has layout {version}, this build knows {}", path.display(), super::version::LAYOUT_VERSION)]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Two directories belong to different clusters or workers.
    #[error("{} belongs to {}, {} to {}", one.0.display(), one.1, other.0.display(), other.1)]
    Differ {
        /// A directory, and whose it is.
        one: Box<(PathBuf, Identity)>,
        /// Another.
        other: Box<(PathBuf, Identity)>,
    },
    /// None of the directories can be used; this is what is wrong with the first.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why a store could not become part of a cluster.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// It is part of one already, or another worker's.
    #[error("the replicas here belong to {has}, not to {wanted}")]
    Differs {
        /// Whose they are.
        has: Identity,
        /// Whose they were to become.
        wanted: Identity,
    },
    /// It could not be written down.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What stands between us and a replica's bytes: the disk, or the bytes themselves.
#[derive(Debug)]
pub(super) enum Trouble {
    Disk(DiskError),
    Fault { path: PathBuf, fault: Fault },
}

impl Trouble {
    pub(super) fn fault(path: &Path, fault: Fault) -> Trouble {
        Trouble::Fault { path: path.to_owned(), fault }
    }

    /// What a failed read of a replica's file means: missing and unreadable files are faults of the replica; anything
    /// else, such as too many open files, says nothing about it.
    pub(super) fn reading(what: &'static str, path: &Path, source: io::Error) -> Trouble {
        let error = DiskError { what, path: path.to_owned(), source };
        if error.source.kind() == io::ErrorKind::NotFound {
            return Trouble::fault(path, Fault::Missing);
        }
        if error.is(rustix::io::Errno::IO) {
            return Trouble::fault(path, Fault::Unreadable);
        }
        Trouble::Disk(error)
    }
}

impl From<DiskError> for Trouble {
    fn from(error: DiskError) -> Trouble {
        Trouble::Disk(error)
    }
}
