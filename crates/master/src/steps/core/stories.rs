//! What becomes of steps, one story at a time.

use gristmill_proto::cluster::bootstrap_report::Phase;
use gristmill_proto::cluster::step_spec::ActionOnFailure;
use gristmill_proto::cluster::{
    AddStepsRequest, BootstrapReport, CancelStepsRequest, Cluster, Step, StepSpec, cluster,
};

use super::{Command, Core, Now, Outcome, Refusal};

/// A cluster of one worker, at a time of its own.
struct World {
    core: Core,
    now_ms: u64,
    requests: u8,
}

fn cluster() -> Cluster {
    let cluster_id = vec![7; 16].into();
    Cluster {
        cluster_id,
        workers_wanted: 1,
        step_concurrency: 1,
        idle_timeout_ms: 60_000,
        ..Cluster::default()
    }
}

fn step(name: &str) -> StepSpec {
    StepSpec { name: name.to_owned(), program: "file:///bin/true".to_owned(), ..StepSpec::default() }
}

impl World {
    fn of(cluster: Cluster) -> World {
        let mut world = World { core: Core::new(cluster, Vec::new(), now(0)), now_ms: 0, requests: 0 };
        world.core.observe(now(0), 1, 0);
        world
    }

    fn add(&mut self, steps: &[StepSpec]) -> Vec<u64> {
        self.requests += 1;
        let request = vec![self.requests; 16].into();
        let request = AddStepsRequest { request, steps: steps.to_vec(), user: "ann".to_owned() };
        self.core.add(now(self.now_ms), &request).expect("it makes sense").numbers
    }

    fn end(&mut self, number: u64, well: bool) {
        let failed = Outcome::Failed { reason: "EXITED", message: "status 1".to_owned() };
        let try_number = self.core.step(number).unwrap().tries;
        self.core.ended(now(self.now_ms), number, try_number, if well { Outcome::Completed } else { failed });
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.core.tick(now(self.now_ms));
    }

    /// State and reason of each step, then of the cluster.
    #[track_caller]
    fn shows(&self, expected: &[&str]) {
        let mut found: Vec<String> = self.core.steps().map(shown).collect();
        let cluster = self.core.cluster();
        found.push(format!("{} {}", cluster.state().as_str_name(), cluster.reason));
        let found: Vec<&str> = found.iter().map(|text| text.trim()).collect();
        assert_eq!(found, expected);
    }
}

fn shown(step: &Step) -> String {
    format!("{} {}", step.state().as_str_name(), step.reason)
}

fn now(ms: u64) -> Now {
    Now { mono_ms: ms, wall_ms: 1_000_000 + ms }
}

#[test]
fn steps_run_one_after_the_other_and_a_transient_cluster_ends() {
    let mut world = World::of(Cluster { transient: true, ..cluster() });
    world.shows(&["WAITING"]);
    world.add(&[step("a"), step("b")]);
    assert_eq!(world.core.take_commands(), [Command::Start { number: 1, try_number: 1 }]);
    world.shows(&["RUNNING", "PENDING", "RUNNING"]);
    world.end(1, true);
    assert_eq!(world.core.take_commands(), [Command::Start { number: 2, try_number: 1 }]);
    world.end(2, true);
    world.shows(&["COMPLETED", "COMPLETED", "TERMINATED ALL_STEPS_COMPLETED"]);
    assert_eq!(world.core.take_commands(), [Command::End]);
}

#[test]
fn each_action_on_failure() {
    for (action, transient, expected) in [
        (ActionOnFailure::Continue, false, ["FAILED EXITED", "RUNNING", "RUNNING"]),
        (ActionOnFailure::CancelAndWait, false, ["FAILED EXITED", "CANCELLED STEP_FAILURE", "WAITING"]),
        (
            ActionOnFailure::CancelAndWait,
            true,
            ["FAILED EXITED", "CANCELLED STEP_FAILURE", "TERMINATED_WITH_ERRORS STEP_FAILURE"],
        ),
        (
            ActionOnFailure::TerminateCluster,
            false,
            ["FAILED EXITED", "CANCELLED STEP_FAILURE", "TERMINATED_WITH_ERRORS STEP_FAILURE"],
        ),
    ] {
        let mut world = World::of(Cluster { transient, ..cluster() });
        world.add(&[StepSpec { on_failure: action.into(), ..step("a") }, step("b")]);
        world.end(1, false);
        world.shows(&expected);
    }
}

