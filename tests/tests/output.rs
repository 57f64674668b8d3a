//! Where outputs go, and where they do not: an output that exists is safe, and a failed job leaves nothing.

use gristmill_tests::{Home, Output, Program, bytes_of};
use std::fs;
use std::os::unix::fs::MetadataExt;

fn word_count(input: &str, output: &str) -> Program {
    Program::word_count().args(["--input", input, "--output", output])
}

#[test]
fn an_existing_output_is_refused_and_untouched() {
    let home = Home::new();
    let input = home.write("in", "a b a");
    home.write("out/precious", "mine");
    let before = fs::metadata(home.path("out")).expect("it is there");
    let sentence = word_count(&input, &home.uri("out")).run().sentence();
    assert!(sentence.contains(&home.uri("out")) && sentence.contains("--overwrite"), "{sentence}");
    let after = fs::metadata(home.path("out")).expect("it is there");
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()), "not even touched");
    assert_eq!(
        bytes_of(home.path("out")).into_iter().collect::<Vec<_>>(),
        [("precious".into(), b"mine".into())]
    );
    assert_eq!(home.names(""), ["in", "out", "scratch"]);
}

#[test]
fn a_file_in_the_place_of_the_output_is_refused_and_untouched() {
    let home = Home::new();
    let (input, output) = (home.write("in", "a"), home.write("out", "mine"));
    let sentence = word_count(&input, &output).run().sentence();
    assert!(sentence.contains(&output), "{sentence}");
    assert_eq!(fs::read(output).expect("it is there"), b"mine");
}

#[test]
fn an_empty_directory_is_no_output() {
    let home = Home::new();
    fs::create_dir(home.path("out")).expect("a directory");
    word_count(&home.write("in", "a a"), &home.uri("out")).run().succeeded();
    assert_eq!(Output::read(home.path("out")).sorted_lines(), ["a\t2"]);
}

#[test]
fn overwrite_replaces_all_of_it() {
    let home = Home::new();
    home.write("out/part-r-00099", "from a job with more reducers");
    let run = word_count(&home.write("in", "a b a"), &home.uri("out"));
    run.args(["--overwrite", "--reducers", "1"]).run().succeeded();
    let output = Output::read(home.path("out"));
    assert_eq!(
        output.parts.into_iter().collect::<Vec<_>>(),
        [("part-r-00000".into(), b"a\t2\nb\t1\n".into())]
    );
    assert_eq!(home.names(""), ["in", "out", "scratch"], "the old output is gone");
}

#[test]
fn the_old_output_is_whole_until_the_new_one_is() {
    let home = Home::new();
    let old = home.write("out/part-r-00000", "old");
    let program =
        Program::at(env!("CARGO_BIN_EXE_gated")).args(["--rows", "400000", "--output", &home.uri("out")]);
    let program = program.args(["--overwrite", "--local=2", "--scratch", &home.uri("scratch")]);
    let mut job = program.arg("--gate").arg(home.path("gate")).start();
    // The job has begun its output, and a closed gate keeps 400,000 records for 40 seconds.
    job.runs_until("the job stages its output", || home.names("").iter().any(|name| name.starts_with('.')));
    assert_eq!(fs::read(&old).expect("the old output is there"), b"old");
    assert_eq!(home.names("out"), ["part-r-00000"]);
    assert!(job.is_running());
    home.write("gate", "");
    job.end().succeeded();
    let counts: Vec<String> = (0..10).map(|digit| format!("{digit}\t40000")).collect();
    assert_eq!(Output::read(home.path("out")).sorted_lines(), counts);
    assert_eq!(home.names(""), ["gate", "out", "scratch"]);
}

#[test]
fn an_output_below_a_file_is_one_sentence() {
    let home = Home::new();
    let (input, file) = (home.write("in", "a"), home.write("file", "mine"));
    let sentence = word_count(&input, &format!("{file}/below/out")).run().sentence();
    assert!(
        sentence.contains(&format!("{file}/below/out")) && sentence.contains("Not a directory"),
        "{sentence}"
    );
    assert_eq!(fs::read(file).expect("it is there"), b"mine");
    assert_eq!(home.names(""), ["file", "in", "scratch"]);
}

#[test]
fn an_empty_input_directory_gives_empty_parts() {
    let home = Home::new();
    fs::create_dir(home.path("in")).expect("a directory");
    word_count(&home.uri("in"), &home.uri("out")).args(["--reducers", "2"]).run().succeeded();
    let parts = Output::read(home.path("out")).parts.into_iter().collect::<Vec<_>>();
    assert_eq!(parts, [("part-r-00000".into(), vec![]), ("part-r-00001".into(), vec![])]);
}

#[test]
fn a_missing_input_is_one_sentence_that_names_it() {
    let home = Home::new();
    for (input, says) in [("nowhere", "no such file or directory"), ("no*where", "nothing matches it")] {
        let sentence = word_count(&home.uri(input), &home.uri("a/b/out")).run().sentence();
        assert_eq!(sentence, format!("cannot read {}: {says}", home.uri(input)));
    }
    assert_eq!(home.names(""), ["scratch"], "no directory was made for an output that never came");
}

#[test]
fn a_command_line_that_makes_no_sense_is_status_2() {
    let home = Home::new();
    let input = home.write("in", "a");
    for nonsense in [
        &["--no-such-flag"][..],
        &["--reducers", "0"],
        &["--reducers", "many"],
        &["--split-size", "1.5 parsecs"],
        &["--memory", "1MiB"],
        &["--local=-1"],
    ] {
        let ended = word_count(&input, &home.uri("out")).args(nonsense).run();
        assert_eq!(ended.status.code(), Some(2), "{nonsense:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(nonsense[0].split('=').next().unwrap_or_default()), "{}", ended.stderr);
    }
    let no_output = Program::word_count().args(["--input", &input]).run();
    assert_eq!(no_output.status.code(), Some(2), "{}", no_output.stderr);
    assert_eq!(home.names(""), ["in", "scratch"]);
}

#[test]
fn parents_are_made_for_an_output_that_comes() {
    let home = Home::new();
    word_count(&home.write("in", "a"), &home.uri("a/b/c/out")).run().succeeded();
    assert_eq!(Output::read(home.path("a/b/c/out")).sorted_lines(), ["a\t1"]);
    assert_eq!(home.names("a/b/c"), ["out"]);
    assert_eq!(home.names("a"), ["b"]);
}

#[test]
fn parents_are_not_made_for_an_output_that_does_not_come() {
    let home = Home::new();
    let input = home.write("in", "good\nbad\n");
    let program = Program::at(env!("CARGO_BIN_EXE_faulty")).args(["--fault", "map", "--input", &input]);
    let sentence = program.args(["--output", &home.uri("a/b/out")]).run().sentence();
    // The fault was in the job, not in its output.
    assert!(sentence.contains("cannot map \"bad\""), "{sentence}");
    assert_eq!(home.names(""), ["in", "scratch"]);
}

#[test]
fn a_relative_output_is_below_the_working_directory() {
    let home = Home::new();
    home.write("in", "a");
    word_count("in", "out").in_dir(home.path("")).run().succeeded();
    assert_eq!(Output::read(home.path("out")).sorted_lines(), ["a\t1"]);
}
