//! The size of `usize` is the host's, so it cannot be a key.

use gristmill::{Emit, Plan, Text, TextOutput};

fn job(plan: &mut Plan) {
    plan.read(Text::at("in"))
        .map(|line, out: &mut Emit<usize, u64>| out.emit(line.len(), 1))
        .reduce(|length, lines, out: &mut Emit<u64, u64>| out.emit(length as u64, lines.sum()))
        .write(TextOutput::at("out"));
}

fn main() {
    let _ = job;
}
