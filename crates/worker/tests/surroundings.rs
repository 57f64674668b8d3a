//! What an attempt's process finds around itself. A story of its own process: descriptors are for the whole of it.
#![forbid(unsafe_code)]

mod house;

use house::{House, inherited};

#[test]
fn a_child_finds_nothing_but_what_it_needs() {
    let others = inherited();
    let house = House::build();
    let (worker, stream) = house.core();
    let attempt = stream.launch(&house.job("look around"), 0);
    stream.done(attempt);
    let (seen, dropped) = stream.log(attempt, false);
    assert_eq!(dropped, 0);
    let scratch = worker.scratch().canonicalize().expect("it is there");
    let work = scratch.join("attempts").join(attempt.task.job.to_string()).join(attempt.name()).join("work");
    let mut variables: Vec<&str> = seen.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    variables.retain(|name| *name != "RUST_BACKTRACE");
    variables.sort_unstable();
    assert_eq!(variables, ["GRISTMILL_ATTEMPT", "HOME", "LANG", "PATH", "TMPDIR"], "{seen}");
    assert!(seen.contains(&format!("TMPDIR={}\n", work.display())), "{seen}");
    assert!(seen.contains(&format!("cwd {}\n", work.display())) && seen.contains("arguments 1\n"), "{seen}");
    assert!(seen.contains("stdin 0\n"), "{seen}");
    // stdin, stdout, stderr, and the socket that stdin was; what this test's own parent gave away goes on.
    assert!(seen.contains(&format!("descriptors {}\n", 4 + others)), "{seen}");
    assert!(!work.exists(), "its directory went with it");
    worker.stop();
}
