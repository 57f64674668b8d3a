//! Scatters rows over the reduces by chance, and by another in each process: a map that runs again gives each reduce
//! other rows than before, though all together are the same. A reduce waits for a token before it writes.
#![forbid(unsafe_code)]

use clap::Args;
use gristmill::{Emit, Plan, Rows, TextOutput};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

#[derive(Args)]
struct Fickle {
    /// How many rows
    #[arg(long)]
    rows: u64,
    /// Directory of tokens: each attempt at a reduce takes one, of any name, away
    #[arg(long)]
    tokens: PathBuf,
    /// Directory for the rows
    #[arg(long)]
    output: String,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &Fickle, plan: &mut Plan) {
    let chance = RandomState::new();
    let (tokens, passed) = (args.tokens.clone(), AtomicBool::new(false));
    plan.read(Rows::new(args.rows))
        .map(|row, out: &mut Emit<u64, u64>| out.emit(row, 1))
        .partition_by(move |row, partitions| (chance.hash_one(row) % u64::from(partitions)) as u32)
        .reduce(move |row, ones, out: &mut Emit<u64, u64>| {
            while !passed.load(Ordering::Relaxed) {
                passed.store(takes_token(&tokens), Ordering::Relaxed);
            }
            out.emit(row, ones.sum());
        })
        .write(TextOutput::at(&args.output));
}

/// Whether there was one that nobody else has taken.
fn takes_token(tokens: &Path) -> bool {
    let entries = fs::read_dir(tokens).expect("the story makes the directory");
    let taken = entries.flatten().any(|entry| fs::remove_file(entry.path()).is_ok());
    if !taken {
        thread::sleep(Duration::from_millis(5));
    }
    taken
}
