//! The worker process.
//!
//! ```text
//!   options ──> run ──> core_role ──> block store, scrubber, bulk server      blocks (a core worker only)
//!                  │            └───> attendance                              the master, for blocks
//!                  └──> jobs_side ──> scratch, shuffle listener               map outputs
//!                               └───> attendant ──> attempt                   the master, for jobs; child processes
//! ```
//!
//! The worker runs no code of a job's author: it starts processes, hands them what they need, and serves files. Modules, in
//! reading order: `options`, `bootstrap` (a script before all else), `run`, `core_role`, `jobs_side`; `attendant` (orders and what is told), `attempt` (one
//! child process), `reap` (the end of processes), `cgroup` (the kernel's bound on them), `scratch` (the directories); `address_file`.
//!
//! Prints nothing: what it has to say goes to `tracing`. Where it listens is in the file `address` of its first data
//! directory for as long as it runs.
#![forbid(unsafe_code)]

mod address_file;
mod attempt;
mod attendant;
mod bootstrap;
mod cgroup;
mod core_role;
mod jobs_side;
mod options;
mod reap;
mod run;
mod scratch;

pub use address_file::ADDRESS_FILE;
pub use attendant::{IdentityError, TasksError};
pub use bootstrap::{BootstrapError, conduct as conduct_bootstrap};
pub use options::{CgroupUse, Role, WorkerOptions};
pub use run::{WorkerError, run, run_until};
pub use scratch::ScratchError;
