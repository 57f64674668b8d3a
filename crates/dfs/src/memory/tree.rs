//! A tree of directories and files as a value: no clock, no lock but on what a file holds.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gristmill_proto::namespace::Summary;

use super::lock;
use crate::file_system::{Cause, CreateOptions, Kind, Status};
use crate::stamp::Stamp;
use crate::uri::Uri;

/// As in a cluster's namespace.
const NAME_BYTES_MAX: usize = 255;
const REPLICATION_DEFAULT: u32 = 1;
const BLOCK_BYTES_DEFAULT: u64 = 64 << 20;
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// Directories and files. A clone shares what the files hold, but no name.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: Node,
}

#[derive(Clone, Debug)]
struct Node {
    meta: Meta,
    body: Body,
}

/// What directories and files both have.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    pub(super) owner: String,
    pub(super) group: String,
    pub(super) mode: u32,
    modified_ms: u64,
    accessed_ms: u64,
}

#[derive(Clone, Debug)]
enum Body {
    Directory(BTreeMap<OsString, Node>),
    File { content: Arc<Mutex<Content>>, replication: u32, block_bytes: u64 },
}

/// What a file holds. Its writer has it by a weak reference, which ends with the file.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bytes: Bytes,
    pub(super) modified_ms: u64,
    pub(super) is_written: bool,
}

/// Why something could not be done, and with what.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) path: PathBuf,
    pub(super) cause: Cause,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { root: Node::directory("root", "root", 0) }
    }
}

impl Tree {
    pub(super) fn status(&self, uri: &Uri) -> Result<Status, Refusal> {
        Ok(self.find(uri.path())?.status(uri.clone()))
    }

    pub(super) fn list(&self, uri: &Uri) -> Result<Vec<Status>, Refusal> {
        let node = self.find(uri.path())?;
        match &node.body {
            Body::Directory(children) => {
                Ok(children.iter().map(|(name, child)| child.status(uri.join(name))).collect())
            }
            Body::File { .. } => Ok(vec![node.status(uri.clone())]),
        }
    }

    pub(super) fn content(&self, path: &Path) -> Result<Arc<Mutex<Content>>, Refusal> {
        match &self.find(path)?.body {
            Body::File { content, .. } => Ok(content.clone()),
            Body::Directory(_) => Err(refuse(path, Cause::IsADirectory)),
        }
    }

    pub(super) fn create(
        &mut self,
        path: &Path,
        options: &CreateOptions,
        user: &str,
        now_ms: u64,
    ) -> Result<Arc<Mutex<Content>>, Refusal> {
        match self.find(path).map(|node| &node.body) {
            Ok(Body::Directory(_)) => return Err(refuse(path, Cause::IsADirectory)),
            Ok(Body::File { .. }) if !options.overwrite => return Err(refuse(path, Cause::AlreadyExists)),
            Ok(Body::File { .. }) => {}
            Err(refusal) if matches!(refusal.cause, Cause::NotFound) => {}
            Err(refusal) => return Err(refusal),
        }
        if !options.parent_exists {
            self.make_parent(path, user, now_ms)?;
        }
        let content = Content { bytes: Bytes::new(), modified_ms: now_ms, is_written: true };
        let content = Arc::new(Mutex::new(content));
        let body = Body::File {
            content: content.clone(),
            replication: if options.replication == 0 { REPLICATION_DEFAULT } else { options.replication },
            block_bytes: if options.block_bytes == 0 { BLOCK_BYTES_DEFAULT } else { options.block_bytes },
        };
        self.insert(path, user, now_ms, |meta| Node { meta: Meta { mode: FILE_MODE, ..meta }, body })?;
        Ok(content)
    }

    /// A finished file, to be written on.
    pub(super) fn reopen(&self, path: &Path) -> Result<Arc<Mutex<Content>>, Refusal> {
        let content = self.content(path)?;
        self.closed(path)?;
        lock(&content).is_written = true;
        Ok(content)
    }

    pub(super) fn make_directory(
        &mut self,
        path: &Path,
        parents: bool,
        user: &str,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        match self.find(path).map(|node| &node.body) {
            Ok(Body::Directory(_)) if parents => return Ok(()),
            Ok(_) => return Err(refuse(path, Cause::AlreadyExists)),
            Err(refusal) if matches!(refusal.cause, Cause::NotFound) => {}
            Err(refusal) => return Err(refusal),
        }
        if parents {
            self.make_parent(path, user, now_ms)?;
        }
        self.insert(path, user, now_ms, |meta| Node { meta, body: Body::Directory(BTreeMap::new()) })
    }

    pub(super) fn make_parent(&mut self, path: &Path, user: &str, now_ms: u64) -> Result<(), Refusal> {
        let Some(parent) = path.parent() else { return Ok(()) };
        match self.find(parent).map(|node| &node.body) {
            Ok(Body::Directory(_)) => Ok(()),
            Ok(Body::File { .. }) => Err(refuse(parent, Cause::NotADirectory)),
            Err(_) => self.make_directory(parent, true, user, now_ms),
        }
    }

