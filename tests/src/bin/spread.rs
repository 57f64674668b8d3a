//! Groups numbers by keys of which there are about as many as numbers; or of which one has half of them.
#![forbid(unsafe_code)]

use clap::Args;
use gristmill::{Emit, Keyed, Plan, Rows, TextOutput};
use gristmill_tests::peak_bytes;
use std::process::ExitCode;

#[derive(Args)]
struct Spread {
    /// How many numbers
    #[arg(long)]
    rows: u64,
    /// Every even number has the key 0
    #[arg(long)]
    hot: bool,
    /// Directory for keys, how many numbers each has, and their sum
    #[arg(long)]
    output: String,
}

/// Odd, so that multiplying by it maps numbers to numbers one to one, and scatters them.
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &Spread, plan: &mut Plan) {
    let hot = args.hot;
    let numbers: Keyed<u64, u64> = plan.read(Rows::new(args.rows)).map(move |row, out| {
        let key = if hot && row % 2 == 0 { 0 } else { row.wrapping_mul(SCATTER) };
        out.emit(key, row);
    });
    numbers
        .reduce(|key, mut rows, out: &mut Emit<u64, (u64, u64)>| {
            let (mut count, mut sum) = (0, 0);
            while let Some(row) = rows.next() {
                (count, sum) = (count + 1, sum + row);
            }
            out.emit(key, (count, sum));
        })
        .write(TextOutput::at(&args.output));
    plan.afterwards(|report| format!("{} {}", peak_bytes(), report.spilled_bytes));
}
