//! `--append`: what is there stays, and each job's files appear among it, once and together.

use std::fs;

use gristmill_tests::{Cluster, ClusterOptions, Home, Output, Program, S3, corpus};

fn word_count(input: &str, output: &str) -> Program {
    Program::word_count().args(["--input", input, "--output", output, "--reducers", "3"])
}

/// The lines of an output that two jobs over the same text make: each twice.
fn twice(home: &Home, text: &str) -> Vec<String> {
    word_count(text, &home.uri("reference")).run().succeeded();
    let once = Output::read(home.path("reference")).sorted_lines();
    let mut twice: Vec<String> = once.iter().chain(&once).cloned().collect();
    twice.sort();
    twice
}

/// All lines of the part files in a directory.
fn lines(directory: &std::path::Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).expect("it is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_str().expect("text");
        if name.starts_with("part-") {
            let part = fs::read(&path).expect("a file");
            let whole = part.split_inclusive(|&byte| byte == b'\n').map(|line| line.trim_ascii_end());
            lines.extend(whole.map(|line| String::from_utf8_lossy(line).into_owned()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn two_jobs_of_one_process_add_up_on_this_machine() {
    let home = Home::new();
    let text = home.write("text", corpus(1 << 20, 3));
    let expected = twice(&home, &text);
    let out = home.uri("out");
    word_count(&text, &out).run().succeeded();
    home.write("out/of others", "stays");
    let refused = word_count(&text, &out).run().sentence();
    assert!(refused.contains("--append"), "{refused}");
    word_count(&text, &out).arg("--append").run().succeeded();
    assert_eq!(lines(&home.path("out")), expected);
    let names = home.names("out");
    assert!(names.contains(&"of others".to_owned()) && names.contains(&"_SUCCESS".to_owned()), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("_SUCCESS-")).count(), 1, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("part-r-")).count(), 6, "{names:?}");
    assert_eq!(home.names(""), ["out", "reference", "scratch", "text"], "nothing else is left");
    let both = word_count(&text, &out).args(["--append", "--overwrite"]).run();
    assert_eq!(both.status.code(), Some(2), "{}", both.stderr);
    home.write("file", "is no directory");
    let sentence = word_count(&text, &home.uri("file")).arg("--append").run().sentence();
    assert!(sentence.contains("not a directory"), "{sentence}");
}

#[test]
fn jobs_of_a_cluster_add_up_on_dfs_and_on_s3() {
    let (home, s3) = (Home::new(), S3::start());
    let env = s3.variables().into_iter().collect();
    let cluster = Cluster::with(ClusterOptions { workers: 2, slots: 2, env, ..ClusterOptions::default() });
    let text = home.write("text", corpus(1 << 20, 4));
    let expected = twice(&home, &text);
    cluster.fs().args(["-put", &format!("file://{text}"), "/text"]).run().succeeded();
    for output in ["dfs:///out".to_owned(), s3.uri("out")] {
        let job = || {
            let job = word_count("dfs:///text", &output).env("GRISTMILL_MASTER", cluster.master());
            s3.with_keys(job).arg("--append")
        };
        // The first one finds nothing, and it is the same to it.
        job().run().succeeded();
        job().run().succeeded();
        let got = home.path(if output.starts_with("dfs") { "from-dfs" } else { "from-s3" });
        s3.with_keys(cluster.fs()).args(["-get", &output, got.to_str().expect("plain")]).run().succeeded();
        assert_eq!(lines(&got), expected, "{output}");
    }
}

#[test]
fn a_local_job_appends_to_s3() {
    let (home, s3) = (Home::new(), S3::start());
    let text = home.write("text", corpus(1 << 19, 5));
    let expected = twice(&home, &text);
    let job = || s3.with_keys(word_count(&text, &s3.uri("out")));
    job().run().succeeded();
    job().arg("--append").run().succeeded();
    s3.fs().args(["-get", &s3.uri("out")]).arg(home.path("got")).run().succeeded();
    assert_eq!(lines(&home.path("got")), expected);
    assert_eq!(s3.fs().args(["uploads", &s3.uri("")]).run().succeeded().stdout, "");
}
