//! Counts lines; each function of it has a way to go wrong over a line that begins with `bad`.
#![forbid(unsafe_code)]

use clap::{Args, ValueEnum};
use gristmill::{Emit, Keyed, Plan, Text, TextOutput};
use std::process::ExitCode;

#[derive(Args)]
struct Faulty {
    #[arg(long)]
    input: String,
    #[arg(long)]
    output: String,
    /// Which function goes wrong
    #[arg(long, value_enum)]
    fault: Fault,
    /// So many bad lines are skipped, where lines can be skipped
    #[arg(long)]
    skip: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fault {
    Map,
    TryMap,
    /// The process ends on the spot.
    Abort,
    Combine,
    Reduce,
    TryReduce,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &Faulty, plan: &mut Plan) {
    let fault = args.fault;
    let lines = plan.read(Text::at(&args.input));
    let pairs: Keyed<String, u64> = match fault {
        Fault::TryMap | Fault::Abort => {
            let pairs = lines.try_map(move |line, out: &mut Emit<String, u64>| {
                if line.starts_with("bad") {
                    if fault == Fault::Abort {
                        std::process::abort();
                    }
                    return Err(format!("{line:?} is no good line"));
                }
                out.emit(line, 1);
                Ok(())
            });
            match args.skip {
                Some(limit) => pairs.skip_bad(limit),
                None => pairs,
            }
        }
        _ => lines.map(move |line, out| {
            assert!(fault != Fault::Map || !line.starts_with("bad"), "cannot map {line:?}");
            out.emit(line, if line.starts_with("bad") { 13 } else { 1 });
        }),
    };
    let pairs = match fault {
        Fault::Combine => pairs.combine(|sum, count| {
            assert!(count != 13, "cannot combine {sum} and {count}");
            *sum += count;
        }),
        _ => pairs,
    };
    pairs
        .try_reduce(move |line, counts, out: &mut Emit<String, u64>| {
            let bad = line.starts_with("bad");
            assert!(fault != Fault::Reduce || !bad, "cannot reduce {line:?}");
            if bad && fault == Fault::TryReduce {
                return Err("no total for bad lines");
            }
            out.emit(line, counts.sum());
            Ok(())
        })
        .write(TextOutput::at(&args.output));
}
