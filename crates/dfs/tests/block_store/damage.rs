//! Whatever happens to the files of a finished replica, nobody ever gets other bytes than were written.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use gristmill_dfs::datanode::block_store::{BlockStore, Change, ReplicaError};
use gristmill_dfs::datanode::scrub::{Lap, Scrubber};
use proptest::prelude::*;

use crate::replicas::*;

/// Blocks in the same directory, of two chunks and a half, one, and a few bytes.
const REPLICAS: [(u64, usize); 3] = [(1, 2 * CHUNK + 777), (257, CHUNK), (513, 9)];

/// What can happen to a file; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Damage {
    Flip {
        sums: bool,
        replica: usize,
        bit: u64,
    },
    Cut {
        sums: bool,
        replica: usize,
        bytes: u64,
    },
    Remove {
        sums: bool,
        replica: usize,
    },
    Overwrite {
        sums: bool,
        replica: usize,
        byte: u8,
    },
    /// Two files change places; each keeps its name.
    Swap {
        sums: bool,
        replica: usize,
    },
    /// All files of two replicas change places.
    SwapPairs {
        replica: usize,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || (any::<bool>(), 0..REPLICAS.len());
    prop_oneof![
        4 => (place(), any::<u64>()).prop_map(|((sums, replica), bit)| Damage::Flip { sums, replica, bit }),
        2 => (place(), any::<u64>()).prop_map(|((sums, replica), bytes)| Damage::Cut { sums, replica, bytes }),
        1 => place().prop_map(|(sums, replica)| Damage::Remove { sums, replica }),
        1 => (place(), any::<u8>()).prop_map(|((sums, replica), byte)| Damage::Overwrite { sums, replica, byte }),
        1 => place().prop_map(|(sums, replica)| Damage::Swap { sums, replica }),
        1 => (0..REPLICAS.len()).prop_map(|replica| Damage::SwapPairs { replica }),
    ]
}

impl Damage {
    /// Does it; returns the blocks of the replicas that are damaged now.
    fn inflict(&self, home: &Home) -> Vec<u64> {
        let file = |sums: bool, replica: usize| {
            let id = REPLICAS[replica].0;
            if sums { home.sums_path(id) } else { home.data_path(id) }
        };
        let other = |replica: usize| (replica + 1) % REPLICAS.len();
        match *self {
            Damage::Flip { sums, replica, bit } => {
                let path = file(sums, replica);
                let mut bytes = fs::read(&path).unwrap();
                let bit = (bit % (bytes.len() as u64 * 8)) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, bytes).unwrap();
                vec![REPLICAS[replica].0]
            }
            Damage::Cut { sums, replica, bytes } => {
                let file = OpenOptions::new().write(true).open(file(sums, replica)).unwrap();
                let length = file.metadata().unwrap().len();
                file.set_len(bytes % length).unwrap();
                vec![REPLICAS[replica].0]
            }
            Damage::Remove { sums, replica } => {
                fs::remove_file(file(sums, replica)).unwrap();
                vec![REPLICAS[replica].0]
            }
            Damage::Overwrite { sums, replica, byte } => {
                let path = file(sums, replica);
                fs::write(&path, vec![byte; fs::read(&path).unwrap().len()]).unwrap();
                vec![REPLICAS[replica].0]
            }
            Damage::Swap { sums, replica } => {
                exchange(&file(sums, replica), &file(sums, other(replica)));
                vec![REPLICAS[replica].0, REPLICAS[other(replica)].0]
            }
            Damage::SwapPairs { replica } => {
                exchange(&file(true, replica), &file(true, other(replica)));
                exchange(&file(false, replica), &file(false, other(replica)));
                vec![REPLICAS[replica].0, REPLICAS[other(replica)].0]
            }
        }
    }
}

fn exchange(one: &Path, other: &Path) {
    let aside = PathBuf::from(format!("{}.aside", one.display()));
    fs::rename(one, &aside).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(aside, other).unwrap();
}

fn fill(store: &BlockStore) {
    for (id, bytes) in REPLICAS {
        finished(store, id, id + 1, bytes);
    }
}

