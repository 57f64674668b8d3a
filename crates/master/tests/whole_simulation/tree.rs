//! The file system as the master's publisher sees it, so that the real publication runs on it. Each call is made at one
//! moment; after so many the master dies.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use gristmill_dfs::file_system::{
    Cause, CreateOptions, DeleteOptions, FileSystem, FileWriter, FsError, Kind, Listing, Publish, Status,
};
use gristmill_dfs::{ReadAt, Stamp, Uri};
use gristmill_proto::ids::ClientId;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind as Refused;
use gristmill_proto::namespace::{
    AddBlock, BlockEnd, Complete, Create, Delete, Entry, List, Locate, MakeDirectory, Publish as Publication,
    SpaceUse, Stat, Summary, publish::Move,
};

use crate::dfs::Dfs;
use crate::script::{Flaw, Point};

/// Room for a manifest in one block.
const MANIFEST_BYTES_MAX: u64 = 8 << 10;

#[derive(Clone)]
pub(crate) struct Tree(Arc<Mutex<State>>);

struct State {
    dfs: Dfs,
    client: ClientId,
    sequence: u64,
    /// The master lives for so many calls more.
    calls_left: Option<u64>,
}

fn not_now(what: &str) -> Cause {
    Cause::Io(io::Error::new(io::ErrorKind::TimedOut, what))
}

impl Tree {
    pub(crate) fn new(mut dfs: Dfs, calls_left: Option<u64>) -> Tree {
        let client = dfs.new_client();
        Tree(Arc::new(Mutex::new(State { dfs, client, sequence: 0, calls_left })))
    }

    /// The file system, when nobody uses the tree any more; and whether its master died.
    pub(crate) fn into_inner(self) -> (Dfs, bool) {
        let state = Arc::into_inner(self.0).expect("the publication is over");
        let state = state.into_inner().expect("no thread panics");
        (state.dfs, state.calls_left == Some(0))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no thread panics")
    }

    fn ask(&self, operation: &'static str, uri: &Uri, request: Request) -> Result<Outcome, FsError> {
        self.state().ask(request).map_err(|cause| FsError::new(operation, uri, cause))
    }
}

impl State {
    fn ask(&mut self, request: Request) -> Result<Outcome, Cause> {
        self.calls_left = self.calls_left.map(|left| left.saturating_sub(1));
        if self.calls_left == Some(0) {
            return Err(not_now("the master is dead"));
        }
        let fault = self.fault(&[Flaw::Before, Flaw::DiesBefore])?;
        self.sequence += 1;
        let outcome = self.dfs.call(self.client, self.sequence, request, "");
        self.fail(fault, &[Flaw::After, Flaw::DiesAfter])?;
        match outcome {
            None => Err(not_now("the master's store has failed")),
            Some(Outcome::Failure(failure)) => Err(match failure.kind() {
                Refused::NotFound => Cause::NotFound,
                Refused::AlreadyExists => Cause::AlreadyExists,
                Refused::NotADirectory => Cause::NotADirectory,
                Refused::NotEmpty => Cause::NotEmpty,
                Refused::NoWorkers | Refused::NotYet | Refused::SafeMode => not_now("not yet"),
                _ => Cause::Refused(format!("{failure:?}")),
            }),
            Some(outcome) => Ok(outcome),
        }
    }

    /// A script may let the call fail: now, if it is one of these kinds.
    fn fault(&mut self, now: &[Flaw]) -> Result<Option<Flaw>, Cause> {
        let fault = self.dfs.fault(Point::Publication);
        self.fail(fault, now).map(|()| fault)
    }

    fn fail(&mut self, fault: Option<Flaw>, now: &[Flaw]) -> Result<(), Cause> {
        let Some(kind) = fault.filter(|kind| now.contains(kind)) else { return Ok(()) };
        if matches!(kind, Flaw::DiesBefore | Flaw::DiesAfter) {
            self.calls_left = Some(0);
        }
        Err(not_now("the call has failed"))
    }

