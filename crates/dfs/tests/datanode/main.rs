//! Stories about core workers, over real sockets: several in one process, with a small client written here.
#![forbid(unsafe_code)]

mod broken_pipelines;
mod client;
mod cluster;
mod limits;
mod local_reads;
mod pipelines;
mod proxy;
mod reads;
mod rebuilds;
mod tokens;
