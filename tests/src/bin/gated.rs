//! Counts numbers, and does not get far before a certain file exists: a job that is still running whenever a
//! story looks at it.
#![forbid(unsafe_code)]

use clap::Args;
use gristmill::{Emit, Plan, Rows, TextOutput};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

#[derive(Args)]
struct Gated {
    /// How many numbers to count
    #[arg(long)]
    rows: u64,
    /// The file that has to exist
    #[arg(long)]
    gate: PathBuf,
    /// The first record waits for the file, and looks at nothing else meanwhile
    #[arg(long)]
    stuck: bool,
    /// A file for which the first group waits, too
    #[arg(long)]
    reduce_gate: Option<PathBuf>,
    /// Directory for the counts of the last digits
    #[arg(long)]
    output: String,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &Gated, plan: &mut Plan) {
    let gate = Gate { path: args.gate.clone(), stuck: args.stuck, open: AtomicBool::new(false) };
    let second = args.reduce_gate.clone();
    let second = second.map(|path| Gate { path, stuck: true, open: AtomicBool::new(false) });
    plan.read(Rows::new(args.rows))
        .map(move |row, out: &mut Emit<u64, u64>| {
            gate.pass();
            out.emit(row % 10, 1);
        })
        .reduce(move |digit, ones, out: &mut Emit<u64, u64>| {
            if let Some(gate) = &second {
                gate.pass();
            }
            out.emit(digit, ones.sum());
        })
        .write(TextOutput::at(&args.output));
}

struct Gate {
    path: PathBuf,
    stuck: bool,
    open: AtomicBool,
}

impl Gate {
    /// Passes at once when the gate is open, and slowly, or not at all, when it is not.
    fn pass(&self) {
        while !self.open.load(Ordering::Relaxed) {
            self.open.store(self.path.exists(), Ordering::Relaxed);
            thread::sleep(Duration::from_micros(200));
            if !self.stuck {
                return;
            }
        }
    }
}
