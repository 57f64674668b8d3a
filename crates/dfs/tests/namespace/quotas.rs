//! Limits of names and space.

use crate::story::*;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::rename::Mode;
use gristmill_proto::namespace::{
    AddBlock, Complete, Concat, Publish, SetQuota, SetReplication, publish::Move,
};

fn set(path: &str, names: Option<u64>, space_bytes: Option<u64>) -> Request {
    Request::SetQuota(SetQuota { path: path.to_owned(), names, space_bytes })
}

#[test]
fn names_count_with_the_directory_itself() {
    let story = Story::new();
    story.mkdir(&root(), "/q/a");
    story.ok(&root(), set("/q", Some(4), None));
    story.write(&root(), "/q/a/1", &[]);
    assert_eq!(story.refused(&root(), create("/q/x/y")), Kind::QuotaNames);
    story.write(&root(), "/q/a/2", &[]);
    assert_eq!(story.refused(&root(), mkdir("/q/b")), Kind::QuotaNames);
    assert_eq!(story.refused(&root(), create("/q/b")), Kind::QuotaNames);
    // Replacing adds nothing.
    story.ok(&root(), overwrite("/q/a/2"));
    story.write(&root(), "/other", &[]);
    assert_eq!(story.refused(&root(), rename("/other", "/q/b", Mode::Refuse)), Kind::QuotaNames);
    story.ok(&root(), rename("/other", "/q/a/1", Mode::Overwrite));
    story.ok(&root(), rename("/q/a/1", "/q/c", Mode::Refuse));
    story.delete(&root(), "/q/a");
    story.mkdir(&root(), "/q/d/e");
    assert_eq!(story.refused(&root(), mkdir("/q/f")), Kind::QuotaNames);
    // The quota sticks to the directory wherever it goes.
    story.ok(&root(), rename("/q", "/moved", Mode::Refuse));
    assert_eq!(story.refused(&root(), mkdir("/moved/f")), Kind::QuotaNames);
    assert_eq!(story.stat("/moved").unwrap().name_quota, 4);
}

#[test]
fn space_is_charged_at_full_blocks_and_corrected() {
    let story = Story::new();
    story.mkdir(&root(), "/q");
    // Room for two and a half full blocks of two replicas.
    story.ok(&root(), set("/q", None, Some(5 * BLOCK)));
    let inode = story.create(&root(), "/q/file").entry.unwrap().inode;
    let first = story.add_block(&root(), inode, None);
    let second = story.add_block(&root(), inode, Some(end(&first, BLOCK)));
    let add = |previous| Request::AddBlock(AddBlock { inode, previous: Some(previous), exclude: vec![] });
    assert_eq!(story.refused(&root(), add(end(&second, BLOCK))), Kind::QuotaSpace);
    // A short block leaves room for another full one.
    let third = story.add_block(&root(), inode, Some(end(&second, BLOCK / 2)));
    let last = Some(end(&third, 100));
    story.ok(&root(), Request::Complete(Complete { inode, last }));
    // 3200 bytes are used; a third replica of all needs 4800, a fourth 6400.
    let replicate =
        |replication| Request::SetReplication(SetReplication { path: "/q/file".to_owned(), replication });
    story.ok(&root(), replicate(3));
    assert_eq!(story.refused(&root(), replicate(4)), Kind::QuotaSpace);
    assert_eq!(story.refused(&root(), append("/q/file")), Kind::QuotaSpace);
    story.ok(&root(), truncate("/q/file", BLOCK));
    story.ok(&root(), replicate(4));
    let append = story.append(&root(), "/q/file");
    assert_eq!(append.last, None);
}

