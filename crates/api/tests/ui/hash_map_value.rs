//! A hash map has no stable order, so it cannot be a value.

use gristmill::{Emit, Plan, SequenceOutput, Text};
use std::collections::HashMap;

fn job(plan: &mut Plan) {
    plan.read(Text::at("in"))
        .map(|line, out: &mut Emit<String, HashMap<String, u64>>| out.emit(line, HashMap::new()))
        .write(SequenceOutput::at("out"));
}

fn main() {
    let _ = job;
}
