//! kill -9 of the master at any moment, under a mixed load checked against a model: every acknowledged operation is
//! there, every other happened wholly or not at all, and an operation asked for again is not done again.
//!
//! Each author works below a directory of its own and knows exactly what must be there. Its calls survive the
//! master: the client asks again, under the same name of the call, until the next master answers. A call that was
//! done twice would show at once: a second create or rename is refused, a second delete finds nothing.
//!
//! `GRISTMILL_KILLS` sets how often the master is killed: 25 in a usual run, thousands by hand; `GRISTMILL_SEED` which
//! moments these are. bench/README.md has the command.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use gristmill_dfs::client::{ClientOptions, CreateOptions, DfsClient, DfsError, RenameMode};
use gristmill_proto::namespace::failure::Kind;
use gristmill_tests::{Cluster, Dice, patiently};

const AUTHORS: u64 = 4;
/// A start takes about so long; those that are cut off are cut off anywhere in it.
const START_US: usize = 40_000;
/// For one answer, over all deaths of the master meanwhile.
const CALL_TIMEOUT: Duration = Duration::from_secs(600);
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// What all authors have done, for the one who kills.
#[derive(Default)]
struct Progress {
    acknowledged: AtomicU64,
    in_flight: AtomicU64,
    over: AtomicBool,
}

/// One author's directory: paths below it, with the mode of each; true: a directory.
type Model = BTreeMap<String, (bool, u32)>;

#[test]
fn what_the_master_acknowledged_survives_kill_9_and_happens_once() {
    let (kills, seed) = (number("GRISTMILL_KILLS", 25), number("GRISTMILL_SEED", 41));
    let mut cluster = Cluster::start(0);
    let progress = Progress::default();
    // While the master dies at every moment a call may be unlucky often.
    let options = ClientOptions { call_timeout: CALL_TIMEOUT, ..cluster.client_options() };
    let connect = |_| DfsClient::connect(options.clone()).expect("the master takes clients");
    let clients: Vec<DfsClient> = (0..AUTHORS).map(connect).collect();

    let (models, caught) = thread::scope(|scope| {
        let authors: Vec<_> = (0..AUTHORS)
            .map(|author| {
                let (client, progress) = (&clients[author as usize], &progress);
                scope.spawn(move || Author::new(client, author, seed, progress).work())
            })
            .collect();
        let mut dice = Dice::new(seed);
        let mut caught = 0;
        for _ in 0..kills {
            let until = progress.acknowledged.load(Ordering::Relaxed) + 1 + dice.below(40) as u64;
            patiently("some work", || progress.acknowledged.load(Ordering::Relaxed) >= until);
            caught += u64::from(progress.in_flight.load(Ordering::Relaxed) > 0);
            cluster.kill_master();
            // One in four does not come to the end of its start.
            if dice.below(4) == 0 {
                cluster.start_master_in_vain(Duration::from_micros(dice.below(START_US) as u64));
            }
            cluster.start_master();
        }
        progress.over.store(true, Ordering::Relaxed);
        let models: Vec<Model> =
            authors.into_iter().map(|author| author.join().expect("an author")).collect();
        (models, caught)
    });

    // The fault fired: nearly always somebody was waiting for an answer when the master died.
    assert!(caught * 2 >= kills, "only {caught} of {kills} kills met a call in flight");
    assert!(progress.acknowledged.load(Ordering::Relaxed) > kills, "hardly anything was done");
    let witness = cluster.client();
    for (author, model) in models.iter().enumerate() {
        assert_eq!(&found(&witness, author as u64), model, "author {author}");
    }
    eprintln!(
        "{kills} kills, {caught} with calls in flight, {} operations acknowledged",
        progress.acknowledged.load(Ordering::Relaxed)
    );
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

/// One who works below a directory of its own and remembers what must be there.
struct Author<'c> {
    client: &'c DfsClient,
    home: String,
    dice: Dice,
    model: Model,
    progress: &'c Progress,
}

