//! What combines two values has to be of their type.

use gristmill::{Emit, Plan, Text, TextOutput};

fn job(plan: &mut Plan) {
    plan.read(Text::at("in"))
        .map(|line, out: &mut Emit<String, u64>| out.emit(line, 1))
        .combine(|sum, n: &str| *sum += n.len() as u64)
        .reduce(|line, ones, out: &mut Emit<String, u64>| out.emit(line, ones.sum()))
        .write(TextOutput::at("out"));
}

fn main() {
    let _ = job;
}
