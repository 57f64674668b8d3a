//! Every decoder of the repository under random and coverage-guided input.
//!
//! ```text
//!   fuzz/corpus/TARGET/* ──> mutated at random, some thousand times ──> Target     cargo test
//!                       └──> libFuzzer, guided by coverage, for hours ──> Target   fuzz/run
//! ```
//!
//! A [`Target`] is a function of bytes that panics if a decoder does not keep its promises: that it takes bytes or
//! refuses them with a sentence, that what it takes is written and read again as the same, that it allocates in
//! proportion to what it is given. One file in `targets` each; a new one joins [`TARGETS`] and gets a directory of
//! seeds. `CONTRIBUTING.md` says how to run them.
#![forbid(unsafe_code)]

mod held_file;
mod input;
mod mending;
pub mod mutation;
mod targets;

pub use targets::{TARGETS, Target};
