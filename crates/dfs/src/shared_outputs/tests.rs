//! Whatever fails, and whenever: of a job's outputs all are visible or none, and nothing else is left.

use std::io::Write;

use super::*;
use crate::failing::{Blow, FailingFileSystem, set_cannot_exchange, strike};
use crate::file_system::{DeleteOptions, FileSystem};
use crate::local::LocalStore;
use crate::store::{SUCCESS_FILE, Store};

const MANIFEST: &[u8] = b"{\"job\":7}";
const JOB: JobId = JobId([7; 16]);

/// Where one run of a story happens, with three things there before.
struct World {
    _directory: tempfile::TempDir,
    existing: Existing,
    homes: Vec<Uri>,
    outputs: Vec<Uri>,
}

/// Which outputs a job has: `l` of this machine, `m` of a file system that publishes atomically; a capital letter is one
/// that replaces another. Of a job that appends, they are `a` and `p`, and a capital letter is one that is added to.
fn world(kinds: &str) -> World {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().file_name().unwrap().to_str().unwrap().to_owned();
    let homes = vec![
        Uri::local(directory.path().join("home")),
        Uri::parse(&format!("memory://shared-{place}/home")).unwrap(),
    ];
    let mut outputs = Vec::new();
    for home in &homes {
        put(&home.join("neighbour"), "n");
    }
    for (number, kind) in kinds.chars().enumerate() {
        let home = &homes[usize::from("mp".contains(kind.to_ascii_lowercase()))];
        if kind.is_uppercase() {
            let output = home.join(format!("there-{number}"));
            put(&output.join("old"), "before");
            put(&output.join(SUCCESS_FILE), "{}");
            outputs.push(output);
        } else {
            outputs.push(home.join(format!("not-{number}/yet/out")));
        }
    }
    let existing = Existing::of(true, kinds.to_ascii_lowercase().contains(['a', 'p']));
    World { _directory: directory, existing, homes, outputs }
}

impl World {
    /// The outputs with calls that may fail.
    fn shared(&self) -> SharedOutputs {
        let numbered = |number: usize| Numbered { number, uri: self.outputs[number].clone() };
        let (local, memory): (Vec<_>, Vec<_>) =
            (0..self.outputs.len()).partition(|number| self.outputs[*number].is_local());
        let mut groups = Vec::new();
        for number in local {
            let staging = SharedLocal::new(numbered(number), JOB, self.existing);
            groups.push(Group { outputs: vec![number], staging: Box::new(staging) });
        }
        if !memory.is_empty() {
            let Place::Memory { name } = self.homes[1].place() else { panic!("it is in memory") };
            let fs = FailingFileSystem(MemoryFileSystem::named(name, "ann"));
            let outputs = memory.iter().map(|number| numbered(*number)).collect();
            let staging = SharedTree::new(fs, outputs, JOB, self.existing);
            groups.push(Group { outputs: memory, staging: Box::new(staging) });
        }
        SharedOutputs { outputs: self.outputs.clone(), job: JOB, groups }
    }

    /// Two attempts write to each output, and one writes what will not be published.
    fn write(&self) -> Vec<(usize, StagedFile)> {
        let mut files = Vec::new();
        for (number, staging) in self.shared().join().unwrap().iter().enumerate() {
            let [part_0, part_1] = ["part-0", "day=1/part-1"].map(|name| match self.existing {
                Existing::Append => format!("{name}-{JOB}"),
                _ => name.to_owned(),
            });
            files.push((number, write(&**staging, "s0-t00000-a0", &part_0, "zero")));
            files.push((number, write(&**staging, "s0-t00001-a1", &part_1, "one")));
            write(&**staging, "s0-t00001-a0", &part_1, "slow");
        }
        files
    }

    /// All that is there, hidden or not.
    fn seen(&self) -> Vec<String> {
        let mut seen = Vec::new();
        for home in &self.homes {
            grow(&*home.file_system().unwrap(), home, &mut seen);
        }
        let shown = |text: String| text.replace(&self.homes[0].to_string(), "local");
        seen.into_iter().map(shown).collect()
    }
}

