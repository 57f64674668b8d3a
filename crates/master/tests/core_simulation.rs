//! A seeded world around the core: workers that crash, vanish and come back, streams that break, a master that dies
//! before or after a turn is durable, slow workers, users that kill. After each turn `Core::check` holds; no task has two
//! winners; what is published comes from one attempt of each task, and all of them read the same map outputs; when the
//! faults stop, every job ends, and nothing of it is left on any worker.
//!
//! `CORE_TOLD=1` tells all that happens; `GRISTMILL_SEEDS=from..to` runs these seeds.

#[path = "core_simulation/dice.rs"]
mod dice;
#[path = "core_simulation/large.rs"]
mod large;
#[path = "core_simulation/mischief.rs"]
mod mischief;
#[path = "core_simulation/plans.rs"]
mod plans;
#[path = "core_simulation/store.rs"]
mod store;
#[path = "core_simulation/worker.rs"]
mod worker;
#[path = "core_simulation/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::hash::Hasher;

use gristmill_master::core::Event;
use gristmill_proto::ids::WorkerId;
use gristmill_proto::job::job_status::State;

use world::World;

/// Faults for so long, in virtual time.
const FAULTS_MS: u64 = 120_000;
/// Then all jobs must have ended within so long.
const CALM_MS: u64 = 900_000;
/// And all traces of them be gone within so long.
const CLEAN_MS: u64 = 60_000;
const SEEDS: u64 = 300;

fn seeds() -> std::ops::Range<u64> {
    let Some(range) = std::env::var("GRISTMILL_SEEDS").ok() else { return 0..SEEDS };
    let (from, to) = range.split_once("..").expect("from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn every_job_ends_and_what_it_publishes_is_right() {
    let seeds = seeds();
    let many = seeds.end - seeds.start >= SEEDS;
    let mut tally = BTreeMap::new();
    for seed in seeds {
        let (trace, counts) = run(seed);
        assert_eq!(trace, run(seed).0, "seed {seed} gives another story the second time");
        for (what, count) in counts {
            *tally.entry(what).or_insert(0) += count;
        }
    }
    println!("{tally:#?}");
    let wanted = [
        "attempt killed",
        "crash",
        "cut off",
        "drain",
        "drain undone",
        "fenced",
        "fetch failed",
        "job done",
        "job failed",
        "job killed",
        "master restarted",
        "output destroyed",
        "output kept",
        "read again",
        "slowed",
        "stream broken",
        "stuck",
        "task killed",
        "turn durable and lost",
        "turn lost",
        "twin launched",
        "twin won",
    ];
    let never = |what: &&str| tally.get(what).is_none_or(|count| *count == 0);
    let silent: Vec<&str> = wanted.into_iter().filter(never).collect();
    assert!(!many || silent.is_empty(), "these never happened: {silent:?}");
    assert!(!many || tally["job done"] > 2 * tally["job failed"], "too few jobs end well");
}

/// Runs one world to its end: a hash of all that happened, and what happened how often.
fn run(seed: u64) -> (u64, BTreeMap<&'static str, u64>) {
    let mut world = World::new(seed);
    while world.now_ms < FAULTS_MS {
        world.step();
    }
    world.quiet = true;
    for worker in &mut world.workers {
        (worker.cut_off_until_ms, worker.stuck_until_ms) = (0, 0);
    }
    for at in 0..world.workers.len() {
        let worker = WorkerId(world.workers[at].id);
        world.handle(Event::Drain { worker, undo: true });
    }
    let until_ms = world.now_ms + CALM_MS;
    while !world.all_ended() {
        assert!(world.now_ms < until_ms, "seed {seed}: jobs do not end: {:#?}", unended(&world));
        world.step();
    }
    let until_ms = world.now_ms + CLEAN_MS;
    while world.now_ms < until_ms {
        world.step();
    }
    is_clean(&world);
    for job in world.specs.keys().copied().collect::<Vec<_>>() {
        let what = match world.state(job) {
            Some(State::Done) => "job done",
            Some(State::Failed) => "job failed",
            _ => "job killed",
        };
        assert!(
            what != "job done" || world.published.contains_key(&job),
            "seed {seed}: {job} is done unpublished"
        );
        world.count(what);
        let warnings = world.core.status(job).map_or(Vec::new(), |status| status.warnings);
        if warnings.iter().any(|warning| warning.contains("not deterministic")) {
            world.count("read again");
        }
    }
    world.count_twins();
    (world.trace.finish(), world.tally)
}

fn unended(world: &World) -> Vec<String> {
    let status = |job| format!("{:?}", world.core.status(job));
    let is_live = |state| !matches!(state, Some(State::Done | State::Failed | State::Killed));
    world.specs.keys().filter(|job| is_live(world.state(**job))).map(|job| status(*job)).collect()
}

fn is_clean(world: &World) {
    for (at, worker) in world.workers.iter().enumerate() {
        let seed = world.seed;
        assert!(
            worker.attempts.is_empty(),
            "seed {seed}: worker {at} still runs {:?}",
            worker.attempts.keys()
        );
        assert!(
            worker.outputs.is_empty(),
            "seed {seed}: worker {at} still holds {:?}",
            worker.outputs.keys()
        );
        assert!(worker.jobs.is_empty(), "seed {seed}: worker {at} still has {:?}", worker.jobs);
        assert!(worker.untold.is_empty(), "seed {seed}: worker {at} is not heard");
    }
    let uncleaned: Vec<_> = world.specs.keys().filter(|job| !world.cleaned.contains(job)).collect();
    assert!(uncleaned.is_empty(), "seed {}: {uncleaned:?} are not cleaned up", world.seed);
}
