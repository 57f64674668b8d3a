//! What every process of a cluster does in the same way, whatever it is there for.
//!
//! Modules: [`machine`] (what there is to use), [`mod@sentence`] (an error as people and other processes are told of it),
//! [`pause`] (between two tries), [`mod@spawn`] (programs that were just written). Bulk connections: [`connect`], [`inbound`] and [`outbound`] (their two directions),
//! [`guests`] (how many there may be), [`listener`] (who comes).
#![forbid(unsafe_code)]

pub mod connect;
pub mod guests;
pub mod inbound;
pub mod listener;
pub mod machine;
pub mod outbound;
pub mod pause;
pub mod sentence;
pub mod spawn;

pub use pause::Pause;
pub use sentence::sentence;
pub use spawn::spawn;
