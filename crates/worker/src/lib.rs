//! The worker process: it keeps blocks, and serves them.
//!
//! ```text
//!   options ──> block store ──> bulk server, local socket ──> attendance ──> until a signal or a refusal
//!                    └────────> scrubber
//! ```
//!
//! Modules, in reading order: `options` (what a user sets), `run` (the life of the process).
#![forbid(unsafe_code)]

mod options;
mod run;

pub use options::{Role, WorkerOptions};
pub use run::{WorkerError, run};
