//! What a file system says of one file or directory.

use crate::stamp::Stamp;
use crate::uri::Uri;

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes.
    File,
    /// Names.
    Directory,
    /// Neither: a link that leads nowhere, a pipe, a device. On this machine only.
    Other,
}

/// One file or directory (Hadoop: FileStatus).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub uri: Uri,
    /// What it is.
    pub kind: Kind,
    /// Whether the name is a symbolic link, and the rest is about what it leads to. On this machine only.
    pub is_link: bool,
    /// How long a file is; of a file being written, up to what its readers may see. 0 for a directory.
    pub bytes: u64,
    /// How many copies there shall be; 0 for a directory.
    pub replication: u32,
    /// How long its blocks are at most; 0 for a directory.
    pub block_bytes: u64,
    /// Whose it is.
    pub owner: String,
    /// Which group's it is.
    pub group: String,
    /// The 12 bits of its mode.
    pub mode: u32,
    /// Which content it has.
    pub stamp: Stamp,
    /// When its content changed, in milliseconds since 1970.
    pub modified_ms: u64,
    /// When it was read, as far as the file system keeps that.
    pub accessed_ms: u64,
    /// Whether it is being written.
    pub under_construction: bool,
    /// How many names may be below a directory; 0: no limit.
    pub name_quota: u64,
    /// How many bytes, times their copies, may be below a directory; 0: no limit.
    pub space_quota: u64,
}

impl Status {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }
}
