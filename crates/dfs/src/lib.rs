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
//! Modules, in reading order: `uri` (what a user writes), `store` (what any file system does, and how it
//! fails), `local` (the file system of this machine). Other file systems come behind the same traits; until
//! they do, their URIs are refused with [`UriError::UnsupportedScheme`].
#![forbid(unsafe_code)]

mod local;
mod store;
mod uri;

#[doc(hidden)]
pub use local::glob_names;
pub use local::{LocalStore, PatternError};
pub use store::{
    Existing, FileInfo, ListError, OpenError, ReadAt, ResolveError, SUCCESS_FILE, StageError, StagedFile,
    StagedWriter, Staging, Store,
};
pub use uri::{Uri, UriError};
