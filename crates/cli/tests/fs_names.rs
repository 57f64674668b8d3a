//! Names: listed, found, made, moved and deleted.

mod shell;

use gristmill_cli::Exit;
use shell::{Shell, run};

/// The last column of each line.
fn last_words(lines: Vec<String>) -> Vec<String> {
    lines.iter().map(|line| line.rsplit(' ').next().expect("a word").to_owned()).collect()
}

#[test]
fn ls_shows_what_is_there() {
    let shell = Shell::new("ls");
    shell.write("d/b", "12345");
    shell.write("d/a", "1");
    shell.fs("touch -t 20250102:030405 @/d/a").done();
    shell.fs("chmod 1750 @/d").done();
    let lines = shell.fs("ls @/d").lines();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("-rw-r--r-- 1 "), "{}", lines[0]);
    assert!(lines[0].ends_with(&format!(" 1 2025-01-02 03:04 {}/d/a", shell.home)), "{}", lines[0]);
    assert!(shell.fs("ls -d @/d").done().starts_with("drwxr-x--T - "));
    assert_eq!(shell.fs("ls -C @/d").lines(), [format!("{}/d/a", shell.home), format!("{}/d/b", shell.home)]);
    assert_eq!(
        last_words(shell.fs("ls -R @").lines()),
        shell.tree().iter().map(|name| format!("{}/{name}", shell.home)).collect::<Vec<_>>()
    );
    let names = |options: &str| -> Vec<String> {
        shell
            .fs(&format!("ls -C {options} @/d"))
            .lines()
            .iter()
            .map(|name| name[name.len() - 1..].to_owned())
            .collect()
    };
    assert_eq!(names("-S"), ["b", "a"]);
    assert_eq!(names("-t"), ["b", "a"]);
    assert_eq!(names("-t -r"), ["a", "b"]);
    assert_eq!(names("-r"), ["b", "a"]);
    assert_eq!(shell.fs("lsr -C -S @").lines().len(), 3);
}

#[test]
fn a_large_directory_is_listed_whole() {
    let shell = Shell::new("large");
    for number in 0..1500 {
        shell.fs(&format!("touchz @/{number:04}")).done();
    }
    assert_eq!(shell.fs("ls @").lines().len(), 1500);
}

#[test]
fn sizes_are_for_people_on_demand() {
    let shell = Shell::new("sizes");
    shell.write("f", &"x".repeat(1536));
    assert!(shell.fs("ls -h @/f").done().contains(" 1.5 KiB "));
    assert!(shell.fs("ls @/f").done().contains(" 1536 "));
    assert!(shell.fs("du -h @/f").done().contains("1.5 KiB"));
}

#[test]
fn programs_get_one_object_a_line() {
    let shell = Shell::new("json");
    shell.write("a b", "12");
    shell.write("\u{1b}[1m\n", "");
    let objects = shell.fs("ls --json @").objects();
    assert_eq!(objects[1]["path"], format!("{}/a b", shell.home));
    assert_eq!((&objects[1]["bytes"], &objects[1]["type"]), (&2.into(), &"file".into()));
    assert_eq!(objects[0]["path"], format!("{}/\u{1b}[1m\n", shell.home));
    assert_eq!(shell.fs("mkdir --json @/x").objects()[0]["done"], "mkdir");
    let deleted = shell.fs("rm -r --json @/x").objects();
    assert!(deleted[0]["trash"].as_str().expect("a path").contains("/home/x"));
    assert_eq!(shell.fs("rm --json --skip-trash @/a*").objects()[0]["trash"], serde_json::Value::Null);
    assert_eq!(shell.fs("count --json @").objects()[0]["files"], 1);
}

#[test]
fn names_give_no_orders_to_a_terminal() {
    let shell = Shell::new("terminal");
    shell.write("a\u{1b}[2J\nb", "");
    let seen = run(&["ls", "-C", &shell.home], b"", true).done();
    assert_eq!(seen, format!("{}/a\\u{{1b}}[2J\\nb\n", shell.home));
    assert_eq!(run(&["ls", "-C", &shell.home], b"", false).done(), format!("{}/a\u{1b}[2J\nb\n", shell.home));
    let said = run(&["cat", &format!("{}/no\nsuch", shell.home)], b"", false).failed();
    assert_eq!(
        said,
        format!("gristmill: cannot look at {}/no\\nsuch: no such file or directory\n", shell.home)
    );
}

#[test]
fn what_fails_is_said_and_the_rest_is_done() {
    let shell = Shell::new("partial");
    shell.write("a", "A");
    shell.write("b", "B");
    let said = shell.fs("cat @/a @/none @/b @/no-*");
    assert_eq!((said.exit, said.out.as_str()), (Exit::Failed, "AB"));
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
    assert!(said.err.contains("/no-*: nothing matches it"), "{}", said.err);
}