    /// A file of one block, on all its workers at one moment.
    fn write(&mut self, inode: u64, bytes: &[u8]) -> Result<(), Cause> {
        let added = self.ask(Request::AddBlock(AddBlock { inode, previous: None, exclude: Vec::new() }))?;
        let Outcome::Block(block) = added else { return Err(not_now("no block")) };
        self.dfs.contents.insert(block.block, bytes.to_vec());
        let end = BlockEnd { block: block.block, generation: block.generation, bytes: bytes.len() as u64 };
        for replica in &block.replicas {
            let fault = self.fault(&[Flaw::Before, Flaw::DiesBefore])?;
            let node = &mut self.dfs.nodes[replica.worker as usize - 1];
            if !node.in_reach || !node.disk.write(end.block, end.generation, 0) {
                return Err(not_now("a worker is away"));
            }
            let info = node.disk.finish(end.block, end.generation, end.bytes).expect("it writes");
            let (stream, known) = (node.stream, self.dfs.known(&[info]));
            let (Some(running), now_ms) = (&self.dfs.running, self.dfs.now_ms) else {
                return Err(not_now("the master is dead"));
            };
            let attendant = stream.and_then(|stream| running.attendants.get(&stream));
            let Some(from) = attendant else { return Err(not_now("a worker is unknown")) };
            let mut blocks = running.blocks.lock().expect("no thread panics");
            let finished = blocks.finished(*from, &known, now_ms, &mut self.dfs.out);
            drop(blocks);
            finished.map_err(|refused| not_now(&refused.detail))?;
            self.fail(fault, &[Flaw::After, Flaw::DiesAfter])?;
        }
        self.ask(Request::Complete(Complete { inode, last: Some(end) })).map(drop)
    }
}

fn path(uri: &Uri) -> String {
    uri.path().to_str().expect("it is text").to_owned()
}

fn status(uri: Uri, entry: &Entry) -> Status {
    Status {
        uri,
        kind: if entry.is_directory { Kind::Directory } else { Kind::File },
        is_link: false,
        bytes: entry.bytes,
        replication: entry.replication,
        block_bytes: entry.block_bytes,
        owner: entry.owner.clone(),
        group: entry.group.clone(),
        mode: entry.mode,
        stamp: Stamp::UNKNOWN,
        modified_ms: entry.modified_ms,
        accessed_ms: entry.accessed_ms,
        under_construction: entry.under_construction,
        name_quota: 0,
        space_quota: 0,
    }
}

fn unused<T>(operation: &'static str, uri: &Uri) -> Result<T, FsError> {
    Err(FsError::new(operation, uri, Cause::Unsupported("the simulation")))
}

impl FileSystem for Tree {
    fn stat(&self, uri: &Uri) -> Result<Status, FsError> {
        match self.ask("look at", uri, Request::Stat(Stat { path: path(uri) }))? {
            Outcome::Entry(entry) => Ok(status(uri.clone(), &entry)),
            other => panic!("{other:?} is no answer to a stat"),
        }
    }

    fn list(&self, uri: &Uri) -> Result<Listing, FsError> {
        let request = List { path: path(uri), after: String::new(), limit: 0 };
        let Outcome::Listing(listing) = self.ask("list", uri, Request::List(request))? else {
            panic!("no listing of {uri}")
        };
        let place = uri.place().clone();
        let each = move |entry: Entry| Ok(status(Uri::of(place.clone(), &entry.path), &entry));
        Ok(Box::new(listing.entries.into_iter().map(each)))
    }

    fn open(&self, file: &Uri) -> Result<Box<dyn ReadAt>, FsError> {
        let request = Locate { path: path(file), offset: 0, bytes: u64::MAX, limit: 0 };
        let Outcome::Located(located) = self.ask("read", file, Request::Locate(request))? else {
            panic!("no blocks of {file}")
        };
        let (mut bytes, mut state) = (Vec::new(), self.state());
        for block in located.blocks {
            let in_reach: Vec<bool> = state.dfs.nodes.iter().map(|node| node.in_reach).collect();
            let (read, _) = state.dfs.read(block.block, block.generation, block.bytes, |at| in_reach[at]);
            bytes.extend(read.ok_or_else(|| FsError::new("read", file, not_now("no worker has it")))?);
        }
        Ok(Box::new(Whole(bytes)))
    }

