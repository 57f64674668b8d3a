//! The job program of the stories, well behaved or not.

use clap::Args;
use gristmill::{Emit, Keyed, Lines, Plan, TextOutput};
use std::convert::Infallible;
use std::process::ExitCode;

/// Counts words.
#[derive(Args)]
struct CountWords {
    /// Files to read
    #[arg(long, required = true)]
    input: Vec<String>,
    /// Directory for the counts
    #[arg(long)]
    output: String,
    /// In total order
    #[arg(long)]
    sorted: bool,
    /// What to do wrong, or in another way
    #[arg(long)]
    mischief: Option<String>,
}

pub(crate) fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &CountWords, plan: &mut Plan) {
    let mischief = args.mischief.clone().unwrap_or_default();
    let Ok(driver) = plan.broadcast(|| Ok::<_, Infallible>(std::process::id().to_string()));
    let counter = match mischief.as_str() {
        "another plan" => format!("lines of process {}", std::process::id()),
        _ => "lines".to_owned(),
    };
    let lines = plan.counter(&counter);
    let words: Keyed<String, u64> =
        plan.read(Lines::at(&args.input)).map(move |line, out: &mut Emit<String, u64>| {
            out.count(lines, 1);
            match mischief.as_str() {
                "panic" => panic!("this line is too much"),
                "hang" => loop {
                    std::thread::park();
                },
                "driver's" => out.emit(&driver, 1),
                _ => {}
            }
            for word in String::from_utf8_lossy(line).split_whitespace() {
                out.emit(word, 1);
            }
        });
    let words = if args.sorted { words.range_partition() } else { words.combine(|sum, count| *sum += count) };
    words
        .reduce(|word, counts, out: &mut Emit<String, u64>| out.emit(word, counts.sum()))
        .write(TextOutput::at(&args.output));
}
