//! A namespace to tell stories about.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Mutex;

use gristmill_dfs::namenode::namespace::{
    Action, Applied, Caller, Command, Effect, Facts, LeaseClock, Namespace, NamespaceOptions,
};
use gristmill_proto::ids::{ClientId, WorkerId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{
    AddBlock, Append, BlockEnd, Complete, Create, Delete, Deleted, Entry, List, Locate, LocatedBlock,
    MakeDirectory, OpenFile, Rename, Stat, Truncate, rename::Mode,
};
use redb::backends::InMemoryBackend;

/// Bytes of a full block in all stories.
pub(crate) const BLOCK: u64 = 1000;
/// When stories begin.
pub(crate) const START_MS: u64 = 1_795_199_000_000;

/// A namespace, a clock and the silence of clients.
pub(crate) struct Story {
    pub(crate) namespace: Namespace,
    pub(crate) now_ms: Cell<u64>,
    pub(crate) clock: Silence,
}

/// For how long clients have been silent; those not in it have just spoken.
#[derive(Default)]
pub(crate) struct Silence(Mutex<HashMap<ClientId, u64>>);

impl Silence {
    pub(crate) fn set(&self, client: ClientId, idle_ms: u64) {
        self.0.lock().unwrap().insert(client, idle_ms);
    }
}

impl LeaseClock for Silence {
    fn idle_ms(&self, client: ClientId) -> u64 {
        self.0.lock().unwrap().get(&client).copied().unwrap_or(0)
    }
}

pub(crate) fn options() -> NamespaceOptions {
    NamespaceOptions {
        block_bytes: BLOCK,
        block_bytes_min: 10,
        replication: 2,
        cache_bytes: 8 << 20,
        ..NamespaceOptions::default()
    }
}

impl Story {
    pub(crate) fn new() -> Story {
        Story::with(options())
    }

    pub(crate) fn with(options: NamespaceOptions) -> Story {
        let namespace = Namespace::with_backend(InMemoryBackend::new(), options).unwrap();
        Story { namespace, now_ms: Cell::new(START_MS), clock: Silence::default() }
    }

    /// A group of one command of the master's own; a second passes.
    pub(crate) fn act(&self, action: Action) -> Applied {
        self.command(Command { id: None, settled_below: 0, caller: root(), now_ms: 0, action })
    }

    pub(crate) fn command(&self, command: Command) -> Applied {
        let command = Command { now_ms: self.now_ms.get(), ..command };
        self.now_ms.set(self.now_ms.get() + 1000);
        self.namespace.apply_group(&[command], &self.clock).unwrap().remove(0)
    }

    pub(crate) fn apply(&self, caller: &Caller, request: Request) -> Applied {
        self.apply_with(caller, request, facts(&[1, 2]))
    }

    pub(crate) fn apply_with(&self, caller: &Caller, request: Request, facts: Facts) -> Applied {
        let action = Action::Request(request, facts);
        self.command(Command { id: None, settled_below: 0, caller: caller.clone(), now_ms: 0, action })
    }

    /// The answer, which is no failure.
    pub(crate) fn ok(&self, caller: &Caller, request: Request) -> Outcome {
        self.ok_with_effects(caller, request).0
    }

    pub(crate) fn ok_with_effects(&self, caller: &Caller, request: Request) -> (Outcome, Vec<Effect>) {
        let applied = self.apply(caller, request.clone());
        if let Outcome::Failure(failure) = &applied.outcome {
            panic!("{request:?}: {failure:?}");
        }
        (applied.outcome, applied.effects)
    }

    /// Why it is refused; nothing has changed then.
    pub(crate) fn refused(&self, caller: &Caller, request: Request) -> Kind {
        let before = self.tree();
        let applied = self.apply(caller, request.clone());
        assert_eq!(self.tree(), before, "{request:?} was refused and left something");
        assert_eq!(applied.effects, []);
        kind(&applied.outcome).unwrap_or_else(|| panic!("{request:?} was not refused"))
    }

    pub(crate) fn mkdir(&self, caller: &Caller, path: &str) -> Entry {
        entry(self.ok(caller, mkdir(path)))
    }

    pub(crate) fn create(&self, caller: &Caller, path: &str) -> OpenFile {
        match self.ok(caller, create(path)) {
            Outcome::OpenFile(open) => open,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn add_block(&self, caller: &Caller, inode: u64, previous: Option<BlockEnd>) -> LocatedBlock {
        let request = Request::AddBlock(AddBlock { inode, previous, exclude: Vec::new() });
        match self.ok(caller, request) {
            Outcome::Block(block) => block,
            other => panic!("{other:?}"),
        }
    }

    /// A closed file with blocks of these lengths.
    pub(crate) fn write(&self, caller: &Caller, path: &str, blocks: &[u64]) -> Entry {
        let inode = self.create(caller, path).entry.unwrap().inode;
        let mut last = None;
        for &bytes in blocks {
            last = Some(end(&self.add_block(caller, inode, last), bytes));
        }
        entry(self.ok(caller, Request::Complete(Complete { inode, last })))
    }

    pub(crate) fn append(&self, caller: &Caller, path: &str) -> OpenFile {
        match self.ok(caller, append(path)) {
            Outcome::OpenFile(open) => open,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&self, caller: &Caller, path: &str) -> Deleted {
        match self.ok(caller, delete(path, true, true)) {
            Outcome::Deleted(deleted) => deleted,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stat(&self, path: &str) -> Option<Entry> {
        match self.read(&root(), Request::Stat(Stat { path: path.to_owned() })) {
            Outcome::Entry(entry) => Some(entry),
            Outcome::Failure(failure) if failure.kind() == Kind::NotFound => None,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn located(&self, path: &str, offset: u64, bytes: u64) -> Vec<LocatedBlock> {
        match self.read(&root(), Request::Locate(Locate { path: path.to_owned(), offset, bytes, limit: 0 })) {
            Outcome::Located(file) => file.blocks,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn read(&self, caller: &Caller, request: Request) -> Outcome {
        self.namespace.snapshot().unwrap().answer(caller, &request).unwrap().expect("it is a read")
    }

    /// Everything, by path.
    pub(crate) fn tree(&self) -> Vec<Entry> {
        tree(&self.namespace)
    }

    /// Reclaims until nothing is left to reclaim, and returns what was forgotten.
    pub(crate) fn reclaim(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..10_000 {
            let applied = self.act(Action::Reclaim { records_max: 3 });
            let unfinished = applied.effects.contains(&Effect::Unfinished);
            effects.extend(applied.effects.into_iter().filter(|effect| *effect != Effect::Unfinished));
            if !unfinished {
                assert!(!self.namespace.snapshot().unwrap().has_orphans());
                return effects;
            }
        }
        panic!("reclaiming does not end");
    }
}

/// Everything that a namespace holds, by path.
pub(crate) fn tree(namespace: &Namespace) -> Vec<Entry> {
    let snapshot = namespace.snapshot().unwrap();
    let mut entries = vec![snapshot.stat(&root(), "/").unwrap()];
    let mut next = 0;
    while next < entries.len() {
        let path = entries[next].path.clone();
        if entries[next].is_directory {
            let listing = snapshot.list(&root(), &List { path, after: String::new(), limit: 0 }).unwrap();
            assert!(!listing.more);
            entries.extend(listing.entries);
        }
        next += 1;
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    entries
}

pub(crate) fn kind(outcome: &Outcome) -> Option<Kind> {
    match outcome {
        Outcome::Failure(failure) => Some(failure.kind()),
        _ => None,
    }
}

pub(crate) fn entry(outcome: Outcome) -> Entry {
    match outcome {
        Outcome::Entry(entry) => entry,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn caller(user: &str, groups: &[&str], client: u8) -> Caller {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    Caller { client: ClientId([client; 16]), user: user.to_owned(), groups }
}

pub(crate) fn root() -> Caller {
    caller("root", &["supergroup"], 1)
}

pub(crate) fn ada() -> Caller {
    caller("ada", &["staff", "dev"], 2)
}

pub(crate) fn bob() -> Caller {
    caller("bob", &["staff"], 3)
}

pub(crate) fn facts(workers: &[u64]) -> Facts {
    Facts {
        targets: workers.iter().map(|&worker| WorkerId(worker)).collect(),
        durable: true,
        ..Facts::default()
    }
}

pub(crate) fn end(block: &LocatedBlock, bytes: u64) -> BlockEnd {
    BlockEnd { block: block.block, generation: block.generation, bytes }
}

pub(crate) fn mkdir(path: &str) -> Request {
    Request::MakeDirectory(MakeDirectory { path: path.to_owned(), parents: true, mode: 0o755 })
}

pub(crate) fn create(path: &str) -> Request {
    Request::Create(Create { path: path.to_owned(), parents: true, mode: 0o644, ..Create::default() })
}

pub(crate) fn overwrite(path: &str) -> Request {
    Request::Create(Create { path: path.to_owned(), overwrite: true, mode: 0o644, ..Create::default() })
}

pub(crate) fn append(path: &str) -> Request {
    Request::Append(Append { path: path.to_owned() })
}

pub(crate) fn truncate(path: &str, bytes: u64) -> Request {
    Request::Truncate(Truncate { path: path.to_owned(), bytes })
}

pub(crate) fn delete(path: &str, recursive: bool, skip_trash: bool) -> Request {
    Request::Delete(Delete { path: path.to_owned(), recursive, skip_trash })
}

pub(crate) fn rename(from: &str, to: &str, mode: Mode) -> Request {
    let (from, to) = (from.to_owned(), to.to_owned());
    Request::Rename(Rename { from, to, mode: mode.into(), inode: 0, version: 0 })
}
