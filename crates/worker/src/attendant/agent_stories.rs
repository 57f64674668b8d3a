use super::*;
use gristmill_proto::job::stage::{Origin, Target};
use gristmill_proto::job::{JobSpec, Stage};
use gristmill_proto::task::{
    Accepted, AttemptFailure, DropOutput, EndJob, Holder, KillAttempt, OutputEntry, fetch_failed,
};

const JOB: JobId = JobId([7; 16]);
const LOST: Duration = Duration::from_secs(12);

fn attempt(stage: u32, task: u32, number: u32) -> AttemptId {
    gristmill_proto::ids::TaskId { job: JOB, stage, task }.attempt(number)
}

/// Four maps, and two reduces of what they leave.
fn spec() -> JobSpec {
    let map = Stage { tasks: 4, target: Target::ToShuffle as i32, ..Stage::default() };
    let reduce = Stage {
        origin: Origin::Shuffle as i32,
        tasks: 2,
        target: Target::ToOutput as i32,
        ..Stage::default()
    };
    let job_file_sha256 = vec![1; 32].into();
    JobSpec { job: JOB.0.to_vec().into(), stages: vec![map, reduce], job_file_sha256, ..JobSpec::default() }
}

/// An agent of two slots that has been welcomed and knows the job.
fn agent() -> Agent {
    let mut agent = Agent::new(2);
    assert!(agent.hear(Instant::now(), Epoch(3)));
    agent.welcome(WorkerId(5), LOST);
    start_job(&mut agent);
    agent
}

fn start_job(agent: &mut Agent) {
    agent.obey(Order::StartJob(StartJob { spec: Some(spec()), ..StartJob::default() })).expect("a job");
}

fn launch(agent: &mut Agent, attempt: AttemptId) {
    let launch = Launch { attempt: Some(attempt.to_wire()), ..Launch::default() };
    agent.obey(Order::Launch(launch)).expect("an attempt");
}

fn outputs(entries: &[(u32, u64)]) -> Order {
    let entry =
        |(task, holder): &(u32, u64)| OutputEntry { task: *task, holder: *holder, ..OutputEntry::default() };
    let holder = |(_, worker): &(u32, u64)| Holder { worker: *worker, address: format!("h{worker}:1") };
    Order::Outputs(Outputs {
        job: JOB.0.to_vec().into(),
        entries: entries.iter().map(entry).collect(),
        holders: entries.iter().map(holder).collect(),
        expected: 4,
        ..Outputs::default()
    })
}

fn done(agent: &mut Agent, attempt: AttemptId) {
    agent.take(Event::Ended { attempt, outcome: Outcome::Done(Box::default()) });
}

fn actions(agent: &mut Agent) -> Vec<Action> {
    std::iter::from_fn(|| agent.next_action()).collect()
}

fn notices(agent: &mut Agent) -> Vec<Notice> {
    std::iter::from_fn(|| agent.next_notice()).collect()
}

fn complaint(task: u32) -> FetchFailed {
    let output = Some(attempt(0, task, 0).to_wire());
    let kind = fetch_failed::Kind::Unreachable as i32;
    FetchFailed { output, holder: 9, kind, ..FetchFailed::default() }
}

#[test]
fn an_end_is_told_on_every_stream_until_it_is_accepted() {
    let mut agent = agent();
    launch(&mut agent, attempt(0, 0, 1));
    assert!(matches!(&actions(&mut agent)[..], [Action::Start(_)]));
    done(&mut agent, attempt(0, 0, 1));
    assert!(matches!(&notices(&mut agent)[..], [Notice::Ended(ended)] if ended.epoch == 3));
    assert_eq!(agent.known(), [attempt(0, 0, 1)], "the master may count on it");
    assert_eq!((agent.running().count(), agent.is_told()), (0, false));

    assert!(agent.hear(Instant::now(), Epoch(4)));
    agent.welcome(WorkerId(5), LOST);
    assert!(matches!(&notices(&mut agent)[..], [Notice::Ended(ended)] if ended.epoch == 4));
    // Launched again by a master that had not heard of it.
    launch(&mut agent, attempt(0, 0, 1));
    assert!(actions(&mut agent).is_empty());
    assert_eq!(notices(&mut agent).len(), 1);

    let accepted = Accepted { attempt: Some(attempt(0, 0, 1).to_wire()), winner: true };
    agent.obey(Order::Accepted(accepted)).expect("an attempt");
    assert!(agent.is_told() && agent.known().is_empty() && actions(&mut agent).is_empty());
    assert!(!agent.hear(Instant::now(), Epoch(3)), "a master of the past");
}

