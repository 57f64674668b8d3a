//! The namespace as a map from paths to nodes: every question is answered by looking at everything.

mod calls;

use std::collections::BTreeMap;

use gristmill_dfs::namenode::namespace::Caller;
use gristmill_proto::ids::ClientId;
use gristmill_proto::namespace::Entry;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::rename::Mode;

use crate::story::{BLOCK, START_MS};

const READ: u32 = 4;
const WRITE: u32 = 2;
const EXECUTE: u32 = 1;

#[derive(Clone, Debug)]
pub(crate) enum Call {
    MakeDirectory(String, bool, u32),
    Create {
        path: String,
        overwrite: bool,
        parents: bool,
        mode: u32,
    },
    /// Creates a file, adds blocks of these lengths and completes it.
    Write(String, Vec<u64>),
    Append(String),
    /// Completes an open file as it is.
    Complete(String),
    /// Cuts a file, and finishes the cut.
    Truncate(String, u64),
    /// With the right precondition or a wrong one.
    Rename(String, String, Mode, bool),
    Delete {
        path: String,
        recursive: bool,
        skip_trash: bool,
    },
    Publish(Vec<String>, Vec<(String, String)>),
    Concat(String, Vec<String>),
    SetReplication(String, u32),
    SetMode(String, u32),
    SetOwner(String, String, String),
    SetQuota(String, Option<u64>, Option<u64>),
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Another node may come to have its path.
    id: u64,
    owner: String,
    group: String,
    mode: u32,
    modified_ms: u64,
    accessed_ms: u64,
    /// `None`: a directory.
    file: Option<File>,
    quota: Option<(u64, u64)>,
}

#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) blocks: Vec<u64>,
    /// The last block is not complete.
    pub(crate) last_open: bool,
    pub(crate) writer: Option<ClientId>,
    replication: u32,
    version: u64,
}

impl File {
    fn space(&self) -> u64 {
        let spare = if self.last_open { BLOCK - self.blocks[self.blocks.len() - 1] } else { 0 };
        (self.blocks.iter().sum::<u64>() + spare) * u64::from(self.replication)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) nodes: BTreeMap<String, Node>,
    next_id: u64,
    pub(crate) now_ms: u64,
}

/// Where a walk ended: the deepest directory there is, and how many names are missing below it.
struct Walk {
    deepest: String,
    missing: usize,
}

fn parent(path: &str) -> String {
    match path.rfind('/') {
        Some(0) | None => "/".to_owned(),
        Some(slash) => path[..slash].to_owned(),
    }
}

fn below(path: &str, top: &str) -> bool {
    path == top || top == "/" || path.starts_with(&format!("{top}/"))
}

/// The directories above a path, from the root.
fn above(path: &str) -> Vec<String> {
    let mut above = Vec::new();
    let mut path = path.to_owned();
    while path != "/" {
        path = parent(&path);
        above.push(path.clone());
    }
    above.reverse();
    above
}

impl Model {
    pub(crate) fn new() -> Model {
        let root = Node {
            id: 0,
            owner: "root".to_owned(),
            group: "supergroup".to_owned(),
            mode: 0o755,
            modified_ms: 0,
            accessed_ms: 0,
            file: None,
            quota: None,
        };
        Model { nodes: BTreeMap::from([("/".to_owned(), root)]), next_id: 1, now_ms: START_MS }
    }

    /// What the namespace must list, inodes aside.
    pub(crate) fn tree(&self) -> Vec<Entry> {
        let entry = |(path, node): (&String, &Node)| {
            let file = node.file.as_ref();
            let blocks = file.map_or(&[][..], |file| &file.blocks);
            let (name_quota, space_quota) = node.quota.unwrap_or_default();
            Entry {
                path: path.clone(),
                inode: 0,
                is_directory: file.is_none(),
                bytes: blocks.iter().sum(),
                replication: file.map_or(0, |file| file.replication),
                block_bytes: if file.is_some() { BLOCK } else { 0 },
                owner: node.owner.clone(),
                group: node.group.clone(),
                mode: node.mode,
                modified_ms: node.modified_ms,
                accessed_ms: node.accessed_ms,
                version: file.map_or(0, |file| file.version),
                under_construction: file.is_some_and(|file| file.writer.is_some()),
                name_quota,
                space_quota,
                blocks: blocks.len() as u32,
            }
        };
        self.nodes.iter().map(entry).collect()
    }

