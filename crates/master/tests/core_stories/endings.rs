//! Jobs come, run and end.

use gristmill_master::core::{Command, Event, Refusal};
use gristmill_proto::job::job_status::State;
use gristmill_proto::job_record::record;
use gristmill_proto::report::Report;

use crate::cluster::{Cluster, attempt};
use crate::plans;

#[test]
fn a_small_job_runs_without_a_pause_and_commits_once() {
    let mut cluster = Cluster::with_workers(1);
    let spec = plans::chain(1, &[2, 1], false);
    let job = cluster.run(&spec, Vec::new());
    // No time passes: each step follows in the turn of the one before.
    assert_eq!(cluster.launched(), [(1, attempt(job, 0, 0, 0))]);
    cluster.done(&spec, 1, attempt(job, 0, 0, 0));
    assert_eq!(cluster.launched(), [(1, attempt(job, 0, 1, 0))]);
    cluster.done(&spec, 1, attempt(job, 0, 1, 0));
    assert_eq!(cluster.launched(), [(1, attempt(job, 1, 0, 0))]);
    assert!(cluster.saw(|command| matches!(command, Command::Outputs { entries, .. } if entries.len() == 2)));
    cluster.done(&spec, 1, attempt(job, 1, 0, 0));
    let order: Vec<&str> = cluster.commands.iter().filter_map(step).collect();
    assert_eq!(order, ["won", "accept", "committing", "publish"]);
    let report: Report = serde_json::from_str(&cluster.manifest().unwrap()).unwrap();
    assert_eq!(
        report.counters.iter().map(|counter| counter.value).collect::<Vec<_>>(),
        plans::counters(&spec)
    );
    assert_eq!((report.outputs[0].files.len(), report.outputs[0].bytes, report.stages[0].tasks), (1, 7, 2));
    cluster.handle(Event::KillJob { job, reason: "too late".to_owned() });
    assert_eq!(cluster.state(job), State::Committing, "nothing stops a commit");
    cluster.handle(Event::Published { job, result: Ok(()) });
    assert_eq!(cluster.state(job), State::Done);
    assert!(cluster.saw(|command| matches!(command, Command::EndJob { .. })));
    assert!(cluster.saw(|command| matches!(command, Command::Clean(_))));
    assert!(!cluster.saw(|command| matches!(command, Command::Abort(_))));
    assert!(cluster.status(job).report_json.contains("\"seen\""));
}

fn step(command: &Command) -> Option<&'static str> {
    match command {
        Command::Persist(record) => match record.record.as_ref()? {
            record::Record::Won(_) => Some("won"),
            record::Record::Committing(_) => Some("committing"),
            _ => None,
        },
        Command::Accept { winner: true, .. } => Some("accept"),
        Command::Publish { .. } => Some("publish"),
        _ => None,
    }
}

#[test]
fn the_same_job_again_is_the_same_job_and_another_is_refused() {
    let mut cluster = Cluster::with_workers(0);
    let spec = plans::chain(1, &[1], false);
    let job = cluster.run(&spec, Vec::new());
    let submit = |spec: &gristmill_proto::job::JobSpec| Event::Submit {
        spec: Box::new(spec.clone()),
        hints: Vec::new(),
        wall_ms: 0,
    };
    cluster.handle(submit(&spec));
    assert!(cluster.saw(|command| matches!(command, Command::Admit { known: true, .. })));
    let mut other = spec.clone();
    other.name = "another".to_owned();
    cluster.handle(submit(&other));
    let conflicts =
        |command: &Command| matches!(command, Command::Refuse { refusal: Refusal::Conflict(_), .. });
    assert!(cluster.saw(conflicts));
    cluster.handle(Event::KillJob { job, reason: "enough".to_owned() });
    cluster.handle(submit(&spec));
    assert!(
        cluster.saw(|command| matches!(command, Command::Admit { known: true, .. })),
        "also when it has ended"
    );
}

