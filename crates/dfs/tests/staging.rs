//! How an output appears, and how it does not.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use gristmill_dfs::{Existing, LocalStore, SUCCESS_FILE, StageError, StagedFile, Staging, Store, Uri};
use tempfile::TempDir;

fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn stage(output: &Path, existing: Existing) -> Result<Box<dyn Staging>, StageError> {
    LocalStore.stage(&Uri::local(output), "job-1", existing)
}

/// Begins an output where none is.
fn stage_new(output: &Path) -> Box<dyn Staging> {
    stage(output, Existing::Refuse).unwrap()
}

fn write(staging: &dyn Staging, attempt: &str, name: &str, body: &str) -> StagedFile {
    let mut writer = staging.create(attempt, name).unwrap();
    writer.write_all(body.as_bytes()).unwrap();
    writer.finish().unwrap()
}

/// What went wrong, in words.
fn said<T>(result: Result<T, StageError>) -> String {
    result.err().expect("it should have failed").to_string()
}

/// Everything below `home`, hidden or not, with what is in it.
fn tree(home: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    for entry in fs::read_dir(home).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            seen.push(format!("{name}/"));
            seen.extend(tree(&path).iter().map(|below| format!("{name}/{below}")));
        } else {
            seen.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
        }
    }
    seen.sort();
    seen
}

#[test]
fn an_output_appears_whole_and_nothing_else_is_left() {
    let home = home();
    let output = home.path().join("out");
    let staging = stage_new(&output);
    let files =
        [write(&*staging, "a1", "part-r-00000", "one"), write(&*staging, "a2", "day=1/part-r-00001", "two")];
    assert!(!output.exists());
    staging.publish(&files, b"{}").unwrap();
    staging.conclude().unwrap();
    let expected =
        ["out/", "out/_SUCCESS={}", "out/day=1/", "out/day=1/part-r-00001=two", "out/part-r-00000=one"];
    assert_eq!(tree(home.path()), expected);
}

#[test]
fn a_finished_file_tells_who_wrote_it_and_how_long_it_is() {
    let home = home();
    let staging = stage_new(&home.path().join("out"));
    let file = write(&*staging, "a1", "part", "seven b");
    assert_eq!(
        file,
        StagedFile { attempt: "a1".to_owned(), name: "part".to_owned(), bytes: 7, receipt: String::new() }
    );
}

#[test]
fn only_winners_are_published() {
    let home = home();
    let staging = stage_new(&home.path().join("out"));
    let slow = write(&*staging, "slow", "part", "slow");
    let fast = write(&*staging, "fast", "part", "fast");
    let discarded = write(&*staging, "lost", "other", "lost");
    staging.discard(&discarded).unwrap();
    staging.discard(&discarded).unwrap();
    staging.publish(&[fast], b"").unwrap();
    staging.conclude().unwrap();
    assert_eq!(tree(home.path()), ["out/", "out/_SUCCESS=", "out/part=fast"]);
    assert_eq!(slow.attempt, "slow");
}

#[test]
fn a_discarded_file_cannot_be_published() {
    let home = home();
    let output = home.path().join("out");
    let staging = stage_new(&output);
    let file = write(&*staging, "a1", "part", "x");
    staging.discard(&file).unwrap();
    assert!(matches!(staging.publish(&[file], b""), Err(StageError::Move { .. })));
    assert!(!output.exists());
}

#[test]
fn an_unfinished_file_vanishes_with_its_writer() {
    let home = home();
    let staging = stage_new(&home.path().join("out"));
    let mut writer = staging.create("a1", "part").unwrap();
    writer.write_all(b"half").unwrap();
    assert!(tree(home.path()).iter().any(|line| line.ends_with("part=half")));
    drop(writer);
    assert!(!tree(home.path()).iter().any(|line| line.contains("part")));
}

#[test]
fn an_aborted_output_leaves_its_surroundings_as_they_were() {
    let home = home();
    fs::write(home.path().join("neighbour"), "n").unwrap();
    let before = tree(home.path());
    let staging = stage_new(&home.path().join("not/yet/out"));
    let file = write(&*staging, "a1", "part", "x");
    let _unfinished = staging.create("a1", "other").unwrap();
    assert_ne!(tree(home.path()), before);
    staging.abort().unwrap();
    assert_eq!(tree(home.path()), before);
    staging.abort().unwrap();
    assert!(matches!(staging.create("a1", "late"), Err(StageError::Ended { .. })));
    assert!(matches!(staging.publish(&[file], b""), Err(StageError::Ended { .. })));
    assert_eq!(tree(home.path()), before);
}

#[test]
fn a_dropped_output_is_aborted() {
    let home = home();
    let staging = stage_new(&home.path().join("out"));
    write(&*staging, "a1", "part", "x");
    drop(staging);
    assert_eq!(tree(home.path()), [""; 0]);
}

#[test]
fn missing_parents_are_made_when_the_output_appears() {
    let home = home();
    let staging = stage_new(&home.path().join("a/b/out"));
    assert!(!home.path().join("a").exists());
    staging.publish(&[], b"").unwrap();
    staging.conclude().unwrap();
    assert_eq!(tree(home.path()), ["a/", "a/b/", "a/b/out/", "a/b/out/_SUCCESS="]);
}

