//! The fake master's namespace: paths in a map, and blocks that its workers are asked about.

use std::collections::BTreeMap;

use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::rename::Mode;
use gristmill_proto::namespace::*;

use super::BLOCK_BYTES;
use super::replicas::{self as fakes, Replicas};
use super::worker::{FakeWorker, read_token, write_token};

type Answered = Result<Outcome, Kind>;

#[derive(Clone, Default)]
pub struct Node {
    pub entry: Entry,
    pub blocks: Vec<Block>,
}

#[derive(Clone)]
pub struct Block {
    pub id: u64,
    pub generation: u64,
    pub bytes: u64,
    pub workers: Vec<u64>,
}

pub struct FakeNamespace {
    pub nodes: BTreeMap<String, Node>,
    pub bad: Vec<ReportBad>,
    pub recovered: Vec<String>,
    /// The host that each worker says it is on.
    pub hosts: Vec<String>,
    workers: Vec<Replica>,
    durable: Durable,
    sign: Sign,
    next: u64,
}

/// Whether a worker has a finished replica of exactly this.
pub type Durable = Box<dyn Fn(&BlockEnd) -> bool + Send>;
/// Makes the token of a block and generation, for writing or for reading.
pub type Sign = Box<dyn Fn(u64, u64, bool) -> Vec<u8> + Send>;

impl FakeNamespace {
    /// Of fake workers.
    pub fn new(workers: &[FakeWorker]) -> FakeNamespace {
        let of = |worker: &FakeWorker| Replica {
            worker: worker.shared.id,
            address: worker.address.clone(),
            socket: worker.socket.clone(),
            ..Replica::default()
        };
        let disks: Vec<Replicas> = workers.iter().map(|worker| worker.replicas().clone()).collect();
        let has = |replicas: &Replicas, end: &BlockEnd| {
            let is = |it: fakes::Replica| {
                it.finished && it.generation == end.generation && it.data.len() as u64 == end.bytes
            };
            replicas.get(end.block).is_some_and(is)
        };
        let durable = Box::new(move |end: &BlockEnd| disks.iter().any(|replicas| has(replicas, end)));
        let sign = |block, generation, write| {
            if write { write_token(block, generation) } else { read_token(block) }
        };
        FakeNamespace::of(workers.iter().map(of).collect(), durable, Box::new(sign))
    }

    pub fn of(workers: Vec<Replica>, durable: Durable, sign: Sign) -> FakeNamespace {
        let mut namespace = FakeNamespace {
            nodes: BTreeMap::new(),
            bad: Vec::new(),
            recovered: Vec::new(),
            hosts: vec!["elsewhere".to_owned(); workers.len()],
            workers,
            durable,
            sign,
            next: 100,
        };
        let root = Entry { path: "/".to_owned(), inode: 1, is_directory: true, ..Entry::default() };
        namespace.nodes.insert("/".to_owned(), Node { entry: root, blocks: Vec::new() });
        namespace
    }

    pub fn apply(&mut self, request: &Request) -> Answered {
        let done = Ok(Outcome::Done(Done {}));
        match request {
            Request::Stat(call) => Ok(Outcome::Entry(self.node(&call.path)?.entry.clone())),
            Request::List(call) => self.list(call),
            Request::Locate(call) => self.locate(call),
            Request::MakeDirectory(call) => self.make_directory(&call.path, call.parents),
            Request::Create(call) => self.create(call),
            Request::AddBlock(call) => self.add_block(call),
            Request::RebuildBlock(call) => self.rebuild_block(call),
            Request::AbandonBlock(call) => {
                self.open_file(call.inode)?.blocks.retain(|block| block.id != call.block);
                done
            }
            Request::Sync(call) => {
                self.settle(call.inode, call.last.as_ref())?;
                done
            }
            Request::Complete(call) => {
                self.settle_durably(call.inode, call.last.as_ref())?;
                let entry = &mut self.open_file(call.inode)?.entry;
                entry.under_construction = false;
                entry.version += 1;
                Ok(Outcome::Entry(entry.clone()))
            }
            Request::Append(call) => self.append(&call.path),
            Request::Rename(call) => self.rename(call),
            Request::Delete(call) => self.delete(&call.path, call.recursive),
            Request::Concat(call) => self.concat(call),
            Request::RecoverLease(call) => {
                self.recovered.push(call.path.clone());
                Ok(Outcome::Recovering(Recovering { closed: false }))
            }
            Request::ReportBad(call) => {
                self.bad.push(*call);
                done
            }
            Request::RenewLeases(_) => done,
            _ => Err(Kind::InvalidArgument),
        }
    }

    pub fn node(&self, path: &str) -> Result<&Node, Kind> {
        self.nodes.get(path).ok_or(Kind::NotFound)
    }