#[test]
fn who_protects_a_cluster_keeps_it_when_a_step_fails_and_when_it_is_idle() {
    let mut world = World::of(Cluster { termination_protected: true, ..cluster() });
    world.add(&[StepSpec { on_failure: ActionOnFailure::TerminateCluster.into(), ..step("a") }]);
    world.end(1, false);
    world.pass(1_000_000);
    world.pass(1_000_000);
    world.shows(&["FAILED EXITED", "WAITING"]);
    assert!(matches!(world.core.terminate(now(0), "ann"), Err(Refusal::State(_))));
    world.core.protect(false).unwrap();
    world.core.terminate(now(0), "ann").unwrap();
    world.shows(&["FAILED EXITED", "TERMINATED USER_REQUEST"]);
}

#[test]
fn a_step_is_tried_again_under_another_job() {
    let mut world = World::of(cluster());
    world.add(&[StepSpec { retries: 1, ..step("a") }]);
    let first = world.core.step(1).unwrap().job.clone();
    world.end(1, false);
    world.shows(&["RUNNING", "RUNNING"]);
    let second = world.core.step(1).unwrap();
    assert_ne!(first, second.job, "a failed job has failed for good");
    assert_eq!(second.tries, 2);
    world.end(1, false);
    world.shows(&["FAILED EXITED", "WAITING"]);
}

#[test]
fn a_step_runs_after_what_it_depends_on_or_not_at_all() {
    let mut world = World::of(Cluster { step_concurrency: 3, ..cluster() });
    let after = |name: &str, on: &str| StepSpec { depends_on: vec![on.to_owned()], ..step(name) };
    world.add(&[step("a"), after("b", "a"), step("c"), after("d", "c")]);
    world.shows(&["RUNNING", "PENDING", "RUNNING", "PENDING", "RUNNING"]);
    world.end(1, true);
    world.end(3, false);
    world.shows(&["COMPLETED", "RUNNING", "FAILED EXITED", "CANCELLED DEPENDENCY", "RUNNING"]);
    let unknown =
        AddStepsRequest { request: vec![99; 16].into(), steps: vec![after("e", "x")], user: String::new() };
    assert_eq!(world.core.add(now(0), &unknown), Err(Refusal::Unknown("x".to_owned())));
}

#[test]
fn a_step_that_takes_too_long_is_told_to_end_once() {
    let mut world = World::of(cluster());
    world.add(&[StepSpec { timeout_ms: 500, ..step("a") }]);
    world.core.take_commands();
    world.pass(499);
    assert_eq!(world.core.take_commands(), []);
    world.pass(1);
    world.pass(1);
    assert_eq!(world.core.take_commands(), [Command::Stop { number: 1, try_number: 1, kill: false }]);
    world.end(1, false);
    world.shows(&["FAILED TIMEOUT", "WAITING"]);
    assert!(world.core.step(1).unwrap().message.starts_with("it did not end within 500 ms"));
}

#[test]
fn cancelling_ends_what_waits_at_once_and_what_runs_a_moment_later() {
    let mut world = World::of(Cluster { transient: true, ..cluster() });
    let failing = StepSpec { on_failure: ActionOnFailure::TerminateCluster.into(), ..step("a") };
    world.add(&[failing, step("b"), step("c")]);
    world.core.take_commands();
    let cancel = |kill| CancelStepsRequest {
        steps: vec!["a".to_owned(), "step-2".to_owned()],
        user: "ann".to_owned(),
        kill,
    };
    world.core.cancel(now(0), &cancel(false)).unwrap();
    world.core.cancel(now(0), &cancel(false)).unwrap();
    assert_eq!(world.core.take_commands(), [Command::Stop { number: 1, try_number: 1, kill: false }], "once");
    world.core.cancel(now(0), &cancel(true)).unwrap();
    assert_eq!(world.core.take_commands(), [Command::Stop { number: 1, try_number: 1, kill: true }]);
    world.end(1, false);
    world.shows(&["CANCELLED USER_REQUEST", "CANCELLED USER_REQUEST", "RUNNING", "RUNNING"]);
}

