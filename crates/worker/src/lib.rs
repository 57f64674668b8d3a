//! The worker process.
//!
//! ```text
//!   options ──> run ──> block store, scrubber      the disks
//!                  ├──> bulk server, local socket  blocks in and out
//!                  └──> attendance                 the master
//! ```
//!
//! Prints nothing: what it has to say goes to `tracing`. Where it listens is in the file `address` of its first data
//! directory for as long as it runs.
#![forbid(unsafe_code)]

mod address_file;
mod options;
mod run;

pub use address_file::ADDRESS_FILE;
pub use options::{Role, WorkerOptions};
pub use run::{WorkerError, run};
