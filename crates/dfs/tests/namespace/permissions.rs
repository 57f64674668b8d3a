//! Who may pass, look, write and take away.

use crate::story::*;
use gristmill_dfs::namenode::namespace::Caller;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::rename::Mode;
use gristmill_proto::namespace::{
    Concat, List, Locate, Publish, SetMode, SetOwner, Stat, Summarize, publish::Move,
};

fn own(story: &Story, path: &str, owner: &str, group: &str, mode: u32) {
    let path = path.to_owned();
    let (owner, group) = (owner.to_owned(), group.to_owned());
    story.ok(&root(), Request::SetOwner(SetOwner { path: path.clone(), owner, group }));
    story.ok(&root(), Request::SetMode(SetMode { path, mode }));
}

/// `/ada` of ada:dev 0750 with a file, `/tmp` 1777, and `/shared` of ada:staff 0770.
fn houses() -> Story {
    let story = Story::new();
    for path in ["/ada", "/tmp", "/shared"] {
        story.mkdir(&root(), path);
    }
    own(&story, "/ada", "ada", "dev", 0o750);
    own(&story, "/tmp", "root", "supergroup", 0o1777);
    own(&story, "/shared", "ada", "staff", 0o770);
    story.write(&ada(), "/ada/file", &[5]);
    story
}

#[test]
fn new_things_belong_to_their_maker_and_to_the_group_of_the_directory() {
    let story = houses();
    let file = story.write(&bob(), "/shared/of-bob", &[]);
    assert_eq!((file.owner.as_str(), file.group.as_str()), ("bob", "staff"));
    let directory = story.mkdir(&ada(), "/ada/x/y");
    assert_eq!((directory.owner.as_str(), directory.group.as_str()), ("ada", "dev"));
}

#[test]
fn outsiders_neither_pass_nor_write() {
    let story = houses();
    let denied = [
        mkdir("/new"),
        create("/new"),
        create("/ada/new"),
        overwrite("/ada/file"),
        append("/ada/file"),
        truncate("/ada/file", 0),
        delete("/ada", true, true),
        delete("/ada/file", false, true),
        delete("/ada/file", false, false),
        rename("/ada/file", "/tmp/file", Mode::Refuse),
        rename("/tmp", "/shared/tmp", Mode::Refuse),
        Request::RecoverLease(gristmill_proto::namespace::RecoverLease { path: "/ada/file".to_owned() }),
        Request::Publish(Publish { remove: vec!["/ada/file".to_owned()], moves: vec![] }),
    ];
    for request in denied {
        assert_eq!(story.refused(&bob(), request.clone()), Kind::PermissionDenied, "{request:?}");
    }
    let path = "/ada/file".to_owned();
    let reads = [
        Request::Stat(Stat { path: path.clone() }),
        Request::List(List { path: "/ada".to_owned(), ..List::default() }),
        Request::Locate(Locate { path: path.clone(), ..Locate::default() }),
        Request::Summarize(Summarize { path: "/".to_owned() }),
    ];
    for read in reads {
        assert_eq!(kind(&story.read(&bob(), read.clone())), Some(Kind::PermissionDenied), "{read:?}");
        assert_eq!(kind(&story.read(&ada(), read)), None);
    }
    // Group dev may look, and no more.
    let dev = caller("eve", &["dev"], 5);
    assert_eq!(kind(&story.read(&dev, Request::Stat(Stat { path }))), None);
    assert_eq!(story.refused(&dev, create("/ada/new")), Kind::PermissionDenied);
}

#[test]
fn whoever_joins_files_must_be_allowed_to_read_them() {
    let story = houses();
    story.write(&ada(), "/shared/secret", &[5]);
    story.ok(&ada(), Request::SetMode(SetMode { path: "/shared/secret".to_owned(), mode: 0o600 }));
    story.write(&bob(), "/shared/of-bob", &[1]);
    let concat =
        |to: &str, from: &str| Request::Concat(Concat { to: to.to_owned(), from: vec![from.to_owned()] });
    assert_eq!(story.refused(&bob(), concat("/shared/of-bob", "/shared/secret")), Kind::PermissionDenied);
    assert_eq!(story.refused(&bob(), concat("/shared/secret", "/shared/of-bob")), Kind::PermissionDenied);
    story.ok(&ada(), concat("/shared/secret", "/shared/of-bob"));
}

#[test]
fn in_a_sticky_directory_everyone_takes_away_only_what_is_theirs() {
    let story = houses();
    story.write(&ada(), "/tmp/of-ada", &[]);
    for request in [
        delete("/tmp/of-ada", false, true),
        rename("/tmp/of-ada", "/shared/mine", Mode::Refuse),
        Request::Publish(Publish {
            remove: vec![],
            moves: vec![Move { from: "/tmp/of-ada".to_owned(), to: "/shared/mine".to_owned() }],
        }),
    ] {
        assert_eq!(story.refused(&bob(), request), Kind::PermissionDenied);
    }
    story.write(&bob(), "/tmp/of-bob", &[]);
    let over = rename("/tmp/of-bob", "/tmp/of-ada", Mode::Overwrite);
    assert_eq!(story.refused(&bob(), over), Kind::PermissionDenied);
    assert!(story.delete(&ada(), "/tmp/of-ada").found);
    assert!(story.delete(&root(), "/tmp/of-bob").found);
}

#[test]
fn a_tree_is_deleted_for_good_only_by_who_may_empty_all_of_it() {
    let story = houses();
    story.mkdir(&bob(), "/shared/job/inner");
    own(&story, "/shared/job/inner", "bob", "staff", 0o700);
    // An empty directory takes nothing away.
    story.mkdir(&bob(), "/shared/job/empty");
    own(&story, "/shared/job/empty", "root", "root", 0o700);
    own(&story, "/shared/job", "bob", "staff", 0o770);
    story.write(&bob(), "/shared/job/inner/file", &[1]);
    let gone = |who: &Caller| story.apply(who, delete("/shared/job", true, true)).outcome;
    assert_eq!(kind(&gone(&ada())), Some(Kind::PermissionDenied));
    story.ok(&bob(), Request::SetMode(SetMode { path: "/shared/job/inner".to_owned(), mode: 0o1770 }));
    assert_eq!(
        kind(&gone(&ada())),
        Some(Kind::PermissionDenied),
        "the file in the sticky directory is bob's"
    );
    assert!(matches!(gone(&bob()), Outcome::Deleted(deleted) if deleted.found));
}
