//! A closure runs on several threads, so it cannot capture what belongs to one.

use gristmill::{Emit, Plan, Text, TextOutput};
use std::rc::Rc;

fn job(plan: &mut Plan) {
    let stop_word = Rc::new("the".to_owned());
    plan.read(Text::at("in"))
        .map(move |line, out: &mut Emit<String, u64>| {
            if line != *stop_word {
                out.emit(line, 1);
            }
        })
        .write(TextOutput::at("out"));
}

fn main() {
    let _ = job;
}
