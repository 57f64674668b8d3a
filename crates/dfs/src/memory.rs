//! Files in the memory of this process, for tests and dry runs: everything a cluster's namespace does but survive.

mod tree;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::mem;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use gristmill_proto::namespace::{SpaceUse, Summary};

use crate::file_system::{
    Cause, CreateOptions, DeleteOptions, FileSystem, FileWriter, FsError, Listing, Publish, Status,
};
use crate::store::ReadAt;
use crate::uri::{Place, Uri};
use tree::{Content, Refusal, Tree};

/// Deleted things are here, below the name of who deleted them, by the path they had. Nothing expires.
const TRASH: &str = "/.trash";

/// A store of this process (`memory://NAME/...`). All of one name share it, and it lives as long as the process.
/// Modes and owners are kept but keep nobody out.
#[derive(Clone, Debug)]
pub struct MemoryFileSystem {
    place: Place,
    user: String,
    tree: Arc<Mutex<Tree>>,
}

impl MemoryFileSystem {
    /// The store `name`, used by `user`; empty when it is first asked for.
    pub fn named(name: &str, user: &str) -> MemoryFileSystem {
        static STORES: Mutex<BTreeMap<Arc<str>, Arc<Mutex<Tree>>>> = Mutex::new(BTreeMap::new());
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        let name: Arc<str> = Arc::from(name);
        let tree = stores.entry(name.clone()).or_default().clone();
        MemoryFileSystem { place: Place::Memory { name }, user: user.to_owned(), tree }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        // Every change is made at the end of its checks, so whoever panicked changed nothing.
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uri(&self, path: impl AsRef<Path>) -> Uri {
        Uri::of(self.place.clone(), path)
    }

    /// Does one thing with the tree; a refusal names what it is about.
    fn with<T>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&mut Tree) -> Result<T, Refusal>,
    ) -> Result<T, FsError> {
        let done = act(&mut self.tree());
        done.map_err(|refusal| FsError::new(operation, &self.uri(&refusal.path), refusal.cause))
    }
}

impl FileSystem for MemoryFileSystem {
    fn stat(&self, uri: &Uri) -> Result<Status, FsError> {
        self.with("look at", |tree| tree.status(uri))
    }

    fn list(&self, uri: &Uri) -> Result<Listing, FsError> {
        let entries = self.with("list", |tree| tree.list(uri))?;
        Ok(Box::new(entries.into_iter().map(Ok)))
    }

    fn open(&self, file: &Uri) -> Result<Box<dyn ReadAt>, FsError> {
        let content = self.with("read", |tree| tree.content(file.path()))?;
        let bytes = lock(&content).bytes.clone();
        Ok(Box::new(MemoryReader(bytes)))
    }

    fn create(&self, file: &Uri, options: &CreateOptions) -> Result<Box<dyn FileWriter>, FsError> {
        let content = self.with("create", |tree| tree.create(file.path(), options, &self.user, now_ms()))?;
        Ok(Box::new(MemoryWriter::new(file, &content, Vec::new())))
    }

    fn append(&self, file: &Uri) -> Result<Box<dyn FileWriter>, FsError> {
        let content = self.with("append to", |tree| tree.reopen(file.path()))?;
        let before = lock(&content).bytes.to_vec();
        Ok(Box::new(MemoryWriter::new(file, &content, before)))
    }

    fn make_directory(&self, uri: &Uri, parents: bool) -> Result<(), FsError> {
        self.with("make the directory", |tree| tree.make_directory(uri.path(), parents, &self.user, now_ms()))
    }

    fn rename(&self, from: &Uri, to: &Uri, replace: bool) -> Result<(), FsError> {
        self.with("move", |tree| tree.rename(from.path(), to.path(), replace, now_ms()))
    }

    fn delete(&self, uri: &Uri, options: DeleteOptions) -> Result<Option<Uri>, FsError> {
        let trash = self.uri(TRASH).join(&self.user);
        self.with("delete", |tree| {
            tree.check_delete(uri.path(), options.recursive)?;
            if options.skip_trash || uri.is_within(&self.uri(TRASH)) {
                return tree.remove(uri.path(), now_ms()).map(|()| None);
            }
            let to =
                tree.free_name(&Path::join(trash.path(), uri.path().strip_prefix("/").unwrap_or(uri.path())));
            tree.make_directory(to.parent().unwrap_or(trash.path()), true, &self.user, now_ms())?;
            tree.rename(uri.path(), &to, false, now_ms())?;
            Ok(Some(self.uri(to)))
        })
    }

