//! Makes clusters, and ends them without trace. A provider says out of what: processes on this machine, or containers of
//! a Docker engine.
//!
//! ```text
//!   spec ──> registry: a directory for the cluster ──> create ──> provider: master, workers ──> ready
//!                |                                        | fails, or is interrupted
//!                v                                        v
//!            record (cluster.json) ────────────> terminate: members, then the directory, nothing is left
//! ```
//!
//! Modules, in reading order: `spec` (how a cluster is to be), `registry` (which there are), `record` (what is known of
//! one), `provider` (what every kind can do), `processes` and `docker` (the kinds), `create`,
//! `look`, `scale`, `elastic` (how many workers there should be), `care` and `custody` (what goes on as long as a cluster lives), `terminate`, `remains` (what outlives it), `doctor`,
//! `error`.
#![forbid(unsafe_code)]

mod care;
mod create;
mod custody;
mod docker;
mod doctor;
mod elastic;
mod error;
mod look;
mod processes;
mod provider;
mod record;
mod registry;
mod remains;
mod scale;
mod spec;
mod terminate;

pub use custody::Kept;
pub use docker::DockerError;
pub use doctor::{Finding, Remedy};
pub use elastic::{Elastic, Load, TaskRange};
pub use error::ClusterError;
pub use look::{Look, State};
pub use processes::{NEW_SESSION_VARIABLE, ProcessId};
pub use provider::{Condition, End};
pub use record::{Cluster, Member, Place};
pub use registry::Registry;
pub use remains::{Farewell, Remains};
pub use spec::{ClusterSpec, ProviderKind, WorkerRole};