#[test]
fn wrong_usage_has_a_code_of_its_own() {
    for words in [
        &["ls", "--no-such"] as &[&str],
        &["nothing"],
        &["put"],
        &["mkdir"],
        &["test", "x"],
        &["chmod", "9", "x"],
        &["chown", ":", "x"],
    ] {
        let said = run(words, b"", false);
        assert_eq!((said.exit, said.exit.code()), (Exit::Usage, 2), "{words:?}: {}", said.err);
    }
    let said = run(&["ls", "s3:///key"], b"", false);
    assert_eq!(
        said.failed(),
        "gristmill: cannot use s3:///key: an S3 URI is s3://BUCKET/path, and a bucket has a name of 3 to 63 letters, \
         digits, dots, hyphens and underscores\n"
    );
}

#[test]
fn help_is_only_spelled_out_since_h_is_for_sizes() {
    assert!(run(&["ls", "--help"], b"", false).done().contains("-h, --human"));
    assert!(run(&["--help"], b"", false).done().contains("appendToFile"));
    assert!(run(&["-ls", "-help"], b"", false).done().contains("--recursive"));
}

#[test]
fn hadoops_spelling_works_too() {
    let shell = Shell::new("spelling");
    shell.fs("-mkdir -p @/x/y").done();
    shell.fs("-touchz @/x/y/z").done();
    assert_eq!(shell.fs("-find @/x -name z").lines(), [format!("{}/x/y/z", shell.home)]);
    shell.fs("-rm -r -skipTrash @/x").done();
    assert_eq!(shell.tree(), [""; 0]);
}

#[test]
fn globs_are_expanded_on_the_file_system() {
    let shell = Shell::new("globs");
    for name in ["out/_SUCCESS", "out/part-0", "out/part-1", "in/[x]", "in/x"] {
        shell.write(name, name);
    }
    assert_eq!(shell.fs("cat @/out/part-*").done(), "out/part-0out/part-1");
    assert_eq!(shell.fs("ls -C -d @/{in,out}").lines().len(), 2);
    assert_eq!(shell.fs("cat @/in/[x]").done(), "in/[x]");
    assert_eq!(shell.fs("cat @/in/?").done(), "in/x");
    shell.fs("rm --skip-trash @/out/*").done();
    assert_eq!(shell.tree(), ["in", "in/[x]", "in/x", "out"]);
}

#[test]
fn find_goes_by_name_and_kind() {
    let shell = Shell::new("find");
    for name in ["a/One.txt", "a/two.txt", "b/three"] {
        shell.write(name, "");
    }
    let found = |options: &str| -> Vec<String> {
        let lines = shell.fs(&format!("find @ {options}")).lines();
        lines.iter().map(|line| line[shell.home.len()..].to_owned()).collect()
    };
    assert_eq!(found("-name *.txt"), ["/a/One.txt", "/a/two.txt"]);
    assert_eq!(found("-iname one*"), ["/a/One.txt"]);
    assert_eq!(found("-type d"), ["", "/a", "/b"]);
    assert!(shell.fs("find @/b -type f -print0").done().ends_with("/b/three\0"));
}

#[test]
fn stat_fills_in_a_format() {
    let shell = Shell::new("stat");
    shell.write("f", "12345");
    shell.fs("touch -t 20240229:120000 @/f").done();
    shell.fs("chmod 640 @/f").done();
    let line = shell.fs("stat %b|%n|%F|%a|%A|%r|%o|%y|%Y|%x|%%|%q @/f").done();
    let expected = "5|f|regular file|640|-rw-r-----|1|67108864|2024-02-29 12:00:00|1709208000000|2024-02-29 12:00:00|%|%q\n";
    assert_eq!(line, expected);
    assert_eq!(shell.fs("stat @/f").done(), "2024-02-29 12:00:00\n");
    assert_eq!(shell.fs("stat %F @").done(), "directory\n");
}

#[test]
fn test_answers_by_its_exit_code() {
    let shell = Shell::new("test");
    shell.write("full", "x");
    shell.write("empty", "");
    shell.fs("mkdir @/dir").done();
    for (question, path, yes) in [
        ("-e", "full", true),
        ("-e", "none", false),
        ("-f", "full", true),
        ("-f", "dir", false),
        ("-d", "dir", true),
        ("-d", "full", false),
        ("-z", "empty", true),
        ("-z", "full", false),
        ("-s", "full", true),
        ("-s", "empty", false),
        ("-s", "dir", false),
        ("-e", "none/*", false),
    ] {
        let said = shell.fs(&format!("test {question} @/{path}"));
        let expected = if yes { Exit::Done } else { Exit::Failed };
        assert_eq!((said.exit, said.err.as_str()), (expected, ""), "{question} {path}");
    }
}

#[test]
fn du_df_and_count_add_up() {
    let shell = Shell::new("usage");
    shell.write("d/a", "123");
    shell.write("d/e/b", "4567");
    shell.fs("setrep 3 @/d").done();
    let words = |line: String| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    let lines = shell.fs("du @/d").lines();
    assert_eq!(lines.into_iter().map(words).collect::<Vec<_>>(), [["3", "9"], ["4", "12"]]);
    assert_eq!(words(shell.fs("du -s @/d").done()), ["7", "21"]);
    assert_eq!(shell.fs("du -s -v @/d").lines().len(), 2);
    let counted = shell.fs("count -q -v @/d").lines();
    let row = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(row(&counted[0])[..4], ["QUOTA", "REM_QUOTA", "SPACE_QUOTA", "REM_SPACE_QUOTA"]);
    assert_eq!(row(&counted[1])[..7], ["none", "inf", "none", "inf", "2", "2", "7"]);
    let room = shell.fs("df -h @").lines();
    assert_eq!((room.len(), room[1].contains("memory://usage/")), (2, true), "{room:?}");
}

