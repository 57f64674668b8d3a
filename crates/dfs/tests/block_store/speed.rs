//! How fast it is. Measurements for people, run by hand with `--ignored --nocapture`; each says what it compares.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use crate::replicas::*;

const BLOCKS: u64 = 20;
const BLOCK_BYTES: usize = 64 << 20;
const PACKET_BYTES: usize = 1 << 20;
const REPLICAS: u64 = 1_000_000;

#[test]
#[ignore = "measures, and writes 8 GB"]
fn blocks_are_written_about_as_fast_as_plain_files() {
    let home = Home::new();
    let store = home.open();
    let packet = bytes_of(1, 0, PACKET_BYTES);
    for round in 0..3 {
        let plain = plain_files(&home, &packet);
        let ours = timed(|| {
            for id in 1..=BLOCKS {
                let mut writer = create(&store, id, 1);
                for offset in (0..BLOCK_BYTES).step_by(PACKET_BYTES) {
                    // The writer makes the sums, as a client would.
                    writer.write(offset as u64, &packet, &sums_of(&packet)).unwrap();
                }
                writer.finish().unwrap();
            }
        });
        (1..=BLOCKS).for_each(|id| store.delete(block(id), generation(1)).unwrap());
        let ratio = ours.as_secs_f64() / plain.as_secs_f64();
        println!("round {round}: plain files {plain:.2?}, blocks {ours:.2?}, {ratio:.2} times");
    }
}

/// The same bytes in plain files: written, summed and synced one after the other.
fn plain_files(home: &Home, packet: &[u8]) -> Duration {
    let path = |id: u64| home.dir.path().join(format!("plain{id}"));
    let plain = timed(|| {
        for id in 1..=BLOCKS {
            let mut file = File::create(path(id)).unwrap();
            for _ in 0..BLOCK_BYTES / PACKET_BYTES {
                assert!(!sums_of(packet).is_empty());
                file.write_all(packet).unwrap();
            }
            file.sync_all().unwrap();
        }
    });
    (1..=BLOCKS).for_each(|id| fs::remove_file(path(id)).unwrap());
    plain
}

#[test]
#[ignore = "measures, and makes 2 million files"]
fn a_million_replicas_are_opened_soon() {
    let home = Home::new();
    drop(home.open());
    let volume = &home.directories()[0];
    for id in 1..=REPLICAS {
        let directory = directory_of(volume, id);
        File::create(directory.join(id.to_string())).unwrap();
        File::create(directory.join(format!("{id}_{id}_67108864.sum"))).unwrap();
    }
    for round in 0..2 {
        let opened = timed(|| assert_eq!(home.open().recovery().finished, REPLICAS));
        println!("round {round}: {opened:.2?}");
    }
}

fn timed(what: impl FnOnce()) -> Duration {
    let started = Instant::now();
    what();
    started.elapsed()
}
