//! What is gone, what is in the trash, and what is reclaimed.

use crate::story::*;
use gristmill_dfs::namenode::namespace::{Action, Effect, TRASH_BUCKETS_PER_ACTION, Totals};
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::rename::Mode;
use gristmill_proto::namespace::{Deleted, ExpungeTrash, SetMode, SetOwner, answer::Outcome};

const HOUR_MS: u64 = 3_600_000;

fn trash(story: &Story, caller: &gristmill_dfs::namenode::namespace::Caller, path: &str) -> String {
    match story.ok(caller, delete(path, true, false)) {
        Outcome::Deleted(Deleted { found: true, trash_path }) => trash_path,
        other => panic!("{other:?}"),
    }
}

fn expunge(all: bool) -> Request {
    Request::ExpungeTrash(ExpungeTrash { all })
}

#[test]
fn deletion_says_what_it_found() {
    let story = Story::new();
    story.write(&root(), "/d/file", &[1]);
    assert_eq!(story.delete(&root(), "/none"), Deleted { found: false, trash_path: String::new() });
    assert!(!story.delete(&root(), "/none/below").found);
    assert_eq!(story.refused(&root(), delete("/d/file/below", true, true)), Kind::NotADirectory);
    assert_eq!(story.refused(&root(), delete("/d", false, true)), Kind::NotEmpty);
    assert_eq!(story.refused(&root(), delete("/d", false, false)), Kind::NotEmpty);
    for recursive in [false, true] {
        assert_eq!(story.refused(&root(), delete("/", recursive, true)), Kind::InvalidArgument);
        assert_eq!(story.refused(&root(), delete("/", recursive, false)), Kind::InvalidArgument);
    }
    story.ok(&root(), delete("/d/file", false, true));
    story.ok(&root(), delete("/d", false, true));
    assert_eq!(story.tree().len(), 1);
}

#[test]
fn a_tree_goes_at_once_and_is_reclaimed_piece_by_piece() {
    let story = Story::new();
    let mut blocks = 0;
    for name in 0..20 {
        story.write(&root(), &format!("/d/{}/{name}", name % 3), &vec![1; name]);
        blocks += name as u64;
    }
    story.create(&root(), "/d/open");
    story.write(&root(), "/kept", &[1]);
    let totals = story.namespace.snapshot().unwrap().totals();
    let (directories, files) = (5, 22);
    assert_eq!(totals, Totals { directories, files, blocks: blocks + 1, complete_blocks: blocks + 1 });
    let (_, effects) = story.ok_with_effects(&root(), delete("/d", true, true));
    assert_eq!((effects, story.tree().len()), (vec![], 2));
    assert!(story.namespace.snapshot().unwrap().has_orphans());
    // The name is free already.
    story.mkdir(&root(), "/d");
    let mut forgotten = Vec::new();
    for effect in story.reclaim() {
        match effect {
            // A piece is three records, and a file may come on top.
            Effect::Forgotten(blocks) if blocks.len() <= 6 => forgotten.extend(blocks),
            other => panic!("{other:?}"),
        }
    }
    forgotten.sort();
    forgotten.dedup();
    assert_eq!(forgotten.len() as u64, blocks);
    let totals = story.namespace.snapshot().unwrap().totals();
    assert_eq!(totals, Totals { directories: 2, files: 1, blocks: 1, complete_blocks: 1 });
}

#[test]
fn a_file_of_many_blocks_is_reclaimed_piece_by_piece_too() {
    let story = Story::new();
    story.write(&root(), "/big", &[1; 300]);
    let (_, effects) = story.ok_with_effects(&root(), delete("/big", false, true));
    assert_eq!(effects, []);
    let pieces = story.reclaim();
    assert!(pieces.len() >= 100, "{}", pieces.len());
    assert_eq!(story.namespace.snapshot().unwrap().totals(), Totals { directories: 1, ..Totals::default() });
}

#[test]
fn the_trash_keeps_the_path_for_its_user_alone() {
    let story = Story::new();
    story.mkdir(&root(), "/tmp");
    story.ok(&root(), Request::SetMode(SetMode { path: "/tmp".to_owned(), mode: 0o1777 }));
    story.write(&ada(), "/tmp/a/file", &[5]);
    let path = trash(&story, &ada(), "/tmp/a");
    assert_eq!(path, "/.trash/ada/2026-11-20T18/tmp/a");
    assert_eq!(story.stat(&format!("{path}/file")).unwrap().bytes, 5);
    for (path, owner, mode) in [("/.trash", "root", 0o755), ("/.trash/ada", "ada", 0o700)] {
        let directory = story.stat(path).unwrap();
        assert_eq!((directory.owner.as_str(), directory.mode), (owner, mode));
    }
    assert_eq!(story.refused(&bob(), delete(&path, true, false)), Kind::PermissionDenied);
    // It can be taken back, and what is deleted in the trash is gone for good.
    story.ok(&ada(), rename(&path, "/tmp/a", Mode::Refuse));
    let path = trash(&story, &ada(), "/tmp/a");
    let (outcome, _) = story.ok_with_effects(&ada(), delete(&path, true, false));
    assert_eq!(outcome, Outcome::Deleted(Deleted { found: true, trash_path: String::new() }));
    assert_eq!(story.stat(&path), None);
}

