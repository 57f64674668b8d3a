//! Where bytes rest: how a job names its files, reads them, and makes its output appear.
//!
//! ```text
//!                        ┌─ list ──> FileInfo ... ──> open ──> ReadAt          input
//!   text ──> Uri ──> Store
//!                        └─ stage ─> Staging ─ create ─> StagedWriter          output, invisible
//!                                       │                     │ finish
//!                                       └─ publish <── StagedFile ...          output, all at once
//! ```
//!
//! Modules, in reading order: `uri` (what a user writes), `store` (what a job does with any file system, and how that
//! fails), `local` (the file system of this machine), `file_system` (what people do with any file system),
//! `client` (the file system of a cluster), `memory` (one
//! in this process), `tree_store` (file systems with atomic publication as stores), `shared_outputs` (outputs that several
//! processes write).
#![forbid(unsafe_code)]

pub mod client;
pub mod datanode;
mod dfs_store;
#[cfg(test)]
mod failing;
pub mod file_system;
#[doc(hidden)]
pub mod fuzzing;
mod glob;
pub mod guarded;
mod local;
mod memory;
pub mod namenode;
pub mod s3;
mod shared_outputs;
mod staged_name;
mod stamp;
mod store;
mod tree_store;
mod uri;
mod walk;

pub use dfs_store::DfsStore;
pub use file_system::{AccessError, Credential, DfsIdentity, assume, client_of, locality};
pub use glob::PatternError;
pub use local::LocalStore;
pub use memory::MemoryFileSystem;
pub use shared_outputs::SharedOutputs;
pub use stamp::Stamp;
pub use store::{
    Existing, FileInfo, ListError, OPENING_BYTES_MAX, OpenError, Opening, ReadAt, ResolveError, SUCCESS_FILE,
    StageError, StagedFile, StagedWriter, Staging, Store,
};
pub use uri::{MASTER_VARIABLE, Place, Uri, UriError, is_host_and_port};
