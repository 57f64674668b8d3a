//! What any file system does for a job, and how it fails.

use std::io;

use crate::glob::PatternError;
use crate::stamp::Stamp;
use crate::uri::{Uri, UriError};

/// The file beside the output's own that says the output is whole; its body is the manifest.
pub const SUCCESS_FILE: &str = "_SUCCESS";

/// A place that holds files.
pub trait Store: Send + Sync {
    /// Every file that `pattern` names: a file, a directory with all below it, or a glob, in which `*`, `?` and
    /// `[ab]` stay within one name, `{a,b}` may hold `/`, `**` is any number of directories, and a directory that
    /// matches counts with all below it. What exists under the very name of the pattern is taken before the
    /// pattern is read as a glob.
    ///
    /// Names that start with `_` or `.` are skipped below what the pattern names, and a wildcard never matches
    /// them: a hidden name is read only when it is spelled out, at least its first character.
    ///
    /// The answer is sorted by the bytes of the path. `threads` directories are read at a time. A name that is not
    /// there is [`ListError::NotFound`], a glob that matches nothing [`ListError::NoMatch`]; a directory without
    /// files is an empty list.
    fn list(&self, pattern: &Uri, threads: usize) -> Result<Vec<FileInfo>, ListError>;

    /// Opens one file to read it at any offset.
    fn open(&self, file: &Uri) -> Result<Box<dyn ReadAt>, OpenError>;

    /// Begins to open a file that will be wanted soon, where that takes the time of a request; none where it does not.
    fn begin_open(&self, _file: &Uri) -> Option<Box<dyn Opening>> {
        None
    }

    /// The one name of what `uri` names, whether it exists or not: absolute, links followed and `..` resolved as far
    /// as the path exists. Two names of one place have equal answers.
    fn resolve(&self, uri: &Uri) -> Result<Uri, ResolveError>;

    /// Begins an invisible output: nothing is at `output` until [`Staging::publish`].
    fn stage(&self, output: &Uri, job_id: &str, existing: Existing) -> Result<Box<dyn Staging>, StageError>;
}

/// One file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name, below the pattern that named it.
    pub uri: Uri,
    /// How long it was when it was listed.
    pub bytes: u64,
    /// Which content it had then.
    pub stamp: Stamp,
}

/// What an [`Opening`] holds in memory at most: the beginning of its file.
pub const OPENING_BYTES_MAX: u64 = 256 << 10;

/// A file that is being opened. Dropped, it is given up.
pub trait Opening: Send {
    /// Waits until it is open.
    fn finish(self: Box<Self>) -> Result<Box<dyn ReadAt>, OpenError>;
}

/// A file open for reading.
pub trait ReadAt: Send {
    /// How long the file was when it was opened.
    fn bytes(&self) -> u64;

    /// Which content it had then.
    fn stamp(&self) -> Stamp {
        Stamp::UNKNOWN
    }

    /// Reads some bytes from `offset` on; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// What becomes of an output that is already there. An empty directory counts as nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new output is refused.
    Refuse,
    /// It stays until the new output appears in its place.
    Overwrite,
    /// It stays, and the files of the new output appear among those that are there. They have the job's id in their names,
    /// and so has the file that says that they are whole: `_SUCCESS-<job>`.
    Append,
}

impl Existing {
    /// As a job asks for it.
    pub fn of(overwrite: bool, append: bool) -> Existing {
        match (overwrite, append) {
            (_, true) => Existing::Append,
            (true, _) => Existing::Overwrite,
            _ => Existing::Refuse,
        }
    }
}

/// The files of one output, written by attempts and invisible until published. Dropping it aborts it, or
/// concludes it if it was published.
pub trait Staging: Send + Sync {
    /// Begins a file of one attempt. `name` is relative to the output, as `part-r-00000` or `day=1/part-m-00002`.
    fn create(&self, attempt: &str, name: &str) -> Result<Box<dyn StagedWriter>, StageError>;

    /// Deletes a finished file that lost. Deleting it again does nothing.
    fn discard(&self, file: &StagedFile) -> Result<(), StageError>;

