//! How replicas pass from one writer to the next, and how the old one finds out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use gristmill_dfs::datanode::block_store::{BlockStore, Change, ReplicaError, Stopped, WriteStage};
use gristmill_proto::chunks::CHUNK_BYTES;
use gristmill_proto::ids::Generation;
use gristmill_proto::messages::bulk_failure::Kind;

use crate::replicas::*;

fn assert_fenced<T>(result: Result<T, ReplicaError>) {
    assert!(matches!(result.err(), Some(ReplicaError::Fenced { .. })));
}

#[test]
fn a_rebuilt_replica_goes_on_and_its_old_writer_is_fenced() {
    let home = Home::new();
    let store = home.open();
    let mut ghost = create(&store, 1, 5);
    extend(&mut ghost, 4 * CHUNK + 77).unwrap();
    let cut = 3 * CHUNK + 1234;
    let mut heir = store.reopen(block(1), generation(5), generation(6), cut as u64, 0).unwrap();
    assert_eq!((heir.bytes(), heir.generation()), (cut as u64, generation(6)));
    assert_holds(&store, 1, 6, cut);
    assert_eq!(home.names(1), ["1", "1_6.open"]);
    assert_fenced(extend(&mut ghost, 5 * CHUNK));
    assert_fenced(ghost.sync());
    extend(&mut heir, 6 * CHUNK + 1).unwrap();
    assert_fenced(ghost.finish());
    heir.finish().unwrap();
    assert_holds(&store, 1, 6, 6 * CHUNK + 1);
}

#[test]
fn a_ghost_in_the_middle_of_a_write_is_fenced_by_its_next() {
    let home = Home::new();
    let store = home.open();
    for round in 1..=10 {
        let mut ghost = create(&store, round, 5);
        extend(&mut ghost, CHUNK).unwrap();
        let taken = AtomicBool::new(false);
        thread::scope(|scope| {
            let writing = scope.spawn(|| {
                loop {
                    let was_taken = taken.load(Ordering::Acquire);
                    let end = ghost.bytes() as usize + 8 * CHUNK;
                    match extend(&mut ghost, end) {
                        Ok(()) => assert!(!was_taken, "a ghost wrote"),
                        Err(error) => return error,
                    }
                }
            });
            while store.read(block(round), generation(5)).unwrap().bytes() < 20 * CHUNK_BYTES {
                thread::yield_now();
            }
            let heir = store.reopen(block(round), generation(5), generation(6), CHUNK_BYTES + 5, 0).unwrap();
            taken.store(true, Ordering::Release);
            assert!(matches!(writing.join().unwrap(), ReplicaError::Fenced { .. }));
            assert_eq!(heir.finish().unwrap(), info(round, 6, CHUNK + 5));
        });
        assert_holds(&store, round, 6, CHUNK + 5);
        assert_eq!(std::fs::metadata(home.data_path(round)).unwrap().len(), CHUNK_BYTES + 5);
    }
}

#[test]
fn only_the_right_generations_are_rebuilt() {
    let home = Home::new();
    let store = home.open();
    let mut writer = create(&store, 1, 5);
    extend(&mut writer, 100).unwrap();
    let rebuild = |before, number, offset| {
        store.reopen(block(1), generation(before), generation(number), offset, 0).map(drop)
    };
    assert_eq!(said(rebuild(6, 7, 100)), "the replica of block-1 here has g5, older than g6");
    assert_eq!(said(rebuild(3, 4, 100)), "g4 of block-1 is over: the replica here has g5");
    assert_eq!(said(rebuild(5, 5, 50)), "a replica of block-1 with g5 is here already");
    // None of these took the replica from its writer.
    extend(&mut writer, 200).unwrap();
    assert_eq!(
        said(rebuild(5, 6, 201)),
        "the replica of block-1 here has 200 good bytes, 201 are to be kept"
    );
    rebuild(5, 6, 200).unwrap();
    // The same request come again, and a later one that was not told of it.
    rebuild(5, 6, 200).unwrap();
    rebuild(5, 7, 200).unwrap();
    assert_holds(&store, 1, 7, 200);
    assert_eq!(said(store.reopen(block(2), generation(1), generation(2), 0, 0)), "block-2 is not here");
}

#[test]
fn a_finished_replica_is_appended_to() {
    let home = Home::new();
    let store = home.open();
    let heard = Heard::from(&store);
    for (id, bytes) in [(1, 2 * CHUNK + 100), (2, 2 * CHUNK), (3, 0)] {
        finished(&store, id, 5, bytes);
        let early = store.read(block(id), generation(5)).unwrap();
        let mut writer = store.reopen(block(id), generation(5), generation(6), bytes as u64, 0).unwrap();
        assert_holds(&store, id, 6, bytes);
        extend(&mut writer, 3 * CHUNK + 7).unwrap();
        writer.finish().unwrap();
        assert_holds(&store, id, 6, 3 * CHUNK + 7);
        assert!(contents(&early).unwrap() == bytes_of(id, 0, bytes));
        assert_eq!(home.names(id).len(), 2);
        assert_eq!(
            heard.take(),
            [Change::Finished(info(id, 5, bytes)), Change::Finished(info(id, 6, 3 * CHUNK + 7))]
        );
    }
}

