//! A type of one's own needs a derive before it can be a value.

use gristmill::{Emit, Plan, Text, TextOutput};

struct Visit {
    seconds: u64,
}

fn job(plan: &mut Plan) {
    plan.read(Text::at("in"))
        .map(|line, out: &mut Emit<String, Visit>| out.emit(line, Visit { seconds: 1 }))
        .reduce(|site, visits, out: &mut Emit<String, u64>| {
            out.emit(site, visits.into_iter().map(|visit| visit.seconds).sum())
        })
        .write(TextOutput::at("out"));
}

fn main() {
    let _ = job;
}
