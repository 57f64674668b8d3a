//! Slow attempts get twins, and the first that is done counts.

use gristmill_master::core::{Command, Event, SessionId};
use gristmill_proto::ids::{AttemptId, JobId};
use gristmill_proto::job::job_status::State;
use gristmill_proto::job::{JobSpec, StageStatus};
use gristmill_proto::job_record::record;
use gristmill_proto::task::AttemptProgress;
use gristmill_proto::task::attempt_failure::Kind;

use crate::cluster::{Cluster, Coming, attempt, coming};
use crate::plans;

/// Longer than it takes to see that an attempt is slow, when others took a second.
const SLOW_MS: u64 = 10_000;

impl Cluster {
    /// Time passes until something is launched; nothing if nothing is.
    fn until_launched(&mut self, within_ms: u64, sessions: &[u64]) -> Vec<(u64, AttemptId)> {
        for _ in 0..within_ms / 100 {
            self.pass_with(100, sessions);
            if !self.launched().is_empty() {
                break;
            }
        }
        self.launched()
    }

    fn stage(&self, job: JobId, stage: usize) -> StageStatus {
        self.status(job).stages[stage].clone()
    }

    fn winners(&self) -> usize {
        let won = |record: &&gristmill_proto::job_record::Record| {
            matches!(record.record, Some(record::Record::Won(_)))
        };
        self.records.iter().filter(won).count()
    }
}

/// Three maps on three workers; two are done after a second, and the third is slow. Returns who it is, and its twin.
fn one_is_slow(cluster: &mut Cluster, spec: &JobSpec) -> (JobId, (u64, AttemptId), (u64, AttemptId)) {
    let job = cluster.run(spec, Vec::new());
    let all = cluster.launched();
    assert_eq!(all.len(), 3);
    cluster.pass_with(1_000, &[1, 2, 3]);
    for (session, quick) in &all[..2] {
        cluster.done(spec, *session, *quick);
    }
    let twins = cluster.until_launched(SLOW_MS, &[1, 2, 3]);
    assert_eq!(twins.len(), 1, "the slow one gets a twin");
    let (slow, twin) = (all[2], twins[0]);
    assert_eq!(twin.1, attempt(job, 0, slow.1.task.task, 1));
    assert_ne!(twin.0, slow.0, "on another worker");
    (job, slow, twin)
}

#[test]
fn the_twin_of_a_slow_attempt_wins_and_the_slow_one_ends() {
    let mut cluster = Cluster::with_workers(3);
    let spec = plans::chain(1, &[3], false);
    let (job, slow, twin) = one_is_slow(&mut cluster, &spec);
    assert_eq!((cluster.stage(job, 0).running, cluster.stage(job, 0).twins), (1, 1), "one task runs");
    cluster.done(&spec, twin.0, twin.1);
    assert_eq!(cluster.killed(), [slow]);
    assert_eq!(cluster.state(job), State::Committing);
    let manifest = cluster.manifest().expect("it commits");
    // It was done, too, before it could be stopped.
    cluster.done(&spec, slow.0, slow.1);
    assert!(cluster.saw(|command| matches!(command, Command::Accept { winner: false, .. })));
    assert_eq!(cluster.winners(), 3, "each task has one winner");
    let parts = cluster.core.parts(job);
    assert!(parts.iter().any(|(_, file)| file.attempt == twin.1.name()));
    assert!(parts.len() == 3 && parts.iter().all(|(_, file)| file.attempt != slow.1.name()));
    let report: gristmill_proto::report::Report = serde_json::from_str(&manifest).expect("a report");
    let counted: Vec<u64> = report.counters.iter().map(|counter| counter.value).collect();
    assert_eq!(counted, plans::counters(&spec), "counters of one only");
    let stage = cluster.stage(job, 0);
    assert_eq!((stage.twins, stage.twins_won, stage.lost_attempts, stage.failed_attempts), (1, 1, 0, 0));
}

