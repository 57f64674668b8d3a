//! The master process: it decides, and never sees a record.
//!
//! ```text
//!   options ──> data_dir (locked) ──> namenode ──> jobs ──> listener ──> until a signal or a failed store
//! ```
//!
//! Modules, in reading order: `options` (what a user sets), `data_dir` (one master at a time), `listener` (bounded
//! connections), `gateway` (the way to workers for who is outside their network), `passage` (one such connection),
//! `core` (what is decided about jobs; pure), `jobs` (the shell around it), `steps` (steps, and the life of the cluster),
//! `run` (the life of the process), `check` (whether what it left is whole).
#![forbid(unsafe_code)]

mod check;
pub mod core;
mod data_dir;
mod gateway;
mod jobs;
mod listener;
mod options;
mod passage;
mod run;
mod steps;

pub use check::{CheckError, check};
pub use data_dir::DataDirError;
pub use jobs::{JobsStartError, StoreOpenError};
pub use options::{HttpListen, MasterOptions};
pub use run::{MasterError, run};
pub use steps::{ClusterFileError, LeftoverError, StepStoreError, StepsStartError};