fn grow(fs: &dyn FileSystem, at: &Uri, seen: &mut Vec<String>) {
    for entry in fs.list(at).unwrap() {
        let entry = entry.unwrap();
        let name = entry.uri.to_string();
        let name = name.split_once("home").map_or(name.as_str(), |(_, below)| below).to_owned();
        if entry.is_directory() {
            seen.push(format!("{name}/"));
            grow(fs, &entry.uri, seen);
        } else {
            let mut bytes = vec![0; entry.bytes as usize];
            fs.open(&entry.uri).unwrap().read_at(&mut bytes, 0).unwrap();
            seen.push(format!("{name}={}", String::from_utf8(bytes).unwrap()));
        }
    }
}

fn put(uri: &Uri, text: &str) {
    let mut writer = uri.file_system().unwrap().create(uri, &Default::default()).unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    writer.finish().unwrap();
}

fn write(staging: &dyn Staging, attempt: &str, name: &str, body: &str) -> StagedFile {
    let mut writer = staging.create(attempt, name).unwrap();
    writer.write_all(body.as_bytes()).unwrap();
    writer.finish().unwrap()
}

/// What is there without the job, and when it has published.
fn without_and_with(kinds: &str) -> [Vec<String>; 2] {
    let world = world(kinds);
    let before = world.seen();
    let shared = world.shared();
    shared.begin().unwrap();
    let files = world.write();
    shared.publish(&files, MANIFEST).unwrap();
    [before, world.seen()]
}

const STORIES: [&str; 14] = ["m", "M", "mM", "l", "L", "lL", "Ml", "LmlM", "p", "P", "a", "A", "PA", "aAp"];

/// Each story, where names can be exchanged and where not.
fn each_story(tell: impl Fn(&str)) {
    for kinds in STORIES {
        for cannot in [false, true] {
            set_cannot_exchange(cannot);
            tell(kinds);
            set_cannot_exchange(false);
        }
    }
}

/// A job that is about to publish.
fn staged(kinds: &str) -> (World, SharedOutputs, Vec<(usize, StagedFile)>) {
    let world = world(kinds);
    let shared = world.shared();
    shared.begin().unwrap();
    let files = world.write();
    (world, shared, files)
}

#[test]
fn all_outputs_appear_with_what_won_and_nothing_else_is_left() {
    let [before, after] = without_and_with("Lm");
    let expected = [
        "/neighbour=n",
        "/there-0/",
        "/there-0/_SUCCESS={\"job\":7}",
        "/there-0/day=1/",
        "/there-0/day=1/part-1=one",
        "/there-0/part-0=zero",
        "/neighbour=n",
        "/not-1/",
        "/not-1/yet/",
        "/not-1/yet/out/",
        "/not-1/yet/out/_SUCCESS={\"job\":7}",
        "/not-1/yet/out/day=1/",
        "/not-1/yet/out/day=1/part-1=one",
        "/not-1/yet/out/part-0=zero",
    ];
    assert_eq!(after, expected);
    assert!(before.contains(&"/there-0/old=before".to_owned()));
}

#[test]
fn appended_files_appear_beside_those_that_are_there() {
    for kind in ["A", "P"] {
        let [mut before, mut after] = without_and_with(kind);
        let own = |line: &String| line.contains(&JOB.to_string()) || line.ends_with("day=1/");
        let new: Vec<String> = after.extract_if(.., |line| own(line)).collect();
        let expected = ["_SUCCESS", "day=1/", "day=1/part-1", "part-0"];
        for name in expected {
            assert!(new.iter().any(|line| line.starts_with(&format!("/there-0/{name}"))), "{kind}: {new:?}");
        }
        assert_eq!(new.len(), expected.len(), "{new:?}");
        before.sort();
        after.sort();
        assert_eq!(after, before, "{kind}: nothing else has changed");
    }
}