#[test]
fn a_slow_attempt_that_is_done_first_after_all_wins() {
    let mut cluster = Cluster::with_workers(3);
    let spec = plans::chain(1, &[3], false);
    let (job, slow, twin) = one_is_slow(&mut cluster, &spec);
    cluster.done(&spec, slow.0, slow.1);
    assert_eq!(cluster.killed(), [twin]);
    assert_eq!((cluster.state(job), cluster.winners()), (State::Committing, 3));
    assert_eq!((cluster.stage(job, 0).twins, cluster.stage(job, 0).twins_won), (1, 0));
}

#[test]
fn when_one_of_two_attempts_is_gone_the_other_goes_on() {
    for slow_goes in [true, false] {
        let mut cluster = Cluster::with_workers(3);
        let spec = plans::chain(1, &[3], false);
        let (job, slow, twin) = one_is_slow(&mut cluster, &spec);
        let (gone, other) = if slow_goes { (slow, twin) } else { (twin, slow) };
        cluster.failed(gone.0, gone.1, Kind::Author, "no");
        assert_eq!((cluster.stage(job, 0).running, cluster.stage(job, 0).failed_attempts), (1, 1));
        assert!(cluster.launched().is_empty(), "the task does not wait: the other attempt does it");
        cluster.done(&spec, other.0, other.1);
        assert_eq!(cluster.state(job), State::Committing);
    }
}

#[test]
fn both_attempts_outlive_the_master() {
    let mut cluster = Cluster::with_workers(3);
    let spec = plans::chain(1, &[3], false);
    let (job, slow, twin) = one_is_slow(&mut cluster, &spec);
    cluster.restart();
    cluster.handle(Event::Staged { job, result: Ok(()) });
    for (session, attempt) in [slow, twin] {
        cluster.come(Coming { session: 10 + session, running: vec![attempt], ..coming(session) });
        assert!(cluster.killed().is_empty());
    }
    cluster.done(&spec, 10 + slow.0, slow.1);
    assert_eq!(cluster.killed(), [(10 + twin.0, twin.1)]);
    assert_eq!((cluster.state(job), cluster.winners()), (State::Committing, 3));
}

#[test]
fn there_are_no_twins_where_they_are_not_wanted_or_of_no_use() {
    let mut without = plans::chain(1, &[2], false);
    without.no_twins = true;
    // Job, workers, whether the slow attempt reads as fast as others, and why it gets no twin.
    let stories = [
        (without, 2, false, "the job wants none"),
        (plans::chain(1, &[2], false), 1, false, "there is no other worker"),
        (plans::chain(1, &[2], false), 2, true, "it only has more to read"),
    ];
    for (spec, workers, reads_much, why) in stories {
        let mut cluster = Cluster::with_workers(0);
        for worker in 1..=workers {
            cluster.come(Coming { slots: 2, ..coming(worker) });
        }
        cluster.run(&spec, Vec::new());
        let all = cluster.launched();
        cluster.pass_with(1_000, &[1, 2]);
        cluster.done(&spec, all[0].0, all[0].1);
        for seconds in 1..=60 {
            let bytes = if reads_much { seconds * 100 } else { 0 };
            let attempt = Some(all[1].1.to_wire());
            let progress = AttemptProgress { attempt, records: 1, bytes, silent_ms: 0 };
            let running = vec![(all[1].1, progress)];
            cluster.handle(Event::Heartbeat { session: SessionId(all[1].0), running });
            assert!(cluster.until_launched(1_000, &[1, 2]).is_empty(), "{why}");
        }
    }
}

