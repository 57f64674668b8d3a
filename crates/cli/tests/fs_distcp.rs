//! `gristmill fs distcp` in this process: what is copied, as what, and what is left alone.

mod shell;

use serde_json::Value;
use shell::{Shell, run};

/// Runs a copy; the paths are below the shell's home.
fn distcp(shell: &Shell, line: &str) -> shell::Said {
    shell.fs(&format!("distcp {line}").replace("@@", &shell.home))
}

fn written(name: &str, files: &[(&str, &str)]) -> Shell {
    let shell = Shell::new(name);
    for (file, text) in files {
        shell.write(&format!("from/{file}"), text);
    }
    shell
}

/// The files below a directory, with what is in them.
fn files(shell: &Shell, directory: &str) -> Vec<(String, String)> {
    let found = run(&["find", &format!("{}/{directory}", shell.home), "--type", "f"], b"", false).lines();
    let name = |path: &String| path[shell.home.len() + directory.len() + 2..].to_owned();
    found.iter().map(|path| (name(path), run(&["cat", path], b"", false).done())).collect()
}

fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// What a manifest says of each source: its name, its length, its target.
fn manifest(shell: &Shell, directory: &str) -> Vec<(String, u64, String)> {
    let lines = run(&["cat", &format!("{}/{directory}/part-*", shell.home)], b"", false).lines();
    let name = |line: &Value, field: &str| {
        let path = line[field].as_str().expect("a name");
        path[shell.home.len() + 1..].to_owned()
    };
    let entry = |line: &String| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        (name(&line, "from"), line["bytes"].as_u64().expect("a number"), name(&line, "to"))
    };
    let mut entries: Vec<_> = lines.iter().map(entry).collect();
    entries.sort();
    entries
}

#[test]
fn a_tree_is_copied_as_it_is_and_nothing_else_is_left() {
    let tree = [("a", "one"), ("deep/er/c", "three"), ("deep/b", ""), ("with space +%ü", "four")];
    let shell = written("distcp-tree", &tree);
    distcp(&shell, "@@/from @@/to").done();
    let mut expected = owned(&tree);
    expected.sort();
    let mut found = files(&shell, "to");
    found.sort();
    assert_eq!(found, expected);
    assert!(!shell.tree().iter().any(|name| name.contains(".distcp-") || name.contains(".gristmill")));
    // Again: the directory is not empty, and who did not say what that means is asked.
    let refused = distcp(&shell, "@@/from @@/to").failed();
    assert!(refused.contains("/to") && refused.contains("--update"), "{refused}");
    let within = distcp(&shell, "@@/from @@/from/deep/copy").failed();
    assert!(within.contains("within"), "{within}");
}

#[test]
fn an_update_copies_what_is_missing_or_differs_and_an_overwrite_everything() {
    let shell =
        written("distcp-update", &[("same", "1234"), ("longer", "12"), ("other", "1234"), ("new", "n")]);
    for (name, text) in [("same", "1234"), ("longer", "1"), ("other", "4321"), ("of others", "stays")] {
        shell.write(&format!("to/{name}"), text);
    }
    let copied = |options: &str| {
        distcp(&shell, &format!("{options} --output-manifest @@/manifest @@/from @@/to")).done();
        shell.fs("rm -r --skip-trash @/manifest").done();
    };
    let modified = || run(&["stat", "%Y %n", &format!("{}/to/same", shell.home)], b"", false).done();
    let before = modified();
    copied("--update");
    let expected =
        [("longer", "12"), ("new", "n"), ("of others", "stays"), ("other", "1234"), ("same", "1234")];
    assert_eq!(files(&shell, "to"), owned(&expected));
    assert_eq!(modified(), before, "what is equal is not touched");
    // Lengths alone do not tell these two apart.
    shell.write("to/other", "4321");
    copied("--update --skip-crc-check");
    assert!(files(&shell, "to").contains(&("other".to_owned(), "4321".to_owned())));
    copied("--overwrite");
    assert_eq!(files(&shell, "to"), owned(&expected));
}

#[test]
fn patterns_choose_what_is_copied() {
    let shell = written(
        "distcp-patterns",
        &[("a.log", "1"), ("sub/b.log", "2"), ("sub/c.txt", "3"), ("sub/skipped.log", "4")],
    );
    distcp(&shell, "--include *.log --exclude *skipped* @@/from @@/to").done();
    assert_eq!(files(&shell, "to"), owned(&[("a.log", "1"), ("sub/b.log", "2")]));
    distcp(&shell, "--src-pattern .*/sub/[bc].* @@/from @@/again").done();
    assert_eq!(files(&shell, "again"), owned(&[("sub/b.log", "2"), ("sub/c.txt", "3")]));
    let nothing = distcp(&shell, "--include nothing @@/from @@/none");
    assert_eq!((nothing.out.as_str(), nothing.err.contains("nothing to copy")), ("", true), "{nothing:?}");
    for wrong in ["--group-by ( @@/from @@/x", "--group-by .* @@/from @@/x", "--include [ @@/from @@/x"] {
        assert_eq!(distcp(&shell, wrong).exit, gristmill_cli::Exit::Usage, "{wrong}");
    }
}

