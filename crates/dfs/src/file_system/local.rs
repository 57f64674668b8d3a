//! The files of this machine.

use std::fs::{self, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, SystemTime};

use gristmill_proto::namespace::{SpaceUse, Summary};
use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use rustix::io::Errno;

use super::accounts::{groups, users};
use super::{Cause, CreateOptions, DeleteOptions, FileSystem, FileWriter, FsError, Kind, Listing, Status};
use crate::local::{LocalStore, stamp};
use crate::store::{OpenError, ReadAt, Store};
use crate::uri::Uri;

/// What the mode of a file has besides its kind.
const MODE_BITS: u32 = 0o7777;

/// The files of this machine. No trash, no copies, no quotas.
#[derive(Clone, Copy, Debug)]
pub struct LocalFileSystem;

impl FileSystem for LocalFileSystem {
    fn stat(&self, uri: &Uri) -> Result<Status, FsError> {
        Ok(status(uri.clone(), &look(uri, "look at")?))
    }

    fn list(&self, uri: &Uri) -> Result<Listing, FsError> {
        let failed = |source: io::Error| FsError::new("list", uri, source);
        let metadata = look(uri, "list")?;
        if !metadata.0.is_dir() {
            return Ok(Box::new(std::iter::once(Ok(status(uri.clone(), &metadata)))));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(uri.path()).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort_unstable();
        let directory = uri.clone();
        Ok(Box::new(names.into_iter().filter_map(move |name| entry(directory.join(name)))))
    }

    fn open(&self, file: &Uri) -> Result<Box<dyn ReadAt>, FsError> {
        LocalStore.open(file).map_err(|error| {
            let cause = match error {
                OpenError::Open { source, .. } => source.into(),
                OpenError::NotAFile { .. } if file.path().is_dir() => Cause::IsADirectory,
                OpenError::NotAFile { .. } => Cause::NotAFile,
            };
            FsError::new("read", file, cause)
        })
    }

    fn create(&self, file: &Uri, options: &CreateOptions) -> Result<Box<dyn FileWriter>, FsError> {
        let failed = |source: io::Error| FsError::new("create", file, source);
        if let Some(parent) = file.path().parent().filter(|_| !options.parent_exists) {
            fs::create_dir_all(parent).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => failed(io::ErrorKind::NotADirectory.into()),
                _ => failed(error),
            })?;
        }
        let mut how = OpenOptions::new();
        how.write(true).create(true);
        if options.overwrite {
            how.truncate(true)
        } else {
            how.create_new(true)
        };
        Ok(Box::new(LocalWriter(how.open(file.path()).map_err(failed)?)))
    }

    fn append(&self, file: &Uri) -> Result<Box<dyn FileWriter>, FsError> {
        let opened = OpenOptions::new().append(true).open(file.path());
        Ok(Box::new(LocalWriter(opened.map_err(|source| FsError::new("append to", file, source))?)))
    }

    fn make_directory(&self, uri: &Uri, parents: bool) -> Result<(), FsError> {
        let made = if parents { fs::create_dir_all(uri.path()) } else { fs::create_dir(uri.path()) };
        made.map_err(|source| FsError::new("make the directory", uri, source))
    }

    fn rename(&self, from: &Uri, to: &Uri, replace: bool) -> Result<(), FsError> {
        let renamed = if replace {
            fs::rename(from.path(), to.path())
        } else {
            rename_to_nothing(from.path(), to.path())
        };
        renamed.map_err(|source| match source.kind() {
            io::ErrorKind::InvalidInput => FsError::new("move", from, Cause::IntoItself),
            // The system does not say which of the two it is about.
            _ if fs::symlink_metadata(from.path()).is_ok() => FsError::new("move something to", to, source),
            _ => FsError::new("move", from, source),
        })
    }

    fn delete(&self, uri: &Uri, options: DeleteOptions) -> Result<Option<Uri>, FsError> {
        let failed = |source: io::Error| FsError::new("delete", uri, source);
        let metadata = fs::symlink_metadata(uri.path()).map_err(failed)?;
        match (metadata.is_dir(), options.recursive) {
            (false, _) => fs::remove_file(uri.path()),
            (true, true) => fs::remove_dir_all(uri.path()),
            (true, false) => fs::remove_dir(uri.path()),
        }
        .map_err(failed)?;
        Ok(None)
    }

    fn truncate(&self, file: &Uri, bytes: u64) -> Result<bool, FsError> {
        let failed = |cause| FsError::new("truncate", file, cause);
        let opened =
            OpenOptions::new().write(true).open(file.path()).map_err(|error| failed(error.into()))?;
        let there = opened.metadata().map_err(|error| failed(error.into()))?.len();
        if bytes > there {
            return Err(failed(Cause::Refused(format!("it has {there} bytes only"))));
        }
        opened.set_len(bytes).map_err(|error| failed(error.into()))?;
        Ok(true)
    }

    fn concat(&self, to: &Uri, _from: &[Uri]) -> Result<(), FsError> {
        Err(unsupported("concatenate", to))
    }

    fn set_replication(&self, file: &Uri, _replication: u32) -> Result<(), FsError> {
        Err(unsupported("set the replication of", file))
    }

    fn set_mode(&self, uri: &Uri, mode: u32) -> Result<(), FsError> {
        let set = fs::set_permissions(uri.path(), Permissions::from_mode(mode & MODE_BITS));
        set.map_err(|source| FsError::new("set the mode of", uri, source))
    }

    fn set_owner(&self, uri: &Uri, owner: Option<&str>, group: Option<&str>) -> Result<(), FsError> {
        let failed = |cause: Cause| FsError::new("set the owner of", uri, cause);
        let number = |found: Option<u32>, what: &str, name: &str| {
            found.ok_or_else(|| failed(Cause::Refused(format!("no {what} is named {name}"))))
        };
        let owner = owner.map(|name| number(users().number(name), "user", name)).transpose()?;
        let group = group.map(|name| number(groups().number(name), "group", name)).transpose()?;
        chown(uri.path(), owner, group).map_err(|source| failed(source.into()))
    }

    fn set_times(
        &self,
        uri: &Uri,
        modified_ms: Option<u64>,
        accessed_ms: Option<u64>,
    ) -> Result<(), FsError> {
        let mut times = FileTimes::new();
        if let Some(time) = modified_ms {
            times = times.set_modified(since_1970(time));
        }
        if let Some(time) = accessed_ms {
            times = times.set_accessed(since_1970(time));
        }
        // Opened for reading: a directory cannot be opened otherwise, and an owner may set times without writing.
        let set = File::open(uri.path()).and_then(|opened| opened.set_times(times));
        set.map_err(|source| FsError::new("set the times of", uri, source))
    }

    fn summarize(&self, uri: &Uri) -> Result<Summary, FsError> {
        let mut summary = Summary::default();
        add_up(self.stat(uri)?, &mut summary)?;
        Ok(summary)
    }

    fn space(&self, uri: &Uri) -> Result<SpaceUse, FsError> {
        let found = statvfs(uri.path())
            .map_err(|errno| FsError::new("find out the space at", uri, io::Error::from(errno)))?;
        Ok(SpaceUse {
            capacity_bytes: found.f_blocks * found.f_frsize,
            used_bytes: found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize,
            remaining_bytes: found.f_bavail * found.f_frsize,
            ..SpaceUse::default()
        })
    }

    fn home(&self) -> Uri {
        Uri::local(".")
    }
}

