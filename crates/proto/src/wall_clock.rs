//! The one place where the wall clock is read for tokens and moments that are kept. What is decided (leases, heartbeats,
//! time-outs) rests on monotonic clocks alone, so that a step of the machine's date ends nothing early and keeps nothing
//! alive.
//!
//! For tests of just that, GRISTMILL_TEST_CLOCK may name a file with a number of seconds, which may be negative: the
//! clock is off by so much, from the moment it is written there. Without the variable nothing is looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

static STEP: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| std::env::var_os("GRISTMILL_TEST_CLOCK").map(PathBuf::from));

/// Milliseconds since 1970, for people and for the expiry of tokens. Before 1970 it stands at 0: then no token is good that
/// this process makes, and none has expired that it checks.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    STEP.as_deref().map_or(since, |file| since.saturating_add_signed(step_ms(file)))
}

/// # Panics
/// If there is no number of seconds: the test is wrong.
fn step_ms(file: &Path) -> i64 {
    let text = fs::read_to_string(file).expect("the file that GRISTMILL_TEST_CLOCK names");
    let seconds: i64 =
        text.trim().parse().expect("a number of seconds in the file that GRISTMILL_TEST_CLOCK names");
    seconds.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_in_seconds_and_may_be_negative() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "-3600\n").unwrap();
        assert_eq!(step_ms(file.path()), -3_600_000);
        assert!(now_ms() > 1_700_000_000_000, "nobody turns this clock");
    }
}
