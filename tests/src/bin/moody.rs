//! A job program whose plan is another one each time: it looks at the clock, at chance, or at its environment.
#![forbid(unsafe_code)]

use clap::{Args, ValueEnum};
use gristmill::{Emit, Plan, Rows, TextOutput};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::ExitCode;
use std::time::SystemTime;

#[derive(Args)]
struct Moody {
    /// On what the plan depends
    #[arg(long, value_enum)]
    mood: Mood,
    /// Directory for nothing of use
    #[arg(long)]
    output: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mood {
    Clock,
    Chance,
    Environment,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &Moody, plan: &mut Plan) {
    let mood = match args.mood {
        Mood::Clock => format!("{:?}", SystemTime::now()),
        Mood::Chance => RandomState::new().build_hasher().finish().to_string(),
        Mood::Environment => format!("{:?}", std::env::var_os("GRISTMILL_MASTER")),
    };
    let rows = plan.read(Rows::new(100));
    let counter = rows.counter(&format!("rows in the mood {mood}"));
    rows.map(move |row, out: &mut Emit<u64, u64>| {
        out.count(counter, 1);
        out.emit(row, 1);
    })
    .reduce(|row, ones, out: &mut Emit<u64, u64>| out.emit(row, ones.sum()))
    .write(TextOutput::at(&args.output));
}