    pub(super) fn rename(
        &mut self,
        from: &Path,
        to: &Path,
        replace: bool,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        self.find(from)?;
        if from == to && replace {
            return Ok(());
        }
        if from != to && to.starts_with(from) {
            return Err(refuse(from, Cause::IntoItself));
        }
        self.check_destination(from, to, replace)?;
        let node = self.take(from, now_ms)?;
        let (parent, name) = self.parent_mut(to)?;
        parent.children_mut(to)?.insert(name, node);
        parent.meta.modified_ms = now_ms;
        Ok(())
    }

    /// Whether what is at `to`, if anything, may give way to what is at `from`.
    fn check_destination(&mut self, from: &Path, to: &Path, replace: bool) -> Result<(), Refusal> {
        let is_directory = matches!(self.find(from)?.body, Body::Directory(_));
        check_name(to)?;
        let there = match self.find(to) {
            Ok(there) => there,
            Err(refusal) if matches!(refusal.cause, Cause::NotFound) => {
                let (parent, _) = self.parent_mut(to)?;
                return parent.children_mut(to).map(drop);
            }
            Err(refusal) => return Err(refusal),
        };
        match &there.body {
            _ if !replace => Err(refuse(to, Cause::AlreadyExists)),
            Body::Directory(_) if !is_directory => Err(refuse(to, Cause::IsADirectory)),
            Body::File { .. } if is_directory => Err(refuse(to, Cause::NotADirectory)),
            Body::Directory(children) if !children.is_empty() => Err(refuse(to, Cause::NotEmpty)),
            _ => Ok(()),
        }
    }

    pub(super) fn check_delete(&self, path: &Path, recursive: bool) -> Result<(), Refusal> {
        match &self.find(path)?.body {
            _ if path == Path::new("/") => Err(refuse(path, Cause::Refused("it is the root".to_owned()))),
            Body::Directory(children) if !recursive && !children.is_empty() => {
                Err(refuse(path, Cause::NotEmpty))
            }
            _ => Ok(()),
        }
    }

    /// Removes a file or directory with all below it.
    pub(super) fn remove(&mut self, path: &Path, now_ms: u64) -> Result<(), Refusal> {
        self.take(path, now_ms).map(drop)
    }

    fn take(&mut self, path: &Path, now_ms: u64) -> Result<Node, Refusal> {
        let (parent, name) = self.parent_mut(path)?;
        let taken = parent.children_mut(path)?.remove(&name);
        let taken = taken.ok_or_else(|| refuse(path, Cause::NotFound))?;
        parent.meta.modified_ms = now_ms;
        Ok(taken)
    }

    /// `path`, or `path.N` for the first N at which nothing is.
    pub(super) fn free_name(&self, path: &Path) -> PathBuf {
        let mut free = path.to_path_buf();
        for number in 1_u64.. {
            if self.find(&free).is_err() {
                break;
            }
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            free = PathBuf::from(name);
        }
        free
    }

    pub(super) fn truncate(&mut self, path: &Path, bytes: u64, now_ms: u64) -> Result<(), Refusal> {
        let content = self.content(path)?;
        self.closed(path)?;
        let mut content = lock(&content);
        let there = content.bytes.len() as u64;
        if bytes > there {
            return Err(refuse(path, Cause::Refused(format!("it has {there} bytes only"))));
        }
        content.bytes.truncate(bytes as usize);
        content.modified_ms = now_ms;
        Ok(())
    }

    pub(super) fn concat(&mut self, to: &Path, from: &[&Path], now_ms: u64) -> Result<(), Refusal> {
        let target = self.content(to)?;
        self.closed(to)?;
        let mut whole = lock(&target).bytes.to_vec();
        for (index, source) in from.iter().enumerate() {
            let content = self.content(source)?;
            self.closed(source)?;
            if *source == to || from[..index].contains(source) {
                return Err(refuse(source, Cause::Refused("it is named twice".to_owned())));
            }
            whole.extend_from_slice(&lock(&content).bytes);
        }
        for source in from {
            self.take(source, now_ms)?;
        }
        let mut target = lock(&target);
        target.bytes = Bytes::from(whole);
        target.modified_ms = now_ms;
        Ok(())
    }

    fn closed(&self, path: &Path) -> Result<(), Refusal> {
        if lock(&*self.content(path)?).is_written {
            return Err(refuse(path, Cause::Refused("it is being written".to_owned())));
        }
        Ok(())
    }

    pub(super) fn set_replication(&mut self, path: &Path, wanted: u32) -> Result<(), Refusal> {
        match &mut self.find_mut(path)?.body {
            Body::File { replication, .. } => *replication = wanted,
            Body::Directory(_) => return Err(refuse(path, Cause::IsADirectory)),
        }
        Ok(())
    }

    pub(super) fn change(&mut self, path: &Path, change: impl FnOnce(&mut Meta)) -> Result<(), Refusal> {
        change(&mut self.find_mut(path)?.meta);
        Ok(())
    }

