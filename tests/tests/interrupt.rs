//! Jobs that are stopped, gently or not, leave nothing that anybody has to remove.

use gristmill_tests::{Home, Output, Program, Running, patiently};
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// How long a job may take to end: seconds, on a machine that is ten times slower.
const PATIENCE: Duration = Duration::from_secs(120);

/// A job that is in its map phase, and will be for many minutes unless its gate opens: a closed gate holds up each
/// of 20 million records.
fn running_job(home: &Home, more: &[&str]) -> Running {
    let program = Program::at(env!("CARGO_BIN_EXE_gated")).args(["--rows", "20000000", "--local=2"]);
    let program = program.args(["--output", &home.uri("out"), "--gate", &home.uri("gate")]);
    let mut job = program.args(["--scratch", &home.uri("scratch")]).args(more).start();
    job.runs_until("the job stages its output and makes its scratch directory", || {
        !leftovers(home).is_empty() && !home.names("scratch").is_empty()
    });
    // Both are made before the first task starts: reading shows that one has.
    job.runs_until("both tasks run", || threads(job_id(home)) >= 3);
    job
}

/// The process id, as the scratch directory's name has it.
fn job_id(home: &Home) -> u32 {
    let names = home.names("scratch");
    let id = names.first().and_then(|name| name.split('-').nth(2)).expect("gristmill-scratch-PID-...");
    id.parse().expect("a process id")
}

fn threads(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/task")).map_or(0, Iterator::count)
}

/// Staging directories beside the output.
fn leftovers(home: &Home) -> Vec<String> {
    home.names("").into_iter().filter(|name| name.starts_with(".gristmill")).collect()
}

#[test]
fn an_interrupted_job_ends_soon_and_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM] {
        let home = Home::new();
        let job = running_job(&home, &[]);
        job.signal(signal);
        // A task looks up every 1,024 records, which take 0.3 s here. One that did not would be told of in another sentence.
        let sentence = job.end_within(PATIENCE).sentence();
        assert_eq!(sentence, "interrupted: nothing was written");
        assert_eq!(home.names(""), ["scratch"]);
        assert_eq!(home.names("scratch"), [""; 0]);
    }
}

#[test]
fn an_interrupted_job_leaves_nothing_even_if_a_task_does_not_listen() {
    let home = Home::new();
    let job = running_job(&home, &["--stuck"]);
    job.signal(Signal::INT);
    let ended = job.end_within(PATIENCE);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    // It is this sentence that shows that the task did not listen.
    assert!(ended.stderr.contains("a task did not stop within"), "{}", ended.stderr);
    assert_eq!(home.names(""), ["scratch"]);
    assert_eq!(home.names("scratch"), [""; 0]);
}

#[test]
fn an_interrupted_job_keeps_the_old_output() {
    let home = Home::new();
    home.write("out/part-r-00000", "old");
    let job = running_job(&home, &["--overwrite"]);
    job.signal(Signal::INT);
    job.end_within(PATIENCE).sentence();
    assert_eq!(home.names(""), ["out", "scratch"]);
    assert_eq!(std::fs::read(home.path("out/part-r-00000")).expect("it is there"), b"old");
}

#[test]
fn what_a_killed_job_left_is_swept_by_the_next() {
    let home = Home::new();
    let job = running_job(&home, &[]);
    job.signal(Signal::KILL);
    assert_eq!(job.end().status.signal(), Some(9));
    assert_eq!((leftovers(&home).len(), home.names("scratch").len()), (1, 1), "a killed job cannot tidy up");
    assert!(!home.path("out").exists());
    let next = Program::word_count().args(["--input", &home.write("in", "a a")]);
    let next = next.args(["--output", &home.uri("out"), "--scratch", &home.uri("scratch")]);
    next.run().succeeded();
    assert_eq!(Output::read(home.path("out")).sorted_lines(), ["a\t2"]);
    assert_eq!(home.names(""), ["in", "out", "scratch"]);
    assert_eq!(home.names("scratch"), [""; 0]);
}

#[test]
fn a_living_job_is_not_swept_by_another() {
    let home = Home::new();
    let mut job = running_job(&home, &[]);
    let (staged, scratch) = (leftovers(&home), home.names("scratch"));
    let other =
        Program::word_count().args(["--input", &home.write("in", "a"), "--output", &home.uri("other")]);
    other.args(["--scratch", &home.uri("scratch")]).run().succeeded();
    assert_eq!((leftovers(&home), home.names("scratch")), (staged, scratch));
    // And it comes to its end.
    assert!(job.is_running());
    home.write("gate", "");
    patiently("the job to end", || !job.is_running());
    job.end().succeeded();
    let counts: Vec<String> = (0..10).map(|digit| format!("{digit}\t2000000")).collect();
    assert_eq!(Output::read(home.path("out")).sorted_lines(), counts);
}

#[test]
fn who_interrupts_a_second_time_means_now() {
    let home = Home::new();
    let job = running_job(&home, &["--stuck"]);
    job.signal(Signal::INT);
    // Its task does not listen: the program would wait for it for seconds.
    patiently("it to hear of it", || heard(job.id()));
    job.signal(Signal::INT);
    let ended = job.end_within(PATIENCE);
    // If it had waited for the task it would say so, and end with 1.
    assert_eq!(ended.status.code(), Some(130), "{}", ended.stderr);
    // What it could not remove the next job of this place does, as after a kill.
    assert!(!home.path("out").exists());
}

/// Whether no signal is pending for a process: it has taken what it was sent.
fn heard(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).expect("a line of signals");
    pending.trim().bytes().all(|digit| digit == b'0')
}