#[test]
fn tasks_that_wait_come_before_twins() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[4], false);
    let job = cluster.run(&spec, Vec::new());
    let all = cluster.launched();
    cluster.pass_with(1_000, &[1, 2]);
    cluster.done(&spec, all[0].0, all[0].1);
    assert_eq!(cluster.launched(), [(all[0].0, attempt(job, 0, 2, 0))]);
    assert!(cluster.until_launched(SLOW_MS, &[1, 2]).is_empty(), "task 3 waits");
    cluster.done(&spec, all[0].0, attempt(job, 0, 2, 0));
    assert_eq!(cluster.launched(), [(all[0].0, attempt(job, 0, 3, 0))]);
    cluster.done(&spec, all[0].0, attempt(job, 0, 3, 0));
    let twins = cluster.until_launched(SLOW_MS, &[1, 2]);
    assert_eq!(twins, [(all[0].0, attempt(job, 0, 1, 1))]);
}

#[test]
fn a_reduce_that_only_waits_makes_room_for_a_twin() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[2, 1], false);
    let job = cluster.run(&spec, Vec::new());
    let all = cluster.launched();
    cluster.pass_with(1_000, &[1, 2]);
    cluster.done(&spec, all[0].0, all[0].1);
    let reader = (all[0].0, attempt(job, 1, 0, 0));
    assert_eq!(cluster.launched(), [reader], "it begins to fetch, and waits for the slow map");
    let mut killed = Vec::new();
    for _ in 0..SLOW_MS / 100 {
        cluster.pass_with(100, &[1, 2]);
        killed.extend(cluster.killed());
    }
    assert_eq!(killed, [reader], "once, and not the map");
    cluster.failed(reader.0, reader.1, Kind::Killed, "killed");
    assert_eq!(cluster.launched(), [(reader.0, attempt(job, 0, 1, 1))]);
}

#[test]
fn a_worker_that_is_slow_again_and_again_is_avoided_by_the_job() {
    let mut cluster = Cluster::with_workers(0);
    for worker in 1..=2 {
        cluster.come(Coming { slots: 2, ..coming(worker) });
    }
    let spec = plans::chain(1, &[4, 2], true);
    let job = cluster.run(&spec, Vec::new());
    let (slow, quick): (Vec<_>, Vec<_>) =
        cluster.launched().into_iter().partition(|(session, _)| *session == 1);
    cluster.pass_with(1_000, &[1, 2]);
    for (session, map) in &quick {
        cluster.done(&spec, *session, *map);
    }
    let twins = cluster.until_launched(SLOW_MS, &[1, 2]);
    assert_eq!((twins.len(), cluster.status(job).warnings.len()), (2, 0));
    let mut cutting = Vec::new();
    for (session, twin) in twins {
        cluster.done(&spec, session, twin);
        cutting.extend(cluster.launched());
    }
    for (session, attempt) in slow {
        cluster.failed(session, attempt, Kind::Killed, "killed");
    }
    assert!(cluster.status(job).warnings[0].contains("worker-1 (host1) is slow"));
    cluster.done(&spec, cutting[0].0, cutting[0].1);
    let sessions: Vec<u64> = cluster.launched().iter().map(|(session, _)| *session).collect();
    assert_eq!(
        (cutting[0].0, sessions),
        (2, vec![2, 2]),
        "two slots of the slow worker are free, and stay so"
    );
    let workers = cluster.core.cluster(cluster.now_ms).workers;
    assert_eq!(workers.iter().map(|worker| worker.slow_attempts).collect::<Vec<_>>(), [2, 0]);
}

#[test]
fn a_worker_that_is_hopelessly_slow_once_is_avoided_by_the_job() {
    // How long its attempt has taken when it is overtaken, beside a second of the others, and whether that is enough.
    for (overtaken_ms, is_avoided) in [(8_000, false), (14_000, true)] {
        let mut cluster = Cluster::with_workers(3);
        let spec = plans::chain(1, &[3], false);
        let (job, _, twin) = one_is_slow(&mut cluster, &spec);
        while cluster.now_ms < overtaken_ms {
            cluster.pass_with(100, &[1, 2, 3]);
        }
        cluster.done(&spec, twin.0, twin.1);
        assert_eq!(!cluster.status(job).warnings.is_empty(), is_avoided, "after {overtaken_ms} ms");
    }
}
