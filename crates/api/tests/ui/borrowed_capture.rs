//! A closure outlives the function that builds the plan, so it has to own what it captures.

use gristmill::{Emit, Plan, Text, TextOutput};

struct Args {
    shortest: usize,
}

fn job(args: &Args, plan: &mut Plan) {
    plan.read(Text::at("in"))
        .map(|line, out: &mut Emit<String, u64>| {
            if line.len() >= args.shortest {
                out.emit(line, 1);
            }
        })
        .write(TextOutput::at("out"));
}

fn main() {
    let _ = job;
}