#[test]
fn directories_are_made() {
    let shell = Shell::new("mkdir");
    assert!(shell.fs("mkdir @/a/b").failed().contains("no such file or directory"));
    shell.fs("mkdir -p @/a/b @/c").done();
    shell.fs("mkdir -p @/a/b").done();
    assert!(shell.fs("mkdir @/c").failed().contains("it exists"));
    assert_eq!(shell.tree(), ["a", "a/b", "c"]);
}

#[test]
fn touch_makes_files_and_sets_times() {
    let shell = Shell::new("touch");
    shell.fs("touch -c @/none").done();
    assert!(shell.fs("touch @/no/dir").failed().contains("does not exist"));
    shell.fs("touch -t 20200101:000000 @/f").done();
    shell.fs("touch -a -t 20210101:000000 @/f").done();
    assert_eq!(shell.fs("stat %y|%x @/f").done(), "2020-01-01 00:00:00|2021-01-01 00:00:00\n");
    shell.fs("touch -m -t 20220101:000000 @/f").done();
    assert_eq!(shell.fs("stat %y|%x @/f").done(), "2022-01-01 00:00:00|2021-01-01 00:00:00\n");
    shell.fs("touchz @/f @/z").done();
    shell.write("full", "x");
    assert!(shell.fs("touchz @/full @").failed().lines().count() == 2);
    assert_eq!(shell.tree(), ["f", "full", "z"]);
}

#[test]
fn rm_asks_for_a_word_before_it_takes_a_tree() {
    let shell = Shell::new("rm");
    shell.write("d/f", "precious");
    assert!(shell.fs("rm @/d").failed().contains("it is a directory (-r deletes it with all below)"));
    assert!(shell.fs("rm @/none").failed().contains("no such file or directory"));
    shell.fs("rm -f @/none @/no*").done();
    let said = shell.fs("rm -R @/d").done();
    let trash = said.trim_end().rsplit(' ').next().expect("a path").to_owned();
    assert_eq!(run(&["cat", &format!("{trash}/f")], b"", false).done(), "precious");
    assert_eq!(shell.tree(), [""; 0]);
    shell.write("d/f", "");
    shell.fs("rmr --skip-trash @/d").done();
    assert!(run(&["rm", "-r", "memory://rm/"], b"", false).failed().contains("it is the root"));
}

#[test]
fn rm_safely_asks_before_it_takes_much() {
    let shell = Shell::new("safely");
    for number in 0..100 {
        shell.fs(&format!("touch @/{number}")).done();
    }
    let said = run(&["rm", "-r", "-safely", "-skipTrash", &shell.home], b"n\n", false).failed();
    assert!(said.contains("with 101 names") && said.contains("was not deleted"), "{said}");
    assert_eq!(shell.tree().len(), 100);
    let said = run(&["rm", "-r", "-safely", "-skipTrash", &shell.home], b"y\n", false);
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    assert!(shell.fs("ls @").failed().contains("no such file"));
}

#[test]
fn rmdir_takes_empty_directories_only() {
    let shell = Shell::new("rmdir");
    shell.write("full/f", "");
    shell.fs("mkdir @/empty").done();
    shell.fs("rmdir @/empty").done();
    assert!(shell.fs("rmdir @/full").failed().contains("not empty"));
    shell.fs("rmdir --ignore-fail-on-non-empty @/full").done();
    assert!(shell.fs("rmdir @/full/f").failed().contains("not a directory"));
    assert_eq!(shell.tree(), ["full", "full/f"]);
}

#[test]
fn mv_moves_one_to_a_name_and_several_into_a_directory() {
    let shell = Shell::new("mv");
    for name in ["a", "b", "c"] {
        shell.write(name, name);
    }
    shell.fs("mv @/a @/renamed").done();
    shell.fs("mkdir @/d").done();
    shell.fs("mv @/b @/c @/d").done();
    assert_eq!(shell.tree(), ["d", "d/b", "d/c", "renamed"]);
    shell.write("b", "new");
    assert!(shell.fs("mv @/b @/d").failed().contains("it exists"));
    shell.fs("mv -f @/b @/d").done();
    assert_eq!(shell.read("d/b"), "new");
    assert!(shell.fs("mv @/d/b @/d/c @/renamed").failed().contains("it is not a directory"));
    assert!(shell.fs("mv @/d @/d/x").failed().contains("is within it"));
    assert!(shell.fs("mv @/renamed @/no/where").failed().contains("does not exist"));
    assert!(shell.fs("mv @/renamed /tmp").failed().contains("is on another file system"));
    assert_eq!(shell.tree(), ["d", "d/b", "d/c", "renamed"]);
}
