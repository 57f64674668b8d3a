//! The program as a process: streams, pipes, exit codes, files of this machine.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn fs_command(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
    command.arg("fs").args(args).current_dir(home);
    command.env_remove("GRISTMILL_MASTER").env_remove("GRISTMILL_SECRET_FILE");
    command
}

fn fs(home: &Path, args: &[&str]) -> Output {
    fs_command(home, args).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn done(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn files_of_this_machine_are_worked_with_by_bare_paths() {
    let home = tempfile::tempdir().unwrap();
    let at = |args: &[&str]| done(fs(home.path(), args));
    at(&["mkdir", "-p", "a/b"]);
    fs::write(home.path().join("a/b/f"), "hello").unwrap();
    assert_eq!(at(&["cat", "a/b/f"]), "hello");
    assert_eq!(at(&["ls", "-C", "a/*"]), "a/b/f\n");
    assert_eq!(at(&["find", "a"]), "a\na/b\na/b/f\n");
    at(&["cp", "a", "c"]);
    at(&["mv", "c/b/f", "g"]);
    assert_eq!(fs::read_to_string(home.path().join("g")).unwrap(), "hello");
    at(&["chmod", "u=rw,go=", "g"]);
    assert_eq!(at(&["stat", "%a %b %n %F", "g"]), "600 5 g regular file\n");
    at(&["truncate", "2", "g"]);
    assert_eq!(at(&["cat", &format!("file://{}", home.path().join("g").display())]), "he");
    at(&["rm", "-r", "a", "c", "g"]);
    assert_eq!(at(&["ls"]), "");
    assert_eq!(at(&["count", "."]).split_whitespace().collect::<Vec<_>>(), ["1", "0", "0", "."]);
    assert!(at(&["df", "."]).contains('%'));
}

#[test]
fn exit_codes_are_0_1_and_2() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(code(&fs(home.path(), &["ls"])), Some(0));
    assert_eq!(code(&fs(home.path(), &["--help"])), Some(0));
    let missing = fs(home.path(), &["cat", "none"]);
    assert_eq!(code(&missing), Some(1));
    assert_eq!(
        String::from_utf8(missing.stderr).unwrap(),
        "gristmill: cannot look at none: no such file or directory\n"
    );
    assert_eq!(code(&fs(home.path(), &["cat"])), Some(2));
    assert_eq!(code(&fs(home.path(), &["test", "-e", "none"])), Some(1));
    let unreachable = fs(home.path(), &["ls", "dfs:///x"]);
    assert_eq!(code(&unreachable), Some(1));
    assert!(String::from_utf8_lossy(&unreachable.stderr).contains("GRISTMILL_MASTER is not set"));
    assert_eq!(code(&fs(home.path(), &["--master", "nonsense", "ls"])), Some(2));
}

#[test]
fn stdin_and_stdout_are_dashes() {
    let home = tempfile::tempdir().unwrap();
    let mut put = fs_command(home.path(), &["put", "-", "f"]).stdin(Stdio::piped()).spawn().unwrap();
    put.stdin.take().unwrap().write_all(b"piped").unwrap();
    assert!(put.wait().unwrap().success());
    assert_eq!(done(fs(home.path(), &["get", "f", "-"])), "piped");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("f"), vec![b'x'; 8 << 20]).unwrap();
    let mut cat = fs_command(home.path(), &["cat", "f"]);
    let mut cat = cat.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut some = [0; 10];
    cat.stdout.take().unwrap().read_exact(&mut some).unwrap();
    // The pipe is closed now, and most of the file is not yet written.
    let output = cat.wait_with_output().unwrap();
    assert_eq!((code(&output), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

#[test]
fn a_full_disk_is_a_failure() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("f"), vec![b'x'; 1 << 20]).unwrap();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = fs_command(home.path(), &["cat", "f"]).stdout(full).output().unwrap();
    assert_eq!(code(&output), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).starts_with("gristmill: cannot write the standard output: ")
    );
}

#[test]
fn tail_follows_what_is_added() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("log");
    fs::write(&file, "old\n").unwrap();
    let mut tail = fs_command(home.path(), &["tail", "-f", "log"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "old");
    let begun = Instant::now();
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"new\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "new");
    assert!(begun.elapsed() < PATIENCE);
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn an_interrupted_put_leaves_nothing_under_the_final_name() {
    let home = tempfile::tempdir().unwrap();
    let mut put = fs_command(home.path(), &["put", "-", "f"]).stdin(Stdio::piped()).spawn().unwrap();
    put.stdin.as_mut().unwrap().write_all(b"half").unwrap();
    let unfinished = home.path().join("f._COPYING_");
    let begun = Instant::now();
    while fs::read(&unfinished).ok().as_deref() != Some(b"half") {
        assert!(begun.elapsed() < PATIENCE, "nothing was written");
        std::thread::yield_now();
    }
    put.kill().unwrap();
    put.wait().unwrap();
    assert!(!home.path().join("f").exists() && unfinished.exists());
    // The next one does not stumble over it.
    let mut put = fs_command(home.path(), &["put", "-", "f"]).stdin(Stdio::piped()).spawn().unwrap();
    put.stdin.take().unwrap().write_all(b"whole").unwrap();
    assert!(put.wait().unwrap().success());
    assert_eq!(fs::read_to_string(home.path().join("f")).unwrap(), "whole");
    assert!(!unfinished.exists());
}
