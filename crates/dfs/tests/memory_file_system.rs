//! A file system in memory does what a cluster's does, and local files do the same where they can.

use std::io::Write;

use gristmill_dfs::Uri;
use gristmill_dfs::file_system::{
    Access, Cause, CreateOptions, DeleteOptions, ExpandError, FileSystem, FsError, Kind, expand,
};
use proptest::prelude::*;

const FOR_GOOD: DeleteOptions = DeleteOptions { recursive: true, skip_trash: true };

/// Empty places on each file system, and what keeps the local one.
fn homes(name: &str) -> (tempfile::TempDir, Vec<Uri>) {
    let directory = tempfile::tempdir().unwrap();
    let memory = Uri::parse(&format!("memory://{name}/home")).unwrap();
    memory.file_system().unwrap().make_directory(&memory, true).unwrap();
    let local = Uri::local(directory.path());
    (directory, vec![local, memory])
}

fn write(fs: &dyn FileSystem, uri: &Uri, text: &str) {
    let mut writer = fs.create(uri, &CreateOptions { overwrite: true, ..CreateOptions::default() }).unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    writer.finish().unwrap();
}

fn read(fs: &dyn FileSystem, uri: &Uri) -> String {
    let file = fs.open(uri).unwrap();
    let mut bytes = vec![0; file.bytes() as usize + 1];
    let count = file.read_at(&mut bytes, 0).unwrap();
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

/// The names in a directory.
fn names(fs: &dyn FileSystem, uri: &Uri) -> Vec<String> {
    let entries = fs.list(uri).unwrap();
    entries.map(|entry| entry.unwrap().uri.name().to_str().unwrap().to_owned()).collect()
}

fn cause<T>(result: Result<T, FsError>) -> Cause {
    result.err().expect("it should have failed").cause
}

#[test]
fn a_file_is_made_with_the_directories_above_it_read_and_listed() {
    let (_keep, homes) = homes("made");
    for home in homes {
        let fs = home.file_system().unwrap();
        write(&*fs, &home.join("a/b/one"), "hello");
        write(&*fs, &home.join("a/b/_two"), "");
        assert_eq!(read(&*fs, &home.join("a/b/one")), "hello");
        assert_eq!(names(&*fs, &home.join("a/b")), ["_two", "one"]);
        assert_eq!(names(&*fs, &home.join("a/b/one")), ["one"]);
        let status = fs.stat(&home.join("a/b/one")).unwrap();
        assert_eq!((status.kind, status.bytes), (Kind::File, 5));
        assert!(status.modified_ms > 1_600_000_000_000 && !status.under_construction);
        let summary = fs.summarize(&home.join("a")).unwrap();
        assert_eq!((summary.directories, summary.files, summary.bytes), (2, 2, 5));
    }
}

#[test]
fn a_file_that_exists_is_replaced_only_on_demand() {
    let (_keep, homes) = homes("replaced");
    for home in homes {
        let (fs, file) = (home.file_system().unwrap(), home.join("f"));
        write(&*fs, &file, "one");
        assert!(matches!(cause(fs.create(&file, &CreateOptions::default())), Cause::AlreadyExists));
        write(&*fs, &file, "two");
        assert_eq!(read(&*fs, &file), "two");
        let mut writer = fs.append(&file).unwrap();
        writer.write_all(b" and").unwrap();
        writer.flush().unwrap();
        assert_eq!(read(&*fs, &file), "two and");
        writer.finish().unwrap();
        assert!(fs.truncate(&file, 2).unwrap());
        assert_eq!(read(&*fs, &file), "tw");
        assert!(matches!(cause(fs.truncate(&file, 3)), Cause::Refused(_)));
        assert!(matches!(cause(fs.open(&home)), Cause::IsADirectory));
        assert!(matches!(cause(fs.create(&file.join("x"), &CreateOptions::default())), Cause::NotADirectory));
    }
}

#[test]
fn directories_are_made_one_by_one_or_with_parents() {
    let (_keep, homes) = homes("directories");
    for home in homes {
        let fs = home.file_system().unwrap();
        assert!(matches!(cause(fs.make_directory(&home.join("a/b"), false)), Cause::NotFound));
        fs.make_directory(&home.join("a/b"), true).unwrap();
        fs.make_directory(&home.join("a/b"), true).unwrap();
        assert!(matches!(cause(fs.make_directory(&home.join("a/b"), false)), Cause::AlreadyExists));
    }
}

#[test]
fn a_name_moves_only_where_it_may() {
    let (_keep, homes) = homes("moves");
    for home in homes {
        let fs = home.file_system().unwrap();
        let at = |name: &str| home.join(name);
        write(&*fs, &at("one"), "1");
        write(&*fs, &at("two"), "2");
        write(&*fs, &at("full/x"), "x");
        fs.make_directory(&at("empty"), true).unwrap();
        assert!(matches!(cause(fs.rename(&at("one"), &at("two"), false)), Cause::AlreadyExists));
        assert!(matches!(cause(fs.rename(&at("none"), &at("new"), false)), Cause::NotFound));
        assert!(matches!(cause(fs.rename(&at("one"), &at("no/new"), false)), Cause::NotFound));
        assert!(matches!(cause(fs.rename(&at("full"), &at("full/y"), false)), Cause::IntoItself));
        assert!(matches!(cause(fs.rename(&at("empty"), &at("full"), true)), Cause::NotEmpty));
        assert!(matches!(cause(fs.rename(&at("one"), &at("empty"), true)), Cause::IsADirectory));
        assert!(matches!(cause(fs.rename(&at("empty"), &at("one"), true)), Cause::NotADirectory));
        fs.rename(&at("one"), &at("two"), true).unwrap();
        fs.rename(&at("full"), &at("empty"), true).unwrap();
        assert_eq!(names(&*fs, &home), ["empty", "two"]);
        assert_eq!((read(&*fs, &at("two")), read(&*fs, &at("empty/x"))), ("1".to_owned(), "x".to_owned()));
    }
}

#[test]
fn what_is_deleted_is_gone_and_full_directories_need_a_word() {
    let (_keep, homes) = homes("deletes");
    for home in homes {
        let fs = home.file_system().unwrap();
        write(&*fs, &home.join("d/f"), "");
        let one_by_one = DeleteOptions { recursive: false, skip_trash: true };
        assert!(matches!(cause(fs.delete(&home.join("d"), one_by_one)), Cause::NotEmpty));
        fs.delete(&home.join("d/f"), one_by_one).unwrap();
        fs.delete(&home.join("d"), one_by_one).unwrap();
        assert!(matches!(cause(fs.delete(&home.join("d"), FOR_GOOD)), Cause::NotFound));
    }
}

#[test]
fn what_memory_deletes_can_be_found_in_the_trash() {
    let uri = Uri::parse("memory://trash/a/f").unwrap();
    let fs = uri.file_system().unwrap();
    let user = Access::from_environment().user;
    for round in ["", ".1", ".2"] {
        write(&*fs, &uri, "precious");
        let trash = fs.delete(&uri, DeleteOptions::default()).unwrap().unwrap();
        assert_eq!(trash, uri.join(format!("../../.trash/{user}/a/f{round}")));
        assert_eq!(read(&*fs, &trash), "precious");
    }
    let trash = uri.join(format!("../../.trash/{user}/a/f"));
    assert_eq!(fs.delete(&trash, DeleteOptions::default()).unwrap(), None);
    assert!(fs.stat(&trash).unwrap_err().is_absence());
}

#[test]
fn a_writer_whose_file_is_gone_hears_of_it() {
    let uri = Uri::parse("memory://lost/f").unwrap();
    let fs = uri.file_system().unwrap();
    let mut writer = fs.create(&uri, &CreateOptions::default()).unwrap();
    assert!(fs.stat(&uri).unwrap().under_construction);
    assert!(matches!(cause(fs.append(&uri)), Cause::Refused(_)));
    writer.write_all(b"x").unwrap();
    fs.delete(&uri, FOR_GOOD).unwrap();
    write(&*fs, &uri, "another's");
    assert!(matches!(cause(writer.finish()), Cause::LeaseLost(_)));
    assert_eq!(read(&*fs, &uri), "another's");
}

#[test]
fn files_are_joined_in_order() {
    let home = Uri::parse("memory://joined/d").unwrap();
    let fs = home.file_system().unwrap();
    for name in ["a", "b", "c"] {
        write(&*fs, &home.join(name), name);
    }
    let twice = fs.concat(&home.join("a"), &[home.join("b"), home.join("b")]);
    assert!(matches!(cause(twice), Cause::Refused(_)));
    fs.concat(&home.join("a"), &[home.join("c"), home.join("b")]).unwrap();
    assert_eq!((names(&*fs, &home), read(&*fs, &home.join("a"))), (vec!["a".to_owned()], "acb".to_owned()));
}

#[test]
fn modes_times_and_copies_are_kept() {
    let (_keep, homes) = homes("kept");
    for home in homes {
        let (fs, file) = (home.file_system().unwrap(), home.join("f"));
        write(&*fs, &file, "");
        fs.set_mode(&file, 0o640).unwrap();
        fs.set_times(&file, Some(1_000_000_000_123), Some(1_000_000_000_456)).unwrap();
        fs.set_times(&home, Some(86_400_000), None).unwrap();
        let status = fs.stat(&file).unwrap();
        assert_eq!((status.mode, status.modified_ms), (0o640, 1_000_000_000_123));
        assert_eq!(status.accessed_ms, 1_000_000_000_456);
        assert_eq!(fs.stat(&home).unwrap().modified_ms, 86_400_000);
        let owner = status.owner.clone();
        fs.set_owner(&file, Some(&owner), None).unwrap();
        assert_eq!(fs.stat(&file).unwrap().owner, owner);
    }
}

#[test]
fn a_name_that_is_too_long_is_refused() {
    let uri = Uri::parse("memory://long/").unwrap();
    let fs = uri.file_system().unwrap();
    let name = uri.join("x".repeat(256));
    assert!(matches!(cause(fs.make_directory(&name, true)), Cause::InvalidName(_)));
    assert!(matches!(cause(fs.create(&name, &CreateOptions::default())), Cause::InvalidName(_)));
    fs.make_directory(&uri.join("x".repeat(255)), true).unwrap();
}

#[test]
fn globs_name_what_matches_and_not_what_is_below() {
    let (_keep, homes) = homes("globs");
    for home in homes {
        let fs = home.file_system().unwrap();
        for name in ["out/_SUCCESS", "out/part-0", "out/part-1", "day-1/x", "day-2/x/y", "[odd]*"] {
            write(&*fs, &home.join(name), "");
        }
        let found = |pattern: &str| -> Vec<String> {
            let found = expand(&*fs, &home.join(pattern)).unwrap();
            let below =
                |uri: &Uri| uri.path().strip_prefix(home.path()).unwrap().to_str().unwrap().to_owned();
            found.iter().map(|status| below(&status.uri)).collect()
        };
        assert_eq!(found("out/*"), ["out/_SUCCESS", "out/part-0", "out/part-1"]);
        assert_eq!(found("out/part-[1-9]"), ["out/part-1"]);
        assert_eq!(found("*/x"), ["day-1/x", "day-2/x"]);
        assert_eq!(found("{day-2,out}"), ["day-2", "out"]);
        assert_eq!(found("[odd]*"), ["[odd]*"]);
        assert_eq!(found(r"\[odd\]\*"), ["[odd]*"]);
        assert_eq!(found("**/y"), ["day-2/x/y"]);
        assert!(matches!(expand(&*fs, &home.join("none-*")), Err(ExpandError::NoMatch { .. })));
        assert!(matches!(expand(&*fs, &home.join("none")), Err(ExpandError::Fs(_))));
        assert!(matches!(expand(&*fs, &home.join("[x")), Err(ExpandError::BadPattern { .. })));
    }
}

#[test]
fn refusals_are_one_sentence() {
    let uri = Uri::parse("memory://said/none").unwrap();
    let said = uri.file_system().unwrap().stat(&uri).unwrap_err().to_string();
    assert_eq!(said, "cannot look at memory://said/none: no such file or directory");
}

/// What a model of flat names says after each step; directories are left out of it.
#[derive(Clone, Debug)]
enum Step {
    Write(u8, u8),
    Move(u8, u8),
    Delete(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4_u8, any::<u8>()).prop_map(|(name, text)| Step::Write(name, text)),
        (0..4_u8, 0..4_u8).prop_map(|(from, to)| Step::Move(from, to)),
        (0..4_u8).prop_map(Step::Delete),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn any_steps_do_what_a_map_of_names_does(steps in steps()) {
        let home = Uri::parse("memory://model/d").unwrap();
        let fs = home.file_system().unwrap();
        fs.make_directory(&home, true).unwrap();
        for entry in fs.list(&home).unwrap() {
            fs.delete(&entry.unwrap().uri, FOR_GOOD).unwrap();
        }
        let mut model = std::collections::BTreeMap::new();
        let at = |name: u8| home.join(name.to_string());
        for step in steps {
            match step {
                Step::Write(name, text) => {
                    write(&*fs, &at(name), &text.to_string());
                    model.insert(name, text);
                }
                Step::Move(from, to) => {
                    let moved = fs.rename(&at(from), &at(to), false).is_ok();
                    prop_assert_eq!(moved, model.contains_key(&from) && !model.contains_key(&to));
                    if moved {
                        let text = model.remove(&from).unwrap();
                        model.insert(to, text);
                    }
                }
                Step::Delete(name) => {
                    prop_assert_eq!(fs.delete(&at(name), FOR_GOOD).is_ok(), model.remove(&name).is_some());
                }
            }
        }
        let expected: Vec<String> = model.keys().map(u8::to_string).collect();
        prop_assert_eq!(names(&*fs, &home), expected);
        for (name, text) in model {
            prop_assert_eq!(read(&*fs, &at(name)), text.to_string());
        }
    }
}