#[test]
fn a_cluster_that_is_idle_for_long_ends_and_a_job_is_work() {
    let mut world = World::of(cluster());
    world.core.observe(now(0), 1, 1);
    world.pass(100_000);
    world.core.observe(now(world.now_ms), 1, 0);
    world.pass(1);
    world.pass(59_999);
    world.shows(&["WAITING"]);
    world.pass(1);
    world.shows(&["TERMINATED IDLE_TIMEOUT"]);
}

#[test]
fn a_node_that_does_not_get_ready_ends_a_cluster_that_starts_and_no_other() {
    let report = |phase: Phase| BootstrapReport {
        node: "core-1".to_owned(),
        phase: phase.into(),
        message: "status 3: no such package".to_owned(),
    };
    let mut core = Core::new(cluster(), Vec::new(), now(0));
    core.bootstrap(now(0), &report(Phase::Begun));
    assert_eq!(core.cluster().state(), cluster::State::Bootstrapping);
    core.bootstrap(now(0), &report(Phase::Broken));
    let ended = core.cluster();
    assert_eq!(
        (ended.state(), ended.reason.as_str()),
        (cluster::State::TerminatedWithErrors, "BOOTSTRAP_FAILURE")
    );
    assert!(ended.message.contains("core-1") && ended.message.contains("no such package"));
    let mut world = World::of(cluster());
    world.core.bootstrap(now(0), &report(Phase::Broken));
    world.shows(&["WAITING"]);
}

#[test]
fn the_next_master_begins_what_ran_again_under_the_same_job() {
    let mut world = World::of(cluster());
    world.add(&[step("a"), step("b")]);
    let steps: Vec<Step> = world.core.steps().cloned().collect();
    let mut core = Core::new(world.core.cluster().clone(), steps.clone(), now(5));
    assert_eq!(core.take_commands(), [], "not before there are workers");
    core.observe(now(6), 1, 0);
    assert_eq!(core.take_commands(), [Command::Start { number: 1, try_number: 1 }]);
    assert_eq!(core.step(1).unwrap().job, steps[0].job);
    core.ended(now(7), 1, 1, Outcome::Completed);
    assert_eq!(core.take_commands(), [Command::Start { number: 2, try_number: 1 }]);
}

#[test]
fn the_same_request_adds_nothing_and_nonsense_is_refused_whole() {
    let mut world = World::of(cluster());
    let request = |steps: Vec<StepSpec>| AddStepsRequest {
        request: vec![50; 16].into(),
        steps,
        user: "ann".to_owned(),
    };
    let first = world.core.add(now(0), &request(vec![step("a")])).unwrap();
    let again = world.core.add(now(0), &request(vec![step("a")])).unwrap();
    assert_eq!((first.numbers, again.known_before), (again.numbers, true));
    let other = |steps: Vec<StepSpec>| AddStepsRequest { request: vec![51; 16].into(), ..request(steps) };
    for wrong in [
        step(""),
        step("step-7"),
        StepSpec { program: "word_count".to_owned(), ..step("b") },
        StepSpec { arguments: vec!["x".repeat(10_241)], ..step("b") },
        StepSpec { retries: 101, ..step("b") },
        StepSpec { program_name: "../x".to_owned(), ..step("b") },
    ] {
        assert!(matches!(world.core.add(now(0), &other(vec![step("c"), wrong])), Err(Refusal::Bad(_))));
    }
    let too_many = (0..256).map(|number| step(&format!("n{number}"))).collect();
    assert!(matches!(world.core.add(now(0), &other(too_many)), Err(Refusal::Full(_))));
    assert_eq!(world.core.steps().count(), 1);
}
