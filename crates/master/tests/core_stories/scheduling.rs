//! Who gets which slot.

use gristmill_master::core::{Command, Event, SessionId};
use gristmill_proto::job::{TaskHint, TaskHints};
use gristmill_proto::task::launch;

use crate::cluster::{Cluster, Coming, attempt, attempt_of, coming};
use crate::plans;

fn near(workers: &[u64]) -> Vec<TaskHints> {
    let hint = |worker: &u64| TaskHint { bytes: 1, workers: vec![*worker] };
    vec![TaskHints { stage: 0, first_task: 0, hints: workers.iter().map(hint).collect() }]
}

#[test]
fn tasks_go_to_their_input_and_wait_for_it_only_a_while() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[3], false);
    let job = cluster.run(&spec, near(&[2, 2, 2]));
    assert_eq!(cluster.launched(), [(2, attempt(job, 0, 0, 0))], "worker 1 waits: its turn may come");
    cluster.pass_with(400, &[1, 2]);
    assert!(cluster.launched().is_empty());
    cluster.pass_with(100, &[1, 2]);
    assert_eq!(cluster.launched(), [(1, attempt(job, 0, 1, 0))], "the same rack is near enough now");
    let stage = &cluster.status(job).stages[0];
    assert_eq!((stage.local, stage.rack_local), (1, 1));
    cluster.done(&spec, 1, attempt(job, 0, 1, 0));
    assert_eq!(cluster.launched(), [(1, attempt(job, 0, 2, 0))], "a slot waits once, not for each task");
}

#[test]
fn nobody_waits_for_workers_that_are_not_there() {
    let mut cluster = Cluster::with_workers(1);
    let job = cluster.run(&plans::chain(1, &[1], false), near(&[9]));
    assert_eq!(cluster.launched(), [(1, attempt(job, 0, 0, 0))]);
}

#[test]
fn queues_share_slots_evenly() {
    let mut cluster = Cluster::with_workers(0);
    let mut jobs = Vec::new();
    for (id, queue) in [(1, "a"), (2, "a"), (3, "b")] {
        let mut spec = plans::chain(id, &[10], false);
        spec.queue = queue.to_owned();
        jobs.push(cluster.run(&spec, Vec::new()));
    }
    cluster.come(Coming { slots: 8, ..coming(1) });
    let running = |job| cluster.status(job).stages[0].running;
    assert_eq!(jobs.iter().map(|job| running(*job)).collect::<Vec<_>>(), [2, 2, 4]);
}

#[test]
fn priority_counts_within_a_queue() {
    let mut cluster = Cluster::with_workers(0);
    let low = cluster.run(&plans::chain(1, &[10], false), Vec::new());
    let mut spec = plans::chain(2, &[3], false);
    spec.priority = 1;
    let high = cluster.run(&spec, Vec::new());
    cluster.come(Coming { slots: 4, ..coming(1) });
    let running = |job| cluster.status(job).stages[0].running;
    assert_eq!((running(high), running(low)), (3, 1));
}

#[test]
fn reduces_begin_early_only_with_slots_that_no_map_wants() {
    let mut cluster = Cluster::with_workers(3);
    let spec = plans::chain(1, &[4, 2], false);
    let job = cluster.run(&spec, Vec::new());
    let first = cluster.launched();
    assert_eq!(first.len(), 3);
    cluster.done(&spec, first[0].0, first[0].1);
    assert_eq!(cluster.launched(), [(first[0].0, attempt(job, 0, 3, 0))], "the last map comes first");
    cluster.done(&spec, first[1].0, first[1].1);
    assert_eq!(cluster.launched(), [(first[1].0, attempt(job, 1, 0, 0))], "now all maps run or are done");
    let other = cluster.run(&plans::chain(2, &[1], false), Vec::new());
    cluster.done(&spec, first[2].0, first[2].1);
    assert_eq!(
        cluster.launched(),
        [(first[2].0, attempt(other, 0, 0, 0))],
        "another job's map comes before a reduce"
    );
}

#[test]
fn ranges_are_cut_by_one_attempt_before_the_reduces_start() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[2, 2], true);
    let job = cluster.run(&spec, Vec::new());
    cluster.done(&spec, 1, attempt(job, 0, 0, 0));
    assert!(cluster.launched().is_empty(), "no early reduces: they do not know their ranges");
    cluster.done(&spec, 2, attempt(job, 0, 1, 0));
    let cut = cluster.commands.iter().find_map(|command| match command {
        Command::Launch { session, launch } => Some((session.0, launch.clone())),
        _ => None,
    });
    let (worker, cut) = cut.expect("a cut");
    assert_eq!((cut.kind(), cluster.launched().len()), (launch::Kind::Cut, 1));
    assert_eq!(attempt_of(&cut).name(), "s1-cut-a0");
    cluster.done(&spec, worker, attempt_of(&cut));
    assert_eq!(cluster.launched().len(), 2);
    assert!(cluster.saw(|command| matches!(command, Command::Outputs { cuts, .. } if !cuts.is_empty())));
}

#[test]
fn task_workers_get_ids_and_are_told_who_keeps_their_outputs() {
    let mut cluster = Cluster::with_workers(0);
    cluster.come(Coming { slots: 0, rack: "a", ..coming(1) });
    cluster.come(Coming { slots: 0, rack: "b", ..coming(2) });
    cluster.come(Coming { session: 3, rack: "b", ..coming(0) });
    let named =
        |command: &Command| matches!(command, Command::Welcome { worker, .. } if worker.0 == 1_000_001);
    assert!(cluster.saw(named), "{:?}", cluster.commands);
    cluster.run(&plans::chain(1, &[1, 1], false), Vec::new());
    let keep = cluster.commands.iter().find_map(|command| match command {
        Command::Launch { launch, .. } => Some(launch.keep.iter().map(|to| to.worker).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(keep, Some(vec![2, 1]), "the same rack first");
}

#[test]
fn a_draining_worker_finishes_and_is_drained_when_nobody_needs_its_outputs() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[3, 1], false);
    let job = cluster.run(&spec, Vec::new());
    cluster.handle(Event::Drain { worker: gristmill_proto::ids::WorkerId(1), undo: false });
    assert!(cluster.saw(|command| matches!(command, Command::Drain { session: SessionId(1), undo: false })));
    cluster.done(&spec, 1, attempt(job, 0, 0, 0));
    assert!(cluster.launched().is_empty(), "it gets nothing more");
    let state = |cluster: &Cluster| cluster.core.cluster(cluster.now_ms).workers[0].state.clone();
    cluster.pass_with(200, &[1, 2]);
    assert_eq!(state(&cluster), "draining", "its output is needed");
    cluster.done(&spec, 2, attempt(job, 0, 1, 0));
    cluster.done(&spec, 2, attempt(job, 0, 2, 0));
    cluster.done(&spec, 2, attempt(job, 1, 0, 0));
    cluster.pass_with(200, &[1, 2]);
    assert_eq!(state(&cluster), "drained");
}
