//! Calls that come twice.

use crate::story::*;
use gristmill_dfs::namenode::namespace::{
    ANSWERS_PER_CLIENT_MAX, Action, Applied, Caller, Command, Effect, Facts, Namespace, RequestId,
};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::rename::Mode;
use gristmill_proto::namespace::{AddBlock, Complete};

fn call(caller: &Caller, sequence: u64, settled_below: u64, request: Request) -> Command {
    let id = Some(RequestId { client: caller.client, sequence });
    let action = Action::Request(request, facts(&[1]));
    Command { id, settled_below, caller: caller.clone(), now_ms: START_MS, action }
}

#[test]
fn a_call_that_comes_again_gets_its_first_answer() {
    let story = Story::new();
    let first = story.command(call(&root(), 1, 1, create("/file")));
    let again = story.command(call(&root(), 1, 1, create("/file")));
    assert_eq!(again, Applied { outcome: first.outcome.clone(), effects: vec![], replayed: true });
    assert!(!first.replayed);
    // So does one that was refused, though it would do better now.
    let missing = call(&root(), 2, 1, append("/late"));
    let refused = story.command(missing.clone());
    assert_eq!(kind(&refused.outcome), Some(Kind::NotFound));
    story.write(&root(), "/late", &[]);
    assert_eq!(story.command(missing).outcome, refused.outcome);
    // Another client's call of the same number is another call.
    let other = caller("root", &[], 8);
    assert_eq!(kind(&story.command(call(&other, 1, 1, create("/file"))).outcome), Some(Kind::AlreadyExists));
}

#[test]
fn a_call_and_its_copy_may_be_in_one_group() {
    let story = Story::new();
    let rename = call(&root(), 2, 1, rename("/a", "/b", Mode::Refuse));
    let group = [call(&root(), 1, 1, mkdir("/a")), rename.clone(), rename];
    let applied = story.namespace.apply_group(&group, &story.clock).unwrap();
    assert_eq!(applied[1].outcome, applied[2].outcome);
    assert_eq!(applied.iter().map(|applied| applied.replayed).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn what_depends_on_workers_is_tried_anew() {
    let story = Story::new();
    let inode = story.create(&root(), "/file").entry.unwrap().inode;
    let add = AddBlock { inode, previous: None, exclude: vec![] };
    let with = |facts, sequence, request| {
        let mut command = call(&root(), sequence, 1, request);
        if let Action::Request(_, its) = &mut command.action {
            *its = facts;
        }
        story.command(command).outcome
    };
    let nobody =
        with(Facts { targets: vec![], durable: true, ..Facts::default() }, 1, Request::AddBlock(add.clone()));
    assert_eq!(kind(&nobody), Some(Kind::NoWorkers));
    let Outcome::Block(block) = with(facts(&[1]), 1, Request::AddBlock(add.clone())) else {
        panic!("refused")
    };
    assert_eq!(with(facts(&[1]), 1, Request::AddBlock(add)), Outcome::Block(block.clone()));
    let complete = Request::Complete(Complete { inode, last: Some(end(&block, 3)) });
    let undurable = with(Facts { targets: vec![], durable: false, ..Facts::default() }, 2, complete.clone());
    assert_eq!(kind(&undurable), Some(Kind::NotYet));
    assert_eq!(entry(with(facts(&[]), 2, complete)).bytes, 3);
}

#[test]
fn settled_calls_are_forgotten_and_never_applied_again() {
    let story = Story::new();
    for sequence in 1..=5 {
        story.command(call(&root(), sequence, 1, mkdir(&format!("/{sequence}"))));
    }
    story.command(call(&root(), 6, 4, mkdir("/6")));
    story.delete(&root(), "/2");
    for (sequence, settled_below) in [(2, 1), (3, 4), (2, 9)] {
        let late = story.command(call(&root(), sequence, settled_below, mkdir("/2")));
        assert_eq!(kind(&late.outcome), Some(Kind::InvalidArgument));
    }
    assert_eq!(story.stat("/2"), None);
}

#[test]
fn answers_are_kept_until_they_are_settled_over_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("namespace.redb");
    let open = || Namespace::create_or_open(&path, options()).unwrap();
    let clock = Silence::default();
    let apply = |namespace: &Namespace, command: Command| {
        namespace.apply_group(&[command], &clock).unwrap().remove(0)
    };
    let namespace = open();
    let made = apply(&namespace, call(&root(), 1, 1, mkdir("/a")));
    let moved = apply(&namespace, call(&root(), 2, 1, rename("/a", "/b", Mode::Refuse)));
    drop(namespace);
    let namespace = open();
    for (sequence, request, first) in [(2, rename("/a", "/b", Mode::Refuse), &moved), (1, mkdir("/a"), &made)]
    {
        let again = apply(&namespace, call(&root(), sequence, 1, request));
        assert!(again.replayed && again.outcome == first.outcome);
    }
    assert_eq!(tree(&namespace).len(), 2);
}

#[test]
fn a_client_that_settles_nothing_is_told_to() {
    let story = Story::new();
    let mut sequence = 0;
    while sequence < ANSWERS_PER_CLIENT_MAX {
        let group: Vec<_> = (0..4096)
            .map(|_| {
                sequence += 1;
                call(&root(), sequence, 1, append("/none"))
            })
            .collect();
        story.namespace.apply_group(&group, &story.clock).unwrap();
    }
    let full =
        |settled_below| kind(&story.command(call(&root(), sequence + 1, settled_below, mkdir("/a"))).outcome);
    assert_eq!(full(1), Some(Kind::Overloaded));
    // The group that settles still finds it full, the one after it does not.
    assert_eq!(full(sequence), Some(Kind::Overloaded));
    assert_eq!(full(sequence), None);
}

#[test]
fn silent_clients_are_forgotten_bit_by_bit() {
    let story = Story::new();
    for sequence in 1..=10 {
        story.command(call(&root(), sequence, 1, mkdir(&format!("/{sequence}"))));
    }
    let heard_ms = story.now_ms.get();
    story.command(call(&ada(), 1, 1, append("/none")));
    let forget = |answers_max| story.act(Action::ForgetSessions { before_ms: heard_ms, answers_max }).effects;
    assert_eq!(
        [forget(4), forget(4), forget(4)],
        [vec![Effect::Unfinished], vec![Effect::Unfinished], vec![]]
    );
    let replayed =
        |caller: &Caller, sequence| story.command(call(caller, sequence, 1, append("/none"))).replayed;
    assert!(!replayed(&root(), 10));
    assert!(replayed(&ada(), 1));
}
