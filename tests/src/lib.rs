//! What the stories in `tests/` share: job programs as processes, places to run them in, texts to run them on, and
//! outputs to compare.
#![forbid(unsafe_code)]

mod blocks;
mod campaign;
mod cluster;
mod clusters;
mod containers;
mod enclave;
mod engine;
mod gates;
mod gateway;
mod home;
mod job;
mod memory;
mod mishap;
mod moto;
mod mount;
mod output;
mod patience;
mod process;
mod processes;
mod program;
mod raw_job;
mod s3;
mod scenario;
mod soak;
mod spot;
mod tally;
mod text;

pub use blocks::{block_files, flip_bit, sums_of};
pub use campaign::Campaign;
pub use cluster::{Clients, Cluster, ClusterOptions};
pub use clusters::Clusters;
pub use containers::{ContainerCluster, Containers, docker, image};
pub use enclave::Enclave;
pub use engine::Engine;
pub use gates::{gated_image, gated_script, stubborn_script};
pub use gateway::Passed;
pub use home::Home;
pub use job::{Job, file_uri, over_stages};
pub use memory::peak_bytes;
pub use mishap::{Mishap, Octet};
pub use moto::Moto;
pub use mount::SmallDisk;
pub use output::{Output, bytes_of};
pub use patience::{patiently, patiently_for};
pub use process::Process;
pub use processes::{children_of, processes_of, state_of};
pub use program::{Ended, Program, Running, path_of};
pub use raw_job::submit_raw;
pub use s3::S3;
pub use scenario::{Component, Fault, Phase, Scenario};
pub use soak::{Baseline, Excess};
pub use spot::{Cost, Loss, Spot};
pub use tally::Tally;
pub use text::{Dice, corpus, distinct_words, noise, word_counts};