#[test]
fn a_replica_opened_for_appending_survives_a_restart() {
    let home = Home::new();
    let store = home.open();
    finished(&store, 1, 5, CHUNK + 100);
    drop(store.reopen(block(1), generation(5), generation(6), CHUNK_BYTES + 100, 0).unwrap());
    drop(store);
    let store = home.open();
    assert_eq!(store.unfinished_replicas(), [info(1, 6, CHUNK + 100)]);
    assert_holds(&store, 1, 6, CHUNK + 100);
    // Whoever was too late to hear of the failure of that appending.
    drop(store.reopen(block(1), generation(5), generation(7), CHUNK_BYTES + 100, 0).unwrap());
    assert_holds(&store, 1, 7, CHUNK + 100);
}

#[test]
fn appending_needs_a_new_generation() {
    let home = Home::new();
    let store = home.open();
    finished(&store, 1, 5, 100);
    let append =
        |before, number| store.reopen(block(1), generation(before), generation(number), 100, 0).map(drop);
    assert_eq!(said(append(5, 5)), "a replica of block-1 with g5 is here already");
    assert_eq!(said(append(4, 4)), "g4 of block-1 is over: the replica here has g5");
    assert_eq!(said(append(6, 7)), "the replica of block-1 here has g5, older than g6");
    assert_holds(&store, 1, 5, 100);
}

#[test]
fn a_stopped_writer_is_over_even_after_a_restart() {
    let home = Home::new();
    let store = home.open();
    let mut ghost = create(&store, 1, 5);
    extend(&mut ghost, CHUNK + 9).unwrap();
    let stopped = Stopped { generation_before: generation(5), bytes: CHUNK_BYTES + 9 };
    assert_eq!(store.stop_writer(block(1), generation(8)).unwrap(), Some(stopped));
    assert_fenced(extend(&mut ghost, 2 * CHUNK));
    drop((ghost, store));
    for _ in 0..2 {
        let store = home.open();
        // The same order again, an older one, and a pipeline that has not heard of it.
        assert_eq!(store.stop_writer(block(1), generation(8)).unwrap(), Some(stopped));
        let over = "g7 of block-1 is over: the replica here has g8";
        assert_eq!(said(store.stop_writer(block(1), generation(7))), over);
        assert_eq!(said(store.reopen(block(1), generation(5), generation(7), 0, 0)), over);
        assert_holds(&store, 1, 5, CHUNK + 9);
        assert_eq!(store.stop_writer(block(2), generation(8)).unwrap(), None);
    }
}

#[test]
fn a_finished_replica_can_be_fenced_too() {
    let home = Home::new();
    let store = home.open();
    finished(&store, 1, 5, 100);
    let stopped = Stopped { generation_before: generation(5), bytes: 100 };
    assert_eq!(store.stop_writer(block(1), generation(8)).unwrap(), Some(stopped));
    assert_holds(&store, 1, 5, 100);
    drop(store);
    let store = home.open();
    assert_eq!(
        said(store.reopen(block(1), generation(5), generation(7), 100, 0)),
        "g7 of block-1 is over: the replica here has g8"
    );
    assert_eq!(store.settle(block(1), generation(8), 100).unwrap(), info(1, 8, 100));
    assert_holds(&store, 1, 8, 100);
    // The order come again after all was settled.
    let settled = Stopped { generation_before: generation(8), bytes: 100 };
    assert_eq!(store.stop_writer(block(1), generation(8)).unwrap(), Some(settled));
}

#[test]
fn a_replica_is_settled_at_any_length_it_has() {
    let home = Home::new();
    let store = home.open();
    let heard = Heard::from(&store);
    let full = 3 * CHUNK + 500;
    let lengths = [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 1, full];
    for (id, bytes) in (1..).zip(lengths) {
        let mut ghost = create(&store, id, 5);
        extend(&mut ghost, full).unwrap();
        let settled = store.settle(block(id), generation(6), bytes as u64).unwrap();
        assert_eq!(settled, info(id, 6, bytes));
        assert_fenced(extend(&mut ghost, full + 1));
        assert_holds(&store, id, 6, bytes);
        assert_eq!(std::fs::metadata(home.data_path(id)).unwrap().len(), bytes as u64);
        // The same order again says the same.
        store.settle(block(id), generation(6), bytes as u64).unwrap();
        assert_eq!(heard.take(), [Change::Finished(settled), Change::Finished(settled)]);
        store.check(block(id), generation(6)).unwrap();
    }
    let used: usize = lengths.iter().sum();
    assert_eq!(store.volumes()[0].used_bytes, used as u64);
    assert_eq!(
        said(store.settle(block(7), generation(7), full as u64 + 1)),
        "the replica of block-7 here has 49652 good bytes, 49653 are to be kept"
    );
    assert_eq!(
        said(store.settle(block(7), generation(6), 1)),
        "a replica of block-7 with g6 is here already"
    );
    assert_eq!(
        said(store.settle(block(7), generation(5), 1)),
        "g5 of block-7 is over: the replica here has g6"
    );
    assert_eq!(said(store.settle(block(99), generation(5), 1)), "block-99 is not here");
    // A finished one is cut by a newer generation.
    store.settle(block(7), generation(9), CHUNK_BYTES + 3).unwrap();
    assert_holds(&store, 7, 9, CHUNK + 3);
}

