//! The master's half of the DFS: what files there are, and where their blocks should be.

pub mod namespace;
