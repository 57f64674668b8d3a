//! Gristmill: batch MapReduce in Rust. You write map and reduce closures; this crate runs them over data that does
//! not fit in memory, on all cores.
//!
//! ```text
//!  Plan::read(source) -> Dataset -- map --> Keyed -- combine, partition, ... reduce, join --> Keyed -- write(sink)
//!                                             ^                                                 |
//!                                             +------------------- map, reduce again -----------+
//! ```
//! A program's `job` function describes this and returns; then [`main`] runs it, in this process or on a cluster
//! (`--master HOST:PORT`), where workers start the same program for each attempt at a task. Maps that follow each other, or a
//! reduce, run in the same task, record by record; each [`Keyed::reduce`] or [`Keyed::join`] is a shuffle.
//!
//! ```
//! use gristmill::{Dataset, Emit, Keyed, testing};
//!
//! /// Mean length of lines by their first word.
//! fn mean_lengths(lines: Dataset<String>) -> Keyed<String, f64> {
//!     let empty = lines.counter("empty lines");
//!     lines
//!         .map(move |line, out: &mut Emit<String, (u64, u64)>| match line.split_whitespace().next() {
//!             Some(word) => out.emit(word, (line.len() as u64, 1)),
//!             None => out.count(empty, 1),
//!         })
//!         .combine(|sum, (bytes, lines)| *sum = (sum.0 + bytes, sum.1 + lines))
//!         .reduce(|word, sums, out| {
//!             let (bytes, lines) = sums.into_iter().fold((0, 0), |all, sum| (all.0 + sum.0, all.1 + sum.1));
//!             out.emit(word, bytes as f64 / lines as f64);
//!         })
//! }
//!
//! let means = testing::run(["to be", "or", "to"], mean_lengths);
//! assert_eq!(means, [("or".to_owned(), 2.0), ("to".to_owned(), 3.5)]);
//! ```
//!
//! # Records
//! What records, keys and values are made of are [`Datum`]s; keys are [`Key`]s, which have an order. Closures see them
//! borrowed ([`Datum::Ref`]): `String` as `&str`, `Vec<u8>` as `&[u8]`, `(A, B)` as `(A::Ref, B::Ref)`, numbers as
//! themselves. Your own types become data by `#[derive(Serialize, Deserialize, Datum)]`, and keys by adding `Key`.
//!
//! # What to know
//! - The type of `out` is written where nothing else says what is emitted: `out: &mut Emit<String, u64>`.
//! - Closures must be pure: they may be called again for the same record. They may capture whatever follows from the
//!   program's arguments; what only the place where the job is started can know goes through [`Plan::broadcast`].
//! - Values of a key come in the order of their bytes, or of [`Keyed::sort_values_by`]: output does not depend on
//!   the order in which anything was emitted.
//! - A record (key and value) may take up to half of a task's memory.
//!
//! # Reading order
//! [`Plan`] and the sources ([`Lines`], [`Text`], [`Csv`], [`JsonLines`], [`Parquet`], [`Tsv`], [`Records`],
//! [`Sequence`], [`Rows`]); [`Dataset`], [`Emit`],
//! [`Keyed`], [`Values`]; the sinks ([`TextOutput`], [`CsvOutput`], [`JsonLinesOutput`], [`ParquetOutput`], [`TsvOutput`],
//! [`SequenceOutput`], [`RawOutput`]); [`main`];
//! [`testing`]. Below them: `pipe` (how steps are joined), `stages` (inputs listed and cut), `task` (one task), then who runs
//! tasks: `local` (this process), `driver` and `attempt` (a cluster).
#![forbid(unsafe_code)]

/// The README's programs compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

mod attempt;
mod batch;
mod broadcast;
mod columns;
mod counter;
mod dataset;
pub mod datum;
mod driver;
mod emit;
mod error;
mod explain;
mod flags;
mod fold;
mod join;
pub mod key;
mod keyed;
mod local;
mod panics;
mod pipe;
mod plan;
pub mod print;
mod program;
mod progress;
mod reduce;
mod row;
mod sink;
mod size;
mod source;
mod stages;
mod summary;
mod task;
pub mod testing;
mod time_limit;
mod value_form;
mod values;
mod words;

/// Readers of text that have no place of their own in the API, for the fuzz targets.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::sink::tsv::{escape, unescape};
    pub use crate::size::ByteSize;
    pub use crate::source::parquet_rows;
}

/// The crate of [`Batch`]es.
pub use arrow;
pub use batch::Batch;
pub use broadcast::Broadcast;
pub use counter::Counter;
pub use dataset::{Dataset, PartitionedFiles};
pub use datum::{Datum, DecodeError, Place};
pub use emit::Emit;
pub use error::JobError;
pub use flags::job_of_step;
pub use gristmill_dataflow::compression::{Compression, UnknownCompression};
pub use gristmill_derive::{Datum, Key};
pub use gristmill_dfs::Existing;
pub use gristmill_proto::report::{CounterReport, FileReport, OutputReport, Report, StageReport};
pub use key::Key;
pub use keyed::Keyed;
pub use local::{LocalOptions, run_local};
pub use plan::Plan;
pub use print::Print;
pub use program::{Ended, JobResult, main, run, run_attempt};
pub use row::Row;
pub use sink::{
    CsvOutput, Extra, JsonLinesOutput, ParquetBatchOutput, ParquetOutput, PartitionedOutput, RawOutput,
    SequenceOutput, Sink, TextOutput, TsvOutput,
};
pub use source::{
    Bound, Csv, JsonLines, Lines, Parquet, ParquetBatches, Records, Rows, Sequence, Source, Text, Tsv, Uris,
};
pub use values::{OwnedValues, Values};
pub use words::{Words, words};
