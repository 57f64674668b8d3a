//! What is in files: copied, read, joined, cut; and what is known of them.

mod shell;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use gristmill_cli::Exit;
use shell::{Shell, run};

/// A directory of this machine with these files, each holding its name.
fn local(files: &[&str]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for file in files {
        let path = home.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    home
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Names below a directory of this machine.
fn names(home: &Path) -> Vec<String> {
    let found = run(&["find", text(home)], b"", false).lines();
    found.iter().skip(1).map(|name| name[text(home).len() + 1..].to_owned()).collect()
}

#[test]
fn put_and_get_carry_trees_to_and_fro() {
    let shell = Shell::new("put");
    let from = local(&["tree/a b", "tree/d/é", "tree/d/new\nline", "single"]);
    fs::create_dir(from.path().join("tree/empty")).unwrap();
    let at = |name: &str| text(&from.path().join(name)).to_owned();
    run(&["put", &at("tree"), &at("single"), &shell.home], b"", false).done();
    let expected = ["single", "tree", "tree/a b", "tree/d", "tree/d/new\nline", "tree/d/é", "tree/empty"];
    let found = run(&["find", "-print0", &shell.home], b"", false).done();
    let mut found: Vec<&str> =
        found.split_terminator('\0').skip(1).map(|name| &name[shell.home.len() + 1..]).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(shell.read("tree/d/é"), "tree/d/é");
    let to = local(&[]);
    run(&["get", "-t", "1", &format!("{}/*", shell.home), text(to.path())], b"", false).done();
    assert_eq!(fs::read_to_string(to.path().join("tree/d/new\nline")).unwrap(), "tree/d/new\nline");
    assert_eq!(fs::read_to_string(to.path().join("single")).unwrap(), "single");
    assert!(to.path().join("tree/empty").is_dir());
}

#[test]
fn what_is_there_is_replaced_only_with_force() {
    let shell = Shell::new("force");
    let from = local(&["f", "g"]);
    let (f, g) = (from.path().join("f"), from.path().join("g"));
    shell.write("f", "before");
    let said = run(&["put", text(&f), text(&g), &shell.home], b"", false);
    assert_eq!(said.exit, Exit::Failed);
    assert_eq!(said.err, format!("gristmill: cannot write {}/f: it exists (-f replaces it)\n", shell.home));
    assert_eq!((shell.read("f"), shell.read("g")), ("before".to_owned(), "g".to_owned()));
    run(&["put", "-f", text(&f), &shell.home], b"", false).done();
    assert_eq!(shell.read("f"), "f");
    fs::write(&g, "before").unwrap();
    run(&["get", &format!("{}/f", shell.home), text(&g)], b"", false).failed();
    run(&["get", "-f", &format!("{}/f", shell.home), text(&g)], b"", false).done();
    assert_eq!(fs::read_to_string(&g).unwrap(), "f");
    assert_eq!(shell.tree(), ["f", "g"], "nothing unfinished is left");
    assert_eq!(names(from.path()), ["f", "g"]);
}

#[test]
fn a_destination_is_a_directory_that_is_there_or_a_new_name_in_one() {
    let shell = Shell::new("destination");
    let from = local(&["f", "g"]);
    let (f, g) = (from.path().join("f"), from.path().join("g"));
    let to = |name: &str| format!("{}/{name}", shell.home);
    assert!(run(&["put", text(&f), &to("no/f")], b"", false).failed().contains("does not exist"));
    assert!(run(&["put", text(&f), &to("no/")], b"", false).failed().contains("it is not a directory"));
    assert!(
        run(&["put", text(&f), text(&g), &to("no")], b"", false).failed().contains("it is not a directory")
    );
    run(&["put", text(&f), &to("named")], b"", false).done();
    run(&["put", text(from.path()), &to("whole")], b"", false).done();
    assert_eq!(shell.tree(), ["named", "whole", "whole/f", "whole/g"]);
    let said = run(&["put", "memory://destination/home/named", &to("x")], b"", false);
    assert_eq!((said.exit, said.err.contains("has to be a path of this machine")), (Exit::Usage, true));
}

#[test]
fn standard_streams_are_files_too() {
    let shell = Shell::new("streams");
    let to = format!("{}/f", shell.home);
    run(&["put", "-", &to], b"from\0stdin", false).done();
    assert_eq!(run(&["get", &to, "-"], b"", false).done(), "from\0stdin");
    assert!(run(&["put", "-", &to], b"x", false).failed().contains("it exists"));
    assert!(
        run(&["put", "-", &format!("{}/no/f", shell.home)], b"x", false).failed().contains("does not exist")
    );
    assert_eq!(run(&["cat", "-", &to], b"before ", false).done(), "before from\0stdin");
    run(&["appendToFile", "-", &to], b" and more", false).done();
    assert_eq!(shell.read("f"), "from\0stdin and more");
    assert_eq!(shell.tree(), ["f"]);
}

#[test]
fn copies_keep_times_and_modes_on_demand() {
    let shell = Shell::new("preserve");
    let from = local(&["d/f"]);
    let (directory, file) = (from.path().join("d"), from.path().join("d/f"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    for path in [&file, &directory] {
        run(&["touch", "-t", "20010203:040506", text(path)], b"", false).done();
    }
    run(&["put", "-p", text(&directory), &shell.home], b"", false).done();
    assert_eq!(shell.fs("stat %y|%a @/d/f").done(), "2001-02-03 04:05:06|640\n");
    assert_eq!(shell.fs("stat %y @/d").done(), "2001-02-03 04:05:06\n");
    let back = from.path().join("back");
    run(&["get", "-p", &format!("{}/d", shell.home), text(&back)], b"", false).done();
    assert_eq!(fs::metadata(back.join("f")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(fs::metadata(&back).unwrap().mtime(), 981_173_106);
}

#[test]
fn a_large_file_arrives_whole() {
    let shell = Shell::new("large-file");
    let from = local(&[]);
    let bytes: Vec<u8> = (0..3_500_000_u32).map(|n| (n / 7) as u8).collect();
    let file = from.path().join("f");
    fs::write(&file, &bytes).unwrap();
    run(&["put", text(&file), &shell.home], b"", false).done();
    run(&["get", &format!("{}/f", shell.home), text(&from.path().join("g"))], b"", false).done();
    assert!(fs::read(from.path().join("g")).unwrap() == bytes);
    let sum =
        |path: &str| run(&["checksum", path], b"", false).done().rsplit('\t').next().unwrap().to_owned();
    assert_eq!(sum(&format!("{}/f", shell.home)), sum(text(&file)));
    assert_eq!(run(&["stat", "%b", &format!("{}/f", shell.home)], b"", false).done(), "3500000\n");
}

#[test]
fn many_files_by_many_threads_all_arrive() {
    let shell = Shell::new("many");
    let files: Vec<String> = (0..300).map(|n| format!("d{}/f{n}", n % 7)).collect();
    let from = local(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let objects =
        run(&["put", "--json", "-t", "8", text(from.path()), &format!("{}/all", shell.home)], b"", false)
            .objects();
    assert_eq!(objects.len(), 300);
    assert!(files.iter().all(|file| shell.read(&format!("all/{file}")) == *file));
}

#[test]
fn move_from_local_deletes_what_has_arrived_only() {
    let shell = Shell::new("move");
    let from = local(&["a/x", "b/x"]);
    shell.write("b/x", "in the way");
    let at = |name: &str| text(&from.path().join(name)).to_owned();
    run(&["moveFromLocal", &at("a"), &at("b"), &shell.home], b"", false).failed();
    assert_eq!(names(from.path()), ["b", "b/x"]);
    assert_eq!(shell.tree(), ["a", "a/x", "b", "b/x"]);
}

#[test]
fn links_are_followed_but_not_round_and_round() {
    let shell = Shell::new("links");
    let from = local(&["d/f", "far/g"]);
    symlink("..", from.path().join("d/up")).unwrap();
    symlink("../far", from.path().join("d/far")).unwrap();
    symlink("nowhere", from.path().join("d/dangling")).unwrap();
    let said = run(&["put", text(from.path()), &format!("{}/all", shell.home)], b"", false);
    assert_eq!(said.exit, Exit::Failed);
    assert!(said.err.contains("it is a link back to"), "{}", said.err);
    assert!(said.err.contains("neither a file nor a directory"), "{}", said.err);
    assert_eq!(shell.read("all/d/far/g"), "far/g");
    assert_eq!(shell.read("all/d/f"), "d/f");
}

#[test]
fn cp_copies_within_and_between_file_systems() {
    let shell = Shell::new("cp");
    shell.write("a/f", "F");
    shell.fs("cp @/a @/b").done();
    shell.fs("cp @/a @/b").done();
    assert_eq!(shell.tree(), ["a", "a/f", "b", "b/a", "b/a/f", "b/f"]);
    assert!(shell.fs("cp @/a @/a/c").failed().contains("is within it"));
    assert!(shell.fs("cp -f @/a/f @/a/f").failed().contains("onto itself"));
    let to = local(&[]);
    run(&["cp", "-r", &format!("{}/a/f", shell.home), text(to.path())], b"", false).done();
    assert_eq!(fs::read_to_string(to.path().join("f")).unwrap(), "F");
}

#[test]
fn head_and_tail_show_the_ends() {
    let shell = Shell::new("ends");
    let lines: String = (1..=1000).map(|n| format!("line {n}\n")).collect();
    shell.write("f", &lines);
    shell.write("unended", "one\ntwo");
    assert_eq!(shell.fs("head @/f").done(), lines[..1024]);
    assert_eq!(shell.fs("head -n 2 @/f").done(), "line 1\nline 2\n");
    assert_eq!(shell.fs("head -c 6 @/f").done(), "line 1");
    assert_eq!(shell.fs("head -n 0 @/f").done(), "");
    assert_eq!(shell.fs("head -n 9 @/unended").done(), "one\ntwo");
    assert_eq!(shell.fs("tail @/f").done(), lines[lines.len() - 1024..]);
    assert_eq!(shell.fs("tail -n 2 @/f").done(), "line 999\nline 1000\n");
    assert_eq!(shell.fs("tail -n 1 @/unended").done(), "two");
    assert_eq!(shell.fs("tail -n 9 @/unended").done(), "one\ntwo");
    assert_eq!(shell.fs("tail -n 0 @/f").done(), "");
    assert_eq!(shell.fs("tail -c 4 @/f").done(), "000\n");
    assert_eq!(shell.fs("tail @/f @/g").exit, Exit::Usage);
}

#[test]
fn lines_longer_than_a_piece_are_found_from_the_end() {
    let shell = Shell::new("long-lines");
    let long = "x".repeat(3 << 20);
    shell.write("f", &format!("first\n{long}\nlast\n"));
    assert_eq!(shell.fs("tail -n 2 @/f").done().len(), long.len() + 6);
    assert_eq!(shell.fs("tail -n 3 @/f").done().len(), long.len() + 12);
    assert_eq!(shell.fs("head -n 2 @/f").done().len(), long.len() + 7);
}

#[test]
fn files_are_joined_and_cut() {
    let shell = Shell::new("joined");
    for name in ["d/a", "d/b", "d/c", "e"] {
        shell.write(name, name);
    }
    shell.write("d/empty", "");
    let to = local(&[]);
    let merged = to.path().join("merged");
    run(&["getmerge", &format!("{}/d", shell.home), &format!("{}/e", shell.home), text(&merged)], b"", false)
        .done();
    assert_eq!(fs::read_to_string(&merged).unwrap(), "d/ad/bd/ce");
    run(&["getmerge", "-nl", &format!("{}/d", shell.home), text(&merged)], b"", false).done();
    assert_eq!(fs::read_to_string(&merged).unwrap(), "d/a\nd/b\nd/c\n\n");
    run(&["getmerge", "-nl", "-skip-empty-file", &format!("{}/d", shell.home), text(&merged)], b"", false)
        .done();
    assert_eq!(fs::read_to_string(&merged).unwrap(), "d/a\nd/b\nd/c\n");
    shell.fs("concat @/e @/d/c @/d/a").done();
    assert_eq!(shell.read("e"), "ed/cd/a");
    shell.fs("truncate -w 3 @/e").done();
    assert_eq!(shell.read("e"), "ed/");
    assert!(shell.fs("truncate 9 @/e").failed().contains("it has 3 bytes only"));
    assert_eq!(shell.tree(), ["d", "d/b", "d/empty", "e"]);
}

#[test]
fn modes_owners_and_copies_are_set_one_by_one_or_below() {
    let shell = Shell::new("attributes");
    shell.write("d/f", "");
    shell.fs("chmod 600 @/d/f").done();
    shell.fs("chmod -R go+rX @/d").done();
    assert_eq!(shell.fs("stat %a @/d @/d/f").done(), "755\n644\n");
    shell.fs("chown ann:staff @/d").done();
    assert_eq!(shell.fs("stat %u:%g @/d").done(), "ann:staff\n");
    shell.fs("chown -R bob @/d").done();
    shell.fs("chgrp -R crew @/d").done();
    assert_eq!(shell.fs("stat %u:%g @/d @/d/f").done(), "bob:crew\nbob:crew\n");
    shell.fs("setrep -R 2 @/d").done();
    assert_eq!(shell.fs("stat %r @/d/f").done(), "2\n");
    assert_eq!(shell.fs("setrep 0 @/d").exit, Exit::Usage);
}

#[test]
fn what_only_a_cluster_has_is_refused_elsewhere() {
    let shell = Shell::new("no-cluster");
    shell.write("f", "");
    for line in [
        "fsck @/f",
        "report @",
        "safemode get @",
        "expunge @",
        "setquota 5 @",
        "setspacequota 1GiB @",
        "clrquota @",
        "clrspacequota @",
        "recoverLease @/f",
        "setrep -w 2 @/f",
        "decommission --at @ 3",
    ] {
        let said = shell.fs(line).failed();
        assert!(said.contains("only a cluster has that"), "{line}: {said}");
    }
}
