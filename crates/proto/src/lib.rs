//! What crosses a wire or outlives a process.
//!
//! ```text
//!   client ── namespace ──> master <── attendance ── worker      control: gRPC
//!   client ── bulk ──> worker ── bulk ──> worker                 bytes: framed TCP
//!   master ── record ──> its store                               disk
//! ```
//!
//! Modules, in reading order: [`ids`], the messages ([`namespace`], [`attendance`], [`record`], [`messages`]), [`bulk`]
//! (frames around raw bytes), [`chunks`] (their checksums), [`handover`] (open files over a Unix socket), [`passage`]
//! (to a worker through the master's port), [`auth`] (who may do what), [`report`] (what a job did),
//! [`job_history`] and [`cluster_record`] (what jobs and clusters did, for later), [`consumed`] (what a reduce attempt has
//! read, in 16 bytes).
#![forbid(unsafe_code)]

pub mod auth;
pub mod bulk;
pub mod chunks;
pub mod cluster_record;
pub mod consumed;
pub mod handover;
pub mod ids;
pub mod job_history;
pub mod passage;
pub mod report;
pub mod wall_clock;

/// Version of all protocols of this build. Both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 1;

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    pub(crate) mod namespace {
        tonic::include_proto!("gristmill.namespace.v1");
    }
    pub(crate) mod attendance {
        tonic::include_proto!("gristmill.attendance.v1");
    }
    pub(crate) mod record {
        tonic::include_proto!("gristmill.record.v1");
    }
    // Messages of these packages hold each other's: prost finds them by the packages' own tree of modules.
    pub(crate) mod gristmill {
        pub(crate) mod bulk {
            pub(crate) mod v1 {
                tonic::include_proto!("gristmill.bulk.v1");
            }
        }
        pub(crate) mod job {
            pub(crate) mod v1 {
                tonic::include_proto!("gristmill.job.v1");
            }
        }
        pub(crate) mod task {
            pub(crate) mod v1 {
                tonic::include_proto!("gristmill.task.v1");
            }
        }
        pub(crate) mod attempt {
            pub(crate) mod v1 {
                tonic::include_proto!("gristmill.attempt.v1");
            }
        }
        pub(crate) mod cluster {
            pub(crate) mod v1 {
                tonic::include_proto!("gristmill.cluster.v1");
            }
        }
        pub(crate) mod job_record {
            pub(crate) mod v1 {
                tonic::include_proto!("gristmill.job_record.v1");
            }
        }
    }
}

/// Jobs: between drivers, users and the master (`proto/job.proto`).
pub mod job {
    pub use crate::generated::gristmill::job::v1::*;
}
/// Attempts: between workers and the master (`proto/task.proto`).
pub mod task {
    pub use crate::generated::gristmill::task::v1::*;
}
/// Between a worker and the process that is an attempt (`proto/attempt.proto`).
pub mod attempt {
    pub use crate::generated::gristmill::attempt::v1::*;
}
/// A cluster's steps, its life and its end: between users, nodes and the master (`proto/cluster.proto`).
pub mod cluster {
    pub use crate::generated::gristmill::cluster::v1::*;
}
/// What the master keeps of jobs in its store (`proto/job_record.proto`).
pub mod job_record {
    pub use crate::generated::gristmill::job_record::v1::*;
}

/// Messages between clients and the namenode (`proto/namespace.proto`).
pub mod namespace {
    pub use crate::generated::namespace::*;
}
/// Messages between core workers and the master (`proto/attendance.proto`).
pub mod attendance {
    pub use crate::generated::attendance::*;
}
/// What the namenode keeps in its store (`proto/record.proto`).
pub mod record {
    pub use crate::generated::record::*;
}
/// Headers of the bulk protocol (`proto/bulk.proto`).
pub mod messages {
    pub use crate::generated::gristmill::bulk::v1::*;
}
