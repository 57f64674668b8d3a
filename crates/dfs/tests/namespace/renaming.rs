//! Other names for the same things, one by one and many at once.

use crate::story::*;
use gristmill_dfs::namenode::namespace::{Effect, PUBLICATION_NAMES_MAX};
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::rename::Mode;
use gristmill_proto::namespace::{Publish, Rename, publish::Move};

/// `/d/file` of 5 bytes, `/d/e` with a file, `/empty`, `/other`.
fn story() -> Story {
    let story = Story::new();
    story.write(&root(), "/d/file", &[5]);
    story.write(&root(), "/d/e/inner", &[]);
    story.mkdir(&root(), "/empty");
    story.write(&root(), "/other", &[7]);
    story
}

#[test]
fn a_rename_keeps_what_it_moves_and_touches_both_directories() {
    let story = story();
    let before = story.stat("/d/file").unwrap();
    let after = entry(story.ok(&root(), rename("/d/file", "/empty/new", Mode::Refuse)));
    assert_eq!(after.path, "/empty/new");
    assert_eq!(
        (after.inode, after.modified_ms, after.version),
        (before.inode, before.modified_ms, before.version)
    );
    assert_eq!(story.stat("/d/file"), None);
    for parent in ["/d", "/empty"] {
        assert!(story.stat(parent).unwrap().modified_ms > before.modified_ms);
    }
    story.ok(&root(), rename("/d", "/empty/d", Mode::Refuse));
    assert_eq!(story.stat("/empty/d/e/inner").unwrap().bytes, 0);
    assert_eq!(story.stat("/empty/d/e/inner").map(|inner| inner.path).as_deref(), Some("/empty/d/e/inner"));
}

#[test]
fn renames_are_refused_for_reasons() {
    let story = story();
    let refused = [
        ("/none", "/x", Mode::Refuse, Kind::NotFound),
        ("/d/file", "/none/x", Mode::Refuse, Kind::NotFound),
        ("/d/file", "/other/x", Mode::Refuse, Kind::NotADirectory),
        ("/d/file", "/other", Mode::Refuse, Kind::AlreadyExists),
        ("/d/file", "/empty", Mode::Refuse, Kind::AlreadyExists),
        ("/d/file", "/d/file", Mode::Refuse, Kind::AlreadyExists),
        ("/d/file", "/d/file", Mode::Overwrite, Kind::AlreadyExists),
        ("/d", "/d/e/d", Mode::Refuse, Kind::RenameIntoItself),
        ("/d", "/d/e", Mode::Into, Kind::RenameIntoItself),
        ("/d/e", "/d", Mode::Refuse, Kind::AlreadyExists),
        ("/empty", "/d", Mode::Overwrite, Kind::NotEmpty),
        ("/d/e", "/d", Mode::Overwrite, Kind::NotEmpty),
        ("/d", "/other", Mode::Overwrite, Kind::NotADirectory),
        ("/other", "/empty", Mode::Overwrite, Kind::IsADirectory),
        ("/", "/x", Mode::Refuse, Kind::InvalidArgument),
        ("/d", "/", Mode::Refuse, Kind::AlreadyExists),
        ("/d", "/", Mode::Overwrite, Kind::AlreadyExists),
        ("/d", "/", Mode::Into, Kind::AlreadyExists),
        ("/other", "/d/file", Mode::Into, Kind::AlreadyExists),
    ];
    for (from, to, mode, kind) in refused {
        assert_eq!(story.refused(&root(), rename(from, to, mode)), kind, "{from} {to} {mode:?}");
    }
    let unknown = Rename { from: "/d".to_owned(), to: "/x".to_owned(), mode: 9, inode: 0, version: 0 };
    assert_eq!(story.refused(&root(), Request::Rename(unknown)), Kind::InvalidArgument);
}

#[test]
fn overwriting_replaces_a_file_or_an_empty_directory() {
    let story = story();
    let moved = story.stat("/d/file").unwrap();
    let (outcome, effects) = story.ok_with_effects(&root(), rename("/d/file", "/other", Mode::Overwrite));
    assert_eq!(entry(outcome).inode, moved.inode);
    assert!(matches!(&effects[..], [Effect::Forgotten(blocks)] if blocks.len() == 1));
    story.ok(&root(), rename("/d", "/empty", Mode::Overwrite));
    assert!(story.stat("/empty/e/inner").is_some());
    // Where nothing is, it is a plain rename.
    story.ok(&root(), rename("/other", "/third", Mode::Overwrite));
    assert_eq!(story.namespace.snapshot().unwrap().totals().files, 2);
}