#[test]
fn small_files_become_one_for_each_text_of_the_groups_up_to_a_size() {
    let names = ["web-1.2026-01.log", "web-2.2026-01.log", "web-1.2026-02.log", "notes"];
    let shell = written("distcp-groups", &names.map(|name| (name, "12345")));
    // Hadoop's s3-dist-cp spells it like this.
    distcp(&shell, "--groupBy .*/(web)-.*([0-9]{4}-[0-9]{2})(.log) @@/from @@/to").done();
    let expected = [("web2026-01.log", "1234512345"), ("web2026-02.log", "12345")];
    assert_eq!(files(&shell, "to"), owned(&expected), "a file that does not match is not copied");
    shell.write("from/web-3.2026-01.log", "67");
    // 5 + 5 are too much, 5 + 2 are not.
    let options =
        "--group-by .*/(web)-.*([0-9]{4}-[0-9]{2})(.log) --target-size 7 --output-manifest @@/manifest";
    distcp(&shell, &format!("{options} @@/from @@/parts")).done();
    let expected =
        [("web2026-010.log", "12345"), ("web2026-011.log", "1234567"), ("web2026-02.log", "12345")];
    assert_eq!(files(&shell, "parts"), owned(&expected));
    let entry = |from: &str, bytes, to: &str| (format!("from/{from}"), bytes, format!("parts/{to}"));
    let expected = [
        entry("web-1.2026-01.log", 5, "web2026-010.log"),
        entry("web-1.2026-02.log", 5, "web2026-02.log"),
        entry("web-2.2026-01.log", 5, "web2026-011.log"),
        entry("web-3.2026-01.log", 2, "web2026-011.log"),
    ];
    assert_eq!(manifest(&shell, "manifest"), expected);
    // Equal concatenations are not written again.
    distcp(&shell, "--update --group-by .*/(web)-.*([0-9]{4}-[0-9]{2})(.log) @@/from @@/to").done();
    assert!(files(&shell, "to").contains(&("web2026-01.log".to_owned(), "123451234567".to_owned())));
}

#[test]
fn a_previous_manifest_leaves_only_what_is_new() {
    let shell = written("distcp-manifest", &[("a", "1"), ("b", "22"), ("gone", "333")]);
    distcp(&shell, "--output-manifest @@/first @@/from @@/to-1").done();
    let entry = |from: &str, bytes, to: &str| (format!("from/{from}"), bytes, format!("{to}/{from}"));
    let first = [entry("a", 1, "to-1"), entry("b", 2, "to-1"), entry("gone", 3, "to-1")];
    assert_eq!(manifest(&shell, "first"), first);
    // One is new, one has grown, one is no more.
    shell.write("from/c", "4444");
    shell.write("from/b", "22222");
    shell.fs("rm --skip-trash @/from/gone").done();
    distcp(&shell, "--previous-manifest @@/first --output-manifest @@/second @@/from @@/to-2").done();
    assert_eq!(files(&shell, "to-2"), owned(&[("b", "22222"), ("c", "4444")]));
    let second =
        [entry("a", 1, "to-1"), entry("b", 5, "to-2"), entry("c", 4, "to-2"), entry("gone", 3, "to-1")];
    assert_eq!(manifest(&shell, "second"), second, "what was copied before is in the new manifest too");
    // With nothing new the manifest is the same, and nothing is copied.
    distcp(&shell, "--previous-manifest @@/second --output-manifest @@/third @@/from @@/to-3").done();
    assert_eq!(manifest(&shell, "third"), second);
    assert!(shell.fs("ls @/to-3").failed().contains("no such file"));
}

#[test]
fn a_file_that_cannot_be_copied_names_itself_and_what_was_copied_need_not_be_again() {
    let shell = written("distcp-failure", &[("a", "1"), ("clash", "2"), ("z", "3")]);
    shell.write("more/clash", "4");
    let failed = distcp(&shell, "@@/from @@/more @@/to").failed();
    assert!(failed.contains("more/clash") && failed.contains("from/clash"), "{failed}");
    assert!(files(&shell, "to").iter().all(|(name, _)| name != "clash"), "neither is there");
    assert!(files(&shell, "to").contains(&("a".to_owned(), "1".to_owned())), "it was copied before");
    distcp(&shell, "--update --exclude clash @@/from @@/more @@/to").done();
    assert_eq!(files(&shell, "to"), owned(&[("a", "1"), ("z", "3")]));
}

#[test]
fn ten_thousand_files_are_copied_by_few_tasks() {
    let home = tempfile::tempdir().expect("a directory");
    let (from, to) = (home.path().join("from"), home.path().join("to"));
    for number in 0..10_000 {
        let directory = from.join(format!("{:02}", number % 100));
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join(format!("{number}")), number.to_string()).expect("a file");
    }
    let text = |path: &std::path::Path| path.to_str().expect("plain").to_owned();
    let said = run(&["distcp", "-m", "8", &text(&from), &text(&to)], b"", false);
    assert_eq!(said.err, "");
    let mut found = 0;
    for directory in std::fs::read_dir(&to).expect("it is there") {
        for file in std::fs::read_dir(directory.expect("an entry").path()).expect("a directory") {
            let file = file.expect("an entry").path();
            assert_eq!(
                std::fs::read_to_string(&file).expect("text"),
                file.file_name().unwrap().to_str().unwrap()
            );
            found += 1;
        }
    }
    assert_eq!(found, 10_000);
}
