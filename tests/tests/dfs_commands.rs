//! `gristmill fs` on a real cluster, as a user types it; and a job that reads and writes dfs://.

use std::fs;

use gristmill_tests::{Cluster, Program, corpus, noise, word_counts};

/// What a command prints.
fn said(cluster: &Cluster, args: &[&str]) -> String {
    cluster.fs().args(args).run().succeeded().stdout
}

/// The sentence with which a command fails.
fn failed(cluster: &Cluster, args: &[&str]) -> String {
    let ended = cluster.fs().args(args).run();
    assert_eq!(ended.status.code(), Some(1), "{args:?}: {}", ended.stdout);
    ended.stderr
}

#[test]
fn a_directory_goes_in_and_comes_out_as_it_was() {
    let cluster = Cluster::start(2);
    let tree = cluster.path("tree");
    for (name, bytes) in [("a", 0), ("b c", 1), ("sub/ü", 2_500_000), ("sub/deep/x", 70_000)] {
        let file = tree.join(name);
        fs::create_dir_all(file.parent().expect("it is below")).expect("directories");
        fs::write(file, noise(bytes, bytes as u64)).expect("a file");
    }
    let (tree, back) = (tree.to_str().expect("plain"), cluster.path("back"));
    said(&cluster, &["-mkdir", "-p", "/data"]);
    said(&cluster, &["-put", tree, "/data"]);
    said(&cluster, &["-get", "/data/tree", back.to_str().expect("plain")]);
    for name in ["a", "b c", "sub/ü", "sub/deep/x"] {
        let (before, after) = (fs::read(format!("{tree}/{name}")), fs::read(back.join(name)));
        assert!(before.expect("it was put") == after.expect("it was got"), "{name}");
    }
    let listing = said(&cluster, &["-ls", "-R", "/data"]);
    assert_eq!(listing.lines().filter(|line| line.contains("/data/tree")).count(), 7, "{listing}");
    assert!(said(&cluster, &["-du", "-s", "/data"]).starts_with("2570001"), "all bytes are counted");
    assert!(said(&cluster, &["-cat", "/data/tree/s*/deep/*"]).len() > 10_000, "globs are the file system's");
    assert!(failed(&cluster, &["-put", tree, "/data"]).contains("exists"));
}

#[test]
fn what_is_removed_can_be_taken_back_until_the_trash_is_emptied() {
    let cluster = Cluster::start(1);
    said(&cluster, &["-mkdir", "-p", "/a/b"]);
    let file = cluster.path("file");
    fs::write(&file, "kept").expect("a file");
    said(&cluster, &["-put", file.to_str().expect("plain"), "/a/b/file"]);
    said(&cluster, &["-rm", "-r", "/a"]);
    assert!(failed(&cluster, &["-ls", "/a"]).contains("/a"));
    let trash = said(&cluster, &["-find", "/.trash", "-name", "file"]);
    let kept = trash.trim().strip_prefix("dfs://").map_or(trash.trim(), |path| path).to_owned();
    said(&cluster, &["-mv", &kept, "/back"]);
    assert_eq!(said(&cluster, &["-cat", "/back"]), "kept");
    said(&cluster, &["-rm", "-skipTrash", "/back"]);
    said(&cluster, &["-expunge"]);
    cluster.wait_until_healed();
    assert_eq!(cluster.client().report().expect("a report").blocks, 0, "no block is left behind");
}

#[test]
fn replication_quotas_modes_and_reports_are_set_and_shown() {
    let cluster = Cluster::start(3);
    let file = cluster.path("file");
    fs::write(&file, noise(1_500_000, 4)).expect("a file");
    let file = file.to_str().expect("plain");
    said(&cluster, &["-put", file, "/file"]);
    said(&cluster, &["-setrep", "-w", "3", "/file"]);
    assert_eq!(said(&cluster, &["-stat", "%r %b", "/file"]).trim(), "3 1500000");
    assert!(said(&cluster, &["fsck", "/"]).contains("HEALTHY"));
    let report: serde_json::Value =
        serde_json::from_str(said(&cluster, &["report", "--json"]).lines().next().expect("a line"))
            .expect("JSON");
    assert_eq!(report["workers"].as_array().map(Vec::len), Some(3), "{report}");

    said(&cluster, &["-mkdir", "/small"]);
    said(&cluster, &["setquota", "2", "/small"]);
    said(&cluster, &["-touchz", "/small/one"]);
    assert!(failed(&cluster, &["-touchz", "/small/two"]).contains("quota"));
    said(&cluster, &["-chmod", "u=rw,go=", "/file"]);
    assert!(said(&cluster, &["-ls", "/file"]).starts_with("-rw-------"));
    said(&cluster, &["safemode", "enter"]);
    assert!(failed(&cluster, &["-mkdir", "/not-now"]).contains("safe"));
    said(&cluster, &["safemode", "leave"]);
    said(&cluster, &["-mkdir", "/now"]);
}

#[test]
fn a_job_reads_and_writes_the_file_system() {
    let cluster = Cluster::start(2);
    let text = corpus(3_000_000, 8);
    let file = cluster.path("text");
    fs::write(&file, &text).expect("a file");
    said(&cluster, &["-put", file.to_str().expect("plain"), "/text"]);
    let job = || Program::word_count().env("GRISTMILL_MASTER", cluster.master());
    job().args(["--input", "dfs:///text", "--output", "dfs:///counts", "--reducers", "3"]).run().succeeded();

    let mut lines: Vec<String> =
        said(&cluster, &["-cat", "/counts/part-*"]).lines().map(str::to_owned).collect();
    lines.sort();
    let count = |(word, count): (Vec<u8>, u64)| format!("{}\t{count}", String::from_utf8_lossy(&word));
    let mut expected: Vec<String> = word_counts(&text).into_iter().map(count).collect();
    expected.sort();
    assert_eq!(lines, expected);
    said(&cluster, &["-test", "-e", "/counts/_SUCCESS"]);
    let again = job().args(["--input", "dfs:///text", "--output", "dfs:///counts"]).run();
    assert_eq!(again.status.code(), Some(1), "an output that exists is not replaced");
}