    pub(super) fn set_times(
        &mut self,
        path: &Path,
        modified_ms: Option<u64>,
        accessed_ms: Option<u64>,
    ) -> Result<(), Refusal> {
        let node = self.find_mut(path)?;
        node.meta.accessed_ms = accessed_ms.unwrap_or(node.meta.accessed_ms);
        match (&node.body, modified_ms) {
            (_, None) => {}
            (Body::Directory(_), Some(time)) => node.meta.modified_ms = time,
            (Body::File { content, .. }, Some(time)) => lock(content).modified_ms = time,
        }
        Ok(())
    }

    pub(super) fn summarize(&self, path: &Path) -> Result<Summary, Refusal> {
        let mut summary = Summary::default();
        self.find(path)?.add_up(&mut summary);
        Ok(summary)
    }

    fn insert(
        &mut self,
        path: &Path,
        user: &str,
        now_ms: u64,
        make: impl FnOnce(Meta) -> Node,
    ) -> Result<(), Refusal> {
        check_name(path)?;
        let (parent, name) = self.parent_mut(path)?;
        let group = parent.meta.group.clone();
        let children = parent.children_mut(path)?;
        children.insert(name, make(Meta::new(user, &group, now_ms)));
        parent.meta.modified_ms = now_ms;
        Ok(())
    }

    fn find(&self, path: &Path) -> Result<&Node, Refusal> {
        let mut node = &self.root;
        for name in names(path) {
            let Body::Directory(children) = &node.body else {
                return Err(refuse(path, Cause::NotADirectory));
            };
            node = children.get(name).ok_or_else(|| refuse(path, Cause::NotFound))?;
        }
        Ok(node)
    }

    fn find_mut(&mut self, path: &Path) -> Result<&mut Node, Refusal> {
        let mut node = &mut self.root;
        for name in names(path) {
            node = node.children_mut(path)?.get_mut(name).ok_or_else(|| refuse(path, Cause::NotFound))?;
        }
        Ok(node)
    }

    /// The directory that holds `path`, and the name in it.
    fn parent_mut(&mut self, path: &Path) -> Result<(&mut Node, OsString), Refusal> {
        let root = || refuse(path, Cause::Refused("it is the root".to_owned()));
        let (parent, name) = (path.parent().ok_or_else(root)?, path.file_name().ok_or_else(root)?);
        let missing = |refusal: Refusal| Refusal { path: path.to_path_buf(), ..refusal };
        Ok((self.find_mut(parent).map_err(missing)?, name.to_owned()))
    }
}

impl Node {
    fn directory(user: &str, group: &str, now_ms: u64) -> Node {
        Node { meta: Meta::new(user, group, now_ms), body: Body::Directory(BTreeMap::new()) }
    }

    fn children_mut(&mut self, path: &Path) -> Result<&mut BTreeMap<OsString, Node>, Refusal> {
        match &mut self.body {
            Body::Directory(children) => Ok(children),
            Body::File { .. } => Err(refuse(path, Cause::NotADirectory)),
        }
    }

    fn status(&self, uri: Uri) -> Status {
        let mut status = Status {
            uri,
            kind: Kind::Directory,
            is_link: false,
            bytes: 0,
            replication: 0,
            block_bytes: 0,
            owner: self.meta.owner.clone(),
            group: self.meta.group.clone(),
            mode: self.meta.mode,
            stamp: Stamp::UNKNOWN,
            modified_ms: self.meta.modified_ms,
            accessed_ms: self.meta.accessed_ms,
            under_construction: false,
            name_quota: 0,
            space_quota: 0,
        };
        if let Body::File { content, replication, block_bytes } = &self.body {
            let content = lock(content);
            status.kind = Kind::File;
            status.bytes = content.bytes.len() as u64;
            status.modified_ms = content.modified_ms;
            status.under_construction = content.is_written;
            (status.replication, status.block_bytes) = (*replication, *block_bytes);
        }
        status
    }

    fn add_up(&self, summary: &mut Summary) {
        match &self.body {
            Body::Directory(children) => {
                summary.directories += 1;
                children.values().for_each(|child| child.add_up(summary));
            }
            Body::File { content, replication, .. } => {
                let bytes = lock(content).bytes.len() as u64;
                summary.files += 1;
                summary.bytes += bytes;
                summary.space_bytes += bytes * u64::from(*replication);
            }
        }
    }
}

impl Meta {
    fn new(owner: &str, group: &str, now_ms: u64) -> Meta {
        let (owner, group) = (owner.to_owned(), group.to_owned());
        Meta { owner, group, mode: DIRECTORY_MODE, modified_ms: now_ms, accessed_ms: now_ms }
    }
}

/// The names on the way from the root to `path`, which is absolute and plain.
fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

fn check_name(path: &Path) -> Result<(), Refusal> {
    let bytes = path.file_name().map_or(0, |name| name.as_bytes().len());
    if bytes > NAME_BYTES_MAX {
        let why = format!("its last part has {bytes} bytes, of at most {NAME_BYTES_MAX}");
        return Err(refuse(path, Cause::InvalidName(why)));
    }
    Ok(())
}

fn refuse(path: &Path, cause: Cause) -> Refusal {
    Refusal { path: path.to_path_buf(), cause }
}