#[test]
fn nonsense_is_refused_with_its_reason() {
    let mut cluster = Cluster::with_workers(0);
    let good = || plans::chain(1, &[2, 3], false);
    let mut cases = vec![(good(), "16 bytes"); 5];
    cases[0].0.job = vec![1; 15].into();
    cases[1] = (good(), "5 tasks for a shuffle of 3 partitions");
    cases[1].0.stages[1].tasks = 5;
    cases[2] = (plans::chain(1, &[1_000_001], false), "more than 1000000");
    cases[3] = (good(), "is fed by no stage");
    cases[3].0.stages[0].target = 0;
    cases[4] = (plans::chain(1, &[1, 65_537], false), "not between 1 and 65536");
    for (spec, reason) in cases {
        cluster.handle(Event::Submit { spec: Box::new(spec), hints: Vec::new(), wall_ms: 0 });
        let says = |command: &Command| match command {
            Command::Refuse { refusal: Refusal::Bad(sentence), .. } => sentence.contains(reason),
            _ => false,
        };
        assert!(cluster.saw(says), "{reason}: {:?}", cluster.commands);
    }
}

#[test]
fn a_killed_job_is_cleaned_up_when_its_last_attempt_has_ended() {
    let mut cluster = Cluster::with_workers(1);
    let spec = plans::chain(1, &[1], false);
    let job = cluster.run(&spec, Vec::new());
    cluster.handle(Event::KillJob { job, reason: "no longer wanted".to_owned() });
    assert_eq!(
        (cluster.state(job), cluster.status(job).reason.as_str()),
        (State::Killed, "no longer wanted")
    );
    assert!(cluster.saw(|command| matches!(command, Command::EndJob { .. })));
    assert!(!cluster.saw(|command| matches!(command, Command::Abort(_))), "an attempt may still write");
    cluster.done(&spec, 1, attempt(job, 0, 0, 0));
    assert!(cluster.saw(|command| matches!(command, Command::Accept { winner: false, .. })));
    assert!(cluster.saw(|command| matches!(command, Command::Abort(_))));
    assert!(cluster.saw(|command| matches!(command, Command::Clean(_))));
}

#[test]
fn a_job_without_workers_waits_says_so_and_fails() {
    let mut cluster = Cluster::with_workers(0);
    let mut spec = plans::chain(1, &[1], false);
    spec.no_worker_ms = 30_000;
    let job = cluster.run(&spec, Vec::new());
    cluster.pass(1_000);
    assert!(cluster.status(job).reason.contains("waits for a worker"), "{}", cluster.status(job).reason);
    cluster.pass(31_000);
    assert_eq!(cluster.state(job), State::Failed);
    assert!(cluster.status(job).reason.contains("no worker was there"), "{}", cluster.status(job).reason);
}

#[test]
fn a_job_that_is_to_die_with_its_driver_does() {
    let mut cluster = Cluster::with_workers(0);
    let mut spec = plans::chain(1, &[1], false);
    spec.kill_on_exit = true;
    let job = cluster.run(&spec, Vec::new());
    cluster.handle(Event::DriverWatches { job, watching: true });
    cluster.pass(20_000);
    assert_eq!(cluster.state(job), State::Running);
    cluster.handle(Event::DriverWatches { job, watching: false });
    cluster.pass(9_900);
    assert_eq!(cluster.state(job), State::Running);
    cluster.pass(200);
    assert_eq!(
        (cluster.state(job), cluster.status(job).reason.as_str()),
        (State::Killed, "its driver has gone")
    );
}

#[test]
fn outputs_that_cannot_be_staged_fail_the_job() {
    let mut cluster = Cluster::with_workers(1);
    let spec = plans::chain(1, &[1], false);
    let job = plans::id_of(&spec);
    cluster.handle(Event::Submit { spec: Box::new(spec), hints: Vec::new(), wall_ms: 0 });
    cluster.handle(Event::Staged { job, result: Err("dfs:///out/1 exists".to_owned()) });
    assert_eq!(
        (cluster.state(job), cluster.status(job).reason.as_str()),
        (State::Failed, "dfs:///out/1 exists")
    );
    assert!(cluster.launched().is_empty());
}
