//! Makes huge values out of small lines, shuffles them, and says what came through.
#![forbid(unsafe_code)]

use clap::Args;
use gristmill::{Emit, Lines, Plan, TextOutput};
use gristmill_tests::{noise, peak_bytes};
use std::process::ExitCode;
use xxhash_rust::xxh3::xxh3_64;

#[derive(Args)]
struct Bulky {
    /// Lines of numbers: a number of bytes, and a seed for them
    #[arg(long)]
    input: String,
    /// Directory for seeds, and the lengths and hashes of their values
    #[arg(long)]
    output: String,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &Bulky, plan: &mut Plan) {
    let values = plan.read(Lines::at(&args.input)).map(|line, out: &mut Emit<u64, Vec<u8>>| {
        let line = std::str::from_utf8(line).expect("digits");
        let (bytes, seed) = line.split_once(' ').expect("two numbers");
        let seed = seed.parse().expect("a seed");
        out.emit(seed, &noise(bytes.parse().expect("a length"), seed));
    });
    values
        .reduce(|seed, mut values, out: &mut Emit<u64, (u64, u64)>| {
            while let Some(value) = values.next() {
                out.emit(seed, (value.len() as u64, xxh3_64(value)));
            }
        })
        .write(TextOutput::at(&args.output));
    plan.afterwards(|_| peak_bytes().to_string());
}
