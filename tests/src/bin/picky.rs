//! Counts the lines of two inputs, and skips bad ones of each up to a limit of its own.
#![forbid(unsafe_code)]

use clap::Args;
use gristmill::{Emit, Keyed, Plan, Text, TextOutput};
use std::process::ExitCode;

#[derive(Args)]
struct Picky {
    #[arg(long)]
    first: String,
    #[arg(long)]
    second: String,
    /// So many bad lines of the first input are skipped
    #[arg(long)]
    skip_first: u64,
    /// And of the second
    #[arg(long)]
    skip_second: u64,
    #[arg(long)]
    output: String,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &Picky, plan: &mut Plan) {
    let lines = |plan: &mut Plan, input: &str, limit: u64| -> Keyed<String, u64> {
        let lines = plan.read(Text::at(input)).try_map(|line, out: &mut Emit<String, u64>| {
            if line.starts_with("bad") {
                return Err(format!("{line:?} is no good line"));
            }
            out.emit(line, 1);
            Ok(())
        });
        lines.skip_bad(limit)
    };
    let first = lines(plan, &args.first, args.skip_first);
    let second = lines(plan, &args.second, args.skip_second);
    first
        .union(second)
        .reduce(|line, counts, out: &mut Emit<String, u64>| out.emit(line, counts.sum()))
        .write(TextOutput::at(&args.output));
}