#[test]
fn the_map_output_of_a_loser_goes() {
    let mut agent = agent();
    launch(&mut agent, attempt(0, 0, 1));
    done(&mut agent, attempt(0, 0, 1));
    actions(&mut agent);
    let accepted = Accepted { attempt: Some(attempt(0, 0, 1).to_wire()), winner: false };
    agent.obey(Order::Accepted(accepted)).expect("an attempt");
    assert!(matches!(&actions(&mut agent)[..], [Action::DropOutput(_)]));
    let drop = DropOutput { attempt: Some(attempt(0, 3, 2).to_wire()) };
    agent.obey(Order::DropOutput(drop)).expect("an attempt");
    assert!(matches!(&actions(&mut agent)[..], [Action::DropOutput(id)] if *id == attempt(0, 3, 2)));
}

#[test]
fn readers_hear_of_all_map_outputs_and_then_of_news() {
    let mut agent = agent();
    agent.obey(outputs(&[(0, 8), (1, 9)])).expect("a job");
    launch(&mut agent, attempt(0, 3, 0));
    launch(&mut agent, attempt(1, 0, 0));
    let started = actions(&mut agent);
    let [Action::Start(map), Action::Start(reduce)] = &started[..] else { panic!("{started:?}") };
    assert!(map.outputs.is_empty());
    let [page] = &reduce.outputs[..] else { panic!("{reduce:?}") };
    assert_eq!((page.entries.len(), page.holders.len(), page.expected), (2, 2, 4));
    agent.obey(outputs(&[(2, 8)])).expect("a job");
    let told = actions(&mut agent);
    assert!(matches!(&told[..], [Action::Tell(id, _)] if *id == attempt(1, 0, 0)), "{told:?}");
}

#[test]
fn many_map_outputs_come_in_pages() {
    let mut agent = agent();
    let all: Vec<(u32, u64)> = (0..2500).map(|task| (task, u64::from(task % 7))).collect();
    all.chunks(900).for_each(|page| agent.obey(outputs(page)).expect("a job"));
    launch(&mut agent, attempt(1, 1, 0));
    let started = actions(&mut agent);
    let [Action::Start(reduce)] = &started[..] else { panic!("{started:?}") };
    let sizes: Vec<usize> = reduce.outputs.iter().map(|page| page.entries.len()).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
}

