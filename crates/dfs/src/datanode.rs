//! A core worker of the file system: keeps replicas of blocks, serves them, and attends at its master.
//!
//! ```text
//!   writer ── packets ──> pipeline ──> the next worker       reader <── packets ── serve_read
//!          <── acks ───  acks          (hop)                local reader <── files ── local_socket
//!                           │                                                │
//!                      block_store ─────────────────────────────────────────┘
//!                           │ changes
//!   master <── notices ── attendance, session ── orders ──> orders ──> copy ──> another worker
//! ```
//!
//! Modules, in reading order: `block_store` and `scrub` (the disks); `options`, `standing` (what this worker is to its
//! cluster); `failure`, `server`, `connection`, then `pipeline` with `acks` and `hop`, `serve_read`,
//! `local_socket` (the network); `attendance`, `session`, `full_report`, `news`, `orders`, `copy` (the master).

mod acks;
mod attendance;
pub mod block_store;
mod connection;
mod copy;
mod failure;
mod full_report;
mod hop;
mod local_socket;
mod news;
mod options;
mod orders;
mod pipeline;
pub mod scrub;
mod serve_read;
mod server;
mod session;
mod standing;

pub use attendance::{Attendance, AttendanceError, AttendanceOptions};
pub use local_socket::{LocalSocket, LocalSocketError, SOCKET_FILE, SOCKET_PATH_BYTES_MAX};
pub use options::BulkOptions;
pub use server::BulkServer;
pub use standing::{Standing, StandingError};
