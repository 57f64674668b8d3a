//! How an output appears on a file system with atomic publication, and how it does not.

use std::io::Write;

use gristmill_dfs::file_system::{CreateOptions, DeleteOptions, FileSystem};
use gristmill_dfs::{
    Existing, FileInfo, ListError, SUCCESS_FILE, StageError, StagedFile, Staging, Stamp, Uri,
};

fn home(name: &str) -> Uri {
    let home = Uri::parse(&format!("memory://store-{name}/home")).unwrap();
    home.file_system().unwrap().make_directory(&home, true).unwrap();
    home
}

fn put(uri: &Uri, text: &str) {
    let mut writer = uri.file_system().unwrap().create(uri, &CreateOptions::default()).unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    writer.finish().unwrap();
}

fn stage(output: &Uri, existing: Existing) -> Result<Box<dyn Staging>, StageError> {
    output.store().unwrap().stage(output, "job-1", existing)
}

fn write(staging: &dyn Staging, attempt: &str, name: &str, body: &str) -> StagedFile {
    let mut writer = staging.create(attempt, name).unwrap();
    writer.write_all(body.as_bytes()).unwrap();
    writer.finish().unwrap()
}

/// Everything below `home`, hidden or not, with what is in it.
fn tree(home: &Uri) -> Vec<String> {
    let mut seen = Vec::new();
    grow(&*home.file_system().unwrap(), home, home, &mut seen);
    seen
}

fn grow(fs: &dyn FileSystem, home: &Uri, at: &Uri, seen: &mut Vec<String>) {
    for entry in fs.list(at).unwrap() {
        let entry = entry.unwrap();
        let name = entry.uri.path().strip_prefix(home.path()).unwrap().to_str().unwrap().to_owned();
        if entry.is_directory() {
            seen.push(format!("{name}/"));
            grow(fs, home, &entry.uri, seen);
        } else {
            let mut bytes = vec![0; entry.bytes as usize];
            fs.open(&entry.uri).unwrap().read_at(&mut bytes, 0).unwrap();
            seen.push(format!("{name}={}", String::from_utf8(bytes).unwrap()));
        }
    }
}

fn said<T>(result: Result<T, StageError>) -> String {
    result.err().expect("it should have failed").to_string()
}

#[test]
fn an_output_appears_whole_and_nothing_else_is_left() {
    let home = home("whole");
    put(&home.join("neighbour"), "n");
    let output = home.join("not/yet/out");
    let staging = stage(&output, Existing::Refuse).unwrap();
    let files = [write(&*staging, "a1", "part-r-00000", "one"), write(&*staging, "a2", "day=1/part", "two")];
    let lost = write(&*staging, "a3", "part-r-00000", "slow");
    assert_eq!(
        files[0],
        StagedFile {
            attempt: "a1".to_owned(),
            name: "part-r-00000".to_owned(),
            bytes: 3,
            receipt: String::new()
        }
    );
    assert!(output.file_system().unwrap().stat(&output).is_err());
    staging.discard(&lost).unwrap();
    staging.discard(&lost).unwrap();
    staging.publish(&files, b"{}").unwrap();
    staging.conclude().unwrap();
    let expected = [
        "neighbour=n",
        "not/",
        "not/yet/",
        "not/yet/out/",
        "not/yet/out/_SUCCESS={}",
        "not/yet/out/day=1/",
        "not/yet/out/day=1/part=two",
        "not/yet/out/part-r-00000=one",
    ];
    assert_eq!(tree(&home), expected);
}

#[test]
fn more_files_than_one_transaction_moves_are_published_too() {
    let home = home("many");
    let staging = stage(&home.join("out"), Existing::Refuse).unwrap();
    let files: Vec<_> = (0..2500).map(|n| write(&*staging, "a", &format!("part-{n:05}"), "")).collect();
    staging.publish(&files, b"").unwrap();
    drop(staging);
    assert_eq!(home.file_system().unwrap().summarize(&home.join("out")).unwrap().files, 2501);
}

