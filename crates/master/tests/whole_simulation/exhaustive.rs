//! A small job, in which each thing that can fail fails once, and each two on the way to what is durable fail together.
//!
//! `GRISTMILL_PAIRS=all` runs all pairs; `GRISTMILL_FAULTS=Turn:3:DiesAfter,Step:200:DiesBefore` runs just these faults.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::script::{Passed, Planned, Script};
use crate::settle;
use crate::world::World;

/// Without a word, one pair in so many: a prime, so that it takes from all kinds.
const STRIDE: usize = 997;

/// How a run went.
struct Told {
    trace: u64,
    passed: Passed,
    script: Script,
}

/// Runs the job with these faults, all of which must fire, to its good end.
fn tell(faults: &[Planned]) -> Told {
    let mut world = World::reference(faults);
    let passed = settle(&mut world);
    assert_eq!(world.tally.get("job done"), Some(&1), "the job ends well");
    let script = std::mem::take(&mut world.dfs.script);
    assert_eq!(script.fired.len(), faults.len(), "not all of {faults:?} came up");
    Told { trace: world.trace.finish(), passed, script }
}

/// Runs all of these, on all processors.
fn tell_all(runs: &[Vec<Planned>]) -> Vec<Told> {
    let (next, told) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().expect("Linux tells").get() {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = tell(run);
                    told.lock().expect("no thread panics with it").insert(run, one);
                }
            });
        }
    });
    let mut told = told.into_inner().expect("no thread panics with it");
    runs.iter().map(|run| told.remove(run).expect("it was run")).collect()
}

/// Two faults on the journal and commit paths: the second is whatever such a run meets after the first.
fn pairs(singles: &[Told]) -> Vec<Vec<Planned>> {
    let mut pairs = Vec::new();
    for single in singles {
        let (first, from) = single.script.fired[0];
        if single.script.is_of_record(&first) {
            let later = Planned::all(&from, &single.passed);
            let later = later.into_iter().filter(|second| single.script.is_of_record(second));
            pairs.extend(later.map(|second| vec![first, second]));
        }
    }
    pairs
}

/// Whatever fails once, and whatever two things fail on the way to what is durable: the output is that of one process.
#[test]
fn each_failure_and_each_pair_on_journal_and_commit_changes_nothing() {
    if let Ok(faults) = std::env::var("GRISTMILL_FAULTS") {
        let faults: Vec<Planned> = faults.split(',').map(|text| text.parse().expect("a fault")).collect();
        tell(&faults);
        return;
    }
    let (begun, all) = (Instant::now(), std::env::var("GRISTMILL_PAIRS").is_ok_and(|pairs| pairs == "all"));
    let reference = tell(&[]);
    assert_eq!(reference.trace, tell(&[]).trace, "the job is another one the second time");
    println!("calls, messages, exchanges, turns, steps, publications: {:?}", reference.passed);
    assert!(reference.passed.iter().all(|count| *count > 0), "something is never passed");
    let singles: Vec<Vec<Planned>> =
        Planned::all(&Passed::default(), &reference.passed).into_iter().map(|one| vec![one]).collect();
    let told = tell_all(&singles);
    println!("{} single faults in {} s", singles.len(), begun.elapsed().as_secs());
    let pairs = pairs(&told);
    let chosen: Vec<Vec<Planned>> = pairs.iter().step_by(if all { 1 } else { STRIDE }).cloned().collect();
    tell_all(&chosen);
    println!("{} of {} pairs in {} s", chosen.len(), pairs.len(), begun.elapsed().as_secs());
}
