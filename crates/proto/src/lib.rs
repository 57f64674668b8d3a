//! What crosses a wire or outlives a process.
//!
//! ```text
//!   client ── namespace ──> master <── attendance ── worker      control: gRPC
//!   client ── bulk ──> worker ── bulk ──> worker                 bytes: framed TCP
//!   master ── record ──> its store                               disk
//! ```
//!
//! Modules, in reading order: [`ids`], the messages ([`namespace`], [`attendance`], [`record`], [`messages`]), [`bulk`]
//! (frames around raw bytes), [`chunks`] (their checksums), [`handover`] (open files over a Unix socket), [`auth`] (who may
//! do what).
#![forbid(unsafe_code)]

pub mod auth;
pub mod bulk;
pub mod chunks;
pub mod handover;
pub mod ids;

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
    pub(crate) mod bulk {
        tonic::include_proto!("gristmill.bulk.v1");
    }
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
    pub use crate::generated::bulk::*;
}