#[test]
fn deleting_a_replica_fences_its_writer() {
    let home = Home::new();
    let store = home.open();
    let mut ghost = create(&store, 1, 5);
    extend(&mut ghost, 100).unwrap();
    store.delete(block(1), generation(5)).unwrap();
    assert_fenced(extend(&mut ghost, 200));
    drop(ghost);
    assert_eq!(home.names(1), [""; 0]);
}

#[test]
fn damage_gets_no_sum_of_its_own_when_a_replica_is_cut() {
    let home = Home::new();
    let store = home.open();
    let heard = Heard::from(&store);
    finished(&store, 1, 5, 3 * CHUNK);
    heard.take();
    let path = home.data_path(1);
    let mut data = std::fs::read(&path).unwrap();
    data[CHUNK + 7] ^= 1;
    std::fs::write(&path, data).unwrap();
    let refused = said(store.settle(block(1), generation(6), CHUNK_BYTES + 50));
    assert!(refused.ends_with("chunk 1 does not match its checksum"), "{refused}");
    assert_eq!(heard.take(), [Change::Bad(info(1, 5, 3 * CHUNK))]);
    assert_eq!(home.names(1), ["1", "1_5_49152.sum"]);
}

/// What everybody does at once in the test below, with ever newer generations.
fn do_something(store: &BlockStore, dice: &mut Dice, generations: &AtomicU64) -> Result<(), ReplicaError> {
    let block = block(1 + dice.roll(3));
    let number = Generation(1 + generations.fetch_add(1, Ordering::Relaxed));
    let some = dice.roll(3 * CHUNK_BYTES);
    match dice.roll(8) {
        0 | 1 => {
            let stage = if dice.roll(2) == 0 { WriteStage::Create } else { WriteStage::Copy };
            let mut writer = store.create(block, number, stage, 0)?;
            extend(&mut writer, some as usize)?;
            writer.finish().map(drop)
        }
        2 | 3 => {
            let mut writer = store.reopen(block, Generation(0), number, some, 0)?;
            extend(&mut writer, 2 * CHUNK + some as usize)?;
            writer.sync()
        }
        4 => store.stop_writer(block, number).map(drop),
        5 => store.settle(block, number, some).map(drop),
        6 => store.delete(block, number),
        _ => store.check(block, store.read(block, Generation(0))?.generation()).map(drop),
    }
}

#[test]
fn many_at_once_hurt_no_replica() {
    const TRIES: usize = 300;
    let home = Home::in_memory();
    let store = home.open();
    let heard = Heard::from(&store);
    let generations = AtomicU64::new(0);
    let done: Vec<usize> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|seed| {
                let (store, generations) = (&store, &generations);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed);
                    let outcomes = (0..TRIES).map(|_| do_something(store, &mut dice, generations));
                    outcomes
                        .filter(|outcome| match outcome {
                            Ok(()) => true,
                            // Refused, or overtaken by another; but never damaged or failed.
                            Err(error) => {
                                assert!(!matches!(error.kind(), Kind::Corrupt | Kind::Disk), "{error}");
                                false
                            }
                        })
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(done.iter().sum::<usize>() > TRIES, "{done:?}");
    let changes = heard.take();
    assert!(changes.iter().all(|change| !matches!(change, Change::Bad(_))));
    // What is here is whole, and what was announced last.
    for replica in store.replicas_after(block(0), 10) {
        assert_holds(&store, replica.block, replica.generation, replica.bytes as usize);
        let last = changes.iter().rfind(|change| match change {
            Change::Finished(info) | Change::Deleted(info) | Change::Bad(info) => info.block == replica.block,
        });
        assert_eq!(last, Some(&Change::Finished(replica)));
    }
    let before =
        (store.replicas_after(block(0), 10), store.unfinished_replicas(), store.volumes()[0].used_bytes);
    drop(store);
    let store = home.open();
    assert_eq!(
        (store.replicas_after(block(0), 10), store.unfinished_replicas(), store.volumes()[0].used_bytes),
        before
    );
    assert_eq!((store.recovery().removed, store.recovery().set_aside), (0, 0));
}