#[test]
fn an_empty_directory_may_become_the_output() {
    let home = home();
    let output = home.path().join("out");
    fs::create_dir(&output).unwrap();
    stage_new(&output).publish(&[], b"m").unwrap();
    assert_eq!(tree(home.path()), ["out/", "out/_SUCCESS=m"]);
}

#[test]
fn an_output_that_exists_is_refused() {
    let home = home();
    let (full, file) = (home.path().join("full"), home.path().join("file"));
    fs::create_dir(&full).unwrap();
    fs::write(full.join("part"), "old").unwrap();
    fs::write(&file, "old").unwrap();
    let before = tree(home.path());
    for output in [full, file] {
        let expected = format!(
            "cannot write {}: it exists and is not an empty directory (--overwrite replaces it, --append adds to it)",
            output.display()
        );
        assert_eq!(said(stage(&output, Existing::Refuse)), expected);
    }
    assert_eq!(tree(home.path()), before);
}

#[test]
fn an_overwritten_output_stays_until_the_new_one_appears() {
    for old in ["out", "out/part-old"] {
        let home = home();
        let output = home.path().join("out");
        fs::create_dir_all(home.path().join(old).parent().unwrap()).unwrap();
        fs::write(home.path().join(old), "old").unwrap();
        let before = tree(home.path());

        let aborted = stage(&output, Existing::Overwrite).unwrap();
        write(&*aborted, "a1", "part", "x");
        assert_eq!(fs::read_to_string(home.path().join(old)).unwrap(), "old");
        aborted.abort().unwrap();
        assert_eq!(tree(home.path()), before);

        let staging = stage(&output, Existing::Overwrite).unwrap();
        let file = write(&*staging, "a1", "part", "new");
        assert_eq!(fs::read_to_string(home.path().join(old)).unwrap(), "old");
        staging.publish(&[file], b"").unwrap();
        staging.conclude().unwrap();
        assert_eq!(tree(home.path()), ["out/", "out/_SUCCESS=", "out/part=new"]);
    }
}

#[test]
fn overwriting_nothing_is_writing() {
    let home = home();
    stage(&home.path().join("out"), Existing::Overwrite).unwrap().publish(&[], b"").unwrap();
    assert_eq!(tree(home.path()), ["out/", "out/_SUCCESS="]);
}

#[test]
fn an_output_that_appeared_meanwhile_is_not_replaced() {
    let home = home();
    let output = home.path().join("out");
    let staging = stage_new(&output);
    let file = write(&*staging, "a1", "part", "mine");
    fs::create_dir(&output).unwrap();
    fs::write(output.join("part"), "theirs").unwrap();
    assert!(matches!(staging.publish(&[file], b""), Err(StageError::OutputExists { .. })));
    staging.abort().unwrap();
    assert_eq!(tree(home.path()), ["out/", "out/part=theirs"]);
}

#[test]
fn of_two_jobs_racing_for_one_output_one_wins_whole() {
    let home = home();
    let output = Uri::local(home.path().join("a/out"));
    let race = |job: &str| {
        let staging = LocalStore.stage(&output, job, Existing::Refuse)?;
        let file = write(&*staging, "a1", "part", job);
        staging.publish(&[file], job.as_bytes())
    };
    let outcomes = thread::scope(|scope| {
        ["j1", "j2"].map(|job| scope.spawn(move || race(job))).map(|racer| racer.join().unwrap())
    });
    let winner = if outcomes[0].is_ok() { "j1" } else { "j2" };
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let expected = [format!("a/out/_SUCCESS={winner}"), format!("a/out/part={winner}")];
    assert_eq!(tree(home.path()), [&["a/".to_owned(), "a/out/".to_owned()], &expected[..]].concat());
}

#[test]
fn an_output_below_a_file_is_refused_in_one_sentence() {
    let home = home();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    for output in [file.join("out"), file.join("x/out")] {
        let expected = format!(
            "cannot write {}: cannot make a directory in {}: Not a directory (os error 20)",
            output.display(),
            file.display()
        );
        assert_eq!(said(stage(&output, Existing::Refuse)), expected);
    }
}

#[test]
fn an_output_without_a_name_of_its_own_is_refused() {
    for output in ["/", ".", "a/..", "a/."] {
        let refused = stage(Path::new(output), Existing::Overwrite);
        assert!(matches!(refused, Err(StageError::NamelessOutput { .. })), "{output}");
    }
}

#[test]
fn a_mount_point_is_refused_before_the_work_is_done() {
    let expected = "cannot write /proc: it is a mount point; name a directory below it";
    assert_eq!(said(stage(Path::new("/proc"), Existing::Overwrite)), expected);
}

#[test]
fn an_output_behind_a_link_appears_where_the_link_leads() {
    let home = home();
    fs::create_dir(home.path().join("real")).unwrap();
    symlink("real", home.path().join("link")).unwrap();
    stage_new(&home.path().join("link")).publish(&[], b"").unwrap();
    assert!(home.path().join("link").is_symlink());
    assert!(home.path().join("real").join(SUCCESS_FILE).exists());
}

