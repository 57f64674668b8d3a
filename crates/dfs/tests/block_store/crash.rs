//! A process is killed at any moment: what it was told is done is done, and nothing is half.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use gristmill_dfs::datanode::block_store::{BlockStore, ReplicaWriter, WriteStage};

use crate::replicas::*;

/// How often a process is killed.
const KILLS: u64 = 50;
/// Lines that a process may say before it is killed: some hundred operations.
const LINES_MAX: u64 = 150;
/// Blocks that a process works with.
const BLOCKS: u64 = 5;
/// The directory of the store, for a child.
const DIRECTORY: &str = "GRISTMILL_TEST_STORE";
const SEED: &str = "GRISTMILL_TEST_SEED";

/// What is known of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    generation: u64,
    bytes: usize,
    finished: bool,
}

/// This test program again, as a process of its own that does `what` with the store in `directory`.
pub(crate) fn child(what: &str, directory: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("crash::child_{what}"), "--ignored", "--nocapture"]);
    command.env(DIRECTORY, directory);
    command
}

fn given(name: &str) -> String {
    env::var(name).expect("only the tests that start this process run this test")
}

#[test]
#[ignore = "is a process that other tests start"]
fn child_hold() {
    match BlockStore::open(&[PathBuf::from(given(DIRECTORY))], OPTIONS) {
        Ok(_) => println!("opened"),
        Err(error) => println!("{error}"),
    }
}

#[test]
#[ignore = "is a process that other tests start, and kill"]
fn child_write() {
    let seed: u64 = given(SEED).parse().unwrap();
    let store = open_soon(&[PathBuf::from(given(DIRECTORY))], OPTIONS).unwrap();
    Busy::new(store, seed).run();
}

/// Does one thing after the other to a few replicas, and says before each what it will have done, and after it that it is
/// done.
struct Busy {
    store: BlockStore,
    dice: Dice,
    writers: BTreeMap<u64, ReplicaWriter>,
    known: BTreeMap<u64, Known>,
    generation: u64,
}

impl Busy {
    fn new(store: BlockStore, seed: u64) -> Busy {
        Busy {
            store,
            dice: Dice::new(seed),
            writers: BTreeMap::new(),
            known: BTreeMap::new(),
            generation: 1000 * seed,
        }
    }

    fn run(mut self) {
        loop {
            let id = self.dice.roll(BLOCKS) + 1;
            self.generation += 1;
            let generation = self.generation;
            match (self.known.get(&id).copied(), self.writers.contains_key(&id)) {
                (None, _) => self.begin(id, generation),
                (Some(known), true) => match self.dice.roll(12) {
                    0..7 => self.write(id, known),
                    7 => self.sync(id, known),
                    8 => self.reopen(id, known, generation),
                    9 => self.settle(id, known, generation),
                    _ => self.finish(id, known),
                },
                (Some(known), false) => match self.dice.roll(4) {
                    0 => self.delete(id),
                    1 => self.settle(id, known, generation),
                    _ => self.reopen(id, known, generation),
                },
            }
        }
    }

    /// `will` is what the replica is to become, None: gone.
    fn say(&mut self, id: u64, will: Option<Known>, done: bool) {
        let word = if done { "did" } else { "will" };
        let line = match will {
            Some(Known { generation, bytes, finished }) => {
                format!("{word} {id} {generation} {bytes} {finished}\n")
            }
            None => format!("{word} {id} gone\n"),
        };
        // One write a line, at once: what is said is said even if the next moment is the last.
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
        if done {
            match will {
                Some(known) => self.known.insert(id, known),
                None => self.known.remove(&id),
            };
        }
    }

    fn doing(&mut self, id: u64, will: Option<Known>, act: impl FnOnce(&mut Busy)) {
        self.say(id, will, false);
        act(self);
        self.say(id, will, true);
    }