#[test]
fn names_that_clash_in_the_trash_are_told_apart() {
    let story = Story::new();
    let mut paths = Vec::new();
    for _ in 0..3 {
        story.write(&root(), "/d/file", &[1]);
        paths.push(trash(&story, &root(), "/d/file"));
    }
    // A directory where a deleted file was, and a file in that directory.
    story.delete(&root(), "/d");
    story.write(&root(), "/d", &[]);
    paths.push(trash(&story, &root(), "/d"));
    story.write(&root(), "/other", &[]);
    paths.push(trash(&story, &root(), "/other"));
    story.write(&root(), "/other/below", &[]);
    paths.push(trash(&story, &root(), "/other/below"));
    for path in &paths {
        assert!(!story.stat(path).unwrap().is_directory);
    }
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 6);
    // The same thing, deleted again and again.
    let mut again = paths[0].clone();
    for _ in 0..3 {
        story.ok(&root(), rename(&again, "/again", Mode::Refuse));
        again = trash(&story, &root(), "/again");
        story.write(&root(), "/again", &[]);
        trash(&story, &root(), "/again");
    }
    let long = format!("/{}", "ü".repeat(127));
    for _ in 0..2 {
        story.write(&root(), &long, &[]);
        assert!(story.stat(&trash(&story, &root(), &long)).is_some());
    }
}

#[test]
fn trash_is_not_put_where_somebody_lies_in_wait() {
    let story = Story::new();
    story.ok(&root(), Request::SetMode(SetMode { path: "/".to_owned(), mode: 0o777 }));
    story.mkdir(&bob(), "/.trash/ada");
    story.write(&ada(), "/file", &[1]);
    assert_eq!(story.refused(&ada(), delete("/file", false, false)), Kind::AlreadyExists);
    let of_root = SetOwner { path: "/.trash".to_owned(), owner: "root".to_owned(), group: String::new() };
    story.ok(&root(), Request::SetOwner(of_root));
    story.ok(&bob(), Request::SetMode(SetMode { path: "/.trash/ada".to_owned(), mode: 0o777 }));
    let path = trash(&story, &ada(), "/file");
    let home = path.split('/').take(3).collect::<Vec<_>>().join("/");
    assert!(home.starts_with("/.trash/ada."), "{path}");
    assert_eq!(story.stat(&home).map(|home| (home.owner, home.mode)), Some(("ada".to_owned(), 0o700)));
}

#[test]
fn trash_expires_by_the_hour() {
    let story = Story::new();
    for hour in 0..4 {
        story.now_ms.set(START_MS + hour * HOUR_MS);
        for user in ["root", "ada"] {
            let path = format!("/of-{user}-{hour}");
            story.write(&root(), &path, &[1]);
            // Only root may take away from `/`.
            let path = trash(&story, &root(), &path);
            if user == "ada" {
                let home = path.replace("/root/", "/ada/");
                story.mkdir(&root(), home.rsplit_once('/').unwrap().0);
                story.ok(&root(), rename(&path, &home, Mode::Refuse));
            }
        }
    }
    story.mkdir(&root(), "/.trash/ada/0-not-an-hour");
    let expire = |hours| story.act(Action::ExpireTrash { before_ms: START_MS + hours * HOUR_MS });
    let files = || story.tree().iter().filter(|entry| !entry.is_directory).count();
    assert_eq!(expire(0).effects, []);
    assert_eq!(files(), 8);
    // An hour that has begun is kept whole.
    expire(2);
    assert_eq!(files(), 4);
    assert!(story.stat("/.trash/ada/0-not-an-hour").is_some());
    expire(99);
    assert_eq!(files(), 0);
    story.reclaim();
    assert_eq!(story.namespace.snapshot().unwrap().totals().blocks, 0);
}

#[test]
fn one_expiry_is_bounded() {
    let story = Story::new();
    for hour in 0..TRASH_BUCKETS_PER_ACTION as u64 + 10 {
        let (day, hour) = (hour / 24 + 1, hour % 24);
        story.mkdir(&root(), &format!("/.trash/ada/2001-01-{day:02}T{hour:02}"));
    }
    let expire = || story.act(Action::ExpireTrash { before_ms: START_MS }).effects;
    assert!(expire().contains(&Effect::Unfinished));
    assert_eq!(story.stat("/.trash/ada").map(|_| story.tree().len()), Some(13));
    assert_eq!(expire(), []);
    assert_eq!(story.tree().len(), 3);
}

#[test]
fn trash_is_expunged_by_its_user_or_all_of_it_by_the_superuser() {
    let story = Story::new();
    story.ok(&root(), Request::SetMode(SetMode { path: "/".to_owned(), mode: 0o777 }));
    for who in [ada(), bob()] {
        story.write(&who, &format!("/of-{}", who.user), &[]);
        trash(&story, &who, &format!("/of-{}", who.user));
    }
    story.ok(&ada(), expunge(false));
    assert_eq!((story.stat("/.trash/ada"), story.stat("/.trash/bob").is_some()), (None, true));
    assert_eq!(story.refused(&ada(), expunge(true)), Kind::PermissionDenied);
    story.ok(&root(), expunge(true));
    assert_eq!(story.stat("/.trash"), None);
    story.ok(&root(), expunge(true));
}

#[test]
fn without_trash_everything_goes_for_good() {
    let story =
        Story::with(gristmill_dfs::namenode::namespace::NamespaceOptions { trash: false, ..options() });
    story.write(&root(), "/file", &[]);
    let deleted = story.ok(&root(), delete("/file", false, false));
    assert_eq!(deleted, Outcome::Deleted(Deleted { found: true, trash_path: String::new() }));
    assert_eq!(story.stat("/.trash"), None);
}

#[test]
fn a_user_whose_name_is_no_directory_has_no_trash() {
    let story = Story::new();
    story.ok(&root(), Request::SetMode(SetMode { path: "/".to_owned(), mode: 0o777 }));
    for user in ["..", "a/b", "", "a\nb"] {
        let who = caller(user, &[], 7);
        story.write(&who, "/file", &[]);
        assert_eq!(story.refused(&who, delete("/file", false, false)), Kind::InvalidName);
        assert!(story.delete(&who, "/file").found);
        story.ok(&who, expunge(false));
    }
}
