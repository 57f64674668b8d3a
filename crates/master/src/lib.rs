//! The master process: it decides, and never sees a record.
//!
//! ```text
//!   options ──> data_dir (locked) ──> namenode ──> listener ──> until a signal or a failed store
//! ```
//!
//! Modules, in reading order: `options` (what a user sets), `data_dir` (one master at a time), `listener` (bounded
//! connections), `run` (the life of the process).
#![forbid(unsafe_code)]

mod data_dir;
mod listener;
mod options;
mod run;

pub use data_dir::DataDirError;
pub use options::MasterOptions;
pub use run::{MasterError, run};
