//! Power is lost: of what was written since the last sync, any sectors may be on the disk, and any may not.

use std::fs;

use proptest::prelude::*;

use crate::replicas::*;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What a file may be after power is lost: its length and each of its sectors are of before or of after, as `coins` fall.
fn torn(before: &[u8], after: &[u8], coins: &mut impl Iterator<Item = bool>) -> Vec<u8> {
    let bytes = if coins.next().unwrap() { before.len() } else { after.len() };
    let mut torn = vec![0; bytes];
    for (at, sector) in torn.chunks_mut(SECTOR).enumerate() {
        let source = if coins.next().unwrap() { before } else { after };
        let source = source.get(at * SECTOR..).unwrap_or_default();
        let there = source.len().min(sector.len());
        sector[..there].copy_from_slice(&source[..there]);
    }
    torn
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn synced_bytes_survive(
        before in prop::collection::vec(1..40_000_usize, 1..4),
        after in prop::collection::vec(1..40_000_usize, 0..4),
        seed: u64,
    ) {
        let home = Home::in_memory();
        let store = home.open();
        let mut writer = create(&store, 1, 5);
        let mut end = 0;
        for more in before {
            end += more;
            extend(&mut writer, end).unwrap();
        }
        writer.sync().unwrap();
        let synced = end;
        let files = [home.data_path(1), home.sums_path(1)];
        let old = files.clone().map(|path| fs::read(path).unwrap());
        for more in after {
            end += more;
            extend(&mut writer, end).unwrap();
        }
        let new = files.clone().map(|path| fs::read(path).unwrap());
        drop((writer, store));

        let mut dice = Dice::new(seed);
        let mut coins = std::iter::repeat_with(move || dice.roll(2) == 1);
        for (at, path) in files.iter().enumerate() {
            fs::write(path, torn(&old[at], &new[at], &mut coins)).unwrap();
        }
        let store = home.open();
        let reader = store.read(block(1), generation(5)).unwrap();
        let kept = reader.bytes() as usize;
        prop_assert!((synced..=end).contains(&kept), "{} of {} synced, {} written", kept, synced, end);
        prop_assert!(contents(&reader).unwrap() == bytes_of(1, 0, kept));
        // It can be ended at any length from there.
        let settled = store.settle(block(1), generation(6), synced as u64).unwrap();
        prop_assert_eq!(settled, info(1, 6, synced));
        assert_holds(&store, 1, 6, synced);
        store.check(block(1), generation(6)).unwrap();
    }
}

/// Writes `bytes` bytes of block 1 and leaves it unfinished, then lets `change` happen to its files.
fn left(
    bytes: usize,
    change: impl FnOnce(&Home),
) -> (Home, gristmill_dfs::datanode::block_store::BlockStore) {
    let home = Home::in_memory();
    let store = home.open();
    let mut writer = create(&store, 1, 5);
    extend(&mut writer, bytes).unwrap();
    drop((writer, store));
    change(&home);
    let store = home.open();
    (home, store)
}

#[test]
fn bytes_without_sum_and_sums_without_bytes_do_not_count() {
    let (_home, store) = left(3 * CHUNK + 50, |home| {
        let mut data = fs::read(home.data_path(1)).unwrap();
        data.extend([7; 1000]);
        fs::write(home.data_path(1), data).unwrap();
    });
    assert_holds(&store, 1, 5, 3 * CHUNK + 50);
    let (_home, store) = left(3 * CHUNK + 50, |home| {
        let data = fs::read(home.data_path(1)).unwrap();
        fs::write(home.data_path(1), &data[..2 * CHUNK + 9]).unwrap();
    });
    assert_holds(&store, 1, 5, 2 * CHUNK);
}

#[test]
fn a_replica_that_never_got_anywhere_is_removed_and_a_ruined_one_set_aside() {
    let (home, store) = left(0, |home| fs::remove_file(home.data_path(1)).unwrap());
    assert_eq!((store.recovery().removed, home.names(1).len()), (1, 0));
    let (home, store) = left(0, |home| fs::write(home.sums_path(1), "").unwrap());
    assert_eq!((store.recovery().set_aside, store.recovery().removed, home.names(1).len()), (1, 1, 0));
    let (home, store) = left(100, |home| fs::write(home.sums_path(1), [0; 80]).unwrap());
    assert_eq!((store.recovery().set_aside, home.names(1).len()), (2, 0));
    let aside = fs::read(home.directories()[0].join("aside/1.0")).unwrap();
    assert_eq!(aside, bytes_of(1, 0, 100));
    // The block can be written again.
    finished(&store, 1, 6, 10);
}

#[test]
fn half_a_copy_is_removed() {
    let (home, store) = left(100, |home| {
        let sums = home.sums_path(1);
        fs::rename(&sums, sums.with_extension("copy")).unwrap();
    });
    assert_eq!((store.recovery().removed, home.names(1).len()), (2, 0));
}

#[test]
fn a_change_that_was_cut_short_is_not_begun_or_done() {
    // Before the new checksum file had its name.
    let (home, store) =
        left(100, |home| fs::write(home.sums_path(1).with_file_name("1_6_50.sum.new"), "half").unwrap());
    assert_eq!((store.recovery().removed, home.names(1)), (1, vec!["1".to_owned(), "1_5.open".to_owned()]));
    assert_holds(&store, 1, 5, 100);
    // After it had, before the old one was removed and the data cut.
    let home = Home::new();
    let store = home.open();
    let mut writer = create(&store, 1, 5);
    extend(&mut writer, CHUNK + 100).unwrap();
    let (old, data) = (fs::read(home.sums_path(1)).unwrap(), fs::read(home.data_path(1)).unwrap());
    store.settle(block(1), generation(6), 50).unwrap();
    drop((writer, store));
    fs::write(home.sums_path(1).with_file_name("1_5.open"), old).unwrap();
    fs::write(home.data_path(1), data).unwrap();
    let store = home.open();
    assert_eq!((store.recovery().removed, home.names(1)), (1, vec!["1".to_owned(), "1_6_50.sum".to_owned()]));
    assert_holds(&store, 1, 6, 50);
    store.check(block(1), generation(6)).unwrap();
    // What is behind its end does not come back when it is appended to.
    let mut writer = store.reopen(block(1), generation(6), generation(7), 50, 0).unwrap();
    extend(&mut writer, 60).unwrap();
    writer.finish().unwrap();
    assert_holds(&store, 1, 7, 60);
}
