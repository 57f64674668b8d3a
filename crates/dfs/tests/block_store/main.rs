//! The replicas of a worker: what is kept, what is found out, what is refused.

mod crash;
mod damage;
mod disks;
mod power_loss;
mod replicas;
mod scrubbing;
mod speed;
mod stories;
mod takeover;