/// Reads all replicas as clients do: right bytes, or an error.
fn read_all(store: &BlockStore, damaged: &[u64]) -> Result<(), TestCaseError> {
    for (id, bytes) in REPLICAS {
        let read = store.read(block(id), generation(id + 1)).and_then(|reader| contents(&reader));
        match read {
            Ok(data) => {
                prop_assert!(data == bytes_of(id, 0, bytes), "block {} has other bytes", id);
                prop_assert!(!damaged.contains(&id), "block {} was read though it is damaged", id);
            }
            Err(ReplicaError::Corrupt { .. }) => prop_assert!(damaged.contains(&id), "block {} is well", id),
            // Without its checksum file it is nothing after a restart.
            Err(ReplicaError::NotFound { .. }) => prop_assert!(damaged.contains(&id), "block {} is lost", id),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }
    Ok(())
}

fn bad(damaged: &[u64]) -> Vec<Change> {
    let damaged = REPLICAS.iter().filter(|(id, _)| damaged.contains(id));
    damaged.map(|&(id, bytes)| Change::Bad(info(id, id + 1, bytes))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn readers_get_what_was_written_or_an_error(damage in damage()) {
        let home = Home::in_memory();
        let store = home.open();
        fill(&store);
        let damaged = damage.inflict(&home);
        read_all(&store, &damaged)?;
        // A restart knows of no damage before; it must not make anything of it either.
        drop(store);
        let store = home.open();
        read_all(&store, &damaged)?;
    }

    #[test]
    fn a_lap_finds_exactly_the_damaged_ones(damage in damage()) {
        let home = Home::in_memory();
        let store = home.open();
        fill(&store);
        let heard = Heard::from(&store);
        let damaged = damage.inflict(&home);
        let scrubber = Scrubber { bytes_per_s: u64::MAX, ..Scrubber::default() };
        let stop = AtomicBool::new(false);
        let lap = scrubber.lap(&store, &stop);
        let count = damaged.len() as u64;
        prop_assert_eq!(lap, Lap { good: REPLICAS.len() as u64 - count, bad: count, skipped: 0 });
        prop_assert_eq!(heard.take(), bad(&damaged));
        // They are kept, known, not served and not looked at again.
        prop_assert_eq!(store.bad_replicas().len(), damaged.len());
        for id in &damaged {
            let refused = store.read(block(*id), generation(0)).and_then(|reader| contents(&reader));
            let served = !matches!(refused, Err(ReplicaError::Corrupt { .. }));
            prop_assert!(!served, "block {} is served", id);
        }
        prop_assert_eq!(scrubber.lap(&store, &stop).bad, 0);
        // The namenode decides to delete them, and has them copied again.
        for id in damaged {
            store.delete(block(id), generation(id + 1)).unwrap();
            let (_, bytes) = REPLICAS.into_iter().find(|replica| replica.0 == id).unwrap();
            finished(&store, id, id + 2, bytes);
        }
        prop_assert_eq!(scrubber.lap(&store, &stop), Lap { good: REPLICAS.len() as u64, bad: 0, skipped: 0 });
    }

    #[test]
    fn a_complaint_is_looked_into_at_once(damage in damage()) {
        let home = Home::in_memory();
        let store = home.open();
        fill(&store);
        let heard = Heard::from(&store);
        let damaged = damage.inflict(&home);
        for (id, bytes) in REPLICAS {
            match store.check(block(id), generation(id + 1)) {
                Ok(found) => {
                    prop_assert_eq!(found, info(id, id + 1, bytes));
                    prop_assert!(!damaged.contains(&id));
                }
                Err(error) => prop_assert!(matches!(error, ReplicaError::Corrupt { .. }), "{}", error),
            }
        }
        prop_assert_eq!(heard.take(), bad(&damaged));
    }
}

#[test]
fn a_bad_replica_is_announced_again_when_somebody_complains_again() {
    let home = Home::new();
    let store = home.open();
    let heard = Heard::from(&store);
    finished(&store, 1, 5, 100);
    fs::remove_file(home.data_path(1)).unwrap();
    let missing = said(store.read(block(1), generation(5)));
    assert_eq!(
        missing,
        format!(
            "the replica of block-1 with g5 is bad: {}: the file is missing",
            home.data_path(1).display()
        )
    );
    assert!(said(store.check(block(1), generation(5))).ends_with("it was found to be bad before"));
    let bad = Change::Bad(info(1, 5, 100));
    assert_eq!(heard.take(), [Change::Finished(info(1, 5, 100)), bad, bad]);
}

#[test]
fn a_replica_without_data_is_announced_after_a_restart() {
    let home = Home::new();
    let store = home.open();
    finished(&store, 1, 5, 100);
    finished(&store, 2, 5, 100);
    drop(store);
    fs::remove_file(home.data_path(1)).unwrap();
    let store = home.open();
    assert_eq!(store.recovery().without_data, 1);
    assert_eq!(Heard::from(&store).take(), [Change::Bad(info(1, 5, 100))]);
    assert_eq!(store.replicas_after(block(0), 10), [info(2, 5, 100)]);
}