    fn begin(&mut self, id: u64, generation: u64) {
        let copy = self.dice.roll(4) == 0;
        if copy {
            let bytes = self.some_bytes(4 * CHUNK);
            let known = Known { generation, bytes, finished: true };
            self.doing(id, Some(known), |busy| {
                let copy = busy.store.create(
                    block(id),
                    gristmill_proto::ids::Generation(generation),
                    WriteStage::Copy,
                    0,
                );
                let mut copy = copy.unwrap();
                extend(&mut copy, bytes).unwrap();
                copy.finish().unwrap();
            });
            return;
        }
        self.doing(id, Some(Known { generation, bytes: 0, finished: false }), |busy| {
            let writer = create(&busy.store, id, generation);
            busy.writers.insert(id, writer);
        });
    }

    fn write(&mut self, id: u64, known: Known) {
        let bytes = known.bytes + self.some_bytes(3 * CHUNK);
        self.doing(id, Some(Known { bytes, ..known }), |busy| {
            extend(busy.writers.get_mut(&id).unwrap(), bytes).unwrap();
        });
    }

    fn sync(&mut self, id: u64, known: Known) {
        self.doing(id, Some(known), |busy| busy.writers.get_mut(&id).unwrap().sync().unwrap());
    }

    fn finish(&mut self, id: u64, known: Known) {
        self.doing(id, Some(Known { finished: true, ..known }), |busy| {
            busy.writers.remove(&id).unwrap().finish().unwrap();
        });
    }

    fn reopen(&mut self, id: u64, known: Known, number: u64) {
        let bytes = self.cut(known.bytes);
        self.doing(id, Some(Known { generation: number, bytes, finished: false }), |busy| {
            let before = generation(known.generation);
            let writer = busy.store.reopen(block(id), before, generation(number), bytes as u64, 0).unwrap();
            busy.writers.insert(id, writer);
        });
    }

    fn settle(&mut self, id: u64, known: Known, number: u64) {
        let bytes = self.cut(known.bytes);
        self.doing(id, Some(Known { generation: number, bytes, finished: true }), |busy| {
            busy.store.stop_writer(block(id), generation(number)).unwrap().unwrap();
            busy.store.settle(block(id), generation(number), bytes as u64).unwrap();
            busy.writers.remove(&id);
        });
    }

    fn delete(&mut self, id: u64) {
        let generation = gristmill_proto::ids::Generation(self.generation);
        self.doing(id, None, |busy| busy.store.delete(block(id), generation).unwrap());
    }

    fn some_bytes(&mut self, most: usize) -> usize {
        1 + self.dice.roll(most as u64) as usize
    }

    /// A length to keep: mostly all.
    fn cut(&mut self, bytes: usize) -> usize {
        let less = if self.dice.roll(3) == 0 { self.dice.roll(bytes as u64 + 1) as usize } else { 0 };
        bytes - less
    }
}

/// What a killed process said: what was done, and what it was about to do.
#[derive(Default)]
struct Said {
    done: BTreeMap<u64, Known>,
    last: Option<(u64, Option<Known>)>,
    operations: u64,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        // What the test harness says is none of ours; and the last line may be cut.
        let (word, id, rest) = match words.as_slice() {
            [word @ ("will" | "did"), id, rest @ ..] if line.ends_with('\n') => {
                (*word, id.parse().unwrap(), rest)
            }
            _ => return,
        };
        let state = match rest {
            ["gone"] => None,
            [generation, bytes, finished] => Some(Known {
                generation: generation.parse().unwrap(),
                bytes: bytes.parse().unwrap(),
                finished: finished.parse().unwrap(),
            }),
            _ => panic!("{line:?}"),
        };
        if word == "will" {
            self.last = Some((id, state));
            return;
        }
        self.last = None;
        self.operations += 1;
        match state {
            Some(known) => self.done.insert(id, known),
            None => self.done.remove(&id),
        };
    }
}

