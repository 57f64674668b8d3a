//! A result that is neither reduced nor written would be lost without a word.
#![deny(unused_must_use)]

use gristmill::{Emit, Plan, Text};

fn job(plan: &mut Plan) {
    plan.read(Text::at("in"))
        .map(|line, out: &mut Emit<String, u64>| out.emit(line, 1))
        .reduce(|line, ones, out: &mut Emit<String, u64>| out.emit(line, ones.sum()));
}

fn main() {
    let _ = job;
}
