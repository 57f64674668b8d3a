//! What readers see.

use crate::story::*;
use gristmill_dfs::namenode::namespace::CheckPage;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{Check, List, Listing, Locate, LocatedFile, SetQuota, Space, Summary};

fn list(story: &Story, path: &str, after: &str, limit: u32) -> Listing {
    let (path, after) = (path.to_owned(), after.to_owned());
    match story.read(&root(), Request::List(List { path, after, limit })) {
        Outcome::Listing(listing) => listing,
        other => panic!("{other:?}"),
    }
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.entries.iter().map(|entry| entry.path.as_str()).collect()
}

#[test]
fn directories_are_listed_page_by_page_in_the_order_of_bytes() {
    let story = Story::new();
    for name in ["b", "a", "ab", "B", "a-", "é"] {
        story.write(&root(), &format!("/d/{name}"), &[]);
    }
    // Neighbours in the table, and in no page of /d.
    story.mkdir(&root(), "/c");
    story.mkdir(&root(), "/e/x");
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = list(&story, "/d", &after, 2);
        seen.extend(page.entries.iter().map(|entry| entry.path.clone()));
        assert!(page.entries.len() == 2 || !page.more);
        if !page.more {
            break;
        }
        after = page.entries[1].path["/d/".len()..].to_owned();
    }
    assert_eq!(seen, ["/d/B", "/d/a", "/d/a-", "/d/ab", "/d/b", "/d/é"]);
    assert_eq!(names(&list(&story, "/d", "aa", 0)), ["/d/ab", "/d/b", "/d/é"]);
    assert_eq!(names(&list(&story, "/d", &"ü".repeat(5000), 0)), [""; 0]);
    assert_eq!(names(&list(&story, "/", "", 0)), ["/c", "/d", "/e"]);
    let file = list(&story, "/d/b", "x", 1);
    assert_eq!((names(&file), file.more), (vec!["/d/b"], false));
    assert_eq!(names(&list(&story, "/c", "", 0)), [""; 0]);
    let none = story.read(&root(), Request::List(List { path: "/none".to_owned(), ..List::default() }));
    assert_eq!(kind(&none), Some(Kind::NotFound));
}

#[test]
fn a_page_has_at_most_a_thousand_entries() {
    let story = Story::new();
    for name in 0..1001 {
        story.mkdir(&root(), &format!("/d/{name:04}"));
    }
    let page = list(&story, "/d", "", 5000);
    assert_eq!((page.entries.len(), page.more), (1000, true));
    assert_eq!(names(&list(&story, "/d", "0999", 0)), ["/d/1000"]);
}

#[test]
fn blocks_are_located_by_range() {
    let story = Story::new();
    story.write(&root(), "/file", &[100, 50, 100]);
    let offsets = |offset, bytes| -> Vec<u64> {
        story.located("/file", offset, bytes).iter().map(|block| block.offset).collect()
    };
    assert_eq!(offsets(0, u64::MAX), [0, 100, 150]);
    assert_eq!(offsets(99, 1), [0]);
    assert_eq!(offsets(99, 2), [0, 100]);
    assert_eq!(offsets(100, 50), [100]);
    assert_eq!(offsets(149, 2), [100, 150]);
    assert_eq!(offsets(249, u64::MAX), [150]);
    assert_eq!(offsets(250, 1), [0; 0]);
    assert_eq!(offsets(100, 0), [0; 0]);
    let limited = Locate { path: "/file".to_owned(), offset: 0, bytes: u64::MAX, limit: 2 };
    let Outcome::Located(LocatedFile { entry, blocks, more }) = story.read(&root(), Request::Locate(limited))
    else {
        panic!("it is there")
    };
    assert_eq!((entry.unwrap().bytes, blocks.len(), more), (250, 2, true));
    assert_eq!(blocks[0].replicas, [], "who has a complete block is known elsewhere");
    let directory = Locate { path: "/".to_owned(), ..Locate::default() };
    assert_eq!(kind(&story.read(&root(), Request::Locate(directory))), Some(Kind::IsADirectory));
}

