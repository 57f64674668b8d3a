//! The options that every job program has beside its own.

use crate::local::LocalOptions;
use crate::size::ByteSize;
use clap::Args;
use gristmill_dataflow::memory::MEMORY_BYTES_MIN;
use gristmill_dfs::Existing;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

// No doc comment: clap would show it as the description of the program.
#[derive(Args, Debug)]
#[command(next_help_heading = "Run options")]
pub(crate) struct RunFlags {
    /// Run in this process, on so many threads [default: one a core]
    #[arg(long, value_name = "THREADS", num_args = 0..=1, require_equals = true, value_parser = clap::value_parser!(u16).range(1..))]
    local: Option<Option<u16>>,
    /// Number of reduce tasks, where the job itself does not say [default: one a thread, at least 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    reducers: Option<u32>,
    /// Largest piece of input files that one map task reads, e.g. 16MiB [default: 64MiB, or what memory allows]
    #[arg(long, value_name = "BYTES")]
    split_size: Option<ByteSize>,
    /// Memory for the whole process, e.g. 512MiB [default: half of the machine's or container's]
    #[arg(long, value_name = "BYTES", value_parser = memory_size)]
    memory: Option<ByteSize>,
    /// Where spills go when memory is full [default: the temporary directory]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Replace outputs that exist, at the moment the job commits
    #[arg(long)]
    overwrite: bool,
    /// Name of the job in reports [default: the program's]
    #[arg(long, value_name = "S")]
    name: Option<String>,
    /// Print the job's report as JSON on standard output, and no progress
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the plan and do not run it
    #[arg(long)]
    pub(crate) explain: bool,
}

fn memory_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error: crate::size::SizeError| error.to_string())?;
    let least = ByteSize(MEMORY_BYTES_MIN as u64);
    if size < least { Err(format!("a job needs at least {least}")) } else { Ok(size) }
}

impl RunFlags {
    /// The options of the local runner.
    pub(crate) fn local_options(&self, program: &str, interrupted: Arc<AtomicBool>) -> LocalOptions {
        let standard = LocalOptions::default();
        LocalOptions {
            job: self.name.clone().unwrap_or_else(|| program.to_owned()),
            threads: self.local.flatten().map_or(standard.threads, usize::from),
            memory_bytes: self.memory.map_or(standard.memory_bytes, |size| size.0),
            reducers: self.reducers,
            split_bytes: self.split_size.map(|size| size.0),
            existing: if self.overwrite { Existing::Overwrite } else { Existing::Refuse },
            scratch: self.scratch.clone().unwrap_or(standard.scratch),
            interrupted,
            ..LocalOptions::default()
        }
    }
}