#[test]
fn an_aborted_or_forgotten_output_leaves_its_surroundings_as_they_were() {
    let home = home("aborted");
    put(&home.join("neighbour"), "n");
    let staging = stage(&home.join("a/out"), Existing::Refuse).unwrap();
    write(&*staging, "a1", "part", "x");
    let unfinished = staging.create("a1", "other").unwrap();
    staging.abort().unwrap();
    staging.abort().unwrap();
    drop(unfinished);
    assert!(said(staging.create("a1", "more").map(drop)).contains("already published or aborted"));
    drop(stage(&home.join("b/out"), Existing::Refuse).unwrap());
    assert_eq!(tree(&home), ["neighbour=n"]);
}

#[test]
fn an_unfinished_file_vanishes_with_its_writer() {
    let home = home("unfinished");
    let staging = stage(&home.join("out"), Existing::Refuse).unwrap();
    let mut writer = staging.create("a1", "part").unwrap();
    writer.write_all(b"half").unwrap();
    assert!(tree(&home).iter().any(|line| line.contains("a1/part")));
    drop(writer);
    assert!(!tree(&home).iter().any(|line| line.contains("a1/part")));
}

#[test]
fn what_is_there_is_refused_or_replaced() {
    let home = home("there");
    let output = home.join("out");
    put(&output.join("old"), "before");
    let expected = format!(
        "cannot write {output}: it exists and is not an empty directory (--overwrite replaces it, --append adds to it)"
    );
    assert_eq!(said(stage(&output, Existing::Refuse)), expected);
    let staging = stage(&output, Existing::Overwrite).unwrap();
    let file = write(&*staging, "a", "part", "new");
    staging.publish(&[file], b"").unwrap();
    staging.conclude().unwrap();
    assert_eq!(tree(&home), ["out/", "out/_SUCCESS=", "out/part=new"]);
}

#[test]
fn an_empty_directory_is_nothing() {
    let home = home("empty");
    let output = home.join("out");
    output.file_system().unwrap().make_directory(&output, true).unwrap();
    let staging = stage(&output, Existing::Refuse).unwrap();
    staging.publish(&[], b"").unwrap();
    drop(staging);
    assert_eq!(tree(&home), ["out/", "out/_SUCCESS="]);
}

#[test]
fn an_output_that_appears_meanwhile_is_not_lost() {
    let home = home("meanwhile");
    let output = home.join("out");
    let staging = stage(&output, Existing::Refuse).unwrap();
    let file = write(&*staging, "a", "part", "new");
    put(&output.join("other"), "another's");
    assert!(matches!(staging.publish(&[file], b""), Err(StageError::OutputExists { .. })));
    staging.abort().unwrap();
    assert_eq!(tree(&home), ["out/", "out/other=another's"]);
}

#[test]
fn a_published_output_can_be_taken_back_until_it_is_concluded() {
    let home = home("retracted");
    let (fresh, replacing) = (home.join("a/b/out"), home.join("old"));
    put(&replacing.join("x"), "before");
    let before = tree(&home);
    for (output, existing) in [(&fresh, Existing::Refuse), (&replacing, Existing::Overwrite)] {
        let staging = stage(output, existing).unwrap();
        let file = write(&*staging, "a", "part", "new");
        staging.publish(&[file], b"").unwrap();
        assert!(output.file_system().unwrap().stat(&output.join(SUCCESS_FILE)).is_ok());
        staging.retract().unwrap();
        staging.abort().unwrap();
        assert!(matches!(staging.retract(), Err(StageError::Ended { .. })));
        assert_eq!(tree(&home), before);
    }
}

#[test]
fn parents_that_others_use_stay() {
    let home = home("parents");
    let staging = stage(&home.join("a/b/out"), Existing::Refuse).unwrap();
    staging.publish(&[], b"").unwrap();
    put(&home.join("a/other"), "o");
    staging.retract().unwrap();
    staging.abort().unwrap();
    assert_eq!(tree(&home), ["a/", "a/other=o"]);
}

#[test]
fn one_process_at_a_time_stages_an_output_for_a_job() {
    let home = home("in-use");
    let output = home.join("out");
    let live = stage(&output, Existing::Refuse).unwrap();
    let said = said(stage(&output, Existing::Refuse));
    assert_eq!(said, format!("cannot write {output}: {} is in use", home.join(".gristmill-job-1-out")));
    drop(live);
    drop(stage(&output, Existing::Refuse).unwrap());
}

