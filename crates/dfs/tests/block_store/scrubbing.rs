//! The scrubber keeps its pace and its place, and takes no change for damage.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, sync::Arc};

use gristmill_dfs::datanode::block_store::Change;
use gristmill_dfs::datanode::scrub::Scrubber;

use crate::replicas::*;

/// For what should happen at once.
const SOON: Duration = Duration::from_secs(20);

fn fast() -> Scrubber {
    Scrubber { bytes_per_s: u64::MAX, lap_interval: Duration::ZERO }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        thread::yield_now();
    }
}

#[test]
fn it_reads_no_faster_than_it_may() {
    let home = Home::new();
    let store = home.open();
    finished(&store, 1, 1, 40 * CHUNK);
    let scrubber = Scrubber { bytes_per_s: 80 * CHUNK as u64, ..fast() };
    let started = Instant::now();
    assert_eq!(scrubber.lap(&store, &AtomicBool::new(false)).good, 1);
    assert!(started.elapsed() >= Duration::from_millis(490), "{:?}", started.elapsed());
}

#[test]
fn it_stops_when_told_and_goes_on_where_it_was() {
    let home = Home::new();
    let store = home.open();
    for id in 1..=3 {
        finished(&store, id, 1, CHUNK);
    }
    fs::write(home.directories()[0].join("scrub"), "2\n").unwrap();
    let heard = Heard::from(&store);
    for id in 1..=3 {
        fs::write(home.data_path(id), vec![0; CHUNK]).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let running = {
        let (store, stop) = (store.clone(), stop.clone());
        thread::spawn(move || fast().run(&store, &stop))
    };
    // The first lap starts after 2, the next one at the start.
    let mut bad = Vec::new();
    wait_for("finding three bad replicas", || {
        bad.extend(heard.take());
        bad.len() >= 3
    });
    assert_eq!(bad, [3, 1, 2].map(|id| Change::Bad(info(id, 1, CHUNK))));
    stop.store(true, Ordering::Release);
    running.join().unwrap();
}

#[test]
fn a_stop_is_noticed_while_it_waits_and_the_place_kept() {
    let home = Home::new();
    let store = home.open();
    // It comes past the first and the second, which is bad, and then waits for days.
    finished(&store, 1, 1, 0);
    finished(&store, 2, 1, 0);
    finished(&store, 3, 1, 100 * CHUNK);
    fs::remove_file(home.data_path(2)).unwrap();
    let heard = Heard::from(&store);
    let stop = Arc::new(AtomicBool::new(false));
    let slow = Scrubber { bytes_per_s: 1, lap_interval: Duration::from_secs(1 << 20) };
    let running = {
        let (store, stop) = (store.clone(), stop.clone());
        thread::spawn(move || slow.run(&store, &stop))
    };
    wait_for("finding the bad replica", || !heard.take().is_empty());
    let place = || fs::read_to_string(home.directories()[0].join("scrub"));
    assert!(place().is_err());
    stop.store(true, Ordering::Release);
    let started = Instant::now();
    running.join().unwrap();
    assert!(started.elapsed() < SOON);
    // The second if it had come so far when it was stopped, which is soon after it told.
    assert!(["1\n", "2\n"].contains(&place().unwrap().as_str()));
}

#[test]
fn replicas_that_change_are_not_taken_for_damaged_ones() {
    let home = Home::new();
    let store = home.open();
    let heard = Heard::from(&store);
    let stop = AtomicBool::new(false);
    let mut laps = Vec::new();
    thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for round in 0..60_u64 {
                let id = round % 4;
                let number = round * 3 + 1;
                finished(&store, id + 1, number, 20 * CHUNK + 5);
                let cut = 7 * CHUNK + 1;
                store.settle(block(id + 1), generation(number + 1), cut as u64).unwrap();
                let mut writer = store
                    .reopen(block(id + 1), generation(number + 1), generation(number + 2), cut as u64, 0)
                    .unwrap();
                extend(&mut writer, 30 * CHUNK).unwrap();
                writer.finish().unwrap();
                store.delete(block(id + 1), generation(number + 2)).unwrap();
            }
            stop.store(true, Ordering::Release);
        });
        while !stop.load(Ordering::Acquire) {
            laps.push(fast().lap(&store, &stop));
        }
        changing.join().unwrap();
    });
    assert!(laps.iter().any(|lap| lap.good > 0), "it never saw a replica");
    assert!(laps.iter().all(|lap| lap.bad == 0));
    assert!(heard.take().iter().all(|change| !matches!(change, Change::Bad(_))));
}
