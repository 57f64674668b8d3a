//! Names that somebody might try.

use crate::story::*;
use gristmill_dfs::namenode::namespace::{CallError, FsPath, NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::rename::Mode;
use gristmill_proto::namespace::{
    Append, Check, Concat, List, Locate, Publish, RecoverLease, SetMode, SetOwner, SetQuota, SetReplication,
    SetTimes, Stat, Summarize, publish::Move,
};
use proptest::prelude::*;

const HOSTILE: [&str; 22] = [
    "",
    "a",
    "a/b",
    "//",
    "//a",
    "/a//b",
    "/a//",
    "/.",
    "/..",
    "/a/.",
    "/a/..",
    "/a/./b",
    "/a/../b",
    "../a",
    "\\a",
    "/a\0b",
    "/a\nb",
    "/\u{7f}",
    "/a\u{85}b",
    "dfs:///a",
    "./a",
    "~/a",
];

#[test]
fn every_call_refuses_hostile_names() {
    let story = Story::new();
    story.write(&root(), "/good", &[5]);
    for path in HOSTILE {
        for request in calls(path) {
            assert_eq!(story.refused(&root(), request.clone()), Kind::InvalidName, "{request:?}");
        }
        for read in reads(path) {
            assert_eq!(kind(&story.read(&root(), read.clone())), Some(Kind::InvalidName), "{read:?}");
        }
        let check = Check { path: path.to_owned(), ..Check::default() };
        let page = story.namespace.snapshot().unwrap().check_page(&root(), &check);
        assert!(matches!(page, Err(CallError::Refused(failure)) if failure.kind() == Kind::InvalidName));
    }
}

/// All writes, with the path in each of its places.
fn calls(path: &str) -> Vec<Request> {
    let good = "/good".to_owned();
    let bad = path.to_owned();
    let mode = Mode::Overwrite;
    let publish = |remove: &[&String], moves: &[(&String, &String)]| {
        let moves = moves.iter().map(|&(from, to)| Move { from: from.clone(), to: to.clone() }).collect();
        let remove = remove.iter().map(|&path| path.clone()).collect();
        Request::Publish(Publish { remove, moves })
    };
    vec![
        mkdir(path),
        create(path),
        overwrite(path),
        delete(path, true, true),
        delete(path, true, false),
        truncate(path, 0),
        rename(path, "/x", mode),
        rename("/good", path, mode),
        Request::Append(Append { path: bad.clone() }),
        publish(&[&bad], &[]),
        publish(&[], &[(&bad, &good)]),
        publish(&[], &[(&good, &bad)]),
        Request::Concat(Concat { to: bad.clone(), from: vec![good.clone()] }),
        Request::Concat(Concat { to: good, from: vec![bad.clone()] }),
        Request::SetReplication(SetReplication { path: bad.clone(), replication: 1 }),
        Request::SetMode(SetMode { path: bad.clone(), mode: 0 }),
        Request::SetOwner(SetOwner { path: bad.clone(), ..SetOwner::default() }),
        Request::SetTimes(SetTimes { path: bad.clone(), ..SetTimes::default() }),
        Request::SetQuota(SetQuota { path: bad.clone(), ..SetQuota::default() }),
        Request::RecoverLease(RecoverLease { path: bad }),
    ]
}

fn reads(path: &str) -> [Request; 4] {
    let path = path.to_owned();
    [
        Request::Stat(Stat { path: path.clone() }),
        Request::List(List { path: path.clone(), ..List::default() }),
        Request::Locate(Locate { path: path.clone(), ..Locate::default() }),
        Request::Summarize(Summarize { path }),
    ]
}

#[test]
fn names_are_whatever_else_they_like() {
    let story = Story::new();
    let names =
        [".hidden", "...", "a:b", "a b", " ", "~", "*", "ünï", "日本", "-", "a\\b", "%2F", "\u{202e}x", "😀"];
    for name in names {
        let path = format!("/{name}/{name}");
        let file = story.write(&root(), &path, &[1]);
        assert_eq!(story.stat(&path).unwrap(), file);
        assert_eq!(story.stat(&format!("{path}/")).unwrap(), file);
    }
    assert_eq!(story.tree().len(), 1 + 2 * names.len());
}

#[test]
fn lengths_have_limits() {
    let story = Story::new();
    let long = "x".repeat(NAME_BYTES_MAX);
    story.mkdir(&root(), &format!("/{long}"));
    assert_eq!(story.refused(&root(), mkdir(&format!("/{long}x"))), Kind::Limit);
    let deep = "/d".repeat(PATH_DEPTH_MAX);
    story.mkdir(&root(), &deep);
    assert_eq!(story.refused(&root(), mkdir(&format!("{deep}/d"))), Kind::Limit);
    let wide = format!("/{}", "y/".repeat(PATH_BYTES_MAX / 2));
    assert_eq!(story.refused(&root(), mkdir(&wide)), Kind::Limit);
    let answer = story.read(&root(), Request::Stat(Stat { path: "/é".repeat(64 << 10) }));
    assert_eq!(kind(&answer), Some(Kind::Limit));
    // The trash has no room for the deepest things.
    assert_eq!(story.refused(&root(), delete(&deep, true, false)), Kind::Limit);
    assert!(story.delete(&root(), &deep).found);
    // What is moved deeper than any path can be named is still in its place.
    story.mkdir(&root(), &"/e".repeat(600));
    story.write(&root(), &format!("{}/file", "/e".repeat(600)), &[1]);
    story.mkdir(&root(), &"/f".repeat(600));
    story.ok(&root(), rename("/e", &"/f".repeat(601), Mode::Refuse));
    let files = story.namespace.snapshot().unwrap().summarize(&root(), "/").unwrap().files;
    assert_eq!(files, 1);
    assert!(story.delete(&root(), "/f").found);
    story.reclaim();
    assert_eq!(story.namespace.snapshot().unwrap().totals().files, 0);
}

proptest! {
    #[test]
    fn no_text_is_read_otherwise_than_it_is(text in "\\PC{0,40}|[/.a\0\n~:]{0,12}|(/[.a-cü]{0,4}){0,5}/?") {
        let Ok(path) = FsPath::parse(&text) else { return Ok(()) };
        // A path that is read is its names and nothing else.
        let names: Vec<&str> = path.names().collect();
        let joined = format!("/{}", names.join("/"));
        prop_assert_eq!(path.as_str(), &joined);
        prop_assert!(text.strip_suffix('/').unwrap_or(&text) == joined.strip_suffix('/').unwrap_or(&joined));
        for name in &names {
            prop_assert!(!name.is_empty() && *name != "." && *name != ".." && name.len() <= NAME_BYTES_MAX);
            prop_assert!(!name.chars().any(|c| c == '/' || c.is_control()));
        }
        // It reads the same again, and so does what it is in.
        prop_assert_eq!(FsPath::parse(path.as_str()).unwrap(), path);
        prop_assert_eq!(FsPath::parse(path.parent().as_str()).unwrap(), path.parent());
        prop_assert_eq!(path.name(), names.last().copied().unwrap_or(""));
        prop_assert!(path.is_at_or_below(path.parent()) && path.is_at_or_below(FsPath::ROOT));
        prop_assert_eq!(path.parent().is_at_or_below(path), path.is_root());
    }

    #[test]
    fn well_formed_names_are_always_read(names in proptest::collection::vec("[^/\\p{Cc}]{1,30}", 0..6)) {
        prop_assume!(!names.iter().any(|name| name == "." || name == ".."));
        let text = format!("/{}", names.join("/"));
        let path = FsPath::parse(&text).unwrap();
        prop_assert_eq!(path.names().map(str::to_owned).collect::<Vec<_>>(), names);
    }
}
