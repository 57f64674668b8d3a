//! The targets, one file each.

mod block;
mod block_files;
mod block_report;
mod block_token;
mod caller_token;
mod chunks;
mod compressed;
mod datum;
mod delimited;
mod fixed;
mod frames;
mod fs_path;
mod glob;
mod key;
mod lines;
mod message;
mod names;
mod namespace_rows;
mod parquet;
mod passage;
mod range_cuts;
mod record;
mod replica;
mod run_file;
mod shuffle_token;
mod size;
mod tsv;
mod uri;
mod words;

/// A decoder, or some that belong together, and what they promise.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its file and of the directory of its seeds.
    pub name: &'static str,
    /// Longer inputs show nothing more.
    pub input_bytes_max: usize,
    /// Memory that it may take for any input.
    pub memory_bytes: usize,
    /// Memory that it may take besides for each byte of the input: the decoder's and the target's own.
    pub memory_bytes_per_byte: usize,
    /// Decodes, and panics if a promise is broken.
    pub run: fn(&[u8]),
}

impl Target {
    /// Memory that it may take for `input`.
    pub fn memory_bytes_max(&self, input: &[u8]) -> usize {
        self.memory_bytes + self.memory_bytes_per_byte * input.len()
    }
}

/// All of them.
pub const TARGETS: [Target; 29] = [
    block::TARGET,
    block_files::TARGET,
    block_report::TARGET,
    block_token::TARGET,
    caller_token::TARGET,
    chunks::TARGET,
    compressed::TARGET,
    datum::TARGET,
    delimited::TARGET,
    fixed::TARGET,
    frames::TARGET,
    fs_path::TARGET,
    glob::TARGET,
    key::TARGET,
    lines::TARGET,
    message::TARGET,
    names::TARGET,
    namespace_rows::TARGET,
    parquet::TARGET,
    passage::TARGET,
    range_cuts::TARGET,
    record::TARGET,
    replica::TARGET,
    run_file::TARGET,
    shuffle_token::TARGET,
    size::TARGET,
    tsv::TARGET,
    uri::TARGET,
    words::TARGET,
];