#[test]
fn names_stay_below_the_output() {
    let home = home();
    let staging = stage_new(&home.path().join("out"));
    for name in ["", "/abs", "../up", "a/../b", "a//b", "./a", "a/", "_SUCCESS", "_SUCCESS/a", "a\0"] {
        assert!(matches!(staging.create("a1", name), Err(StageError::BadName { .. })), "{name:?}");
    }
    for attempt in ["", "..", "a/b"] {
        assert!(matches!(staging.create(attempt, "part"), Err(StageError::BadName { .. })), "{attempt:?}");
        let forged = StagedFile {
            attempt: attempt.to_owned(),
            name: "part".to_owned(),
            bytes: 0,
            receipt: String::new(),
        };
        assert!(matches!(staging.discard(&forged), Err(StageError::BadName { .. })), "{attempt:?}");
    }
    let job = LocalStore.stage(&Uri::local(home.path()).join("x"), "../j", Existing::Refuse);
    assert_eq!(said(job), r#"cannot stage "../j": not a plain relative name"#);
}

#[test]
fn an_attempt_creates_a_name_once() {
    let home = home();
    let staging = stage_new(&home.path().join("out"));
    let file = write(&*staging, "a1", "part", "first");
    assert!(matches!(staging.create("a1", "part"), Err(StageError::Create { .. })));
    staging.publish(&[file], b"").unwrap();
    staging.conclude().unwrap();
    assert_eq!(fs::read_to_string(home.path().join("out/part")).unwrap(), "first");
}

#[test]
fn two_winners_of_one_name_are_refused() {
    let home = home();
    let output = home.path().join("out");
    let staging = stage_new(&output);
    let files = ["a1", "a2"].map(|attempt| write(&*staging, attempt, "part", attempt));
    let expected = format!("cannot publish {}: two files are named part", output.display());
    assert_eq!(said(staging.publish(&files, b"")), expected);
    drop(staging);
    assert_eq!(tree(home.path()), [""; 0]);
}

#[test]
fn the_next_job_sweeps_what_a_dead_one_left_and_spares_the_living() {
    let home = home();
    let dead = home.path().join(".gristmill-dead-out");
    fs::create_dir_all(dead.join("attempts/a1")).unwrap();
    fs::write(dead.join("attempts/a1/part"), "half").unwrap();
    fs::write(dead.join("lock"), "").unwrap();
    let output = |name| Uri::local(home.path().join(name));
    let living = LocalStore.stage(&output("one"), "job-1", Existing::Refuse).unwrap();
    assert!(!dead.exists());
    let file = write(&*living, "a1", "part", "one");
    let other = LocalStore.stage(&output("two"), "job-2", Existing::Refuse).unwrap();
    living.publish(&[file], b"").unwrap();
    living.conclude().unwrap();
    other.abort().unwrap();
    assert_eq!(tree(home.path()), ["one/", "one/_SUCCESS=", "one/part=one"]);
}

#[test]
fn a_job_that_died_may_be_run_again() {
    let home = home();
    let left = home.path().join(".gristmill-job-1-out");
    fs::create_dir_all(left.join("out")).unwrap();
    fs::write(left.join("lock"), "").unwrap();
    stage_new(&home.path().join("out")).publish(&[], b"").unwrap();
    assert_eq!(tree(home.path()), ["out/", "out/_SUCCESS="]);
}

#[test]
fn what_is_being_staged_is_not_listed() {
    let home = home();
    fs::write(home.path().join("input"), "").unwrap();
    let staging = stage_new(&home.path().join("out"));
    write(&*staging, "a1", "part", "x");
    let listed = LocalStore.list(&Uri::local(home.path()), 1).unwrap();
    assert_eq!(listed.iter().map(|file| file.uri.name().to_owned()).collect::<Vec<_>>(), ["input"]);
}

/// Another output of the job could not be published, so this one goes back to where it was.
#[test]
fn a_retracted_output_was_never_there() {
    for before in [None, Some("old")] {
        let home = tempfile::tempdir().unwrap();
        let output = home.path().join("a/out");
        if let Some(old) = before {
            fs::create_dir_all(&output).unwrap();
            fs::write(output.join("part"), old).unwrap();
        }
        let surroundings = tree(home.path());
        let staging = stage(&output, Existing::Overwrite).unwrap();
        let file = write(&*staging, "a1", "part", "new");
        staging.publish(&[file], b"").unwrap();
        assert_eq!(fs::read_to_string(output.join("part")).unwrap(), "new");
        staging.retract().unwrap();
        staging.abort().unwrap();
        assert_eq!(tree(home.path()), surroundings);
        assert!(matches!(staging.retract(), Err(StageError::Ended { .. })));
    }
}

#[test]
fn a_published_output_stays_when_nobody_concludes_it() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("out");
    stage_new(&output).publish(&[], b"m").unwrap();
    assert_eq!(tree(home.path()), ["out/", "out/_SUCCESS=m"]);
}
