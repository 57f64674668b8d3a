//! How a replica comes to be, is read, and goes.

use std::fs;

use gristmill_dfs::datanode::block_store::{Change, ReplicaError, ReplicaReader, WriteStage};
use gristmill_proto::chunks::CHUNK_BYTES;

use crate::replicas::*;

#[test]
fn a_replica_is_written_finished_announced_and_read() {
    let home = Home::new();
    let store = home.open();
    let heard = Heard::from(&store);
    let bytes = 12 * CHUNK + 345;
    assert_eq!(finished(&store, 7, 3, bytes), info(7, 3, bytes));
    assert_eq!(heard.take(), [Change::Finished(info(7, 3, bytes))]);
    assert_holds(&store, 7, 3, bytes);
    assert_eq!(home.names(7), ["7", &format!("7_3_{bytes}.sum")]);
    assert_eq!(store.replicas_after(block(0), 10), [info(7, 3, bytes)]);
    assert_eq!(store.volumes()[0].used_bytes, bytes as u64);
    assert_eq!(store.check(block(7), generation(3)).unwrap(), info(7, 3, bytes));
    drop(store);
    assert_holds(&home.open(), 7, 3, bytes);
}

#[test]
fn replicas_of_any_length_come_back() {
    let home = Home::new();
    let store = home.open();
    let lengths = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 70 * CHUNK + 3];
    for (id, bytes) in (1..).zip(lengths) {
        finished(&store, id, 1, bytes);
    }
    drop(store);
    let store = home.open();
    for (id, bytes) in (1..).zip(lengths) {
        assert_holds(&store, id, 1, bytes);
        store.check(block(id), generation(1)).unwrap();
    }
    assert_eq!(store.recovery().finished, lengths.len() as u64);
    assert_eq!(store.volumes()[0].used_bytes, lengths.iter().sum::<usize>() as u64);
}

#[test]
fn replicas_are_listed_page_by_page() {
    let home = Home::new();
    let store = home.open();
    for id in [300, 5, 256, 1000] {
        finished(&store, id, id, 10);
    }
    let _open = create(&store, 6, 1);
    let page = |after, limit| -> Vec<u64> {
        store.replicas_after(block(after), limit).iter().map(|replica| replica.block).collect()
    };
    assert_eq!(page(0, 3), [5, 256, 300]);
    assert_eq!(page(300, 3), [1000]);
    assert_eq!(page(1000, 3), [0; 0]);
    assert_eq!(store.unfinished_replicas(), [info(6, 1, 0)]);
}

#[test]
fn readers_see_an_unfinished_replica_as_far_as_it_is_written() {
    let home = Home::new();
    let store = home.open();
    let mut writer = create(&store, 1, 1);
    extend(&mut writer, 2 * CHUNK + 100).unwrap();
    let early = store.read(block(1), generation(1)).unwrap();
    assert!(!early.is_finished());
    // The partial chunk grows: the early reader keeps its length, and a sum that fits it.
    extend(&mut writer, 2 * CHUNK + 5000).unwrap();
    assert!(contents(&early).unwrap() == bytes_of(1, 0, 2 * CHUNK + 100));
    assert_holds(&store, 1, 1, 2 * CHUNK + 5000);
    extend(&mut writer, 3 * CHUNK).unwrap();
    assert_holds(&store, 1, 1, 3 * CHUNK);
    assert!(contents(&early).unwrap() == bytes_of(1, 0, 2 * CHUNK + 100));
    writer.finish().unwrap();
    assert!(contents(&early).unwrap() == bytes_of(1, 0, 2 * CHUNK + 100));
    assert!(store.read(block(1), generation(1)).unwrap().is_finished());
}

#[test]
fn sums_are_given_in_any_range_and_no_further() {
    let home = Home::new();
    let store = home.open();
    let mut writer = create(&store, 1, 1);
    extend(&mut writer, 3 * CHUNK + 9).unwrap();
    let all = sums_of(&bytes_of(1, 0, 3 * CHUNK + 9));
    for when in ["unfinished", "finished"] {
        let reader = store.read(block(1), generation(1)).unwrap();
        for first in 0..=4_usize {
            for count in 0..=4 - first {
                let mut sums = b"before".to_vec();
                reader.read_sums(first as u64, count as u64, &mut sums).unwrap();
                assert_eq!(sums, [b"before", &all[first * 4..(first + count) * 4]].concat(), "{when}");
            }
            let beyond = reader.read_sums(first as u64, 5 - first as u64, &mut Vec::new());
            assert!(said(beyond).ends_with("it has 49161 bytes, of 81920"));
        }
        if when == "unfinished" {
            drop(std::mem::replace(&mut writer, create(&store, 2, 1)));
            store.settle(block(1), generation(2), 3 * CHUNK_BYTES + 9).unwrap();
        }
    }
}