struct LocalWriter(File);

impl Write for LocalWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl FileWriter for LocalWriter {
    fn finish(self: Box<Self>) -> Result<(), FsError> {
        Ok(())
    }
}

/// An entry of a directory; `None` if it is gone since the directory was read.
fn entry(uri: Uri) -> Option<Result<Status, FsError>> {
    match look(&uri, "look at") {
        Ok(metadata) => Some(Ok(status(uri, &metadata))),
        Err(error) if error.is_absence() => None,
        Err(error) => Some(Err(error)),
    }
}

/// What a link leads to or, if it leads nowhere, the link; and whether it is one.
fn look(uri: &Uri, operation: &'static str) -> Result<(Metadata, bool), FsError> {
    let looked = fs::symlink_metadata(uri.path()).map(|found| match found.is_symlink() {
        true => (fs::metadata(uri.path()).unwrap_or(found), true),
        false => (found, false),
    });
    looked.map_err(|source| FsError::new(operation, uri, source))
}

fn status(uri: Uri, (metadata, is_link): &(Metadata, bool)) -> Status {
    let is_link = *is_link;
    let (is_file, is_directory) = (metadata.is_file(), metadata.is_dir());
    Status {
        uri,
        kind: match (is_file, is_directory) {
            (true, _) => Kind::File,
            (_, true) => Kind::Directory,
            _ => Kind::Other,
        },
        is_link,
        bytes: if is_file { metadata.len() } else { 0 },
        replication: u32::from(is_file),
        block_bytes: if is_file { metadata.blksize() } else { 0 },
        owner: users().name(metadata.uid()),
        group: groups().name(metadata.gid()),
        mode: metadata.mode() & MODE_BITS,
        stamp: stamp(metadata),
        modified_ms: milliseconds(metadata.mtime(), metadata.mtime_nsec()),
        accessed_ms: milliseconds(metadata.atime(), metadata.atime_nsec()),
        under_construction: false,
        name_quota: 0,
        space_quota: 0,
    }
}

/// A time before 1970 is 1970.
fn milliseconds(seconds: i64, nanoseconds: i64) -> u64 {
    u64::try_from(seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000)).unwrap_or(0)
}

fn since_1970(time_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(time_ms)
}

fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system cannot promise it: look, then move.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if !to.starts_with(from) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        renamed => renamed.map_err(io::Error::from),
    }
}

/// Links to directories are counted as what they lead to, but not followed.
fn add_up(at: Status, summary: &mut Summary) -> Result<(), FsError> {
    if !at.is_directory() {
        summary.files += 1;
        summary.bytes += at.bytes;
        summary.space_bytes += at.bytes;
        return Ok(());
    }
    summary.directories += 1;
    let mut waiting = vec![at.uri];
    while let Some(directory) = waiting.pop() {
        let failed = |source: io::Error| FsError::new("list", &directory, source);
        for entry in fs::read_dir(directory.path()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir() {
                summary.directories += 1;
                waiting.push(directory.join(entry.file_name()));
            } else {
                let bytes = entry.metadata().map_err(failed)?.len();
                summary.files += 1;
                summary.bytes += bytes;
                summary.space_bytes += bytes;
            }
        }
    }
    Ok(())
}

fn unsupported(operation: &'static str, uri: &Uri) -> FsError {
    FsError::new(operation, uri, Cause::Unsupported("the file system of this machine"))
}
