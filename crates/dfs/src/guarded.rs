//! Code of others that panics over damaged files: run in here, it fails instead.
//!
//! A panic in a daemon ends it at once, as half a daemon is worse than none (`gristmill_cli`). While a file is looked at
//! before anything is begun, that is too much: the daemon asks [`is_guarded`] before it ends.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What was run has panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Panicked(String);

/// Runs `f`, which keeps nothing that a panic could leave half done.
pub fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, Panicked> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(outer);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Panicked(text.unwrap_or_else(|| "it makes no sense".to_owned()))
    })
}

/// Whether a panic of this thread, now, is an error of what it looks at.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_the_guard_is_gone() {
        assert_eq!(guarded(is_guarded), Ok(true));
        let panicked = guarded(|| guarded(|| panic!("page {} is odd", 7)).map(|()| is_guarded()));
        assert_eq!(panicked, Ok(Err(Panicked("page 7 is odd".to_owned()))));
        assert!(!is_guarded());
    }
}
