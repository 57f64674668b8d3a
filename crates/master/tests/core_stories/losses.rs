//! Workers and map outputs are lost.

use gristmill_master::core::{Command, Event, SessionId, TaskReport};
use gristmill_proto::job::job_status::State;
use gristmill_proto::task::{fetch_failed, refused};

use crate::cluster::{Cluster, Coming, attempt, coming};
use crate::plans;

#[test]
fn a_silent_worker_is_suspect_then_lost_and_its_work_is_done_elsewhere() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[2, 1], false);
    let job = cluster.run(&spec, Vec::new());
    cluster.done(&spec, 1, attempt(job, 0, 0, 0));
    // Worker 1 holds a map output and waits with the reduce; then it is silent.
    assert_eq!(cluster.launched(), [(1, attempt(job, 1, 0, 0))]);
    cluster.pass_with(11_000, &[2]);
    assert_eq!(cluster.status(job).stages[0].done, 1, "it may come back");
    cluster.pass_with(1_500, &[2]);
    let stages = cluster.status(job).stages;
    assert_eq!((stages[0].done, stages[0].lost_attempts, stages[1].lost_attempts), (0, 1, 1));
    cluster.done(&spec, 2, attempt(job, 0, 1, 0));
    assert_eq!(cluster.launched(), [(2, attempt(job, 0, 0, 1))]);
    cluster.done(&spec, 2, attempt(job, 0, 0, 1));
    assert_eq!(cluster.launched(), [(2, attempt(job, 1, 0, 1))]);
    // The one that was lost wakes up, and has missed it.
    cluster.done(&spec, 1, attempt(job, 1, 0, 0));
    let fenced = |command: &Command| {
        matches!(
            command,
            Command::RefuseWorker { reason: refused::Reason::Fenced, session: SessionId(1), .. }
        )
    };
    assert!(cluster.saw(fenced));
    cluster.done(&spec, 2, attempt(job, 1, 0, 1));
    assert_eq!(cluster.state(job), State::Committing);
}

#[test]
fn a_broken_stream_loses_nothing() {
    let mut cluster = Cluster::with_workers(1);
    let spec = plans::chain(1, &[1], false);
    let job = cluster.run(&spec, Vec::new());
    let it = attempt(job, 0, 0, 0);
    cluster.handle(Event::Disconnected { session: SessionId(1) });
    cluster.pass(3_000);
    cluster.come(Coming { session: 7, running: vec![it], ..coming(1) });
    assert!(!cluster.saw(|command| matches!(command, Command::Kill { .. })));
    let result = plans::result(&spec, it, 1, 0);
    cluster.told(7, it, TaskReport::Done(Box::new(result)));
    assert_eq!(cluster.state(job), State::Committing);
}

#[test]
fn another_life_of_a_worker_takes_its_place_at_once() {
    let mut cluster = Cluster::with_workers(1);
    let spec = plans::chain(1, &[2, 1], false);
    let job = cluster.run(&spec, Vec::new());
    cluster.done(&spec, 1, attempt(job, 0, 0, 0));
    cluster.come(Coming { session: 2, life: 2, held_pages: 1, ..coming(1) });
    let replaced = |command: &Command| {
        matches!(
            command,
            Command::RefuseWorker { reason: refused::Reason::Replaced, session: SessionId(1), .. }
        )
    };
    assert!(cluster.saw(replaced));
    assert_eq!(cluster.launched(), [(2, attempt(job, 0, 1, 1))], "its attempt is gone");
    assert_eq!(cluster.status(job).stages[0].done, 1, "it has not said yet what it holds");
    cluster.holds(2, job, &[attempt(job, 0, 0, 0)]);
    assert_eq!(cluster.status(job).stages[0].done, 1);
    cluster.come(Coming { session: 3, life: 3, ..coming(1) });
    assert_eq!(cluster.status(job).stages[0].done, 0, "this one holds nothing");
}

#[test]
fn one_proof_of_loss_is_enough_and_a_doubt_needs_two() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[1, 2], false);
    let job = cluster.run(&spec, Vec::new());
    let map = attempt(job, 0, 0, 0);
    cluster.done(&spec, cluster.launched()[0].0, map);
    let reader = cluster.launched()[0];
    cluster.fetch_failed(reader.0, reader.1, map, fetch_failed::Kind::Unreachable);
    assert_eq!(cluster.status(job).stages[0].done, 1);
    assert!(
        cluster.saw(|command| matches!(command, Command::Outputs { entries, .. } if entries[0].holder != 0))
    );
    cluster.fetch_failed(reader.0, reader.1, map, fetch_failed::Kind::Unreachable);
    assert_eq!(cluster.status(job).stages[0].done, 0);

    let mut cluster = Cluster::with_workers(2);
    let job = cluster.run(&spec, Vec::new());
    cluster.done(&spec, cluster.launched()[0].0, map);
    let reader = cluster.launched()[0];
    cluster.fetch_failed(reader.0, reader.1, map, fetch_failed::Kind::NotFound);
    assert_eq!(cluster.status(job).stages[0].done, 0);
    assert!(cluster.saw(|command| matches!(command, Command::DropOutput { .. })));
}

#[test]
fn a_lost_map_takes_the_slot_of_a_reduce_that_waits_for_it() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[1, 2], false);
    let job = cluster.run(&spec, Vec::new());
    let map = attempt(job, 0, 0, 0);
    cluster.done(&spec, 1, map);
    let readers = cluster.launched();
    assert_eq!(readers.len(), 2);
    // Both slots are taken by reduces, and what they wait for is lost.
    cluster.fetch_failed(readers[0].0, readers[0].1, map, fetch_failed::Kind::NotFound);
    let killed =
        |command: &Command| matches!(command, Command::Kill { attempt, .. } if *attempt == readers[1].1);
    assert!(cluster.saw(killed), "the youngest makes room: {:?}", cluster.commands);
    cluster.failed(
        readers[1].0,
        readers[1].1,
        gristmill_proto::task::attempt_failure::Kind::Killed,
        "killed",
    );
    assert_eq!(cluster.launched(), [(readers[1].0, attempt(job, 0, 0, 1))]);
}

#[test]
fn outputs_that_nobody_needs_any_more_are_not_made_again() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[1, 1, 1], false);
    let job = cluster.run(&spec, Vec::new());
    cluster.done(&spec, 1, attempt(job, 0, 0, 0));
    let second = cluster.launched()[0];
    cluster.done(&spec, second.0, second.1);
    let third = cluster.launched()[0];
    // Worker 1 held the first map output; the second stage is done, if on another worker.
    let mut expected_done = [1, 1];
    if second.0 == 1 {
        expected_done = [0, 0];
    }
    cluster.pass_with(13_000, &[2]);
    let stages = cluster.status(job).stages;
    assert_eq!(
        [stages[0].done, stages[1].done],
        expected_done,
        "reopened only if what came of it is lost too"
    );
    assert_eq!(third.1.task.stage, 2);
}
