//! Owners, modes, times and replication.

use crate::story::*;
use gristmill_dfs::namenode::namespace::Effect;
use gristmill_proto::ids::BlockId;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{SetMode, SetOwner, SetReplication, SetTimes};

fn set_mode(path: &str, mode: u32) -> Request {
    Request::SetMode(SetMode { path: path.to_owned(), mode })
}

fn set_owner(path: &str, owner: &str, group: &str) -> Request {
    let (owner, group) = (owner.to_owned(), group.to_owned());
    Request::SetOwner(SetOwner { path: path.to_owned(), owner, group })
}

fn set_replication(path: &str, replication: u32) -> Request {
    Request::SetReplication(SetReplication { path: path.to_owned(), replication })
}

#[test]
fn only_an_owner_changes_modes_and_only_the_superuser_gives_away() {
    let story = Story::new();
    story.mkdir(&root(), "/d");
    story.ok(&root(), set_owner("/d", "ada", "staff"));
    let before = story.stat("/d").unwrap();
    assert_eq!((before.owner.as_str(), before.group.as_str()), ("ada", "staff"));

    assert_eq!(entry(story.ok(&ada(), set_mode("/d", 0o1750))).mode, 0o1750);
    assert_eq!(story.refused(&bob(), set_mode("/d", 0o777)), Kind::PermissionDenied);
    assert_eq!(story.refused(&ada(), set_mode("/d", 0o10000)), Kind::InvalidArgument);
    // Set-uid and set-gid are dropped.
    assert_eq!(entry(story.ok(&ada(), set_mode("/d", 0o6700))).mode, 0o700);

    assert_eq!(story.refused(&ada(), set_owner("/d", "bob", "")), Kind::PermissionDenied);
    assert_eq!(story.refused(&ada(), set_owner("/d", "", "wheel")), Kind::PermissionDenied);
    assert_eq!(story.refused(&bob(), set_owner("/d", "", "staff")), Kind::PermissionDenied);
    assert_eq!(story.refused(&root(), set_owner("/d", "a\nb", "")), Kind::InvalidArgument);
    assert_eq!(story.refused(&root(), set_owner("/none", "a", "")), Kind::NotFound);
    let dev = entry(story.ok(&ada(), set_owner("/d", "ada", "dev")));
    assert_eq!((dev.group.as_str(), dev.modified_ms), ("dev", before.modified_ms));
}

#[test]
fn whoever_owns_the_root_is_the_superuser() {
    let story = Story::new();
    story.ok(&root(), set_owner("/", "ada", ""));
    assert_eq!(story.refused(&root(), set_owner("/", "root", "")), Kind::PermissionDenied);
    story.mkdir(&ada(), "/by-ada");
    story.ok(&ada(), set_owner("/by-ada", "bob", "any"));
}

#[test]
fn times_are_set_one_by_one() {
    let story = Story::new();
    let file = story.write(&root(), "/file", &[]);
    let set = |modified_ms, accessed_ms| {
        Request::SetTimes(SetTimes { path: "/file".to_owned(), modified_ms, accessed_ms })
    };
    assert_eq!(entry(story.ok(&root(), set(5, 0))).accessed_ms, file.accessed_ms);
    let after = entry(story.ok(&root(), set(0, 7)));
    assert_eq!((after.modified_ms, after.accessed_ms, after.version), (5, 7, file.version));
    assert_eq!(story.refused(&bob(), set(1, 1)), Kind::PermissionDenied);
    story.ok(&root(), set_mode("/file", 0o646));
    story.ok(&bob(), set(1, 1));
}

#[test]
fn replication_changes_for_complete_blocks() {
    let story = Story::new();
    let inode = story.create(&root(), "/file").entry.unwrap().inode;
    let first = story.add_block(&root(), inode, None);
    let second = story.add_block(&root(), inode, Some(end(&first, BLOCK)));
    let (outcome, effects) = story.ok_with_effects(&root(), set_replication("/file", 5));
    assert_eq!(entry(outcome).replication, 5);
    let blocks = vec![BlockId(first.block)];
    assert_eq!(effects, [Effect::ReplicationChanged { blocks, replication: 5 }]);
    let snapshot = story.namespace.snapshot().unwrap();
    let open = snapshot.block(BlockId(second.block)).unwrap().unwrap();
    assert_eq!((open.replication, open.complete), (5, false));
    assert_eq!(snapshot.block(BlockId(99)).unwrap(), None);
    assert_eq!(story.ok_with_effects(&root(), set_replication("/file", 5)).1, []);
    assert_eq!(story.refused(&root(), set_replication("/file", 0)), Kind::InvalidArgument);
    assert_eq!(story.refused(&root(), set_replication("/file", 513)), Kind::InvalidArgument);
    assert_eq!(story.refused(&root(), set_replication("/", 1)), Kind::IsADirectory);
    assert_eq!(story.refused(&bob(), set_replication("/file", 1)), Kind::PermissionDenied);
}
