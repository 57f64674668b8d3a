//! Attempts fail.

use gristmill_master::core::{Command, Event, SessionId, TaskReport};
use gristmill_proto::job::JobSpec;
use gristmill_proto::job::job_status::State;
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::{AttemptProgress, AttemptResult};

use crate::cluster::{Cluster, attempt};
use crate::plans;

#[test]
fn four_failures_fail_the_job_naming_task_attempt_worker_and_reason() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[1], false);
    let job = cluster.run(&spec, Vec::new());
    let mut workers = vec![cluster.launched()[0].0];
    for number in 0..3 {
        let worker = *workers.last().unwrap();
        cluster.failed(worker, attempt(job, 0, 0, number), Kind::Exited, "it exited with status 3");
        assert_eq!(cluster.launched().len(), 1, "it is tried again at once");
        workers.push(cluster.launched()[0].0);
    }
    assert!(workers.windows(2).all(|two| two[0] != two[1]), "always on another worker: {workers:?}");
    cluster.failed(workers[3], attempt(job, 0, 0, 3), Kind::Exited, "it exited with status 3");
    assert_eq!(cluster.state(job), State::Failed);
    let reason = cluster.status(job).reason;
    for part in ["map 1 task 1", "4 times", "s0-t00000-a3", "worker-", "status 3", "at the end"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert_eq!(cluster.core.tasks(job, None, 0, 10)[0].attempts.len(), 4, "what failed is remembered");
}

#[test]
fn bad_records_are_limited_over_all_tasks() {
    let mut cluster = Cluster::with_workers(1);
    let spec = JobSpec { bad_records_limits: vec![5], ..plans::chain(1, &[3], false) };
    let job = cluster.run(&spec, Vec::new());
    let skips = |cluster: &mut Cluster, task: u32, bad_records: u64| {
        let attempt = attempt(job, 0, task, 0);
        let result = AttemptResult {
            bad_records,
            bad_records_by_limit: vec![bad_records],
            ..plans::result(&spec, attempt, 1, 0)
        };
        cluster.told(1, attempt, TaskReport::Done(Box::new(result)));
    };
    skips(&mut cluster, 0, 3);
    skips(&mut cluster, 1, 2);
    assert_eq!(cluster.state(job), State::Running, "as many as are allowed");
    skips(&mut cluster, 2, 1);
    assert_eq!(cluster.state(job), State::Failed);
    let reason = cluster.status(job).reason;
    assert_eq!(reason, "more than 5 bad records: with map 1 task 3, its tasks have skipped 6");
}

#[test]
fn a_program_that_builds_another_plan_is_not_tried_again() {
    for kind in [Kind::Plan, Kind::Program] {
        let mut cluster = Cluster::with_workers(2);
        let job = cluster.run(&plans::chain(1, &[1], false), Vec::new());
        cluster.failed(1, attempt(job, 0, 0, 0), kind, "not this one");
        assert_eq!(cluster.state(job), State::Failed);
        assert!(cluster.status(job).reason.contains("not this one"));
    }
}

#[test]
fn a_task_that_had_too_little_memory_gets_twice_as_much_once() {
    let mut cluster = Cluster::with_workers(2);
    let spec = JobSpec { memory_bytes: 64 << 20, ..plans::chain(1, &[1], false) };
    let job = cluster.run(&spec, Vec::new());
    let (worker, first) = (cluster.launched()[0].0, cluster.given_bytes());
    assert_eq!(first, [64 << 20]);
    cluster.failed(worker, attempt(job, 0, 0, 0), Kind::Memory, "it used 200 MiB, its limit is 144 MiB");
    assert_eq!(cluster.given_bytes(), [128 << 20], "twice as much");
    let worker = cluster.launched()[0].0;
    cluster.failed(worker, attempt(job, 0, 0, 1), Kind::Memory, "it used 300 MiB, its limit is 224 MiB");
    assert_eq!(cluster.state(job), State::Failed, "and no third time");
    assert!(cluster.status(job).reason.contains("its limit is 224 MiB"));
}

#[test]
fn what_a_worker_ends_does_not_count() {
    let mut cluster = Cluster::with_workers(1);
    let spec = plans::chain(1, &[1], false);
    let job = cluster.run(&spec, Vec::new());
    for number in 0..10 {
        cluster.failed(1, attempt(job, 0, 0, number), Kind::Worker, "the worker ends");
    }
    let status = cluster.status(job);
    assert_eq!((cluster.state(job), status.stages[0].failed_attempts), (State::Running, 0));
    assert_eq!(status.stages[0].lost_attempts, 10);
}

#[test]
fn a_worker_where_a_job_fails_three_times_is_avoided() {
    let mut cluster = Cluster::with_workers(2);
    let mut spec = plans::chain(1, &[8], false);
    spec.attempts_max = 10;
    let job = cluster.run(&spec, Vec::new());
    let (mut failures, mut launched) = (0, cluster.launched());
    while !launched.is_empty() {
        let (worker, it) = launched.remove(0);
        if worker == 1 {
            failures += 1;
            cluster.failed(1, it, Kind::Scratch, "bad disk");
        } else {
            cluster.done(&spec, worker, it);
        }
        launched.extend(cluster.launched());
    }
    assert_eq!((cluster.state(job), failures), (State::Committing, 3));
}

#[test]
fn an_attempt_without_progress_is_ended_and_counts_as_failed() {
    let mut cluster = Cluster::with_workers(1);
    let mut spec = plans::chain(1, &[1], false);
    spec.no_progress_ms = 5_000;
    let job = cluster.run(&spec, Vec::new());
    let silent = |silent_ms| {
        let attempt = attempt(job, 0, 0, 0);
        (
            attempt,
            AttemptProgress { attempt: Some(attempt.to_wire()), silent_ms, ..AttemptProgress::default() },
        )
    };
    cluster.handle(Event::Heartbeat { session: SessionId(1), running: vec![silent(5_000)] });
    assert!(!cluster.saw(|command| matches!(command, Command::Kill { .. })));
    cluster.handle(Event::Heartbeat { session: SessionId(1), running: vec![silent(5_001)] });
    assert!(cluster.saw(|command| matches!(command, Command::Kill { .. })));
    assert_eq!(cluster.status(job).stages[0].failed_attempts, 1);
    assert!(cluster.launched().is_empty(), "the slot is not free yet");
    cluster.failed(1, attempt(job, 0, 0, 0), Kind::Killed, "killed");
    assert_eq!(cluster.launched(), [(1, attempt(job, 0, 0, 1))]);
}

#[test]
fn killing_a_task_counts_and_killing_an_attempt_does_not() {
    let mut cluster = Cluster::with_workers(2);
    let job = cluster.run(&plans::chain(1, &[1], false), Vec::new());
    cluster.handle(Event::KillAttempt { attempt: attempt(job, 0, 0, 0) });
    assert_eq!(cluster.launched(), [(2, attempt(job, 0, 0, 1))]);
    cluster.handle(Event::KillTask { job, stage: 0, task: 0 });
    let stage = &cluster.status(job).stages[0];
    assert_eq!((stage.failed_attempts, stage.lost_attempts), (1, 1));
}
