//! Map outputs cross the network: what is fetched is what a local merge reads, or the failure is told to the master.

mod cluster;
mod damage;
mod failures;
mod fetches;
mod keeps;
mod liar;
mod liars;
mod limits;
mod stores;