#[test]
fn data_that_does_not_match_its_sums_is_not_written() {
    let home = Home::new();
    let store = home.open();
    let mut writer = create(&store, 9, 1);
    extend(&mut writer, 4 * CHUNK).unwrap();
    let mut data = bytes_of(9, 4 * CHUNK, 7 * CHUNK);
    let sums = sums_of(&data);
    data[CHUNK + 5] ^= 1;
    let at = 4 * CHUNK as u64;
    assert_eq!(
        said(writer.write(at, &data, &sums)),
        "bytes for offset 65536 of block-9 do not match their checksums: chunk 5 of the block is bad"
    );
    data[CHUNK + 5] ^= 1;
    assert!(matches!(writer.write(at, &data, &sums[4..]), Err(ReplicaError::Mismatch { chunk: 4, .. })));
    writer.write(at, &data, &sums).unwrap();
    writer.finish().unwrap();
    assert_holds(&store, 9, 1, 7 * CHUNK);
}

#[test]
fn data_must_continue_the_replica() {
    let home = Home::new();
    let store = home.open();
    let mut writer = create(&store, 1, 1);
    extend(&mut writer, 2 * CHUNK + 100).unwrap();
    let chunk = CHUNK as u64;
    // A gap, an overlap with full chunks, no chunk border, less than is there.
    for (offset, bytes) in
        [(3 * chunk, CHUNK), (chunk, 2 * CHUNK), (2 * chunk + 100, 50), (2 * chunk, 99), (u64::MAX - 5, 9)]
    {
        let data = bytes_of(1, offset as usize % (1 << 40), offset as usize % (1 << 40) + bytes);
        let refused = writer.write(offset, &data, &sums_of(&data));
        assert!(matches!(refused, Err(ReplicaError::Misplaced { has: 32868, .. })), "{offset} {refused:?}");
    }
    // The partial chunk again, with another byte in what was there.
    let mut data = bytes_of(1, 2 * CHUNK, 3 * CHUNK);
    data[99] ^= 1;
    let rewritten = said(writer.write(2 * chunk, &data, &sums_of(&data)));
    assert_eq!(rewritten, "the bytes at offset 32768 of block-1 were others when they were written first");
    // The same bytes once more are fine, and change nothing.
    extend(&mut writer, 2 * CHUNK + 100).unwrap();
    assert_holds(&store, 1, 1, 2 * CHUNK + 100);
}

#[test]
fn what_is_here_is_not_created_again() {
    let home = Home::new();
    let store = home.open();
    let make = |id, generations, stage| store.create(block(id), generation(generations), stage, 0).map(drop);
    finished(&store, 1, 5, 10);
    assert_eq!(said(make(1, 5, WriteStage::Create)), "a replica of block-1 with g5 is here already");
    assert_eq!(said(make(1, 6, WriteStage::Create)), "a replica of block-1 with g5 is here already");
    assert_eq!(said(make(1, 5, WriteStage::Copy)), "a replica of block-1 with g5 is here already");
    assert_eq!(said(make(1, 4, WriteStage::Copy)), "g4 of block-1 is over: the replica here has g5");
    let mut writer = create(&store, 2, 5);
    extend(&mut writer, 100).unwrap();
    assert_eq!(said(make(2, 5, WriteStage::Create)), "block-2 with g5 is being written by another");
    assert_eq!(said(make(2, 5, WriteStage::Copy)), "block-2 with g5 is being written by another");
    drop(writer);
    // Its writer come back would lose what it wrote.
    assert_eq!(said(make(2, 5, WriteStage::Create)), "a replica of block-2 with g5 is here already");
    assert_holds(&store, 2, 5, 100);
    make(2, 6, WriteStage::Create).unwrap();
    assert_holds(&store, 2, 6, 0);
}

#[test]
fn a_copy_is_nothing_until_it_is_finished() {
    let home = Home::new();
    let store = home.open();
    let heard = Heard::from(&store);
    finished(&store, 1, 5, 10);
    let copy = |number| {
        let mut copy = store.create(block(1), generation(number), WriteStage::Copy, 0).unwrap();
        extend(&mut copy, 3 * CHUNK + 5).unwrap();
        copy
    };
    // It takes the place of the older one.
    let half = copy(6);
    assert_eq!(said(store.read(block(1), generation(5))), "block-1 is not here");
    assert_eq!(store.stop_writer(block(1), generation(7)).unwrap(), None);
    assert_eq!(store.unfinished_replicas(), []);
    assert_eq!(home.names(1), ["1", "1_6.copy"]);
    drop(half);
    assert_eq!(home.names(1), [""; 0]);
    assert_eq!(store.volumes()[0].used_bytes, 0);
    copy(6).finish().unwrap();
    assert_holds(&store, 1, 6, 3 * CHUNK + 5);
    assert_eq!(heard.take(), [Change::Finished(info(1, 5, 10)), Change::Finished(info(1, 6, 3 * CHUNK + 5))]);
}

