//! What an operator wants survives the master.

use gristmill_dfs::namenode::namespace::{Action, Effect, Facts, Namespace};
use gristmill_proto::ids::WorkerId;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::set_worker_state::State;
use gristmill_proto::namespace::{SetSafeMode, SetWorkerState};

use crate::story::*;

fn set(worker: u64, state: State) -> Request {
    Request::SetWorkerState(SetWorkerState { worker, state: state.into() })
}

fn safe_mode(on: bool) -> Request {
    Request::SetSafeMode(SetSafeMode { on })
}

/// The worker has registered.
fn known() -> Facts {
    Facts { is_known: true, ..Facts::default() }
}

#[test]
fn the_next_master_knows_what_the_last_one_was_told() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("namespace.redb");
    let open = || Story { namespace: Namespace::create_or_open(&path, options()).unwrap(), ..Story::new() };
    let story = open();
    for (worker, state) in [(7, State::Decommission), (8, State::Maintenance), (9, State::Maintenance)] {
        let applied = story.apply_with(&root(), set(worker, state), known());
        assert_eq!(applied.effects, [Effect::WorkerStateSet { worker: WorkerId(worker), state }]);
    }
    assert_eq!(story.ok_with_effects(&root(), safe_mode(true)).1, [Effect::SafeModeSet(true)]);
    drop(story);

    let story = open();
    let snapshot = story.namespace.snapshot().unwrap();
    let wanted = [(7, State::Decommission), (8, State::Maintenance), (9, State::Maintenance)];
    let wanted = wanted.map(|(worker, state)| (WorkerId(worker), state));
    assert_eq!(snapshot.worker_states().unwrap(), wanted);
    assert!(snapshot.is_safe_mode_set().unwrap());
    drop(snapshot);
    // Worker 8 has not registered since: the operator may still take it back.
    story.ok(&root(), set(8, State::InService));
    let over = story.act(Action::EndMaintenance { worker: WorkerId(9) });
    let state = State::InService;
    assert_eq!(over.effects, [Effect::WorkerStateSet { worker: WorkerId(9), state }]);
    assert_eq!(story.act(Action::EndMaintenance { worker: WorkerId(7) }).effects, []);
    story.ok(&root(), safe_mode(false));
    drop(story);

    let snapshot = open().namespace.snapshot().unwrap();
    assert_eq!(snapshot.worker_states().unwrap(), wanted[..1]);
    assert!(!snapshot.is_safe_mode_set().unwrap());
}

#[test]
fn only_an_operator_says_what_is_wanted_and_only_of_workers_there_are() {
    let story = Story::new();
    let eve = ada();
    assert_eq!(story.refused(&eve, safe_mode(true)), Kind::PermissionDenied);
    let applied = story.apply_with(&eve, set(7, State::Decommission), known());
    assert_eq!(kind(&applied.outcome), Some(Kind::PermissionDenied));
    assert_eq!(story.refused(&root(), set(7, State::Decommission)), Kind::NotFound);
    let applied = story.apply_with(&root(), set(0, State::Decommission), known());
    assert_eq!(kind(&applied.outcome), Some(Kind::NotFound));
    let unheard_of = Request::SetWorkerState(SetWorkerState { worker: 7, state: 9 });
    assert_eq!(story.refused(&root(), unheard_of), Kind::InvalidArgument);
    assert_eq!(story.namespace.snapshot().unwrap().worker_states().unwrap(), []);
}
