//! The namenode: which files there are, which blocks they have, and which workers hold them.
//!
//! ```text
//!   clients ──> calls ──> committer ──> namespace (durable, redb)
//!                 │           │ effects          ^ recovered, closed
//!                 └ reads ┐   v                  │ decisions
//!                         └> blocks (pure, soft state) ──> orders ──┐
//!   workers ──> attendance ───^   ^── ticker                        │
//!      ^────────────────────────────────────────────────────────────┘
//! ```
//!
//! Modules, in reading order: `namespace` (files, directories, leases; every acknowledged change is durable), `blocks`
//! (replicas and workers; decides, does nothing itself), then the shell around the two: `state` (what is shared),
//! `committer` (groups of changes), `calls` (clients), `attendance` (workers), `ticker` (time), with `located`,
//! `leases`, `reserve` and `clock` beside them.

mod attendance;
pub mod blocks;
mod callers;
mod calls;
mod clock;
mod committer;
mod leases;
mod located;
mod reads;
pub mod namespace;
mod reserve;
mod state;
mod ticker;
