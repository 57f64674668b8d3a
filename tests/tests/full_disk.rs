//! A disk that fills up, under the output and under the scratch space: one sentence, and nothing remains.

use gristmill_tests::{Home, Program, SmallDisk, distinct_words};
use std::fs;

/// A disk of 1 MiB at `disk` below `home`. Without the right to mount, what the test `leaves` out is told.
fn full_disk(home: &Home, leaves: &str) -> Option<SmallDisk> {
    fs::create_dir(home.path("disk")).expect("a directory");
    match SmallDisk::mount(&home.path("disk")) {
        Ok(disk) => Some(disk),
        Err(why) => {
            assert!(!rustix::process::geteuid().is_root() || std::env::var_os("CI").is_none(), "{why}");
            eprintln!("LEFT OUT: {leaves}: this process cannot mount a small disk ({why})");
            None
        }
    }
}

#[test]
fn an_output_that_does_not_fit_is_one_sentence_and_leaves_nothing() {
    let home = Home::new();
    let Some(_disk) = full_disk(&home, "output on a full disk") else { return };
    // 100,000 lines of word, TAB and count are 1.9 MB: more than the disk.
    let input = home.write("in", distinct_words(100_000, 1));
    let program = Program::word_count().args(["--input", &input, "--output", &home.uri("disk/a/out")]);
    let program = program.args(["--reducers", "2", "--local=2", "--scratch", &home.uri("scratch")]);
    let sentence = program.run().sentence();
    assert!(sentence.contains("No space left on device") && sentence.contains("part-r-0000"), "{sentence}");
    assert!(sentence.contains("reduce 1 task"), "{sentence}");
    assert_eq!(home.names("disk"), [""; 0], "not even what would not fit");
    assert_eq!(home.names("scratch"), [""; 0]);
}

#[test]
fn a_full_disk_keeps_the_output_that_was_there() {
    let home = Home::new();
    let Some(_disk) = full_disk(&home, "replacing an output on a full disk") else { return };
    home.write("disk/out/part-r-00000", "old");
    let input = home.write("in", distinct_words(100_000, 2));
    let program = Program::word_count().args(["--input", &input, "--output", &home.uri("disk/out")]);
    let sentence = program.arg("--overwrite").run().sentence();
    assert!(sentence.contains("No space left on device"), "{sentence}");
    assert_eq!(home.names("disk"), ["out"]);
    assert_eq!(fs::read(home.path("disk/out/part-r-00000")).expect("it is there"), b"old");
}

#[test]
fn a_spill_that_does_not_fit_is_one_sentence_and_leaves_nothing() {
    let home = Home::new();
    let Some(_disk) = full_disk(&home, "scratch space on a full disk") else { return };
    // 600,000 words of 17 bytes are twice what a process of 24 MiB keeps, and hexadecimal digits do not get
    // smaller than half: at least 2 MB have to go to the disk.
    let input = home.write("in", distinct_words(600_000, 3));
    let program = Program::word_count().args(["--input", &input, "--output", &home.uri("a/out")]);
    let program = program.args(["--memory", "24MiB", "--local=2", "--scratch", &home.uri("disk")]);
    let sentence = program.run().sentence();
    let place = home.uri("disk/gristmill-scratch-");
    assert!(sentence.contains("for scratch space") && sentence.contains(&place), "{sentence}");
    assert!(sentence.contains("No space left on device"), "{sentence}");
    assert_eq!(home.names("disk"), [""; 0]);
    assert_eq!(home.names(""), ["disk", "in", "scratch"]);
}