#[test]
fn a_failed_fetch_is_told_again_until_there_is_news_of_it() {
    let mut agent = agent();
    launch(&mut agent, attempt(1, 0, 0));
    actions(&mut agent);
    agent.take(Event::FetchFailed { attempt: attempt(1, 0, 0), report: complaint(2) });
    let told = notices(&mut agent);
    let [Notice::FetchFailed(report)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(report.reader, Some(attempt(1, 0, 0).to_wire()), "whatever the child said");
    agent.welcome(WorkerId(5), LOST);
    assert_eq!(notices(&mut agent).len(), 1, "the stream may have been lost with it");
    agent.obey(outputs(&[(2, 0)])).expect("a job");
    agent.welcome(WorkerId(5), LOST);
    assert!(notices(&mut agent).is_empty());
    // None of the job's.
    agent.take(Event::FetchFailed { attempt: attempt(1, 0, 0), report: complaint(77) });
    assert!(notices(&mut agent).is_empty());
}

#[test]
fn a_job_is_removed_when_nothing_of_it_runs() {
    let mut agent = agent();
    launch(&mut agent, attempt(0, 0, 0));
    actions(&mut agent);
    agent.obey(Order::EndJob(EndJob { job: JOB.0.to_vec().into() })).expect("a job");
    let first = actions(&mut agent);
    assert!(matches!(&first[..], [Action::Kill { kind: Kind::Killed, .. }]), "{first:?}");
    done(&mut agent, attempt(0, 0, 0));
    let last = actions(&mut agent);
    assert!(
        matches!(&last[..], [Action::RemoveJob { job: JOB, files, has_ended: true }] if files.len() == 1),
        "{last:?}"
    );
    // A job that only left map outputs here.
    agent.obey(Order::EndJob(EndJob { job: JOB.0.to_vec().into() })).expect("a job");
    assert!(matches!(&actions(&mut agent)[..], [Action::RemoveJob { .. }]));
}

#[test]
fn a_worker_without_a_master_ends_its_attempts_once() {
    let now = Instant::now();
    let mut agent = agent();
    launch(&mut agent, attempt(0, 0, 0));
    actions(&mut agent);
    agent.pass(now + LOST / 2);
    assert!(actions(&mut agent).is_empty());
    agent.pass(now + LOST * 2);
    agent.pass(now + LOST * 3);
    let killed = actions(&mut agent);
    assert!(matches!(&killed[..], [Action::Kill { kind: Kind::Worker, .. }]), "{killed:?}");
}

#[test]
fn a_fenced_worker_forgets_everything() {
    let mut agent = agent();
    launch(&mut agent, attempt(0, 0, 0));
    launch(&mut agent, attempt(0, 1, 0));
    done(&mut agent, attempt(0, 1, 0));
    actions(&mut agent);
    agent.fence();
    assert!(agent.known().is_empty() && !agent.may_begin());
    let did = actions(&mut agent);
    assert!(matches!(&did[..], [Action::Kill { .. }, Action::DropAllOutputs]), "{did:?}");
    done(&mut agent, attempt(0, 0, 0));
    assert!(matches!(&actions(&mut agent)[..], [Action::DropOutput(_), Action::RemoveJob { .. }]));
    assert!(notices(&mut agent).is_empty() && agent.is_quiet());
    agent.take(Event::Tidied);
    assert!(!agent.may_begin(), "the job is still being removed");
    agent.take(Event::Tidied);
    assert!(agent.may_begin());
    // The next life is told of the job anew.
    start_job(&mut agent);
    launch(&mut agent, attempt(0, 0, 1));
    assert!(matches!(&actions(&mut agent)[..], [Action::Start(_)]));
}

#[test]
fn what_cannot_run_is_said_at_once() {
    let mut agent = agent();
    let refused = |agent: &mut Agent, attempt| {
        launch(agent, attempt);
        let told = notices(agent);
        let [Notice::Ended(Ended { outcome: Some(ended::Outcome::Failed(failure)), .. })] = &told[..] else {
            panic!("{told:?}")
        };
        AttemptFailure::clone(failure)
    };
    assert_eq!(refused(&mut agent, attempt(9, 0, 0)).kind(), Kind::Plan);
    let unknown = gristmill_proto::ids::TaskId { job: JobId([8; 16]), stage: 0, task: 0 }.attempt(0);
    assert_eq!(refused(&mut agent, unknown).kind(), Kind::Worker);
    (0..4).for_each(|task| launch(&mut agent, attempt(0, task, 0)));
    assert!(refused(&mut agent, attempt(0, 0, 1)).message.contains("no free slot"));
    agent.leave();
    assert!(matches!(notices(&mut agent)[..], [Notice::Leaving(_)]), "before anything ends");
    assert!(refused(&mut agent, attempt(0, 0, 2)).message.contains("ends"));
    assert!(agent.obey(Order::Launch(Launch::default())).is_err(), "an order about nothing");
}

#[test]
fn a_kill_is_passed_on_once_and_a_drained_worker_says_so() {
    let mut agent = agent();
    launch(&mut agent, attempt(0, 0, 0));
    actions(&mut agent);
    for _ in 0..2 {
        let kill = KillAttempt { attempt: Some(attempt(0, 0, 0).to_wire()), reason: "by ann".to_owned() };
        agent.obey(Order::Kill(kill)).expect("an attempt");
    }
    assert_eq!(actions(&mut agent).len(), 1);
    agent.obey(Order::Drain(Drain { undo: false })).expect("an order");
    agent.tell_drained(0);
    assert!(notices(&mut agent).is_empty(), "one runs");
    done(&mut agent, attempt(0, 0, 0));
    let accepted = Accepted { attempt: Some(attempt(0, 0, 0).to_wire()), winner: true };
    agent.obey(Order::Accepted(accepted)).expect("an attempt");
    notices(&mut agent);
    agent.tell_drained(1);
    assert!(notices(&mut agent).is_empty(), "a map output is needed");
    agent.tell_drained(0);
    agent.tell_drained(0);
    assert!(matches!(&notices(&mut agent)[..], [Notice::Drained(_)]));
}