#[test]
fn subtrees_are_counted() {
    let story = Story::new();
    story.write(&root(), "/d/a", &[10, 20]);
    story.write(&root(), "/d/e/b", &[5]);
    story.write(&root(), "/other", &[9]);
    let quota = SetQuota { path: "/d".to_owned(), names: Some(9), space_bytes: Some(9999) };
    story.ok(&root(), Request::SetQuota(quota));
    let snapshot = story.namespace.snapshot().unwrap();
    let expected =
        Summary { directories: 2, files: 2, bytes: 35, space_bytes: 70, name_quota: 9, space_quota: 9999 };
    assert_eq!(snapshot.summarize(&root(), "/d").unwrap(), expected);
    let file = snapshot.summarize(&root(), "/other").unwrap();
    assert_eq!((file.directories, file.files, file.bytes), (0, 1, 9));
}

fn check(story: &Story, path: &str, after: &str, limit: u32) -> CheckPage {
    let (path, after) = (path.to_owned(), after.to_owned());
    story.namespace.snapshot().unwrap().check_page(&root(), &Check { path, after, limit }).unwrap()
}

#[test]
fn a_check_sees_every_file_once_whatever_happens_between_its_pages() {
    let story = Story::new();
    let mut paths: Vec<String> = Vec::new();
    for path in ["/a/1", "/a/2/x", "/a/2/y/z", "/a/3", "/a-b", "/b", "/c/d/e/f"] {
        story.write(&root(), path, &[4, 2]);
        paths.push(path.to_owned());
    }
    story.mkdir(&root(), "/empty/below");
    let whole = check(&story, "/", "", 0);
    let seen: Vec<&String> = whole.files.iter().map(|file| &file.path).collect();
    // Directories before their neighbours: by names, not by the bytes of whole paths.
    assert_eq!(seen, ["/a/1", "/a/2/x", "/a/2/y/z", "/a/3", "/a-b", "/b", "/c/d/e/f"]);
    assert_eq!((whole.blocks, whole.bytes, whole.last.as_str()), (14, 42, ""));
    assert!(whole.files.iter().all(|file| !file.open && file.blocks.iter().all(|(_, block)| block.complete)));
    for limit in 1..8 {
        let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = check(&story, "/", &after, limit);
            seen.extend(page.files.into_iter().map(|file| file.path));
            pages += 1;
            assert!(pages < 20);
            if page.last.is_empty() {
                break;
            }
            after = page.last;
        }
        assert_eq!(seen, paths, "{limit} files a page");
    }
    // The page's last file, or the directory it was in, may be gone when the next page is asked for.
    let next = |after| check(&story, "/", after, 1).files.first().map(|file| file.path.clone());
    assert_eq!(next("/a/2/y/z").as_deref(), Some("/a/3"));
    assert_eq!(next("/a/2/y").as_deref(), Some("/a/2/y/z"));
    assert_eq!(next("/a/2/yy/gone").as_deref(), Some("/a/3"));
    assert_eq!(next("/a/1/below-a-file").as_deref(), Some("/a/2/x"));
    assert_eq!(next("/z"), None);
    assert_eq!(check(&story, "/b", "", 0).files.len(), 1);
    let open = story.create(&root(), "/open").entry.unwrap().inode;
    story.add_block(&root(), open, None);
    let page = check(&story, "/open", "", 0);
    assert!(page.files[0].open && !page.files[0].blocks[0].1.complete);
    for (path, after) in [("/a", "/b"), ("/a", "/a"), ("/a", "/ab")] {
        let request = Check { path: path.to_owned(), after: after.to_owned(), limit: 0 };
        assert!(story.namespace.snapshot().unwrap().check_page(&root(), &request).is_err());
    }
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let story = Story::new();
    story.write(&root(), "/file", &[1]);
    let before = story.namespace.snapshot().unwrap();
    story.delete(&root(), "/file");
    assert!(before.stat(&root(), "/file").is_ok());
    assert_eq!(before.totals().files, 1);
    assert!(story.namespace.snapshot().unwrap().stat(&root(), "/file").is_err());
}

#[test]
fn calls_that_others_answer_are_left_to_them() {
    let story = Story::new();
    let snapshot = story.namespace.snapshot().unwrap();
    for request in [Request::Space(Space {}), create("/x")] {
        assert_eq!(snapshot.answer(&root(), &request).unwrap(), None);
    }
    assert_eq!(story.refused(&root(), Request::Space(Space {})), Kind::InvalidArgument);
}
