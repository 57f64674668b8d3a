//! `gristmill fs` on `s3://`, against a local S3 server.

use std::fs;

use gristmill_tests::{Output, Program, S3, corpus, noise, word_counts};

fn said(s3: &S3, args: &[&str]) -> String {
    s3.fs().args(args).run().succeeded().stdout
}

fn failed(s3: &S3, args: &[&str]) -> String {
    let ended = s3.fs().args(args).run();
    assert_eq!(ended.status.code(), Some(1), "{args:?}: {}", ended.stdout);
    ended.stderr
}

#[test]
fn a_directory_goes_in_and_comes_out_as_it_was() {
    let (s3, home) = (S3::start(), tempfile::tempdir().expect("a directory"));
    let tree = home.path().join("tree");
    // One is empty, one is of several parts, one has a name that URLs must escape.
    let files = [("a", 0), ("b +%c", 1), ("sub/ü", 20_500_000), ("sub/deep/x", 300_000)];
    for (name, bytes) in files {
        let file = tree.join(name);
        fs::create_dir_all(file.parent().expect("it is below")).expect("directories");
        fs::write(file, noise(bytes, bytes as u64)).expect("a file");
    }
    let (back, to) = (home.path().join("back"), s3.uri("data"));
    let text = |path: &std::path::Path| path.to_str().expect("plain").to_owned();
    said(&s3, &["-put", &text(&tree), &to]);
    said(&s3, &["-get", &to, &text(&back)]);
    for (name, _) in files {
        let (before, after) = (fs::read(tree.join(name)), fs::read(back.join(name)));
        assert!(before.expect("it was put") == after.expect("it was got"), "{name}");
    }
    let used = said(&s3, &["-du", "-s", &to]);
    assert!(used.trim_start().starts_with("20800001"), "all bytes are counted: {used}");
    assert!(said(&s3, &["-cat", &s3.uri("data/s*/deep/*")]).len() > 100_000, "globs work");
    assert!(failed(&s3, &["-put", &text(&tree.join("a")), &s3.uri("data/a")]).contains("exists"));
    said(&s3, &["-mv", &s3.uri("data/sub"), &s3.uri("data/moved")]);
    let mut names = s3.find("");
    names.retain(|name| !s3.fs().args(["-test", "-d", name]).run().status.success());
    let expected = ["data/a", "data/b +%c", "data/moved/deep/x", "data/moved/ü"];
    assert_eq!(names, expected.map(|name| s3.uri(name)));
    said(&s3, &["-rm", "-r", &s3.uri("data/moved")]);
    assert!(failed(&s3, &["-ls", &s3.uri("data/moved")]).contains("no such file or directory"));
}

#[test]
fn an_object_may_have_the_name_of_a_directory() {
    let (s3, home) = (S3::start(), tempfile::tempdir().expect("a directory"));
    for (text, name) in [("one", "x"), ("two", "x/y")] {
        let file = home.path().join("file");
        fs::write(&file, text).expect("a file");
        s3.put(&file, name);
    }
    let listing = said(&s3, &["-ls", &s3.uri("")]);
    assert_eq!(listing.lines().filter(|line| line.ends_with("/x")).count(), 2, "both are there: {listing}");
    assert_eq!(said(&s3, &["-cat", &s3.uri("x")]), "one");
    assert_eq!(said(&s3, &["-cat", &s3.uri("x/*")]), "two");
    said(&s3, &["-rm", &s3.uri("x")]);
    assert_eq!(said(&s3, &["-cat", &s3.uri("x/y")]), "two", "the directory stays");
}

#[test]
fn what_s3_cannot_do_is_said_in_a_sentence_without_keys() {
    let (s3, home) = (S3::start(), tempfile::tempdir().expect("a directory"));
    let file = home.path().join("file");
    fs::write(&file, "text").expect("a file");
    s3.put(&file, "file");
    let uri = s3.uri("file");
    for args in [
        &["-chmod", "600", &uri][..],
        &["-setrep", "2", &uri],
        &["-truncate", "1", &uri],
        &["-appendToFile", file.to_str().expect("plain"), &uri],
    ] {
        let sentence = failed(&s3, args);
        assert!(sentence.contains("S3"), "{sentence}");
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
    }
    let stranger = |variable: &str, value: &str| {
        let ended = s3.fs().env(variable, value).args(["-cat", &uri]).run();
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        ended.stderr
    };
    let keys = home.path().join("keys");
    fs::write(
        &keys,
        "[default]\naws_access_key_id = AKIASTRANGER\naws_secret_access_key = planted-secret-key\n",
    )
    .expect("a file");
    let refused = stranger("AWS_SHARED_CREDENTIALS_FILE", keys.to_str().expect("plain"));
    assert!(refused.contains("permission denied") || refused.contains("InvalidAccessKeyId"), "{refused}");
    assert!(!refused.contains("planted-secret-key") && !refused.contains("AKIASTRANGER"), "{refused}");
    assert!(stranger("AWS_PROFILE", "nobody").contains("nobody"));
    let missing = failed(&s3, &["-cat", "s3://no-such-bucket/x"]);
    assert!(missing.contains("NoSuchBucket"), "{missing}");
}

#[test]
fn a_job_reads_many_objects_and_large_ones() {
    let (s3, home) = (S3::start(), tempfile::tempdir().expect("a directory"));
    let texts: Vec<Vec<u8>> =
        (0..20).map(|seed| corpus(if seed == 0 { 12 << 20 } else { 2000 }, seed)).collect();
    let input = home.path().join("in");
    fs::create_dir(&input).expect("a directory");
    for (number, text) in texts.iter().enumerate() {
        fs::write(input.join(format!("text-{number:02}")), text).expect("a file");
    }
    s3.put(&input, "in");
    let output = home.path().join("out");
    // Splits of a megabyte begin in the middle of the large object.
    let job = Program::word_count()
        .args(["--input", &s3.uri("in"), "--split-size", "1MiB", "--output"])
        .arg(&output);
    s3.with_keys(job).run().succeeded();
    let read = Output::read(&output);
    let text_of = |(word, count): (Vec<u8>, u64)| format!("{}\t{count}", String::from_utf8_lossy(&word));
    let mut expected: Vec<String> = word_counts(&texts.join(&b'\n')).into_iter().map(text_of).collect();
    expected.sort();
    assert_eq!(read.sorted_lines(), expected, "every line of every object counts once");
}
