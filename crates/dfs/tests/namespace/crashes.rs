//! The power goes at every step the disk makes: what was acknowledged is there, and what was not is there wholly or
//! not at all.

use crate::disk::{Dice, Disk, Fault};
use crate::story::*;
use gristmill_dfs::namenode::namespace::{
    Action, BlockRecord, Command, Namespace, NamespaceOpenError, NamespaceOptions, RequestId, Totals,
};
use gristmill_proto::ids::{BlockId, ClientId, ClusterId, Generation, InodeId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::rename::Mode;
use gristmill_proto::namespace::{AddBlock, BlockEnd, Complete, Entry, Publish, SetQuota, publish::Move};

/// Everything that can be read of a namespace.
#[derive(Clone, Debug, PartialEq)]
struct State {
    cluster: ClusterId,
    tree: Vec<Entry>,
    blocks: Vec<(BlockId, BlockRecord)>,
    open: Vec<(InodeId, Option<ClientId>)>,
    totals: Totals,
}

fn state(namespace: &Namespace) -> State {
    let snapshot = namespace.snapshot().unwrap();
    State {
        cluster: namespace.cluster(),
        tree: tree(namespace),
        blocks: snapshot.blocks_after(BlockId(0), 10_000).unwrap(),
        open: snapshot.open_files(InodeId(0), 10_000).unwrap(),
        totals: snapshot.totals(),
    }
}

fn open(disk: &Disk) -> Result<Namespace, NamespaceOpenError> {
    Namespace::with_backend(disk.clone(), NamespaceOptions { cache_bytes: 1 << 20, ..options() })
}

/// Groups of calls and master's actions that meet all tables.
fn workload() -> Vec<Vec<Command>> {
    let mut sequence = 0;
    let mut call = |request| {
        sequence += 1;
        let id = Some(RequestId { client: root().client, sequence });
        let action = Action::Request(request, facts(&[1, 2]));
        Command { id, settled_below: 0, caller: root(), now_ms: START_MS + sequence, action }
    };
    let own = |action| Command { id: None, settled_below: 0, caller: root(), now_ms: START_MS, action };
    // Inode, block and generation numbers are given out in order, from 2, 1 and 1.
    let add = |inode, previous| Request::AddBlock(AddBlock { inode, previous, exclude: vec![] });
    let complete = |inode, last| Request::Complete(Complete { inode, last: Some(last) });
    let end = |number, bytes| BlockEnd { block: number, generation: number, bytes };
    let moves = (0..3).map(|part| Move { from: format!("/tmp/{part}"), to: format!("/out/part-{part}") });
    let publish = Publish { remove: vec!["/out".to_owned()], moves: moves.collect() };
    let quota = SetQuota { path: "/d".to_owned(), names: Some(100), space_bytes: None };
    let (block, generation) = (BlockId(3), Generation(4));
    let finish = Action::FinishRecovery { inode: InodeId(5), block, generation, bytes: 3 };
    let mut groups = vec![
        vec![call(mkdir("/d/e")), call(create("/d/e/file")), call(append("/none"))],
        vec![call(add(4, None)), call(create("/d/open"))],
        vec![call(add(4, Some(end(1, BLOCK)))), call(Request::SetQuota(quota)), call(add(5, None))],
        vec![call(complete(4, end(2, 7))), call(rename("/d/e", "/moved", Mode::Refuse))],
        (0..12).map(|part| call(create(&format!("/tmp/{part}")))).collect(),
        vec![call(create("/out/old")), call(Request::Publish(publish))],
        vec![call(delete("/tmp", true, true)), call(delete("/moved", true, false))],
        vec![own(Action::BeginRecovery { inode: InodeId(5), holder: None }), call(mkdir("/new"))],
        vec![
            own(Action::Reclaim { records_max: 5 }),
            own(Action::ForgetSessions { before_ms: 0, answers_max: 9 }),
        ],
        vec![own(finish), call(overwrite("/d/open")), call(mkdir("/last"))],
    ];
    // With each group its client is done with all before it.
    for group in &mut groups {
        let first = group.iter().find_map(|command| command.id).map_or(0, |id| id.sequence);
        group.iter_mut().for_each(|command| command.settled_below = first);
    }
    groups
}

/// The states before and after each group, on a disk that is good.
fn states(start: &Disk, workload: &[Vec<Command>]) -> (Vec<State>, u64) {
    let disk = start.copy();
    let namespace = open(&disk).unwrap();
    let mut states = vec![state(&namespace)];
    let before = disk.steps();
    for group in workload {
        let applied = namespace.apply_group(group, &Silence::default()).unwrap();
        let failed = applied.iter().filter(|applied| matches!(applied.outcome, Outcome::Failure(_))).count();
        assert_eq!(
            failed,
            usize::from(states.len() == 1),
            "only the append to nothing is refused: {applied:?}"
        );
        states.push(state(&namespace));
    }
    for pair in states.windows(2) {
        assert_ne!(pair[0], pair[1], "every group does something that can be seen");
    }
    (states, disk.steps() - before)
}

/// Applies groups until the disk fails, and says how many were acknowledged.
fn run(namespace: &Namespace, workload: &[Vec<Command>]) -> usize {
    for (acknowledged, group) in workload.iter().enumerate() {
        if namespace.apply_group(group, &Silence::default()).is_err() {
            return acknowledged;
        }
    }
    workload.len()
}

/// A disk with a fresh namespace.
fn start() -> Disk {
    let disk = Disk::default();
    drop(open(&disk).unwrap());
    disk
}

#[test]
fn the_power_goes_at_every_step() {
    let (start, workload) = (start(), workload());
    let (states, steps) = states(&start, &workload);
    assert!(steps > 100, "{steps}");
    let (mut whole, mut none) = (0, 0);
    for step in 0..steps {
        let disk = start.copy();
        let namespace = open(&disk).unwrap();
        disk.set_fault(Some(Fault { step: disk.steps() + step, for_ever: true }));
        let acknowledged = run(&namespace, &workload);
        assert!(disk.faults() > 0, "step {step} was not reached");
        drop(namespace);
        // The same wreck, and what the disk has made of it in several worlds.
        for seed in 1..=6 {
            let disk = disk.after_power_loss(&mut Dice(step << 8 | seed));
            let namespace = open(&disk).unwrap();
            let found = state(&namespace);
            let known = states.iter().position(|state| *state == found);
            let Some(known) = known else { panic!("step {step}, seed {seed}: neither before nor after") };
            let most = (acknowledged + 1).min(workload.len());
            assert!(
                (acknowledged..=most).contains(&known),
                "step {step}, seed {seed}: {known} of {acknowledged}"
            );
            if known > acknowledged {
                whole += 1
            } else {
                none += 1
            }
            if seed == 1 && acknowledged < workload.len() {
                // The clients ask again, and all is as if nothing had been.
                let retried = &workload[acknowledged];
                let again = namespace.apply_group(retried, &Silence::default()).unwrap();
                let calls = retried.iter().zip(&again).filter(|(command, _)| command.id.is_some());
                for (_, applied) in calls {
                    assert_eq!(applied.replayed, known > acknowledged);
                }
                let own = retried.iter().any(|command| command.id.is_none());
                assert!(own || state(&namespace) == states[acknowledged + 1], "step {step}");
            }
        }
    }
    assert!(whole > 0 && none > 0, "{whole} survived unacknowledged, {none} did not");
}

#[test]
fn after_one_failed_step_nothing_is_acknowledged_any_more() {
    let (start, workload) = (start(), workload());
    let (states, steps) = states(&start, &workload);
    let mut stopped = 0;
    for step in 0..steps {
        let disk = start.copy();
        let namespace = open(&disk).unwrap();
        disk.set_fault(Some(Fault { step: disk.steps() + step, for_ever: false }));
        let acknowledged = run(&namespace, &workload);
        assert_eq!(disk.faults(), 1);
        if acknowledged < workload.len() {
            stopped += 1;
            let again = namespace.apply_group(&workload[acknowledged], &Silence::default());
            let problem = again.expect_err("nobody knows what the failed step has written").to_string();
            assert!(problem.contains("the namespace"), "{problem}");
        }
        drop(namespace);
        let found = state(&open(&disk.after_power_loss(&mut Dice(step + 1))).unwrap());
        let known = states.iter().position(|state| *state == found).expect("a state that was");
        assert!((acknowledged..=acknowledged + 1).contains(&known), "step {step}: {known} of {acknowledged}");
    }
    assert!(stopped > steps / 2, "{stopped} of {steps}");
}

#[test]
fn the_power_goes_while_a_master_starts() {
    let start = start();
    let cluster = open(&start).unwrap().cluster();
    let disk = start.copy();
    drop(open(&disk).unwrap());
    let steps = disk.steps();
    assert!(steps > 5, "{steps}");
    let mut epochs = Vec::new();
    for step in 0..steps {
        let disk = start.copy();
        disk.set_fault(Some(Fault { step, for_ever: true }));
        let epoch = open(&disk).ok().map(|namespace| namespace.epoch());
        assert!(disk.faults() > 0, "step {step} was not reached");
        for seed in 1..=4 {
            let again = open(&disk.after_power_loss(&mut Dice(step << 8 | seed))).unwrap();
            assert_eq!(again.cluster(), cluster);
            // A term that a master had is never given again.
            assert!(epoch.is_none_or(|epoch| again.epoch() > epoch), "step {step}");
            epochs.push(again.epoch());
        }
    }
    epochs.sort();
    epochs.dedup();
    assert_eq!(epochs.len(), 2, "{epochs:?}");
}
