//! What a line is, and what text is.

use gristmill::{Emit, Lines, Text, testing};
use gristmill_tests::Home;
use std::collections::BTreeMap;

/// The lines of `bytes`, with their offsets, as `Lines` reads them.
fn lines(bytes: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    let home = Home::new();
    let input = home.write("in", bytes);
    let (found, _) = testing::run_plan_of(|plan| {
        plan.read(Lines::at(&input)).map(|line, out: &mut Emit<u64, Vec<u8>>| {
            let (_, offset) = out.place().expect("a line of a file");
            out.emit(offset, line);
        })
    });
    found.into_iter().collect()
}

#[test]
fn lf_and_crlf_end_lines_and_the_last_needs_no_end() {
    let expect = |lines: &[(u64, &[u8])]| -> BTreeMap<u64, Vec<u8>> {
        lines.iter().map(|&(offset, line)| (offset, line.to_vec())).collect()
    };
    assert_eq!(lines(b"a\nb"), expect(&[(0, b"a"), (2, b"b")]));
    assert_eq!(lines(b"a\nb\n"), expect(&[(0, b"a"), (2, b"b")]), "an end begins no line");
    assert_eq!(lines(b"a\r\nb\r\n"), expect(&[(0, b"a"), (3, b"b")]));
    assert_eq!(lines(b"\n\r\n\n"), expect(&[(0, b""), (1, b""), (3, b"")]), "empty lines are lines");
    assert_eq!(lines(b"a\rb\r"), expect(&[(0, b"a\rb\r")]), "a lone CR ends nothing");
    assert_eq!(lines(b"a\r\r\nb\0c"), expect(&[(0, b"a\r"), (4, b"b\0c")]), "one CR belongs to the end");
    assert_eq!(lines(b""), expect(&[]));
}

#[test]
fn text_that_is_none_names_file_and_offset() {
    let home = Home::new();
    let input = home.write("in", b"one\ntwo\nthr\xffe\nfour\n");
    let failed = testing::try_run(|plan| {
        plan.read(Text::at(&input)).map(|line, out: &mut Emit<String, u64>| out.emit(line, 1))
    });
    let sentence = failed.expect_err("0xff is in no UTF-8").to_string();
    assert!(sentence.contains(&format!("offset 8 of {input}")), "{sentence}");
    assert!(sentence.contains(".lossy()") && sentence.contains("Lines"), "it says what to do: {sentence}");
}

#[test]
fn lossy_text_replaces_what_is_none() {
    let home = Home::new();
    let input = home.write("in", b"one\nthr\xffe\n\xc3(\n");
    let (found, _) = testing::run_plan_of(|plan| {
        plan.read(Text::at(&input).lossy()).map(|line, out: &mut Emit<String, u64>| out.emit(line, 1))
    });
    let lines: Vec<String> = found.into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, ["one", "thr\u{fffd}e", "\u{fffd}("]);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    // Root may read everything, so it is a pipe and no forbidden file.
    let home = Home::new();
    let pipe = home.path("in/pipe");
    std::fs::create_dir(home.path("in")).expect("a directory");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).expect("a pipe");
    let failed = testing::try_run(|plan| {
        plan.read(Text::at(home.uri("in/pipe"))).map(|line, out: &mut Emit<String, u64>| out.emit(line, 1))
    });
    let sentence = failed.expect_err("a pipe is no file").to_string();
    assert!(sentence.contains(&home.uri("in/pipe")), "{sentence}");
}