#[test]
fn jobs_that_append_one_after_the_other_add_up_and_a_replay_of_the_first_finds_its_own() {
    for kind in ["A", "P"] {
        let (world, shared, files) = staged(kind);
        shared.publish(&files, MANIFEST).unwrap();
        let second = JobId([8; 16]);
        let other = || SharedOutputs::new(&world.outputs, second, Existing::Append, None).unwrap();
        other().begin().unwrap();
        let name = format!("part-0-{second}");
        let file = write(&*other().join().unwrap().remove(0), "s0-t00000-a0", &name, "two");
        other().publish(&[(0, file)], b"{\"job\":8}").unwrap();
        let seen = world.seen();
        for part in ["old=before".to_owned(), format!("part-0-{JOB}=zero"), format!("{name}=two")] {
            assert!(seen.iter().any(|line| line.ends_with(&part)), "{kind}: {part} of {seen:?}");
        }
        // A master that died before it knew that all was done comes back now.
        world.shared().publish(&files, MANIFEST).unwrap();
        assert_eq!(world.seen(), seen);
    }
}

#[test]
fn nothing_is_appended_to_a_file_or_over_a_file() {
    for home in 0..2 {
        let world = world("l");
        let output = world.homes[home].join("taken");
        let appending =
            || SharedOutputs::new(std::slice::from_ref(&output), JOB, Existing::Append, None).unwrap();
        put(&output, "a file");
        assert!(matches!(appending().begin(), Err(StageError::NotADirectory { .. })));
        let fs = output.file_system().unwrap();
        fs.delete(&output, DeleteOptions { recursive: false, skip_trash: true }).unwrap();
        appending().begin().unwrap();
        let file = write(&*appending().join().unwrap().remove(0), "a", "part-0", "mine");
        put(&output.join("part-0"), "another's");
        let refused = appending().publish(&[(0, file)], MANIFEST).unwrap_err();
        let is_said = matches!(refused, StageError::NameTaken { .. } | StageError::OutputExists { .. });
        assert!(is_said, "{refused}");
        appending().abort().unwrap();
        assert!(world.seen().iter().any(|line| line.ends_with("/taken/part-0=another's")));
        assert!(!world.seen().iter().any(|line| line.contains(".gristmill-")));
    }
}

#[test]
fn a_publication_that_dies_anywhere_is_brought_to_its_end() {
    each_story(|kinds| {
        let [_, after] = without_and_with(kinds);
        for calls in 0.. {
            let (world, shared, files) = staged(kinds);
            let (_, struck) = strike(calls, Blow::Death, || shared.publish(&files, MANIFEST));
            // The next life dies too, a little later or earlier.
            strike(calls % 7, Blow::Death, || world.shared().publish(&files, MANIFEST)).0.ok();
            world.shared().publish(&files, MANIFEST).unwrap();
            assert_eq!(world.seen(), after, "{kinds}, after {calls} calls");
            world.shared().publish(&files, MANIFEST).unwrap();
            world.shared().abort().unwrap();
            assert_eq!(world.seen(), after, "{kinds}, after {calls} calls, and an abort");
            if !struck {
                assert!(calls > 7, "{kinds}: {calls} calls");
                break;
            }
        }
    });
}

#[test]
fn a_publication_that_dies_anywhere_can_be_aborted() {
    each_story(|kinds| {
        let [before, after] = without_and_with(kinds);
        let mut ends = [0, 0];
        for calls in 0.. {
            let (world, shared, files) = staged(kinds);
            let (_, struck) = strike(calls, Blow::Death, || shared.publish(&files, MANIFEST));
            strike(calls % 5, Blow::Death, || world.shared().abort()).0.ok();
            world.shared().abort().unwrap();
            let seen = world.seen();
            let end = [&before, &after].iter().position(|end| **end == seen);
            ends[end.unwrap_or_else(|| panic!("{kinds}, after {calls} calls: {seen:#?}"))] += 1;
            world.shared().abort().unwrap();
            assert_eq!(world.seen(), seen, "{kinds}, after {calls} calls");
            if !struck {
                break;
            }
        }
        assert!(ends[0] > 5 && ends[1] > 0, "{kinds}: {ends:?}");
    });
}

