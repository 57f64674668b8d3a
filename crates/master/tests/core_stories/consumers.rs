//! Map outputs are lost, made again, and are others then: nobody's output is a mixture.

use gristmill_master::core::{Command, TaskReport};
use gristmill_proto::ids::{AttemptId, JobId};
use gristmill_proto::job::JobSpec;
use gristmill_proto::job::job_status::State;
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::fetch_failed;

use crate::cluster::{Cluster, attempt};
use crate::plans;

impl Cluster {
    /// The map is done; its output has the digest of this salt.
    fn mapped(&mut self, spec: &JobSpec, (session, map): (u64, AttemptId), salt: u64) {
        let result = plans::result(spec, map, session, salt);
        self.told(session, map, TaskReport::Done(Box::new(result)));
    }

    /// The reduce is done, and has read outputs of these salts, by map task.
    fn reduced(&mut self, spec: &JobSpec, (session, reduce): (u64, AttemptId), salts: &[u64]) {
        let mut result = plans::result(spec, reduce, session, 0);
        let digest = |task, salt| plans::digest(attempt(reduce.task.job, 0, task, 0), salt);
        let read = (0u32..).zip(salts).map(|(task, salt)| ((0, task), digest(task, *salt)));
        result.consumed = plans::consumed(read).into();
        self.told(session, reduce, TaskReport::Done(Box::new(result)));
    }

    fn accepts(&self, attempt: AttemptId) -> bool {
        self.saw(
            |command| matches!(command, Command::Accept { attempt: it, winner: true, .. } if *it == attempt),
        )
    }

    fn done_of(&self, job: JobId, stage: usize) -> u32 {
        self.status(job).stages[stage].done
    }
}

/// One map, two reduces on two workers: the first is done; then the other finds the map output damaged, and the map runs
/// again. Returns the reduce that waits, and the map.
fn read_by_one(cluster: &mut Cluster, spec: &JobSpec) -> (JobId, (u64, AttemptId), (u64, AttemptId)) {
    let job = cluster.run(spec, Vec::new());
    cluster.mapped(spec, (1, attempt(job, 0, 0, 0)), 0);
    let readers = cluster.launched();
    cluster.reduced(spec, readers[0], &[0]);
    assert_eq!(cluster.done_of(job, 1), 1);
    let (session, reader) = readers[1];
    cluster.fetch_failed(session, reader, attempt(job, 0, 0, 0), fetch_failed::Kind::Damaged);
    (job, readers[1], cluster.launched()[0])
}

#[test]
fn who_has_read_another_output_begins_again_and_nothing_is_mixed() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[1, 2], false);
    let (job, waiting, map) = read_by_one(&mut cluster, &spec);
    cluster.mapped(&spec, map, 99);
    assert_eq!(cluster.done_of(job, 1), 0, "the one that was done has read the former output");
    assert_eq!(cluster.killed(), [waiting], "the other may have read it");
    let first = cluster.launched()[0];
    // What it says in the meantime does not count.
    cluster.reduced(&spec, waiting, &[0]);
    assert!(!cluster.accepts(waiting.1));
    let second = cluster.launched()[0];
    cluster.reduced(&spec, first, &[99]);
    cluster.reduced(&spec, second, &[99]);
    assert_eq!(cluster.state(job), State::Committing);
    assert!(cluster.status(job).warnings[0].contains("not deterministic"));
    let report: gristmill_proto::report::Report =
        serde_json::from_str(&cluster.manifest().expect("it commits")).expect("a report");
    let counted: Vec<u64> = report.counters.iter().map(|counter| counter.value).collect();
    assert_eq!(counted, plans::counters(&spec), "who had to begin again is counted once");
}

#[test]
fn the_same_output_again_disturbs_nobody() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[1, 2], false);
    let (job, waiting, map) = read_by_one(&mut cluster, &spec);
    cluster.mapped(&spec, map, 0);
    assert!(cluster.killed().is_empty() && cluster.done_of(job, 1) == 1);
    cluster.reduced(&spec, waiting, &[0]);
    assert_eq!(cluster.state(job), State::Committing);
}