/// Lets the child say so many lines, then a little time, and kills it. Returns what it said until it was dead.
fn kill_after(mut child: Child, mut out: BufReader<ChildStdout>, lines: u64, moment: Duration) -> Said {
    let mut said = Said::default();
    let mut line = String::new();
    for _ in 0..lines {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "it ended by itself: {:?}", child.wait());
        said.hear(&line);
    }
    // The moment itself is the point: anywhere in an operation.
    let until = Instant::now() + moment;
    while Instant::now() < until {
        thread::yield_now();
    }
    child.kill().unwrap();
    loop {
        line.clear();
        if out.read_line(&mut line).unwrap() == 0 {
            break;
        }
        said.hear(&line);
    }
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    said
}

/// What the store has of a block, every byte of it verified.
fn found(store: &BlockStore, id: u64) -> Option<Known> {
    let reader = store.read(block(id), generation(0)).ok()?;
    let bytes = reader.bytes() as usize;
    assert!(contents(&reader).unwrap() == bytes_of(id, 0, bytes), "block {id} has other bytes");
    Some(Known { generation: reader.generation().0, bytes, finished: reader.is_finished() })
}

/// Whether `found` is what a process that was killed while it made `will` of `was` may leave.
fn may_be(found: Option<Known>, was: Option<Known>, will: Option<Option<Known>>) -> bool {
    if found == was || will == Some(found) {
        return true;
    }
    // A write that was under way may be there in part; and a stopped replica, not yet settled.
    match (found, was, will.flatten()) {
        (Some(found), Some(was), Some(will)) if !found.finished && !was.finished => {
            found.generation == was.generation && (was.bytes..=will.bytes).contains(&found.bytes)
        }
        // A copy begun is nothing.
        _ => false,
    }
}

#[test]
fn what_was_acked_survives_a_kill_at_any_moment() {
    let home = Home::new();
    let directory = &home.directories()[0];
    let mut known = BTreeMap::new();
    let (mut operations, mut cut_short, mut unfinished) = (0, 0, 0);
    let mut dice = Dice::new(0);
    for seed in 1..=KILLS {
        let store = home.open();
        for id in 1..=BLOCKS {
            assert_eq!(found(&store, id), known.get(&id).copied(), "it was there before");
            known.remove(&id);
            // The rest of a deletion that was cut short, too.
            store.delete(block(id), generation(u64::MAX)).unwrap();
        }
        drop(store);
        let mut child =
            child("write", directory).env(SEED, seed.to_string()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let moment = Duration::from_micros(dice.roll(3000));
        let said = kill_after(child, out, 4 + dice.roll(LINES_MAX), moment);
        operations += said.operations;
        cut_short += u64::from(said.last.is_some());

        let store = home.open();
        for id in 1..=BLOCKS {
            let was = said.done.get(&id).copied();
            let will = said.last.filter(|last| last.0 == id).map(|last| last.1);
            let found = found(&store, id);
            assert!(
                may_be(found, was, will),
                "kill {seed}, block {id}: {found:?}, was {was:?}, to become {will:?}"
            );
            if let Some(found) = found {
                known.insert(id, found);
                unfinished += u64::from(!found.finished);
            }
        }
        // Of a deletion that was cut short the checksums may be left.
        let deleting = |id: u64| said.last == Some((id, None));
        assert!(store.bad_replicas().iter().all(|bad| deleting(bad.block)), "kill {seed}: {:?}", said.last);
        assert_eq!(
            (store.recovery().strange, store.recovery().set_aside),
            (0, 0),
            "kill {seed}: {}",
            store.recovery()
        );
        assert_eq!(store.recovery().unfinished, store.unfinished_replicas().len() as u64);
    }
    // The kills came when something was going on.
    assert!(
        operations > 20 * KILLS && cut_short > KILLS / 4 && unfinished > KILLS / 4,
        "{operations} {cut_short} {unfinished}"
    );
}
