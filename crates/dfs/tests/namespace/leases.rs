//! Who may write, and what becomes of files whose writers are gone.

use crate::story::*;
use gristmill_dfs::namenode::namespace::{Action, Effect, Facts};
use gristmill_proto::ids::{BlockId, ClientId, Generation, InodeId, WorkerId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{
    AbandonBlock, AddBlock, Complete, Done, LocatedBlock, RebuildBlock, RecoverLease, Recovering, Sync,
    Truncated,
};

/// The second client of root.
fn other() -> gristmill_dfs::namenode::namespace::Caller {
    caller("root", &[], 9)
}

fn recover(path: &str) -> Request {
    Request::RecoverLease(RecoverLease { path: path.to_owned() })
}

fn recovering(story: &Story, path: &str) -> bool {
    match story.ok(&other(), recover(path)) {
        Outcome::Recovering(Recovering { closed }) => !closed,
        other => panic!("{other:?}"),
    }
}

/// An open file with one synced block of 30 bytes.
fn open_file(story: &Story) -> (u64, LocatedBlock) {
    let inode = story.create(&root(), "/file").entry.unwrap().inode;
    let block = story.add_block(&root(), inode, None);
    story.ok(&root(), Request::Sync(Sync { inode, last: Some(end(&block, 30)) }));
    (inode, block)
}

fn generation_of(effects: &[Effect]) -> Generation {
    match effects.last() {
        Some(Effect::StopWriters { generation, .. }) => *generation,
        other => panic!("{other:?}"),
    }
}

fn finish(inode: u64, block: u64, generation: Generation, bytes: u64) -> Action {
    Action::FinishRecovery { inode: InodeId(inode), block: BlockId(block), generation, bytes }
}

#[test]
fn a_file_has_one_writer() {
    let story = Story::new();
    let (inode, block) = open_file(&story);
    for request in [append("/file"), overwrite("/file"), truncate("/file", 3)] {
        assert_eq!(story.refused(&other(), request), Kind::LeaseHeld);
    }
    assert_eq!(story.refused(&other(), create("/file")), Kind::AlreadyExists);
    let last = Some(end(&block, 30));
    let (id, generation) = (block.block, block.generation);
    let foreign = [
        Request::AddBlock(AddBlock { inode, previous: last, exclude: vec![] }),
        Request::Complete(Complete { inode, last }),
        Request::Sync(Sync { inode, last }),
        Request::AbandonBlock(AbandonBlock { inode, block: id }),
        Request::RebuildBlock(RebuildBlock { inode, block: id, generation, failed: vec![], acked_bytes: 30 }),
    ];
    for request in foreign {
        assert_eq!(story.refused(&other(), request), Kind::LeaseLost);
    }
    // The writer itself may begin anew, but not append to what it writes.
    assert_eq!(story.refused(&root(), append("/file")), Kind::LeaseHeld);
    let (_, effects) = story.ok_with_effects(&root(), overwrite("/file"));
    assert_eq!(effects, [Effect::Forgotten(vec![BlockId(id)])]);
    let gone = Request::Complete(Complete { inode, last });
    assert_eq!(story.refused(&root(), gone), Kind::NotFound);
}

#[test]
fn a_silent_writer_is_fenced_when_another_wants_the_file() {
    let story = Story::new();
    let (inode, block) = open_file(&story);
    story.clock.set(root().client, 60_000);
    assert_eq!(story.refused(&other(), append("/file")), Kind::LeaseHeld);
    story.clock.set(root().client, 60_001);
    let applied = story.apply(&other(), append("/file"));
    assert_eq!(kind(&applied.outcome), Some(Kind::LeaseHeld));
    let generation = generation_of(&applied.effects);
    assert!(generation.0 > block.generation);
    let stop = Effect::StopWriters {
        inode: InodeId(inode),
        block: BlockId(block.block),
        generation,
        synced_bytes: 30,
        synced_generation: Generation(block.generation),
        target_bytes: None,
        workers: vec![WorkerId(1), WorkerId(2)],
    };
    assert_eq!(applied.effects, [stop]);
    // The old writer is out; the new one must wait; nothing is begun twice.
    let complete = Request::Complete(Complete { inode, last: Some(end(&block, 40)) });
    assert_eq!(story.refused(&root(), complete), Kind::LeaseLost);
    assert_eq!(story.refused(&other(), append("/file")), Kind::LeaseHeld);
    assert!(recovering(&story, "/file"));
    // What was synced can be read all the while.
    let seen = story.located("/file", 0, 99);
    assert_eq!((seen[0].bytes, seen[0].generation), (30, block.generation));

    let version = story.stat("/file").unwrap().version;
    let applied = story.act(finish(inode, block.block, generation, 35));
    assert_eq!(applied.outcome, Outcome::Done(Done {}));
    let id = BlockId(block.block);
    assert_eq!(applied.effects, [Effect::BlockComplete { block: id, generation, bytes: 35, replication: 2 }]);
    let closed = story.stat("/file").unwrap();
    assert!(closed.bytes == 35 && !closed.under_construction && closed.version > version);
    assert!(!recovering(&story, "/file"));
    assert_eq!(story.append(&other(), "/file").last.unwrap().bytes, 35);
}

#[test]
fn a_file_without_an_unfinished_block_is_closed_at_once() {
    let story = Story::new();
    story.create(&root(), "/empty");
    story.write(&root(), "/full", &[BLOCK]);
    story.append(&root(), "/full");
    story.clock.set(root().client, 70_000);
    assert!(!recovering(&story, "/empty"));
    assert!(!story.stat("/empty").unwrap().under_construction);
    // A silent writer is not even in the way.
    let open = story.append(&other(), "/full");
    assert_eq!(open.last, None);
    assert_eq!(story.namespace.snapshot().unwrap().open_files(InodeId(0), 9).unwrap().len(), 1);
}

#[test]
fn a_recovery_may_begin_again_and_then_the_first_is_stale() {
    let story = Story::new();
    let (inode, block) = open_file(&story);
    let begin = |holder| Action::BeginRecovery { inode: InodeId(inode), holder };
    // The master saw another client hold it: nothing happens.
    assert_eq!(story.act(begin(Some(other().client))).effects, []);
    let first = generation_of(&story.act(begin(Some(root().client))).effects);
    let second = generation_of(&story.act(begin(None)).effects);
    assert!(second > first);
    let stale = |action| kind(&story.act(action).outcome) == Some(Kind::StaleGeneration);
    assert!(stale(finish(inode, block.block, first, 30)));
    assert!(stale(finish(inode, block.block + 1, second, 30)));
    assert!(stale(finish(inode + 1, block.block, second, 30)));
    let long = story.act(finish(inode, block.block, second, BLOCK + 1));
    assert_eq!(kind(&long.outcome), Some(Kind::InvalidArgument));
    assert_eq!(story.act(finish(inode, block.block, second, 30)).outcome, Outcome::Done(Done {}));
    assert!(stale(finish(inode, block.block, second, 30)), "it is closed");
    assert_eq!(story.act(begin(None)).effects, [], "it is closed");
    // A writer's own block is no recovery.
    let (last, generation) =
        story.append(&root(), "/file").last.map(|last| (last.block, last.generation)).unwrap();
    assert!(stale(finish(inode, last, Generation(generation), 30)));
}

#[test]
fn a_block_that_never_had_a_byte_is_dropped_by_recovery() {
    let story = Story::new();
    let inode = story.create(&root(), "/file").entry.unwrap().inode;
    let first = story.add_block(&root(), inode, None);
    let second = story.add_block(&root(), inode, Some(end(&first, BLOCK)));
    assert!(recovering(&story, "/file"));
    let begun = story.act(Action::BeginRecovery { inode: InodeId(inode), holder: None });
    let generation = generation_of(&begun.effects);
    let applied = story.act(finish(inode, second.block, generation, 0));
    assert_eq!(applied.effects, [Effect::Forgotten(vec![BlockId(second.block)])]);
    let entry = story.stat("/file").unwrap();
    assert_eq!((entry.bytes, entry.blocks, entry.under_construction), (BLOCK, 1, false));
}

#[test]
fn a_cut_inside_a_block_is_done_by_those_who_have_it() {
    let story = Story::new();
    let before = story.write(&root(), "/file", &[BLOCK, BLOCK, 70]);
    let cut = story.located("/file", BLOCK, 1).remove(0);
    let (outcome, effects) = story.ok_with_effects(&root(), truncate("/file", 1300));
    assert_eq!(outcome, Outcome::Truncated(Truncated { done: false }));
    let generation = generation_of(&effects);
    let stop = Effect::StopWriters {
        inode: InodeId(before.inode),
        block: BlockId(cut.block),
        generation,
        synced_bytes: 300,
        synced_generation: Generation(cut.generation),
        target_bytes: Some(300),
        workers: vec![],
    };
    assert!(effects.contains(&stop), "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Forgotten(blocks) if blocks.len() == 1)));
    // Readers see the short file at once, from replicas that are not cut yet.
    let seen = story.located("/file", BLOCK, 999);
    assert_eq!((seen[0].bytes, seen[0].generation), (300, cut.generation));
    assert_eq!(story.refused(&root(), append("/file")), Kind::LeaseHeld);
    // A new master begins it again.
    let open = story.namespace.snapshot().unwrap().open_files(InodeId(0), 9).unwrap();
    assert_eq!(open, [(InodeId(before.inode), None)]);
    let begun = story.act(Action::BeginRecovery { inode: InodeId(before.inode), holder: None });
    assert!(matches!(begun.effects[..], [Effect::StopWriters { target_bytes: Some(300), .. }]));
    let second = generation_of(&begun.effects);
    let more = story.act(finish(before.inode, cut.block, second, 301));
    assert_eq!(kind(&more.outcome), Some(Kind::InvalidArgument));
    story.act(finish(before.inode, cut.block, second, 300));
    let after = story.stat("/file").unwrap();
    assert!(after.bytes == 1300 && after.version > before.version && !after.under_construction);
    assert_eq!(story.namespace.snapshot().unwrap().open_files(InodeId(0), 9).unwrap(), []);
}

#[test]
fn open_files_are_known_to_whoever_watches_leases() {
    let story = Story::new();
    let (inode, block) = open_file(&story);
    story.create(&other(), "/other");
    let snapshot = story.namespace.snapshot().unwrap();
    let open = snapshot.open_files(InodeId(0), 1).unwrap();
    assert_eq!(open, [(InodeId(inode), Some(root().client))]);
    let open = snapshot.open_files(open[0].0, 9).unwrap();
    assert_eq!(open.iter().map(|file| file.1).collect::<Vec<_>>(), [Some(ClientId([9; 16]))]);
    let file = snapshot.under_construction(InodeId(inode)).unwrap().unwrap();
    assert_eq!(file.open_block, Some((BlockId(block.block), Generation(block.generation))));
    assert_eq!((file.replication, file.block_bytes, file.holder), (2, BLOCK, Some(root().client)));
    assert_eq!(file.pipeline, [WorkerId(1), WorkerId(2)]);
    assert_eq!(snapshot.path_of(InodeId(inode)).unwrap().as_deref(), Some("/file"));
    assert_eq!(snapshot.path_of(InodeId(99)).unwrap(), None);
    story.write(&root(), "/closed", &[]);
    let closed = story.stat("/closed").unwrap().inode;
    let snapshot = story.namespace.snapshot().unwrap();
    assert_eq!(snapshot.under_construction(InodeId(closed)).unwrap(), None);
}

#[test]
fn a_renamed_file_is_written_on_and_a_deleted_one_is_not() {
    let story = Story::new();
    story.mkdir(&root(), "/d/e");
    let inode = story.create(&root(), "/d/e/file").entry.unwrap().inode;
    let block = story.add_block(&root(), inode, None);
    let mode = gristmill_proto::namespace::rename::Mode::Refuse;
    story.ok(&root(), rename("/d", "/moved", mode));
    let second = story.add_block(&root(), inode, Some(end(&block, 7)));
    story.delete(&root(), "/moved");
    let complete = Request::Complete(Complete { inode, last: Some(end(&second, 7)) });
    let applied =
        story.apply_with(&root(), complete, Facts { targets: vec![], durable: true, ..Facts::default() });
    assert_eq!(kind(&applied.outcome), Some(Kind::NotFound));
    // Neither is it recovered.
    let begun = story.act(Action::BeginRecovery { inode: InodeId(inode), holder: None });
    assert_eq!(begun.effects, []);
    assert_eq!(story.reclaim().len(), 1);
    assert_eq!(story.namespace.snapshot().unwrap().open_files(InodeId(0), 9).unwrap(), []);
}