#[test]
fn a_new_master_knows_what_must_have_been_read() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[1, 2], false);
    let (job, waiting, map) = read_by_one(&mut cluster, &spec);
    cluster.mapped(&spec, map, 99);
    // The master dies before it has told anybody; the waiting reduce, which has read the former output, goes on.
    cluster.restart();
    cluster.handle(gristmill_master::core::Event::Staged { job, result: Ok(()) });
    let other = 3 - waiting.0;
    for (worker, running) in [(waiting.0, vec![waiting.1]), (other, Vec::new())] {
        let (session, held_pages) = (10 + worker, u32::from(worker == map.0));
        cluster.come(crate::cluster::Coming {
            session,
            running,
            held_pages,
            ..crate::cluster::coming(worker)
        });
        if worker == map.0 {
            cluster.holds(session, job, &[map.1]);
        }
    }
    assert!(cluster.killed().is_empty(), "nobody knows what it has read until it says so");
    cluster.reduced(&spec, (10 + waiting.0, waiting.1), &[0]);
    assert!(!cluster.accepts(waiting.1));
    assert_eq!(cluster.done_of(job, 1), 0);
}

#[test]
fn a_reduce_that_was_done_between_two_losses_does_not_stay_alone() {
    let mut cluster = Cluster::with_workers(4);
    let spec = plans::chain(1, &[2, 2], false);
    let job = cluster.run(&spec, Vec::new());
    let maps = [attempt(job, 0, 0, 0), attempt(job, 0, 1, 0)];
    let (mapping, mut readers) = (cluster.launched(), Vec::new());
    for (session, map) in mapping {
        cluster.mapped(&spec, (session, map), 0);
        readers.extend(cluster.launched());
    }
    assert_eq!(readers.len(), 2);
    cluster.reduced(&spec, readers[0], &[0, 0]);
    let (session, second) = readers[1];
    let mut again = Vec::new();
    for map in maps {
        cluster.fetch_failed(session, second, map, fetch_failed::Kind::NotFound);
        again.extend(cluster.launched());
    }
    // The first map gives something else; of the second, the reduce has the output that is lost.
    cluster.mapped(&spec, again[0], 5);
    cluster.reduced(&spec, readers[1], &[5, 0]);
    assert_eq!(cluster.done_of(job, 1), 1, "both are done, of different outputs: the former begins again");
    assert_eq!(cluster.state(job), State::Running);
    cluster.mapped(&spec, again[1], 0);
    let first = cluster.launched()[0];
    assert_eq!(first.1.task.task, readers[0].1.task.task);
    cluster.reduced(&spec, first, &[5, 0]);
    assert_eq!(cluster.state(job), State::Committing);
}

#[test]
fn a_job_that_is_another_each_time_fails() {
    let mut cluster = Cluster::with_workers(2);
    let spec = plans::chain(1, &[1, 2], false);
    let (job, mut waiting, mut map) = read_by_one(&mut cluster, &spec);
    let mut rounds = 0;
    loop {
        rounds += 1;
        cluster.mapped(&spec, map, rounds);
        if cluster.state(job) == State::Failed {
            break;
        }
        assert!(rounds < 50, "it never ends");
        let first = cluster.launched()[0];
        cluster.failed(waiting.0, waiting.1, Kind::Killed, "killed");
        waiting = cluster.launched()[0];
        cluster.reduced(&spec, first, &[rounds]);
        let former = attempt(job, 0, 0, map.1.number);
        cluster.fetch_failed(waiting.0, waiting.1, former, fetch_failed::Kind::NotFound);
        map = cluster.launched()[0];
    }
    let reason = cluster.status(job).reason;
    assert!(reason.contains("NONDETERMINISTIC") && rounds > 1, "after {rounds}: {reason}");
}
