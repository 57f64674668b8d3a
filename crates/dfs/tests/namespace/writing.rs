//! How a file grows, block by block.

use crate::story::*;
use gristmill_dfs::namenode::namespace::{BlockRecord, Effect, Facts};
use gristmill_proto::ids::{BlockId, Generation, InodeId, WorkerId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{
    AbandonBlock, AddBlock, BlockEnd, Complete, Concat, Create, LocatedBlock, RebuildBlock, SetReplication,
    Sync, Truncated,
};

fn workers(block: &LocatedBlock) -> Vec<u64> {
    block.replicas.iter().map(|replica| replica.worker).collect()
}

#[test]
fn a_file_is_there_from_creation_and_whole_at_completion() {
    let story = Story::new();
    let open = story.create(&ada_at_home(&story), "/home/ada/a/b/file").entry.unwrap();
    assert!(open.under_construction && open.bytes == 0 && open.block_bytes == BLOCK && open.replication == 2);
    assert_eq!((open.owner.as_str(), open.group.as_str(), open.mode), ("ada", "staff", 0o644));
    assert_eq!(story.stat("/home/ada/a").unwrap().mode, 0o755);

    let first = story.add_block(&ada(), open.inode, None);
    assert_eq!((first.offset, first.bytes, workers(&first)), (0, 0, vec![1, 2]));
    let applied = story.apply(
        &ada(),
        Request::AddBlock(AddBlock {
            inode: open.inode,
            previous: Some(end(&first, BLOCK)),
            exclude: vec![],
        }),
    );
    let Outcome::Block(second) = applied.outcome else { panic!("{:?}", applied.outcome) };
    assert_eq!(second.offset, BLOCK);
    let (block, generation) = (BlockId(first.block), Generation(first.generation));
    let complete = Effect::BlockComplete { block, generation, bytes: BLOCK, replication: 2 };
    let added = Effect::BlockAdded {
        block: BlockId(second.block),
        generation: Generation(second.generation),
        replication: 2,
        workers: vec![WorkerId(1), WorkerId(2)],
    };
    assert_eq!(applied.effects, [complete, added]);
    assert_eq!(story.stat("/home/ada/a/b/file").unwrap().bytes, BLOCK);

    let last = Some(end(&second, 70));
    let done = entry(story.ok(&ada(), Request::Complete(Complete { inode: open.inode, last })));
    assert!(!done.under_construction && done.bytes == BLOCK + 70 && done.blocks == 2);
    assert!(done.version > open.version && done.modified_ms > open.modified_ms);
    assert_eq!(story.stat("/home/ada/a/b/file").unwrap(), done);
    let record = story.namespace.snapshot().unwrap().block(BlockId(second.block)).unwrap().unwrap();
    let inode = InodeId(open.inode);
    let generation = Generation(second.generation);
    assert_eq!(record, BlockRecord { inode, generation, bytes: 70, replication: 2, complete: true });
    // The lease is given up.
    let more = AddBlock { inode: open.inode, previous: last, exclude: vec![] };
    assert_eq!(story.refused(&ada(), Request::AddBlock(more)), Kind::LeaseLost);
}

fn ada_at_home(story: &Story) -> gristmill_dfs::namenode::namespace::Caller {
    let home = "/home/ada".to_owned();
    story.mkdir(&root(), &home);
    let (owner, group) = ("ada".to_owned(), "staff".to_owned());
    let request = gristmill_proto::namespace::SetOwner { path: home, owner, group };
    story.ok(&root(), Request::SetOwner(request));
    ada()
}

#[test]
fn shapes_of_files_have_limits() {
    let story = Story::new();
    let shaped = |replication, block_bytes, mode| {
        let path = "/file".to_owned();
        Request::Create(Create { path, replication, block_bytes, mode, ..Create::default() })
    };
    for (replication, block_bytes, mode) in [(513, 0, 0), (0, 9, 0), (0, (64 << 30) + 1, 0), (0, 0, 0o10000)]
    {
        let refused = story.refused(&root(), shaped(replication, block_bytes, mode));
        assert_eq!(refused, Kind::InvalidArgument, "{replication} {block_bytes} {mode:o}");
    }
    story.ok(&root(), shaped(512, 64 << 30, 0o7777));
    // Nothing is executed here, so there is no set-uid, and a sticky file means nothing.
    assert_eq!(story.stat("/file").unwrap().mode, 0o777);
}

#[test]
fn a_block_ends_as_its_writer_says_and_the_namespace_can_believe() {
    let story = Story::new();
    let inode = story.create(&root(), "/file").entry.unwrap().inode;
    let block = story.add_block(&root(), inode, None);
    let good = end(&block, 500);
    let refused = |last: Option<BlockEnd>| {
        let by_complete = story.refused(&root(), Request::Complete(Complete { inode, last }));
        let add = AddBlock { inode, previous: last, exclude: vec![] };
        assert_eq!(story.refused(&root(), Request::AddBlock(add)), by_complete);
        by_complete
    };
    assert_eq!(refused(None), Kind::InvalidArgument);
    assert_eq!(refused(Some(BlockEnd { block: 999, ..good })), Kind::MissingBlock);
    assert_eq!(refused(Some(BlockEnd { generation: good.generation + 1, ..good })), Kind::StaleGeneration);
    assert_eq!(refused(Some(BlockEnd { bytes: BLOCK + 1, ..good })), Kind::InvalidArgument);
    story.ok(&root(), Request::Sync(Sync { inode, last: Some(end(&block, 400)) }));
    assert_eq!(refused(Some(BlockEnd { bytes: 399, ..good })), Kind::InvalidArgument);
    let next = story.add_block(&root(), inode, Some(good));
    // Now that it is final, it cannot end otherwise.
    let last = Some(end(&next, 0));
    story.ok(&root(), Request::AbandonBlock(AbandonBlock { inode, block: next.block }));
    assert_eq!(refused(last), Kind::StaleGeneration);
    assert_eq!(refused(Some(BlockEnd { bytes: 499, ..good })), Kind::StaleGeneration);
    let done = entry(story.ok(&root(), Request::Complete(Complete { inode, last: Some(good) })));
    assert_eq!((done.bytes, done.blocks), (500, 1));
}

#[test]
fn without_durable_replicas_or_workers_a_call_may_be_tried_again() {
    let story = Story::new();
    let inode = story.create(&root(), "/file").entry.unwrap().inode;
    let add = |previous| Request::AddBlock(AddBlock { inode, previous, exclude: vec![] });
    let nobody = Facts { targets: vec![], durable: true, ..Facts::default() };
    let applied = story.apply_with(&root(), add(None), nobody);
    assert_eq!(kind(&applied.outcome), Some(Kind::NoWorkers));
    let block = story.add_block(&root(), inode, None);
    let complete = Request::Complete(Complete { inode, last: Some(end(&block, 5)) });
    let not_yet = Facts { targets: vec![WorkerId(3)], durable: false, ..Facts::default() };
    for request in [add(Some(end(&block, 5))), complete.clone()] {
        let applied = story.apply_with(&root(), request, not_yet.clone());
        assert_eq!((kind(&applied.outcome), applied.effects), (Some(Kind::NotYet), vec![]));
    }
    assert_eq!(entry(story.ok(&root(), complete)).bytes, 5);
}

#[test]
fn a_block_without_bytes_is_dropped() {
    let story = Story::new();
    let inode = story.create(&root(), "/file").entry.unwrap().inode;
    let block = story.add_block(&root(), inode, None);
    let complete = Complete { inode, last: Some(end(&block, 0)) };
    let (outcome, effects) = story.ok_with_effects(&root(), Request::Complete(complete));
    assert_eq!(effects, [Effect::Forgotten(vec![BlockId(block.block)])]);
    assert_eq!((entry(outcome).blocks, story.namespace.snapshot().unwrap().totals().blocks), (0, 0));
}

#[test]
fn synced_bytes_are_visible_and_stay() {
    let story = Story::new();
    let inode = story.create(&root(), "/file").entry.unwrap();
    let (version, inode) = (inode.version, inode.inode);
    let block = story.add_block(&root(), inode, None);
    assert_eq!(story.located("/file", 0, 1).len(), 0);
    story.ok(&root(), Request::Sync(Sync { inode, last: Some(end(&block, 30)) }));
    let seen = story.located("/file", 0, u64::MAX);
    assert_eq!((seen.len(), seen[0].bytes, workers(&seen[0])), (1, 30, vec![1, 2]));
    let entry = story.stat("/file").unwrap();
    assert!(entry.bytes == 30 && entry.version > version && entry.under_construction);
    let back = Request::Sync(Sync { inode, last: Some(end(&block, 29)) });
    assert_eq!(story.refused(&root(), back), Kind::InvalidArgument);
    let abandon = Request::AbandonBlock(AbandonBlock { inode, block: block.block });
    assert_eq!(story.refused(&root(), abandon), Kind::InvalidArgument);
    assert_eq!(story.refused(&root(), Request::Sync(Sync { inode, last: None })), Kind::InvalidArgument);
}

#[test]
fn a_pipeline_is_rebuilt_under_a_new_generation() {
    let story = Story::new();
    let inode = story.create(&root(), "/file").entry.unwrap().inode;
    let block = story.add_block(&root(), inode, None);
    story.ok(&root(), Request::Sync(Sync { inode, last: Some(end(&block, 30)) }));
    let rebuild = |generation, failed: &[u64], acked_bytes| {
        let failed = failed.to_vec();
        Request::RebuildBlock(RebuildBlock { inode, block: block.block, generation, failed, acked_bytes })
    };
    assert_eq!(story.refused(&root(), rebuild(block.generation + 9, &[1], 40)), Kind::StaleGeneration);
    assert_eq!(story.refused(&root(), rebuild(block.generation, &[1], 29)), Kind::InvalidArgument);
    assert_eq!(story.refused(&root(), rebuild(block.generation, &[1, 2], 40)), Kind::NoWorkers);
    let (outcome, effects) = story.ok_with_effects(&root(), rebuild(block.generation, &[1], 40));
    let Outcome::Block(rebuilt) = outcome else { panic!("{outcome:?}") };
    assert!(rebuilt.generation > block.generation);
    assert_eq!((workers(&rebuilt), rebuilt.bytes, rebuilt.block), (vec![2], 40, block.block));
    let generation = Generation(rebuilt.generation);
    let (id, left) = (BlockId(block.block), vec![WorkerId(2)]);
    assert_eq!(effects, [Effect::BlockRebuilt { block: id, generation, workers: left }]);
    // The synced bytes may still be read from a replica of the old generation.
    assert_eq!(story.located("/file", 0, 1)[0].generation, block.generation);
    assert_eq!(story.refused(&root(), rebuild(block.generation, &[], 40)), Kind::StaleGeneration);
    story.ok(&root(), Request::Sync(Sync { inode, last: Some(end(&rebuilt, 50)) }));
    assert_eq!(story.located("/file", 0, 1)[0].generation, rebuilt.generation);
    story.ok(&root(), Request::Complete(Complete { inode, last: Some(end(&rebuilt, 50)) }));
    assert_eq!(story.stat("/file").unwrap().bytes, 50);
}

#[test]
fn an_append_goes_on_in_the_last_block_if_there_is_room() {
    let story = Story::new();
    let before = story.write(&root(), "/part", &[BLOCK, 300]);
    let (outcome, effects) = story.ok_with_effects(&root(), append("/part"));
    let Outcome::OpenFile(open) = outcome else { panic!("{outcome:?}") };
    let last = open.last.unwrap();
    assert_eq!((last.offset, last.bytes), (BLOCK, 300));
    assert!(last.generation > open.last_generation_before);
    let reopened = Effect::BlockReopened {
        block: BlockId(last.block),
        generation_before: Generation(open.last_generation_before),
        generation: Generation(last.generation),
    };
    assert_eq!(effects, [reopened]);
    // Readers go on as if nothing was.
    let seen = story.located("/part", BLOCK, 1);
    assert_eq!((seen[0].generation, seen[0].bytes), (open.last_generation_before, 300));
    assert_eq!(story.namespace.snapshot().unwrap().totals().complete_blocks, 1);
    let abandon = AbandonBlock { inode: before.inode, block: last.block };
    assert_eq!(story.refused(&root(), Request::AbandonBlock(abandon)), Kind::InvalidArgument);
    let complete = Complete { inode: before.inode, last: Some(end(&last, 301)) };
    let after = entry(story.ok(&root(), Request::Complete(complete)));
    assert!(after.bytes == BLOCK + 301 && after.version > before.version);

    story.write(&root(), "/full", &[BLOCK]);
    let open = story.append(&root(), "/full");
    assert_eq!((open.last, open.last_generation_before), (None, 0));
    let inode = open.entry.unwrap().inode;
    let block = story.add_block(&root(), inode, None);
    assert_eq!(block.offset, BLOCK);
    assert_eq!(story.refused(&root(), append("/missing")), Kind::NotFound);
    assert_eq!(story.refused(&root(), append("/")), Kind::IsADirectory);
}

#[test]
fn after_an_append_the_block_side_says_who_can_go_on() {
    let story = Story::new();
    story.write(&root(), "/part", &[300]);
    let open = story.apply_with(&root(), append("/part"), Facts::default());
    let Outcome::OpenFile(open) = open.outcome else { panic!("{open:?}") };
    let last = open.last.unwrap();
    let rebuild = RebuildBlock {
        inode: open.entry.unwrap().inode,
        block: last.block,
        generation: last.generation,
        failed: vec![5],
        acked_bytes: 300,
    };
    let applied = story.apply_with(&root(), Request::RebuildBlock(rebuild), facts(&[5, 6]));
    let Outcome::Block(rebuilt) = applied.outcome else { panic!("{applied:?}") };
    assert_eq!(workers(&rebuilt), [6]);
}

#[test]
fn a_cut_between_blocks_is_done_at_once() {
    let story = Story::new();
    let before = story.write(&root(), "/file", &[BLOCK, BLOCK, 70]);
    assert_eq!(story.refused(&root(), truncate("/file", 2071)), Kind::InvalidArgument);
    let same = story.ok(&root(), truncate("/file", 2070));
    assert_eq!(same, Outcome::Truncated(Truncated { done: true }));
    assert_eq!(story.stat("/file").unwrap(), before);
    let (outcome, effects) = story.ok_with_effects(&root(), truncate("/file", BLOCK));
    assert_eq!(outcome, Outcome::Truncated(Truncated { done: true }));
    assert!(matches!(&effects[..], [Effect::Forgotten(blocks)] if blocks.len() == 2), "{effects:?}");
    let after = story.stat("/file").unwrap();
    assert!(after.bytes == BLOCK && after.version > before.version && !after.under_construction);
    story.ok(&root(), truncate("/file", 0));
    assert_eq!(story.stat("/file").unwrap().blocks, 0);
}

#[test]
fn files_are_joined_in_order() {
    let story = Story::new();
    let blocks = [vec![10, 20], vec![], vec![30]];
    let paths = ["/d/a", "/d/b", "/e/c"];
    for (path, blocks) in paths.iter().zip(&blocks) {
        story.write(&root(), path, blocks);
    }
    let set = SetReplication { path: "/e/c".to_owned(), replication: 7 };
    story.ok(&root(), Request::SetReplication(set));
    let concat = |to: &str, from: &[&str]| {
        let from = from.iter().map(|&path| path.to_owned()).collect();
        Request::Concat(Concat { to: to.to_owned(), from })
    };
    assert_eq!(story.refused(&root(), concat("/d/a", &[])), Kind::InvalidArgument);
    assert_eq!(story.refused(&root(), concat("/d/a", &["/d/b", "/d/b"])), Kind::NotFound);
    assert_eq!(story.refused(&root(), concat("/d/a", &["/d/a"])), Kind::InvalidArgument);
    assert_eq!(story.refused(&root(), concat("/d/a", &["/d"])), Kind::IsADirectory);
    story.create(&root(), "/open");
    assert_eq!(story.refused(&root(), concat("/d/a", &["/open"])), Kind::UnderConstruction);
    assert_eq!(story.refused(&root(), concat("/open", &["/d/a"])), Kind::UnderConstruction);
    let (outcome, effects) = story.ok_with_effects(&root(), concat("/d/a", &["/d/b", "/e/c"]));
    let joined = entry(outcome);
    assert_eq!((joined.bytes, joined.blocks), (60, 3));
    assert!(
        matches!(&effects[..], [Effect::ReplicationChanged { blocks, replication: 2 }] if blocks.len() == 1)
    );
    assert_eq!((story.stat("/d/b"), story.stat("/e/c")), (None, None));
    let seen: Vec<_> = story.located("/d/a", 0, 99).iter().map(|block| (block.offset, block.bytes)).collect();
    assert_eq!(seen, [(0, 10), (10, 20), (30, 30)]);
    let snapshot = story.namespace.snapshot().unwrap();
    for (_, block) in snapshot.blocks_after(BlockId(0), 9).unwrap() {
        assert_eq!((block.inode.0, block.replication), (joined.inode, 2));
    }
    assert_eq!(snapshot.totals().files, 2);
}
