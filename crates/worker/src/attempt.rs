//! One attempt: a child process, from its assignment to its end.
//!
//! ```text
//!   assignment ──> life ──> verified_files     job file and program, fetched once
//!                   ├─────> launch             the process: clean environment, own group, one socket
//!                   ├─────> conduct            its socket (frames), its output (logs), its orders (mailbox)
//!                   │          ├─ bounds       memory, threads and disk, counted from outside (census, disk_use)
//!                   │          └─ verdict      what all that means (pure)
//!                   └─────> map_output         kept here, or given to a core worker
//! ```
//!
//! Each attempt has one thread, which waits for all of these at once. Nothing that the child does or says can harm more
//! than its own attempt: frames are capped, what it prints is capped, and its whole process group ends with it.

mod assignment;
mod bounds;
mod census;
mod conduct;
mod dfs_files;
mod disk_use;
mod frames;
mod launch;
mod life;
mod log_pusher;
mod logs;
mod mailbox;
mod map_output;
mod progress;
mod signing;
mod verdict;
mod verified_files;

pub(crate) use assignment::{Assignment, Outcome, failure, short};
pub(crate) use census::Census;
pub(crate) use dfs_files::DfsFiles;
pub(crate) use disk_use::{DiskLimits, DiskUse};
pub(crate) use frames::frame;
pub(crate) use life::{Event, Workplace, live};
pub(crate) use log_pusher::LogPusher;
pub(crate) use logs::{LogSlice, Logs};
pub(crate) use mailbox::{Letter, Mailbox};
pub(crate) use progress::ProgressCell;
pub(crate) use verified_files::{FileLimits, VerifiedFiles};
