//! How far a large transfer has come.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Often enough to look alive, seldom enough to cost nothing.
const DRAWS_PER_SECOND: u8 = 5;

/// A line on stderr, if people look at it. Its clones are the same line.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn begin(is_seen: bool) -> Progress {
        let target = match is_seen {
            true => ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {bytes} in {elapsed}, {bytes_per_sec} {msg}")
        {
            bar.set_style(style);
        }
        if is_seen {
            bar.enable_steady_tick(Duration::from_millis(1000 / u64::from(DRAWS_PER_SECOND)));
        }
        Progress { bar }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    pub(crate) fn name(&self, files: u64) {
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("({files} files)"));
        }
    }

    /// Does something that writes to the terminal.
    pub(crate) fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        self.bar.suspend(act)
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