    fn open_file(&mut self, inode: u64) -> Result<&mut Node, Kind> {
        let node = self.nodes.values_mut().find(|node| node.entry.inode == inode).ok_or(Kind::NotFound)?;
        if node.entry.under_construction { Ok(node) } else { Err(Kind::LeaseLost) }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn list(&self, call: &List) -> Answered {
        if !self.node(&call.path)?.entry.is_directory {
            let entries = vec![self.node(&call.path)?.entry.clone()];
            return Ok(Outcome::Listing(Listing { entries, more: false }));
        }
        let limit = if call.limit == 0 { 3 } else { call.limit as usize };
        let prefix = if call.path == "/" { "/".to_owned() } else { format!("{}/", call.path) };
        let below = self.nodes.iter().filter_map(|(path, node)| {
            let name = path.strip_prefix(&prefix)?;
            let child = !name.is_empty() && !name.contains('/') && name > call.after.as_str();
            child.then(|| (name, node.entry.clone()))
        });
        let mut entries: Vec<(&str, Entry)> = below.collect();
        entries.sort_by(|one, two| one.0.cmp(two.0));
        let more = entries.len() > limit;
        entries.truncate(limit);
        Ok(Outcome::Listing(Listing { entries: entries.into_iter().map(|entry| entry.1).collect(), more }))
    }

    fn make_directory(&mut self, path: &str, parents: bool) -> Answered {
        if let Ok(node) = self.node(path) {
            return match (node.entry.is_directory, parents) {
                (true, true) => Ok(Outcome::Entry(node.entry.clone())),
                (true, false) => Err(Kind::AlreadyExists),
                (false, _) => Err(Kind::NotADirectory),
            };
        }
        self.make_parent(path, parents)?;
        let entry =
            Entry { path: path.to_owned(), inode: self.number(), is_directory: true, ..Entry::default() };
        self.nodes.insert(path.to_owned(), Node { entry: entry.clone(), blocks: Vec::new() });
        Ok(Outcome::Entry(entry))
    }

    fn make_parent(&mut self, path: &str, make: bool) -> Result<(), Kind> {
        let parent = path.rsplit_once('/').map_or("", |split| split.0);
        let parent = if parent.is_empty() { "/" } else { parent };
        match self.node(parent) {
            Ok(node) if node.entry.is_directory => Ok(()),
            Ok(_) => Err(Kind::NotADirectory),
            Err(_) if make => self.make_directory(parent, true).map(|_| ()),
            Err(kind) => Err(kind),
        }
    }

    fn create(&mut self, call: &Create) -> Answered {
        match self.node(&call.path) {
            Ok(node) if node.entry.is_directory => return Err(Kind::IsADirectory),
            Ok(_) if !call.overwrite => return Err(Kind::AlreadyExists),
            _ => self.make_parent(&call.path, call.parents)?,
        }
        let entry = Entry {
            path: call.path.clone(),
            inode: self.number(),
            replication: if call.replication == 0 {
                self.workers.len().min(3) as u32
            } else {
                call.replication
            },
            block_bytes: if call.block_bytes == 0 { BLOCK_BYTES } else { call.block_bytes },
            mode: call.mode,
            modified_ms: 1_700_000_000_000,
            under_construction: true,
            ..Entry::default()
        };
        self.nodes.insert(call.path.clone(), Node { entry: entry.clone(), blocks: Vec::new() });
        Ok(Outcome::OpenFile(OpenFile { entry: Some(entry), last: None, last_generation_before: 0 }))
    }

    fn add_block(&mut self, call: &AddBlock) -> Answered {
        self.settle_durably(call.inode, call.previous.as_ref())?;
        let wanted = self.open_file(call.inode)?.entry.replication as usize;
        let all = self.workers.iter().map(|worker| worker.worker);
        let workers: Vec<u64> = all.filter(|id| !call.exclude.contains(id)).take(wanted).collect();
        if workers.is_empty() {
            return Err(Kind::NoWorkers);
        }
        let block = Block { id: self.number(), generation: self.number(), bytes: 0, workers };
        let node = self.open_file(call.inode)?;
        let offset = node.entry.bytes;
        node.blocks.push(block.clone());
        Ok(Outcome::Block(self.located(&block, offset, true)))
    }

    fn rebuild_block(&mut self, call: &RebuildBlock) -> Answered {
        let generation = self.number();
        let node = self.open_file(call.inode)?;
        let offset = node.blocks.iter().rev().skip(1).map(|block| block.bytes).sum();
        let block = node.blocks.last_mut().filter(|block| block.id == call.block).ok_or(Kind::NotFound)?;
        if block.generation != call.generation {
            return Err(Kind::StaleGeneration);
        }
        block.workers.retain(|worker| !call.failed.contains(worker));
        if block.workers.is_empty() {
            return Err(Kind::NoWorkers);
        }
        block.generation = generation;
        let block = block.clone();
        Ok(Outcome::Block(self.located(&block, offset, true)))
    }

    fn append(&mut self, path: &str) -> Answered {
        let generation = self.number();
        let node = self.nodes.get_mut(path).ok_or(Kind::NotFound)?;
        if node.entry.under_construction {
            return Err(Kind::LeaseHeld);
        }
        node.entry.under_construction = true;
        let entry = node.entry.clone();
        let mut open = OpenFile { entry: Some(entry.clone()), last: None, last_generation_before: 0 };
        if let Some(last) = node.blocks.last_mut().filter(|last| last.bytes < entry.block_bytes) {
            open.last_generation_before = last.generation;
            last.generation = generation;
            let last = last.clone();
            open.last = Some(self.located(&last, entry.bytes - last.bytes, true));
        }
        Ok(Outcome::OpenFile(open))
    }

    fn settle(&mut self, inode: u64, end: Option<&BlockEnd>) -> Result<(), Kind> {
        let node = self.open_file(inode)?;
        if let Some(end) = end {
            let last =
                node.blocks.last_mut().filter(|last| last.id == end.block).ok_or(Kind::InvalidArgument)?;
            if last.generation != end.generation {
                return Err(Kind::StaleGeneration);
            }
            last.bytes = end.bytes;
            node.entry.bytes = node.blocks.iter().map(|block| block.bytes).sum();
            node.entry.version += 1;
        }
        Ok(())
    }

    /// The same, if a replica is finished somewhere.
    fn settle_durably(&mut self, inode: u64, end: Option<&BlockEnd>) -> Result<(), Kind> {
        let Some(end) = end else {
            let open = self.open_file(inode)?.blocks.is_empty();
            return if open { Ok(()) } else { Err(Kind::InvalidArgument) };
        };
        if !(self.durable)(end) {
            return Err(Kind::NotYet);
        }
        self.settle(inode, Some(end))
    }

    fn located(&self, block: &Block, offset: u64, write: bool) -> LocatedBlock {
        let replicas = block.workers.iter().map(|id| {
            let at = *id as usize - 1;
            Replica { host: self.hosts[at].clone(), ..self.workers[at].clone() }
        });
        let token = (self.sign)(block.id, block.generation, write);
        LocatedBlock {
            block: block.id,
            generation: block.generation,
            offset,
            bytes: block.bytes,
            replicas: replicas.collect(),
            token: token.into(),
        }
    }

    fn locate(&self, call: &Locate) -> Answered {
        let node = self.node(&call.path)?;
        let (mut offset, mut blocks) = (0, Vec::new());
        for block in &node.blocks {
            if offset + block.bytes > call.offset && offset < call.offset.saturating_add(call.bytes) {
                blocks.push(self.located(block, offset, false));
            }
            offset += block.bytes;
        }
        let more = blocks.len() > call.limit as usize;
        blocks.truncate(call.limit as usize);
        Ok(Outcome::Located(LocatedFile { entry: Some(node.entry.clone()), blocks, more }))
    }

    fn rename(&mut self, call: &Rename) -> Answered {
        let mut node = self.node(&call.from)?.clone();
        self.make_parent(&call.to, false)?;
        let there = self.node(&call.to).ok().map(|node| node.entry.clone());
        match (Mode::try_from(call.mode).expect("a mode"), there) {
            (Mode::Refuse, Some(_)) => return Err(Kind::AlreadyExists),
            (Mode::IfSame, None) => return Err(Kind::Precondition),
            (Mode::IfSame, Some(there)) if (there.inode, there.version) != (call.inode, call.version) => {
                return Err(Kind::Precondition);
            }
            (Mode::Overwrite, Some(there)) if there.is_directory => return Err(Kind::IsADirectory),
            _ => {}
        }
        self.nodes.remove(&call.from);
        node.entry.path = call.to.clone();
        self.nodes.insert(call.to.clone(), node.clone());
        Ok(Outcome::Entry(node.entry))
    }

    fn delete(&mut self, path: &str, recursive: bool) -> Answered {
        let below = format!("{path}/");
        if !recursive && self.nodes.keys().any(|at| at.starts_with(&below)) {
            return Err(Kind::NotEmpty);
        }
        let before = self.nodes.len();
        self.nodes.retain(|at, _| at != path && !at.starts_with(&below));
        Ok(Outcome::Deleted(Deleted { found: self.nodes.len() < before, trash_path: String::new() }))
    }

    fn concat(&mut self, call: &Concat) -> Answered {
        let mut joined = self.node(&call.to)?.clone();
        for from in &call.from {
            let part = self.nodes.remove(from).ok_or(Kind::NotFound)?;
            joined.entry.bytes += part.entry.bytes;
            joined.blocks.extend(part.blocks);
        }
        joined.entry.version += 1;
        self.nodes.insert(call.to.clone(), joined.clone());
        Ok(Outcome::Entry(joined.entry))
    }
}