#[test]
fn a_quota_below_what_is_used_stops_growth_only() {
    let story = Story::new();
    story.write(&root(), "/q/a/file", &[700, 300]);
    assert_eq!(story.refused(&ada(), set("/q", Some(1), None)), Kind::PermissionDenied);
    assert_eq!(story.refused(&root(), set("/q/a/file", Some(1), None)), Kind::NotADirectory);
    let limited = entry(story.ok(&root(), set("/q", Some(2), Some(1000))));
    assert_eq!((limited.name_quota, limited.space_quota), (2, 1000));
    story.ok(&root(), truncate("/q/a/file", 700));
    assert_eq!(story.refused(&root(), create("/q/more")), Kind::QuotaNames);
    // 1400 are used still.
    assert_eq!(story.refused(&root(), append("/q/a/file")), Kind::QuotaSpace);
    story.ok(&root(), set("/q", Some(0), None));
    story.create(&root(), "/q/more");
    story.ok(&root(), set("/q", None, Some(0)));
    let free = story.stat("/q").unwrap();
    assert_eq!((free.name_quota, free.space_quota), (0, 0));
    story.append(&root(), "/q/a/file");
}

#[test]
fn a_quota_inside_a_quota_counts_in_both() {
    let story = Story::new();
    story.mkdir(&root(), "/out/in");
    story.ok(&root(), set("/out", Some(6), None));
    story.ok(&root(), set("/out/in", Some(3), None));
    story.write(&root(), "/out/in/1", &[]);
    story.write(&root(), "/out/in/2", &[]);
    assert_eq!(story.refused(&root(), create("/out/in/3")), Kind::QuotaNames);
    // Moving the inner one out gives its names back, and the way back takes them again.
    story.ok(&root(), rename("/out/in", "/in", Mode::Refuse));
    for name in 1..=5 {
        story.mkdir(&root(), &format!("/out/{name}"));
    }
    assert_eq!(story.refused(&root(), rename("/in", "/out/in", Mode::Refuse)), Kind::QuotaNames);
    story.delete(&root(), "/out/5");
    story.delete(&root(), "/out/4");
    story.delete(&root(), "/out/3");
    story.ok(&root(), rename("/in", "/out/in", Mode::Refuse));
    assert_eq!(story.refused(&root(), mkdir("/out/6")), Kind::QuotaNames);
    // Deleting the inner one forgets its quota for good.
    story.delete(&root(), "/out/in");
    story.reclaim();
    story.mkdir(&root(), "/out/a/b/c");
    assert_eq!(story.refused(&root(), mkdir("/out/7")), Kind::QuotaNames);
}

#[test]
fn a_quota_refuses_a_whole_publication() {
    let story = Story::new();
    for name in ["a", "b", "c"] {
        story.write(&root(), &format!("/staging/{name}"), &[10]);
    }
    story.mkdir(&root(), "/out");
    story.ok(&root(), set("/out", Some(3), None));
    let moves = |names: &[&str]| {
        let moves =
            names.iter().map(|name| Move { from: format!("/staging/{name}"), to: format!("/out/{name}") });
        Request::Publish(Publish { remove: vec![], moves: moves.collect() })
    };
    assert_eq!(story.refused(&root(), moves(&["a", "b", "c"])), Kind::QuotaNames);
    story.ok(&root(), moves(&["a", "b"]));
    // Joining files gives names back.
    let concat = Concat { to: "/out/a".to_owned(), from: vec!["/out/b".to_owned()] };
    story.ok(&root(), Request::Concat(concat));
    story.ok(&root(), moves(&["c"]));
}

#[test]
fn the_trash_is_outside() {
    let story = Story::new();
    story.mkdir(&root(), "/q");
    story.ok(&root(), set("/q", Some(2), None));
    story.create(&root(), "/q/file");
    story.ok(&root(), delete("/q/file", false, false));
    story.create(&root(), "/q/file");
    // In the trash the quota of what is deleted is in nobody's way.
    story.ok(&root(), delete("/q", true, false));
    for name in ["a", "b", "c"] {
        story.write(&root(), &format!("/q/{name}"), &[]);
        story.ok(&root(), delete(&format!("/q/{name}"), false, false));
    }
}