    fn create(&self, file: &Uri, _: &CreateOptions) -> Result<Box<dyn FileWriter>, FsError> {
        let create = Create {
            path: path(file),
            parents: true,
            mode: 0o644,
            block_bytes: MANIFEST_BYTES_MAX,
            ..Create::default()
        };
        let Outcome::OpenFile(open) = self.ask("create", file, Request::Create(create))? else {
            panic!("no open file {file}")
        };
        let inode = open.entry.expect("it is open").inode;
        Ok(Box::new(Writing { tree: self.clone(), uri: file.clone(), inode, bytes: Vec::new() }))
    }

    fn append(&self, file: &Uri) -> Result<Box<dyn FileWriter>, FsError> {
        unused("append to", file)
    }

    fn make_directory(&self, uri: &Uri, parents: bool) -> Result<(), FsError> {
        let request = MakeDirectory { path: path(uri), parents, mode: 0o755 };
        self.ask("make the directory", uri, Request::MakeDirectory(request)).map(drop)
    }

    fn rename(&self, from: &Uri, _: &Uri, _: bool) -> Result<(), FsError> {
        unused("move", from)
    }

    fn delete(&self, uri: &Uri, options: DeleteOptions) -> Result<Option<Uri>, FsError> {
        let DeleteOptions { recursive, skip_trash } = options;
        match self.ask("delete", uri, Request::Delete(Delete { path: path(uri), recursive, skip_trash }))? {
            Outcome::Deleted(deleted) if deleted.found => Ok(None),
            _ => Err(FsError::new("delete", uri, Cause::NotFound)),
        }
    }

    fn truncate(&self, file: &Uri, _: u64) -> Result<bool, FsError> {
        unused("truncate", file)
    }

    fn concat(&self, to: &Uri, _: &[Uri]) -> Result<(), FsError> {
        unused("concatenate", to)
    }

    fn set_replication(&self, file: &Uri, _: u32) -> Result<(), FsError> {
        unused("replicate", file)
    }

    fn set_mode(&self, uri: &Uri, _: u32) -> Result<(), FsError> {
        unused("change", uri)
    }

    fn set_owner(&self, uri: &Uri, _: Option<&str>, _: Option<&str>) -> Result<(), FsError> {
        unused("give away", uri)
    }

    fn set_times(&self, uri: &Uri, _: Option<u64>, _: Option<u64>) -> Result<(), FsError> {
        unused("date", uri)
    }

    fn summarize(&self, uri: &Uri) -> Result<Summary, FsError> {
        unused("count", uri)
    }

    fn space(&self, uri: &Uri) -> Result<SpaceUse, FsError> {
        unused("measure", uri)
    }

    fn home(&self) -> Uri {
        Uri::dfs("master:1", "/")
    }
}

impl Publish for Tree {
    fn publish(&self, moves: &[(Uri, Uri)]) -> Result<(), FsError> {
        let each = moves.iter().map(|(from, to)| Move { from: path(from), to: path(to) });
        let request = Publication { remove: Vec::new(), moves: each.collect() };
        self.ask("move", &moves[0].0, Request::Publish(request)).map(drop)
    }

    fn resolve(&self, uri: &Uri) -> Uri {
        uri.clone()
    }
}

struct Whole(Vec<u8>);

impl ReadAt for Whole {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

struct Writing {
    tree: Tree,
    uri: Uri,
    inode: u64,
    bytes: Vec<u8>,
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileWriter for Writing {
    fn finish(self: Box<Self>) -> Result<(), FsError> {
        let written = self.tree.state().write(self.inode, &self.bytes);
        written.map_err(|cause| FsError::new("write", &self.uri, cause))
    }
}
