//! The targets, one file each.

mod block;
mod block_token;
mod caller_token;
mod chunks;
mod datum;
mod fixed;
mod frames;
mod glob;
mod key;
mod lines;
mod message;
mod record;
mod run_file;
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
pub const TARGETS: [Target; 17] = [
    block::TARGET,
    block_token::TARGET,
    caller_token::TARGET,
    chunks::TARGET,
    datum::TARGET,
    fixed::TARGET,
    frames::TARGET,
    glob::TARGET,
    key::TARGET,
    lines::TARGET,
    message::TARGET,
    record::TARGET,
    run_file::TARGET,
    size::TARGET,
    tsv::TARGET,
    uri::TARGET,
    words::TARGET,
];