    /// The one moment at which the output appears: exactly `files`, and [`SUCCESS_FILE`] with `manifest` as its
    /// body; of an appended output, whose own file of that kind has the job's id in its name. When it fails nothing has appeared, and all that is left to do is to abort.
    fn publish(&self, files: &[StagedFile], manifest: &[u8]) -> Result<(), StageError>;

    /// Undoes `publish`, for a job another output of which could not be published: the output is gone again, and
    /// what it replaced is back. Impossible after `conclude`.
    fn retract(&self) -> Result<(), StageError>;

    /// Ends a published output for good: what it replaced is deleted.
    fn conclude(&self) -> Result<(), StageError>;

    /// Removes everything that was staged. Does nothing after `publish` or another `abort`.
    fn abort(&self) -> Result<(), StageError>;
}

/// A staged file being written. It does not buffer: its callers do. Dropped unfinished, its file is removed.
pub trait StagedWriter: io::Write + Send {
    /// Ends the file, which may now be published.
    fn finish(self: Box<Self>) -> Result<StagedFile, StageError>;
}

/// A finished file of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedFile {
    /// Who wrote it.
    pub attempt: String,
    /// Its name below the output.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What its store needs to publish it, to be kept as it is; empty where the name is enough.
    pub receipt: String,
}

/// Why a name could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("cannot find out where {uri} leads: {source}")]
pub struct ResolveError {
    /// The name.
    pub uri: Uri,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Why a pattern could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The pattern is a plain name, and nothing has that name.
    #[error("cannot read {uri}: no such file or directory")]
    NotFound {
        /// The pattern.
        uri: Uri,
    },
    /// The pattern is a glob, and nothing matches it.
    #[error("cannot read {pattern}: nothing matches it")]
    NoMatch {
        /// The pattern.
        pattern: Uri,
    },
    /// The pattern is no well-formed glob.
    #[error("cannot read {pattern}: {source}")]
    BadPattern {
        /// The pattern.
        pattern: Uri,
        /// What is wrong with it.
        source: PatternError,
    },
    /// The pattern names a socket, a pipe or a device.
    #[error("cannot read {uri}: it is neither a file nor a directory")]
    NotAFile {
        /// The pattern.
        uri: Uri,
    },
    /// A symbolic link leads to a directory that holds it.
    #[error("cannot list {link}: it is a symbolic link back to {directory}")]
    Loop {
        /// The link.
        link: Uri,
        /// The directory it leads to, as the listing came to it.
        directory: Uri,
    },
    /// A directory cannot be read.
    #[error("cannot list {uri}: {source}")]
    Directory {
        /// The directory.
        uri: Uri,
        /// The system's reason.
        source: io::Error,
    },
    /// The system does not say what a name is.
    #[error("cannot look at {uri}: {source}")]
    Look {
        /// The name.
        uri: Uri,
        /// The system's reason.
        source: io::Error,
    },
}

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refuses it.
    #[error("cannot open {uri}: {source}")]
    Open {
        /// The file.
        uri: Uri,
        /// The system's reason.
        source: io::Error,
    },
    /// It is a directory, a socket, a pipe or a device.
    #[error("cannot open {uri}: it is not a regular file")]
    NotAFile {
        /// What was to be opened.
        uri: Uri,
    },
}

