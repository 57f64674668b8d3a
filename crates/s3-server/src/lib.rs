//! A small durable S3 server, for laptops and tests: `gristmill s3-server`.
//!
//! It is one process on one disk, with one key pair. What it is good for is being exact: of any number of racing
//! conditional puts one wins, what was acknowledged is there after a crash, and what was not is there whole or not at
//! all.
//!
//! ```text
//!   HTTP ──> server: bounded connections ──> s3s: requests, XML, signatures
//!                                              |
//!              s3: what the operations mean <──+      access   who may, and what is refused
//!                |                                    body     bytes in and out, chunk by chunk
//!                v
//!              store: files      data, written and on disk before any key names it
//!                     committer  one thread decides on all changes; groups of them are durable transactions
//!                     tables     buckets, objects, uploads, parts (redb)
//! ```
//!
//! In reading order: [`S3Server`] in `server`, `store` with `committer` and `files`, `s3` with `objects` and `uploads`;
//! then `listing`, which is checked against a model; `credentials`, and `run`, the life of the process.
//!
//! What S3 has and this has not (versions, tags, access lists, encryption, lifecycle rules) is answered with
//! `NotImplemented`, not ignored.
#![forbid(unsafe_code)]

mod credentials;
mod digest;
mod options;
mod run;
mod s3;
mod server;
mod store;

pub use credentials::{CredentialError, Credentials};
pub use options::S3ServerOptions;
pub use run::{RunError, run};
pub use server::{S3Server, ServeError};
pub use store::OpenError;
