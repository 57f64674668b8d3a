//! Waiting for something to be so, but not for ever.

use std::thread;
use std::time::{Duration, Instant};

/// How long a story waits for what must come: it takes seconds, so this is enough for a machine that is ten times slower.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(2);

/// Waits until `holds`; panics, naming `what`, when it does not come to hold.
#[track_caller]
pub fn patiently(what: &str, holds: impl FnMut() -> bool) -> Duration {
    patiently_for(PATIENCE, what, holds)
}

/// [`patiently`], with a patience of its own; returns how long it took.
#[track_caller]
pub fn patiently_for(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < patience, "waited {patience:?} in vain for {what}");
        thread::sleep(POLL);
    }
    started.elapsed()
}
