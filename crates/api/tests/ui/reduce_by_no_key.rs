//! A type that is a `Datum` can be written, but is no key before `Key` is derived too.

use gristmill::{Datum, Emit, Plan, Text, TextOutput};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Datum)]
struct Site {
    name: String,
}

fn job(plan: &mut Plan) {
    plan.read(Text::at("in"))
        .map(|line, out: &mut Emit<Site, u64>| out.emit(Site { name: line.to_owned() }, 1))
        .reduce(|site, ones, out: &mut Emit<String, u64>| out.emit(&site.name, ones.sum()))
        .write(TextOutput::at("out"));
}

fn main() {
    let _ = job;
}
