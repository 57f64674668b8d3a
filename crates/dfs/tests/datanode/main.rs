//! Stories about core workers, over real sockets: several in one process, with a small client, a master that says what
//! a test wants, and a network that fails.
#![forbid(unsafe_code)]

mod attendance;
mod broken_pipelines;
mod client;
mod cluster;
mod limits;
mod local_reads;
mod master;
mod orders;
mod pipelines;
mod proxy;
mod reads;
mod rebuilds;
mod tokens;