    fn truncate(&self, file: &Uri, bytes: u64) -> Result<bool, FsError> {
        self.with("truncate", |tree| tree.truncate(file.path(), bytes, now_ms())).map(|()| true)
    }

    fn concat(&self, to: &Uri, from: &[Uri]) -> Result<(), FsError> {
        let from: Vec<&Path> = from.iter().map(Uri::path).collect();
        self.with("concatenate", |tree| tree.concat(to.path(), &from, now_ms()))
    }

    fn set_replication(&self, file: &Uri, replication: u32) -> Result<(), FsError> {
        self.with("set the replication of", |tree| tree.set_replication(file.path(), replication))
    }

    fn set_mode(&self, uri: &Uri, mode: u32) -> Result<(), FsError> {
        self.with("set the mode of", |tree| tree.change(uri.path(), |meta| meta.mode = mode & 0o7777))
    }

    fn set_owner(&self, uri: &Uri, owner: Option<&str>, group: Option<&str>) -> Result<(), FsError> {
        self.with("set the owner of", |tree| {
            tree.change(uri.path(), |meta| {
                meta.owner = owner.unwrap_or(&meta.owner).to_owned();
                meta.group = group.unwrap_or(&meta.group).to_owned();
            })
        })
    }

    fn set_times(
        &self,
        uri: &Uri,
        modified_ms: Option<u64>,
        accessed_ms: Option<u64>,
    ) -> Result<(), FsError> {
        self.with("set the times of", |tree| tree.set_times(uri.path(), modified_ms, accessed_ms))
    }

    fn summarize(&self, uri: &Uri) -> Result<Summary, FsError> {
        self.with("summarize", |tree| tree.summarize(uri.path()))
    }

    fn space(&self, _uri: &Uri) -> Result<SpaceUse, FsError> {
        let used_bytes = self.with("summarize", |tree| tree.summarize(Path::new("/")))?.bytes;
        let system = rustix::system::sysinfo();
        let unit = u64::from(system.mem_unit);
        Ok(SpaceUse {
            capacity_bytes: system.totalram * unit,
            used_bytes,
            remaining_bytes: system.freeram * unit,
            ..SpaceUse::default()
        })
    }

    fn home(&self) -> Uri {
        self.uri("/user").join(&self.user)
    }
}

impl Publish for MemoryFileSystem {
    fn publish(&self, moves: &[(Uri, Uri)]) -> Result<(), FsError> {
        self.with("publish", |tree| {
            let mut after = tree.clone();
            for (from, to) in moves {
                after.make_parent(to.path(), &self.user, now_ms())?;
                after.rename(from.path(), to.path(), false, now_ms())?;
            }
            *tree = after;
            Ok(())
        })
    }

    fn resolve(&self, uri: &Uri) -> Uri {
        uri.clone()
    }
}

struct MemoryReader(Bytes);

impl ReadAt for MemoryReader {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).map_or(self.0.len(), |offset| offset.min(self.0.len()));
        let count = buffer.len().min(self.0.len() - start);
        buffer[..count].copy_from_slice(&self.0[start..start + count]);
        Ok(count)
    }
}

/// Its file has what was written when it is flushed or finished.
struct MemoryWriter {
    file: Uri,
    /// Gone when the file is.
    content: Weak<Mutex<Content>>,
    written: Vec<u8>,
}

impl MemoryWriter {
    fn new(file: &Uri, content: &Arc<Mutex<Content>>, written: Vec<u8>) -> MemoryWriter {
        MemoryWriter { file: file.clone(), content: Arc::downgrade(content), written }
    }

    fn lost(&self) -> FsError {
        FsError::new("write", &self.file, Cause::LeaseLost(String::new()))
    }
}

impl Write for MemoryWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let content = self.content.upgrade().ok_or_else(|| self.lost())?;
        lock(&content).bytes = Bytes::copy_from_slice(&self.written);
        Ok(())
    }
}

impl FileWriter for MemoryWriter {
    fn finish(mut self: Box<Self>) -> Result<(), FsError> {
        let content = self.content.upgrade().ok_or_else(|| self.lost())?;
        let mut content = lock(&content);
        content.bytes = Bytes::from(mem::take(&mut self.written));
        content.modified_ms = now_ms();
        Ok(())
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        if let Some(content) = self.content.upgrade() {
            lock(&content).is_written = false;
        }
    }
}

fn lock(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> u64 {
    // A clock before 1970 says 1970.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