#[test]
fn what_dead_processes_left_is_swept_but_nothing_else() {
    let home = home("swept");
    let at = |name: &str| home.join(name);
    put(&at(".gristmill-dead-out/lock"), "");
    put(&at(".gristmill-dead-out/attempts/a/part"), "");
    put(&at(".gristmill-replacing-out/lock"), "");
    put(&at(".gristmill-replacing-out/old/precious"), "");
    put(&at(".gristmill-notes"), "");
    let live = at(".gristmill-live-out/lock");
    let _open = home.file_system().unwrap().create(&live, &CreateOptions::default()).unwrap();
    let staging = stage(&at("out"), Existing::Refuse).unwrap();
    let left: Vec<String> = tree(&home).into_iter().filter(|line| !line.contains("job-1")).collect();
    let expected = [
        ".gristmill-live-out/",
        ".gristmill-live-out/lock=",
        ".gristmill-notes=",
        ".gristmill-replacing-out/",
        ".gristmill-replacing-out/lock=",
        ".gristmill-replacing-out/old/",
        ".gristmill-replacing-out/old/precious=",
    ];
    assert_eq!(left, expected);
    drop(staging);
}

#[test]
fn no_name_leads_out_of_its_attempt() {
    let home = home("names");
    let output = home.join("out");
    assert!(matches!(
        output.store().unwrap().stage(&output, "../j", Existing::Refuse),
        Err(StageError::BadName { .. })
    ));
    let staging = stage(&output, Existing::Refuse).unwrap();
    for (attempt, name) in
        [("..", "x"), ("a/b", "x"), ("a", "../x"), ("a", "x//y"), ("a", "_SUCCESS"), ("a", "")]
    {
        assert!(matches!(staging.create(attempt, name), Err(StageError::BadName { .. })), "{attempt} {name}");
    }
    let twice =
        StagedFile { attempt: "a".to_owned(), name: "x".to_owned(), bytes: 0, receipt: String::new() };
    let published = staging.publish(&[twice.clone(), twice], b"");
    assert!(matches!(published, Err(StageError::DuplicateName { .. })));
    assert!(matches!(
        stage(&Uri::parse("memory://store-names/").unwrap(), Existing::Refuse),
        Err(StageError::NamelessOutput { .. })
    ));
}

#[test]
fn inputs_are_files_directories_and_globs_without_hidden_names() {
    let home = home("listed");
    for name in ["day-1/part-0", "day-1/_logs/x", "day-2/.tmp", "day-2/a/part", "_SUCCESS", "z"] {
        put(&home.join(name), name);
    }
    let listed = |pattern: &str| {
        let uri = home.join(pattern);
        let found = uri.store().unwrap().list(&uri, 3)?;
        let below =
            |file: &FileInfo| file.uri.path().strip_prefix(home.path()).unwrap().to_str().unwrap().to_owned();
        Ok::<_, ListError>(found.iter().map(below).collect::<Vec<_>>())
    };
    assert_eq!(listed("").unwrap(), ["day-1/part-0", "day-2/a/part", "z"]);
    assert_eq!(listed("day-*").unwrap(), ["day-1/part-0", "day-2/a/part"]);
    assert_eq!(listed("_SUCCESS").unwrap(), ["_SUCCESS"]);
    assert_eq!(listed("{day-1/_logs,z}").unwrap(), ["day-1/_logs/x", "z"]);
    assert!(matches!(listed("none"), Err(ListError::NotFound { .. })));
    assert!(matches!(listed("none/*"), Err(ListError::NoMatch { .. })));
    assert!(matches!(listed("z/*"), Err(ListError::NoMatch { .. })));
    let uri = home.join("z");
    assert_eq!(
        uri.store().unwrap().list(&uri, 1).unwrap(),
        [FileInfo { uri: uri.clone(), bytes: 1, stamp: Stamp::UNKNOWN }]
    );
    assert_eq!(uri.store().unwrap().open(&uri).unwrap().bytes(), 1);
    assert!(uri.store().unwrap().open(&home).is_err());
    assert_eq!(uri.store().unwrap().resolve(&uri).unwrap(), uri);
    uri.file_system().unwrap().delete(&uri, DeleteOptions::default()).unwrap();
}
