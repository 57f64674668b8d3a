//! A new master goes on where the former ended.

use gristmill_master::core::Command;
use gristmill_proto::job::job_status::State;

use crate::cluster::{Cluster, Coming, attempt, coming};
use crate::plans;

#[test]
fn winners_are_kept_running_attempts_go_on_and_numbers_are_new() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[3, 1], false);
    let job = cluster.run(&spec, Vec::new());
    cluster.done(&spec, 1, attempt(job, 0, 0, 0));
    cluster.restart();
    assert!(cluster.saw(|command| matches!(command, Command::Stage(_))));
    cluster.handle(gristmill_master::core::Event::Staged { job, result: Ok(()) });
    assert_eq!(cluster.status(job).stages[0].done, 1);
    // Worker 2 still runs the second map; worker 1 has lost its attempt, and still holds the first output.
    cluster.come(Coming { session: 12, running: vec![attempt(job, 0, 1, 0)], ..coming(2) });
    assert!(!cluster.saw(|command| matches!(command, Command::Kill { .. })));
    cluster.come(Coming { session: 11, held_pages: 1, ..coming(1) });
    cluster.holds(11, job, &[attempt(job, 0, 0, 0)]);
    assert!(cluster.launched().is_empty(), "other workers may come that run the third");
    cluster.now_ms += 2_000;
    cluster.pass_with(100, &[11, 12]);
    assert_eq!(cluster.launched(), [(11, attempt(job, 0, 2, 2_000))]);
    let result = plans::result(&spec, attempt(job, 0, 1, 0), 2, 0);
    cluster.told(12, attempt(job, 0, 1, 0), gristmill_master::core::TaskReport::Done(Box::new(result)));
    let stage = &cluster.status(job).stages[0];
    assert_eq!((stage.done, stage.lost_attempts), (2, 0));
}

#[test]
fn what_nobody_holds_after_the_grace_is_made_again() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[2, 1], false);
    let job = cluster.run(&spec, Vec::new());
    cluster.done(&spec, 1, attempt(job, 0, 0, 0));
    cluster.restart();
    cluster.handle(gristmill_master::core::Event::Staged { job, result: Ok(()) });
    cluster.come(Coming { session: 12, ..coming(2) });
    cluster.pass_with(11_000, &[12]);
    assert_eq!(cluster.status(job).stages[0].done, 1, "worker 1 may come");
    cluster.pass_with(2_000, &[12]);
    assert_eq!(cluster.status(job).stages[0].done, 0);
}

#[test]
fn a_decided_commit_is_carried_out() {
    let mut cluster = Cluster::with_workers(1);
    // Some time after 1970.
    cluster.now_ms += 1_000;
    let spec = plans::chain(1, &[1], false);
    let job = cluster.run(&spec, Vec::new());
    cluster.done(&spec, 1, attempt(job, 0, 0, 0));
    let (parts, manifest) = (cluster.core.parts(job), cluster.manifest());
    assert!(manifest.is_some());
    cluster.restart();
    assert_eq!((cluster.core.parts(job), cluster.manifest()), (parts, manifest));
    cluster.handle(gristmill_master::core::Event::Published { job, result: Ok(()) });
    assert_eq!(cluster.state(job), State::Done);
    let before = (cluster.status(job), cluster.core.tasks(job, None, 0, 10));
    cluster.restart();
    assert_eq!(cluster.state(job), State::Done, "history outlives masters");
    assert_eq!(
        (cluster.status(job), cluster.core.tasks(job, None, 0, 10)),
        before,
        "with its tasks and times"
    );
    let (status, tasks) = before;
    let stage = &status.stages[0];
    let moments =
        [status.submitted_ms, status.started_ms, stage.started_ms, stage.ended_ms, status.committing_ms];
    assert!(moments.is_sorted() && moments[1] > 0 && status.committing_ms <= status.ended_ms, "{status:?}");
    assert_eq!((tasks.len(), tasks[0].attempts[0].worker), (1, 1), "who did it is known: {tasks:?}");
}