/// Why an output could not be staged or published.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Something is there, and it was not to be replaced.
    #[error(
        "cannot write {output}: it exists and is not an empty directory (--overwrite replaces it, --append adds to it)"
    )]
    OutputExists {
        /// The output.
        output: Uri,
    },
    /// Files are to be added to what holds none.
    #[error("cannot append to {output}: it is not a directory")]
    NotADirectory {
        /// The output.
        output: Uri,
    },
    /// A file that is there has the name of a new one.
    #[error("cannot append to {output}: it has another file of the name {}", name.display())]
    NameTaken {
        /// The output.
        output: Uri,
        /// The name below the output.
        name: std::path::PathBuf,
    },
    /// The output is `/` or ends in `.` or `..`.
    #[error("cannot write {output}: an output needs a name of its own, below a directory")]
    NamelessOutput {
        /// The output.
        output: Uri,
    },
    /// A mount point cannot be replaced by the finished output.
    #[error("cannot write {output}: it is a mount point; name a directory below it")]
    MountPoint {
        /// The output.
        output: Uri,
    },
    /// The directory in which the output is to appear takes no new entries.
    #[error("cannot write {output}: cannot make a directory in {directory}: {source}")]
    Unwritable {
        /// The output.
        output: Uri,
        /// The nearest place above it that exists.
        directory: Uri,
        /// The system's reason.
        source: io::Error,
    },
    /// A live process stages the same output for the same job.
    #[error("cannot write {output}: {staging} is in use")]
    InUse {
        /// The output.
        output: Uri,
        /// Where it is being staged.
        staging: Uri,
    },
    /// The staging directory cannot be locked.
    #[error("cannot lock {uri}: {source}")]
    Lock {
        /// The lock file.
        uri: Uri,
        /// The system's reason.
        source: io::Error,
    },
    /// A job id, an attempt or a file name that does not stay below the staging directory.
    #[error("cannot stage {name:?}: not a plain relative name")]
    BadName {
        /// The name.
        name: String,
    },
    /// Two files to publish have the same name.
    #[error("cannot publish {output}: two files are named {name}")]
    DuplicateName {
        /// The output.
        output: Uri,
        /// The name below the output.
        name: String,
    },
    /// An output of that number is published, and there is none.
    #[error("cannot publish output {number} of a job that has {outputs}")]
    NoSuchOutput {
        /// From 0.
        number: usize,
        /// How many there are.
        outputs: usize,
    },
    /// Shared outputs have not begun, or have ended.
    #[error("cannot write {output}: job {job} stages nothing for it (it has ended, or has not begun)")]
    NotStaged {
        /// The output.
        output: Uri,
        /// Whose.
        job: String,
    },
    /// One output could not be published, and another one that was could not be taken back.
    #[error("{error}; and an output that had appeared already could not be taken back: {stuck}")]
    HalfPublished {
        /// Why the one could not be published.
        #[source]
        error: Box<StageError>,
        /// Why the other could not be taken back.
        stuck: Box<StageError>,
    },
    /// All outputs are visible, for good; what was staged beside them could not be removed.
    #[error("the output is there, but what was staged for it is, too: {source}")]
    LeftOver {
        /// Why the first that is left could not be removed.
        source: Box<StageError>,
    },
    /// Another job has claimed the output, and is not known to have ended.
    #[error(
        "cannot write {output}: job {job} writes it, or died doing so (`gristmill fs uploads --abort --older-than 0s {output}` frees it of a \
         dead job)"
    )]
    Claimed {
        /// The output.
        output: Uri,
        /// Whose it is.
        job: String,
    },
    /// The store lets two writers win where one may.
    #[error("cannot write {output}: its store ignores If-None-Match, without which no job can commit safely")]
    NoConditions {
        /// The output.
        output: Uri,
    },
    /// What is published on such a store cannot be taken back.
    #[error("cannot take back {output}: its publication is decided and will be carried out")]
    Decided {
        /// The output.
        output: Uri,
    },
    /// A request to S3 failed.
    #[error("cannot {operation} {output}: {source}")]
    S3 {
        /// What was to be done, as a verb.
        operation: &'static str,
        /// The output.
        output: Uri,
        /// Why not.
        source: io::Error,
    },
    /// The output's URI has no store.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// It was published or aborted before.
    #[error("cannot stage more of {output}: it is already published or aborted")]
    Ended {
        /// The output.
        output: Uri,
    },
    /// The system does not say what a name is.
    #[error("cannot look at {uri}: {source}")]
    Look {
        /// The name.
        uri: Uri,
        /// The system's reason.
        source: io::Error,
    },
    /// A staged file or directory cannot be made.
    #[error("cannot create {uri}: {source}")]
    Create {
        /// What was to be made.
        uri: Uri,
        /// The system's reason.
        source: io::Error,
    },
    /// A staged file or directory cannot be removed.
    #[error("cannot remove {uri}: {source}")]
    Remove {
        /// What was to be removed.
        uri: Uri,
        /// The system's reason.
        source: io::Error,
    },
    /// The finished output, or one file of it, cannot take its place.
    #[error("cannot move {from} to {to}: {source}")]
    Move {
        /// Where it is.
        from: Uri,
        /// Where it was to go.
        to: Uri,
        /// The system's reason.
        source: io::Error,
    },
}