    /// Directories, files and blocks.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let files = || self.nodes.values().filter_map(|node| node.file.as_ref());
        let blocks = files().map(|file| file.blocks.len() as u64).sum();
        (self.nodes.len() as u64 - files().count() as u64, files().count() as u64, blocks)
    }

    fn node(&self, path: &str) -> Result<&Node, Kind> {
        self.nodes.get(path).ok_or(Kind::NotFound)
    }

    pub(crate) fn file(&mut self, path: &str) -> Result<&mut File, Kind> {
        self.nodes.get_mut(path).ok_or(Kind::NotFound)?.file.as_mut().ok_or(Kind::IsADirectory)
    }

    fn touch(&mut self, path: &str) {
        self.nodes.get_mut(path).unwrap().modified_ms = self.now_ms;
    }

    fn children(&self, path: &str) -> Vec<String> {
        self.nodes.keys().filter(|key| *key != "/" && parent(key) == path).cloned().collect()
    }

    fn subtree(&self, path: &str) -> Vec<String> {
        self.nodes.keys().filter(|key| below(key, path)).cloned().collect()
    }

    fn usage(&self, path: &str) -> (u64, u64) {
        let nodes: Vec<&Node> =
            self.nodes.iter().filter(|(key, _)| below(key, path)).map(|(_, node)| node).collect();
        let space = nodes.iter().filter_map(|node| node.file.as_ref()).map(File::space).sum();
        (nodes.len() as u64, space)
    }

    /// Whether what was just done is too much for a directory that it added to, compared with `before`.
    pub(crate) fn check_quotas(&self, before: &Model) -> Result<(), Kind> {
        for (path, node) in &self.nodes {
            let Some((names, space)) = node.quota else { continue };
            let is_same = |old: &&Node| old.id == node.id && old.quota.is_some();
            let Some(old) = before.nodes.get(path).filter(is_same) else { continue };
            assert_eq!(old.quota, node.quota);
            let ((names_used, space_used), (names_before, space_before)) =
                (self.usage(path), before.usage(path));
            if names > 0 && names_used > names && names_used > names_before {
                return Err(Kind::QuotaNames);
            }
            if space > 0 && space_used > space && space_used > space_before {
                return Err(Kind::QuotaSpace);
            }
        }
        Ok(())
    }

    fn superuser(&self, who: &Caller) -> bool {
        self.nodes["/"].owner == who.user
    }

    fn require(&self, who: &Caller, path: &str, bits: u32) -> Result<(), Kind> {
        let node = self.node(path)?;
        let class = if node.owner == who.user {
            node.mode >> 6
        } else if who.groups.contains(&node.group) {
            node.mode >> 3
        } else {
            node.mode
        };
        if self.superuser(who) || class & bits == bits { Ok(()) } else { Err(Kind::PermissionDenied) }
    }

    fn require_unstuck(&self, who: &Caller, path: &str) -> Result<(), Kind> {
        let (directory, node) = (self.node(&parent(path))?, self.node(path)?);
        let own = directory.owner == who.user || node.owner == who.user || self.superuser(who);
        if own || directory.mode & 0o1000 == 0 { Ok(()) } else { Err(Kind::PermissionDenied) }
    }

    fn walk(&self, who: &Caller, path: &str) -> Result<Walk, Kind> {
        let directories = above(path);
        for (passed, directory) in directories.iter().enumerate() {
            let Some(node) = self.nodes.get(directory) else {
                return Ok(Walk {
                    deepest: directories[passed - 1].clone(),
                    missing: directories.len() - passed,
                });
            };
            if node.file.is_some() {
                return Err(Kind::NotADirectory);
            }
            self.require(who, directory, EXECUTE)?;
        }
        Ok(Walk { deepest: parent(path), missing: 0 })
    }

    /// Walks to something that is there.
    fn existing(&self, who: &Caller, path: &str) -> Result<&Node, Kind> {
        self.walk(who, path)?;
        self.node(path)
    }

    fn check_removal(&self, who: &Caller, path: &str) -> Result<(), Kind> {
        self.existing(who, path)?;
        if path == "/" {
            return Err(Kind::InvalidArgument);
        }
        self.require(who, &parent(path), WRITE | EXECUTE)?;
        self.require_unstuck(who, path)
    }

    fn insert(&mut self, path: &str, owner: &str, group: &str, mode: u32, file: Option<File>) {
        let now_ms = self.now_ms;
        let (owner, group) = (owner.to_owned(), group.to_owned());
        let (id, modified_ms, accessed_ms) = (self.next_id, now_ms, now_ms);
        self.next_id += 1;
        let node = Node { id, owner, group, mode, modified_ms, accessed_ms, file, quota: None };
        self.nodes.insert(path.to_owned(), node);
        self.touch(&parent(path));
    }

    fn make_parents(&mut self, who: &Caller, path: &str, parents: bool, mode: u32) -> Result<String, Kind> {
        let walk = self.walk(who, path)?;
        if walk.missing > 0 && !parents {
            return Err(Kind::NotFound);
        }
        self.require(who, &walk.deepest, WRITE | EXECUTE)?;
        let group = self.nodes[&walk.deepest].group.clone();
        let directories = above(path);
        for directory in &directories[directories.len() - walk.missing..] {
            self.insert(directory, &who.user, &group, mode | 0o300, None);
        }
        Ok(group)
    }

    fn remove(&mut self, path: &str) {
        for gone in self.subtree(path) {
            self.nodes.remove(&gone);
        }
        self.touch(&parent(path));
    }

    fn move_to(&mut self, from: &str, to: &str) {
        for path in self.subtree(from) {
            let node = self.nodes.remove(&path).unwrap();
            self.nodes.insert(format!("{to}{}", &path[from.len()..]), node);
        }
        self.touch(&parent(from));
        self.touch(&parent(to));
    }

    /// All of a call, or its refusal. `trash_path` is where the namespace says that it has put what was deleted.
    pub(crate) fn apply(&mut self, who: &Caller, call: &Call, trash_path: &str) -> Result<(), Kind> {
        let before = self.clone();
        let done = self.perform(who, call, trash_path).and_then(|()| match call {
            // It is no growth.
            Call::SetQuota(..) => Ok(()),
            _ => self.check_quotas(&before),
        });
        if done.is_err() {
            *self = before;
        }
        done
    }

    fn perform(&mut self, who: &Caller, call: &Call, trash_path: &str) -> Result<(), Kind> {
        match call {
            Call::MakeDirectory(path, parents, mode) => self.make_directory(who, path, *parents, *mode),
            Call::Create { path, overwrite, parents, mode } => {
                self.create(who, path, *overwrite, *parents, *mode)
            }
            Call::Append(path) => self.append(who, path),
            Call::Complete(path) => self.complete(who, path),
            Call::Truncate(path, bytes) => self.truncate(who, path, *bytes),
            Call::Rename(from, to, mode, right) => self.rename(who, from, to, *mode, *right),
            Call::Delete { path, recursive, skip_trash } => {
                self.delete(who, path, (*recursive, *skip_trash), trash_path)
            }
            Call::Publish(remove, moves) => self.publish(who, remove, moves),
            Call::Concat(to, from) => self.concat(who, to, from),
            Call::Write(..) => unreachable!("it is played as its steps"),
            _ => self.set(who, call),
        }
    }
}
