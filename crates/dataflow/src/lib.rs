//! One task from input to committed output. Bytes only: no type of a job's author, no job, no stage graph.
//!
//! ```text
//!  split -> read -> (author's map) -> map_output:  partition -> combine | sort -> run (spill) -> merge
//!                                                                                   |
//!                                         one run for each map task, a segment for each reduce partition
//!                                                                                   |
//!                                   (on a cluster: detached, served by the worker, fetched by reduce attempts)
//!                                                                                   |
//!           shuffle: parts of all map outputs -> merge -> group -> (author's reduce) -> part -> commit
//! ```
//! Modules in reading order: [`memory`] (who may use how much), [`split`], [`read`] with [`compression`], [`attempt`] (a task's one
//! try, and its `position`), [`map_output`] with [`partition`], `combine` (`cells`, [`fold`]), `sort` ([`idle`]); [`run`], `run_writer`
//! and `cursor`, [`run_file`] over [`block`]; [`scratch`]; `merge`, [`range`], [`shuffle`], [`group`] ([`group_buffer`]); [`part`] and [`commit`]. [`care`] is
//! what attempts take after others have died. Tests stop attempts where [`hold`] says.
#![forbid(unsafe_code)]

pub mod attempt;
pub mod block;
pub mod care;
mod cells;
mod combine;
pub mod commit;
pub mod compression;
mod cursor;
pub mod digest;
pub mod fold;
pub mod group;
pub mod group_buffer;
pub mod hold;
pub mod idle;
pub mod map_output;
pub mod memory;
mod merge;
pub mod part;
pub mod partition;
mod position;
mod prefix;
pub mod range;
pub mod read;
pub mod run;
pub mod run_file;
mod run_writer;
pub mod scratch;
pub mod shuffle;
mod sort;
pub mod split;
mod varint;

pub use merge::MergeError;
