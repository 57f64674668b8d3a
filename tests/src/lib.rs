//! What the stories in `tests/` share: job programs as processes, places to run them in, texts to run them on, and
//! outputs to compare.
#![forbid(unsafe_code)]

mod blocks;
mod cluster;
mod home;
mod memory;
mod mount;
mod output;
mod patience;
mod program;
mod text;

pub use blocks::{block_files, flip_bit, sums_of};
pub use cluster::{Cluster, ClusterOptions};
pub use home::Home;
pub use memory::peak_bytes;
pub use mount::SmallDisk;
pub use output::{Output, bytes_of};
pub use patience::{patiently, patiently_for};
pub use program::{Ended, Program, Running};
pub use text::{Dice, corpus, distinct_words, noise, word_counts};