impl<'c> Author<'c> {
    fn new(client: &'c DfsClient, author: u64, seed: u64, progress: &'c Progress) -> Author<'c> {
        let dice = Dice::new(seed * AUTHORS + author);
        Author { client, home: home(author), dice, model: Model::new(), progress }
    }

    fn work(mut self) -> Model {
        self.acknowledged(|author| author.client.make_directory(&author.home, true, 0o755).map(drop))
            .expect("a home");
        while !self.progress.over.load(Ordering::Relaxed) {
            let path = self.path();
            match self.dice.below(6) {
                0 => self.make_directory(path),
                1 | 2 => self.create(path),
                3 => self.rename(path),
                4 => self.delete(path),
                _ => self.set_mode(path),
            }
            let seen = self.path();
            self.look(&seen);
        }
        self.model
    }

    /// A path of one to three names.
    fn path(&mut self) -> String {
        let depth = 1 + self.dice.below(3);
        (0..depth).map(|_| format!("/{}", self.dice.pick(&NAMES))).collect()
    }

    fn acknowledged<T>(&self, work: impl FnOnce(&Self) -> Result<T, DfsError>) -> Result<T, Kind> {
        self.progress.in_flight.fetch_add(1, Ordering::Relaxed);
        let done = work(self);
        self.progress.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.progress.acknowledged.fetch_add(1, Ordering::Relaxed);
        done.map_err(|error| error.kind().unwrap_or_else(|| panic!("no decision of the namenode: {error}")))
    }

    fn full(&self, path: &str) -> String {
        format!("{}{path}", self.home)
    }

    /// Why nothing can be made at `path`, as far as what is above it goes.
    fn obstacle(&self, path: &str) -> Option<Kind> {
        let mut above = path;
        while let Some(slash) = above.rfind('/').filter(|slash| *slash > 0) {
            above = &above[..slash];
            if let Some((false, _)) = self.model.get(above) {
                return Some(Kind::NotADirectory);
            }
        }
        let parent = &path[..path.rfind('/').expect("a path has a slash")];
        (!parent.is_empty() && !self.model.contains_key(parent)).then_some(Kind::NotFound)
    }

    fn make_directory(&mut self, path: String) {
        let expected = match (self.obstacle(&path), self.model.contains_key(&path)) {
            (Some(kind), _) => Err(kind),
            (None, true) => Err(Kind::AlreadyExists),
            (None, false) => Ok(()),
        };
        let done = self
            .acknowledged(|author| author.client.make_directory(&author.full(&path), false, 0o755).map(drop));
        assert_eq!(done, expected, "mkdir {path}");
        if done.is_ok() {
            self.model.insert(path, (true, 0o755));
        }
    }

    fn create(&mut self, path: String) {
        let expected = match (self.obstacle(&path), self.model.get(&path)) {
            (Some(kind), _) => Err(kind),
            (None, Some((true, _))) => Err(Kind::IsADirectory),
            (None, Some((false, _))) => Err(Kind::AlreadyExists),
            (None, None) => Ok(()),
        };
        let options = CreateOptions { parents: false, mode: 0o644, ..CreateOptions::default() };
        let done = self.acknowledged(|author| {
            let writer = author.client.create(&author.full(&path), options)?;
            writer.finish().map(drop)
        });
        assert_eq!(done, expected, "create {path}");
        if done.is_ok() {
            self.model.insert(path, (false, 0o644));
        }
    }

    fn rename(&mut self, from: String) {
        let to = self.path();
        let inside = to == from || to.starts_with(&format!("{from}/"));
        if !self.model.contains_key(&from)
            || inside
            || self.obstacle(&to).is_some()
            || self.model.contains_key(&to)
        {
            return;
        }
        let done = self.acknowledged(|author| {
            author.client.rename(&author.full(&from), &author.full(&to), RenameMode::Refuse).map(drop)
        });
        assert_eq!(done, Ok(()), "rename {from} to {to}");
        let moved: Vec<String> = self.below(&from);
        for path in moved {
            let entry = self.model.remove(&path).expect("it was found there");
            self.model.insert(format!("{to}{}", &path[from.len()..]), entry);
        }
    }

    fn delete(&mut self, path: String) {
        let found = self.model.contains_key(&path);
        if self.obstacle(&path) == Some(Kind::NotADirectory) {
            return;
        }
        let done = self.acknowledged(|author| author.client.delete(&author.full(&path), true, true));
        assert_eq!(done.map(|deleted| deleted.found), Ok(found), "delete {path}");
        for gone in self.below(&path) {
            self.model.remove(&gone);
        }
    }

    fn set_mode(&mut self, path: String) {
        let mode = 0o700 | self.dice.below(0o100) as u32;
        if let Some((is_directory, _)) = self.model.get(&path).copied() {
            let done = self.acknowledged(|author| {
                author.client.set_mode(&author.full(&path), mode).map(|entry| entry.mode)
            });
            assert_eq!(done, Ok(mode), "chmod {path}");
            self.model.insert(path, (is_directory, mode));
        }
    }

    /// One's own writes are read.
    fn look(&self, path: &str) {
        let seen = self.acknowledged(|author| author.client.stat(&author.full(path)));
        match (seen, self.model.get(path)) {
            (Ok(entry), Some(expected)) => {
                assert_eq!(&(entry.is_directory, entry.mode), expected, "stat {path}")
            }
            (Err(kind), None) => {
                assert!([Kind::NotFound, Kind::NotADirectory].contains(&kind), "stat {path}: {kind:?}");
            }
            (seen, expected) => panic!("stat {path}: {seen:?}, not {expected:?}"),
        }
    }

    /// `path` and all below it.
    fn below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        self.model.keys().filter(|each| *each == path || each.starts_with(&prefix)).cloned().collect()
    }
}

fn home(author: u64) -> String {
    format!("/author-{author}")
}

/// What is below an author's home, as another client sees it.
fn found(client: &DfsClient, author: u64) -> Model {
    let home = home(author);
    let mut found = Model::new();
    let mut directories = vec![home.clone()];
    while let Some(directory) = directories.pop() {
        for entry in client.list(&directory).expect("a listing") {
            let entry = entry.expect("an entry");
            assert!(!entry.under_construction, "{} is still open", entry.path);
            if entry.is_directory {
                directories.push(entry.path.clone());
            }
            found.insert(entry.path[home.len()..].to_owned(), (entry.is_directory, entry.mode));
        }
    }
    found
}