#[test]
fn a_publication_that_fails_has_published_nothing() {
    each_story(|kinds| {
        let [before, after] = without_and_with(kinds);
        for blow in [Blow::Failure, Blow::LostAnswer] {
            for calls in 0.. {
                let (world, shared, files) = staged(kinds);
                let (published, struck) = strike(calls, blow, || shared.publish(&files, MANIFEST));
                let is_published = matches!(published, Ok(()) | Err(StageError::LeftOver { .. }));
                let expected = if is_published { &after } else { &before };
                let seen = |world: &World| {
                    world.seen().into_iter().filter(|line| !line.contains(".gristmill-")).collect::<Vec<_>>()
                };
                let (what, how) = (seen(&world), format!("{kinds}, {blow:?} after {calls} calls"));
                if published.is_ok() {
                    assert_eq!(&world.seen(), expected, "{how}: it says that nothing is left");
                } else if is_published {
                    assert_eq!(&what, expected, "{how}");
                    world.shared().publish(&files, MANIFEST).unwrap();
                } else {
                    world.shared().abort().unwrap();
                }
                assert_eq!(&world.seen(), expected, "{how}: {published:?}");
                if !struck {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_beginning_that_dies_anywhere_is_begun_again_or_aborted() {
    each_story(|kinds| {
        let [before, after] = without_and_with(kinds);
        for calls in 0.. {
            let world = world(kinds);
            let (_, struck) = strike(calls, Blow::Death, || world.shared().begin());
            strike(calls % 3, Blow::Death, || world.shared().abort()).0.ok();
            world.shared().abort().unwrap();
            assert_eq!(world.seen(), before, "{kinds}, after {calls} calls");
            strike(calls, Blow::Death, || world.shared().begin()).0.ok();
            world.shared().begin().unwrap();
            world.shared().begin().unwrap();
            let files = world.write();
            world.shared().publish(&files, MANIFEST).unwrap();
            assert_eq!(world.seen(), after, "{kinds}, after {calls} calls");
            if !struck {
                break;
            }
        }
    });
}

#[test]
fn whoever_comes_late_finds_no_place_to_write_in() {
    for publishes in [true, false] {
        let (world, shared, files) = staged("lm");
        let zombies = world.shared().join().unwrap();
        let open: Vec<_> = zombies.iter().map(|zombie| zombie.create("z", "open").unwrap()).collect();
        if publishes {
            shared.publish(&files, MANIFEST).unwrap();
        } else {
            shared.abort().unwrap();
        }
        let seen = world.seen();
        for (zombie, mut open) in zombies.iter().zip(open) {
            for (attempt, name) in [("z", "part-9"), ("y", "part-9"), ("z", "day=1/part-9")] {
                let error = zombie.create(attempt, name).err().expect("there is no place");
                assert!(matches!(error, StageError::Create { .. }), "{error}");
            }
            zombie.discard(&files[0].1).unwrap();
            // It may not notice at once, but what it writes is nowhere.
            let written = open.write_all(b"late").is_ok();
            assert!(open.finish().is_err() || written);
        }
        drop(zombies);
        assert_eq!(world.seen(), seen);
        assert!(matches!(world.shared().join().err(), Some(StageError::NotStaged { .. })));
    }
}

#[test]
fn an_attempt_creates_and_discards_and_nothing_else() {
    let (world, shared, files) = staged("lm");
    for staging in shared.join().unwrap() {
        assert!(matches!(staging.publish(&[], b""), Err(StageError::Ended { .. })));
        assert!(matches!(staging.abort(), Err(StageError::Ended { .. })));
        // Another process had this name.
        assert!(matches!(staging.create("s0-t00000-a0", "x"), Err(StageError::Create { .. })));
        assert!(matches!(staging.create("a", "../x"), Err(StageError::BadName { .. })));
        let lost = write(&*staging, "lost", "part-0", "lost");
        write(&*staging, "lost", "part-1", "two files of one attempt");
        staging.discard(&lost).unwrap();
        staging.discard(&lost).unwrap();
        drop(staging.create("dropped", "part-0").unwrap());
    }
    let seen = world.seen();
    assert!(!seen.iter().any(|line| line.contains("lost/part-0") || line.contains("dropped/part-0")));
    assert!(seen.iter().any(|line| line.ends_with("part-0=zero")), "dropping them removes nothing");
    world.shared().publish(&files, MANIFEST).unwrap();
}

#[test]
fn other_jobs_sweep_no_shared_staging() {
    let (world, _, files) = staged("lm");
    let before = world.seen();
    drop(LocalStore.stage(&world.homes[0].join("other"), "job-2", Existing::Refuse).unwrap());
    let other = world.homes[1].join("other");
    drop(other.store().unwrap().stage(&other, "job-2", Existing::Refuse).unwrap());
    assert_eq!(world.seen(), before);
    world.shared().publish(&files, MANIFEST).unwrap();
}

#[test]
fn an_output_that_is_there_is_refused_at_the_beginning_and_at_the_end() {
    for kinds in ["L", "M"] {
        let world = world(kinds);
        let refusing = || SharedOutputs::new(&world.outputs, JOB, Existing::Refuse, None).unwrap();
        let before = world.seen();
        assert!(matches!(refusing().begin(), Err(StageError::OutputExists { .. })), "{kinds}");
        assert_eq!(world.seen(), before);
        let fs = world.outputs[0].file_system().unwrap();
        fs.delete(&world.outputs[0], DeleteOptions { recursive: true, skip_trash: true }).unwrap();
        refusing().begin().unwrap();
        let files = world.write();
        put(&world.outputs[0].join("other"), "another's");
        let error = refusing().publish(&files, MANIFEST).unwrap_err();
        assert!(matches!(error, StageError::OutputExists { .. }), "{kinds}: {error}");
        refusing().abort().unwrap();
        assert!(world.seen().iter().any(|line| line.ends_with("other=another's")));
        assert!(!world.seen().iter().any(|line| line.contains(".gristmill-")));
    }
}

#[test]
fn what_cannot_be_published_is_said() {
    let (world, shared, files) = staged("m");
    let mut beyond = files.clone();
    beyond.push((1, files[0].1.clone()));
    let said = shared.publish(&beyond, MANIFEST).unwrap_err().to_string();
    assert_eq!(said, "cannot publish output 1 of a job that has 1");
    let mut twice = files.clone();
    twice.push(files[0].clone());
    assert!(matches!(shared.publish(&twice, MANIFEST), Err(StageError::DuplicateName { .. })));
    let mut gone = files.clone();
    gone[0].1.attempt = "never".to_owned();
    assert!(matches!(shared.publish(&gone, MANIFEST), Err(StageError::Move { .. })));
    shared.abort().unwrap();
    let said = shared.publish(&files, MANIFEST).unwrap_err().to_string();
    let job = JOB.to_string();
    let expected = format!(
        "cannot write {}: job {job} stages nothing for it (it has ended, or has not begun)",
        world.outputs[0]
    );
    assert_eq!(said, expected);
}

#[test]
fn more_files_than_one_transaction_moves_are_published_after_any_death() {
    let [_, after] = without_and_with("m");
    for calls in [5, 8, 9, 10, 11, 12, 13, 14, 15, 16] {
        let world = world("m");
        world.shared().begin().unwrap();
        let staging = &world.shared().join().unwrap()[0];
        let files: Vec<_> =
            (0..2500).map(|n| (0, write(&**staging, "a", &format!("part-{n:05}"), ""))).collect();
        strike(calls, Blow::Death, || world.shared().publish(&files, MANIFEST)).0.ok();
        world.shared().publish(&files, MANIFEST).unwrap();
        assert_eq!(world.seen().len(), after.len() - 3 + 2500, "after {calls} calls");
    }
}

#[test]
fn no_output_is_no_trouble() {
    let shared = SharedOutputs::new(&[], JOB, Existing::Refuse, None).unwrap();
    shared.begin().unwrap();
    assert!(shared.join().unwrap().is_empty());
    shared.publish(&[], MANIFEST).unwrap();
    shared.abort().unwrap();
}