#[test]
fn an_unfinished_replica_without_writer_gives_way_to_a_copy() {
    let home = Home::new();
    let store = home.open();
    let mut writer = create(&store, 1, 5);
    extend(&mut writer, 100).unwrap();
    drop(writer);
    let mut copy = store.create(block(1), generation(5), WriteStage::Copy, 0).unwrap();
    extend(&mut copy, 500).unwrap();
    copy.finish().unwrap();
    assert_holds(&store, 1, 5, 500);
}

#[test]
fn deleted_replicas_are_gone_and_newer_ones_stay() {
    let home = Home::new();
    let store = home.open();
    let heard = Heard::from(&store);
    finished(&store, 1, 5, 1000);
    let reader = store.read(block(1), generation(5)).unwrap();
    assert_eq!(said(store.delete(block(1), generation(4))), "g4 of block-1 is over: the replica here has g5");
    assert_holds(&store, 1, 5, 1000);
    store.delete(block(1), generation(9)).unwrap();
    assert_eq!(said(store.read(block(1), generation(0))), "block-1 is not here");
    // Whoever had it open reads on.
    assert!(contents(&reader).unwrap() == bytes_of(1, 0, 1000));
    assert_eq!(home.names(1), [""; 0]);
    store.delete(block(1), generation(9)).unwrap();
    assert_eq!(
        heard.take(),
        [
            Change::Finished(info(1, 5, 1000)),
            Change::Deleted(info(1, 5, 1000)),
            Change::Deleted(info(1, 9, 0))
        ]
    );
    assert_eq!(store.volumes()[0].used_bytes, 0);
    drop(store);
    assert_eq!(home.open().recovery(), &Default::default());
}

#[test]
fn a_reader_says_how_new_the_replica_must_be() {
    let home = Home::new();
    let store = home.open();
    finished(&store, 1, 5, 10);
    assert_holds(&store, 1, 5, 10);
    let too_old = "the replica of block-1 here has g5, older than g6";
    assert_eq!(said(store.read(block(1), generation(6))), too_old);
    assert_eq!(said(store.check(block(1), generation(6))), too_old);
    assert_eq!(said(store.check(block(1), generation(4))), "g4 of block-1 is over: the replica here has g5");
}

#[test]
fn files_handed_over_are_checked_by_who_gets_them() {
    let home = Home::new();
    let store = home.open();
    let bytes = 2 * CHUNK + 5;
    finished(&store, 1, 5, bytes);
    let open = |block_id, number, bytes: usize| {
        let data = fs::File::open(home.data_path(1)).unwrap();
        let sums = fs::File::open(home.sums_path(1)).unwrap();
        ReplicaReader::from_files(block(block_id), generation(number), bytes as u64, data, sums)
    };
    assert!(contents(&open(1, 5, bytes).unwrap()).unwrap() == bytes_of(1, 0, bytes));
    let of_another =
        "the replica of block-2 with g5 is bad: checksums of block-2: it belongs to block-1 with g5";
    assert_eq!(said(open(2, 5, bytes)), of_another);
    assert!(said(open(1, 6, bytes)).ends_with("it belongs to block-1 with g5"));
    assert!(said(open(1, 5, CHUNK)).ends_with("its marks are not those of 16384 bytes"));
}

#[test]
fn the_files_are_what_the_formats_say() {
    let home = Home::new();
    let store = home.open();
    let mut writer = create(&store, 300, 7);
    let text = b"to be or not to be";
    writer.write(0, text, &sums_of(text)).unwrap();
    writer.finish().unwrap();
    let named = |name: &str| fs::read(home.directories()[0].join("blocks/2c").join(name)).unwrap();
    assert_eq!(named("300"), text);
    let lines = |sums: Vec<u8>| -> Vec<String> {
        let hex = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        sums.chunks(16).map(hex).collect()
    };
    let mut wanted = [
        "47 52 49 53 54 53 55 4d 01 00 00 00 00 40 00 00",
        "2c 01 00 00 00 00 00 00 07 00 00 00 00 00 00 00",
        "07 00 00 00 00 00 00 00 00 00 00 00 22 b8 03 0b",
        "12 00 00 00 00 00 00 00 56 b1 4f a8 e1 ba b5 d5",
        "12 00 00 00 00 00 00 00 56 b1 4f a8 e1 ba b5 d5",
        "56 b1 4f a8",
    ];
    assert_eq!(lines(named("300_7_18.sum")), wanted);
    // Fenced, it has another fence, and all else as before.
    store.stop_writer(block(300), generation(9)).unwrap();
    wanted[2] = "09 00 00 00 00 00 00 00 00 00 00 00 f3 97 45 22";
    assert_eq!(lines(named("300_7_18.sum")), wanted);
}