#[test]
fn a_directory_takes_in_what_is_moved_as_mv_does() {
    let story = story();
    assert_eq!(entry(story.ok(&root(), rename("/other", "/d", Mode::Into))).path, "/d/other");
    assert_eq!(entry(story.ok(&root(), rename("/d/other", "/new", Mode::Into))).path, "/new");
    assert_eq!(entry(story.ok(&root(), rename("/d/e", "/", Mode::Into))).path, "/e");
    story.write(&root(), "/file", &[]);
    assert_eq!(story.refused(&root(), rename("/file", "/d", Mode::Into)), Kind::AlreadyExists);
}

#[test]
fn a_conditional_put_sees_exactly_what_it_expects() {
    let story = story();
    let put = |inode, version| {
        let (from, to) = ("/d/file".to_owned(), "/other".to_owned());
        Request::Rename(Rename { from, to, mode: Mode::IfSame.into(), inode, version })
    };
    let there = story.stat("/other").unwrap();
    assert_eq!(story.refused(&root(), put(0, 0)), Kind::Precondition);
    assert_eq!(story.refused(&root(), put(there.inode, there.version + 1)), Kind::Precondition);
    assert_eq!(story.refused(&root(), put(there.inode + 1, there.version)), Kind::Precondition);
    story.ok(&root(), put(there.inode, there.version));
    story.write(&root(), "/d/file", &[]);
    story.delete(&root(), "/other");
    assert_eq!(story.refused(&root(), put(there.inode, there.version)), Kind::Precondition);
    story.ok(&root(), put(0, 17));
}

fn publish(remove: &[&str], moves: &[(&str, &str)]) -> Request {
    let remove = remove.iter().map(|&path| path.to_owned()).collect();
    let moves = moves.iter().map(|&(from, to)| Move { from: from.to_owned(), to: to.to_owned() }).collect();
    Request::Publish(Publish { remove, moves })
}

#[test]
fn a_publication_is_all_or_nothing() {
    let story = story();
    story.write(&root(), "/out/old", &[1]);
    for name in ["part-0", "part-1"] {
        story.write(&root(), &format!("/staging/job/{name}"), &[3]);
    }
    let parts = [("/staging/job/part-0", "/out/day=1/part-0"), ("/staging/job/part-1", "/out/day=1/part-1")];
    let bad = [
        (publish(&["/out"], &[parts[0], ("/staging/none", "/out/x")]), Kind::NotFound),
        (publish(&[], &[parts[0], (parts[1].0, "/out/old")]), Kind::AlreadyExists),
        (publish(&["/out"], &[parts[0], (parts[1].0, parts[0].1)]), Kind::AlreadyExists),
        (publish(&["/out"], &[parts[0], parts[0]]), Kind::NotFound),
        (publish(&["/out", "/"], &parts), Kind::InvalidArgument),
        (publish(&["out"], &parts), Kind::InvalidName),
        (publish(&[], &[("/staging", "/staging/job/x")]), Kind::RenameIntoItself),
        (publish(&[], &[(parts[0].0, "/out/old/x")]), Kind::NotADirectory),
        (publish(&vec![""; PUBLICATION_NAMES_MAX + 1], &[]), Kind::Limit),
    ];
    for (request, kind) in bad {
        assert_eq!(story.refused(&root(), request), kind);
    }
    let success = ("/staging/job/part-1", "/out/_SUCCESS");
    story.ok(&root(), publish(&["/out", "/none", "/staging/none"], &[parts[0], success]));
    assert_eq!(story.stat("/out/old"), None);
    assert_eq!(story.stat("/out/day=1/part-0").unwrap().bytes, 3);
    assert_eq!(story.stat("/out/day=1").unwrap().mode, 0o755);
    assert!(story.stat("/out/_SUCCESS").is_some());
    story.ok(&root(), publish(&["/staging"], &[]));
    assert_eq!(story.stat("/staging"), None);
}
