//! The plan in words, for `--explain`, and its fingerprint.

use crate::error::JobError;
use crate::local::{LocalOptions, PreparedStage, prepare_stages, rules};
use crate::plan::{Origin, PlanState, StageSpec, Target};
use crate::size::{ByteSize, thousands};
use gristmill_dataflow::partition::Partitioner;
use std::fmt::Write;
use xxhash_rust::xxh3::xxh3_128;

/// Stages, shuffles, splits, reducers and memory, one line each.
pub(crate) fn explain(state: &PlanState, options: &LocalOptions) -> Result<String, JobError> {
    let memory = options.memory();
    let stages = prepare_stages(state, options, memory)?;
    let rules = rules(state, options);
    let mut text = format!("plan {}\n", fingerprint(state));
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    for (spec, stage) in state.stages.iter().zip(&stages) {
        line(format!("{}: {}", stage.name, tasks(stage)));
        line(format!("  {}{}", origin(spec), spec.steps.join(" -> ")));
        line(format!("  {}", target(spec, state)));
    }
    for (number, (spec, rule)) in state.shuffles.iter().zip(&rules).enumerate() {
        let (kind, reducers) = (partitioning(&rule.partitioner), rule.partitions);
        line(format!("shuffle {}: {} by {kind} to {reducers} reduce tasks", number + 1, spec.description));
    }
    line(format!(
        "memory: {} in all: {} for each of {} tasks at once, {} for finished runs",
        ByteSize(memory.total_bytes as u64),
        ByteSize(memory.task_bytes as u64),
        options.threads,
        ByteSize(memory.resident_bytes as u64)
    ));
    Ok(text)
}

fn tasks(stage: &PreparedStage) -> String {
    match stage.shuffle {
        Some(_) => format!("{} tasks", stage.tasks),
        None if stage.files == 0 => format!("{} tasks", stage.tasks),
        None => {
            let (files, bytes) = (thousands(stage.files), ByteSize(stage.bytes));
            format!("{} tasks, a split each, of {files} files with {bytes}", thousands(stage.tasks))
        }
    }
}

fn origin(spec: &StageSpec) -> String {
    match spec.origin {
        Origin::Input(_) => String::new(),
        Origin::Shuffle(shuffle) => format!("shuffle {} -> merge -> group -> ", shuffle + 1),
    }
}

fn target(spec: &StageSpec, state: &PlanState) -> String {
    match spec.target {
        Target::Shuffle(shuffle) => format!("to shuffle {}", shuffle + 1),
        Target::Output(output) => format!("to {}", state.outputs[output].uri),
        Target::Nothing => "to nowhere: counters and extra outputs only".to_owned(),
    }
}

fn partitioning(partitioner: &Partitioner) -> &'static str {
    match partitioner {
        Partitioner::Hash => "hash of the key",
        Partitioner::Range => "ranges of keys (sampled)",
        Partitioner::Custom(_) => "the job's own rule",
    }
}

/// The same for the same plan, whatever machine, memory and input files: what a driver and its tasks compare.
pub(crate) fn fingerprint(state: &PlanState) -> String {
    format!("{:032x}", xxh3_128(canonical(state).as_bytes()))
}

/// Everything that makes a plan the plan it is, a line each: what a diff shows when two plans differ.
pub(crate) fn canonical(state: &PlanState) -> String {
    let mut text = String::new();
    write_canonical(state, &mut text).expect("writing to a string does not fail");
    text
}

fn write_canonical(state: &PlanState, out: &mut String) -> std::fmt::Result {
    for (number, stage) in state.stages.iter().enumerate() {
        writeln!(
            out,
            "stage {number}: {:?} -> {} -> {:?}",
            stage.origin,
            stage.steps.join(" -> "),
            stage.target
        )?;
    }
    for (number, shuffle) in state.shuffles.iter().enumerate() {
        let (kind, reducers) = (partitioning(&shuffle.partitioner), shuffle.reducers);
        let combines = shuffle.fold.is_some();
        writeln!(
            out,
            "shuffle {number}: {} by {kind}, {reducers:?}, combine {combines}",
            shuffle.description
        )?;
    }
    for (number, output) in state.outputs.iter().enumerate() {
        let kind = if output.extra { "extra output" } else { "output" };
        writeln!(out, "{kind} {number}: {} at {}", output.format, output.uri)?;
    }
    writeln!(out, "counters: {:?}", state.counters)?;
    writeln!(out, "broadcasts: {}", state.broadcasts.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Emit, Plan, Text, TextOutput};

    fn plan(build: impl FnOnce(&mut Plan)) -> PlanState {
        let mut plan = Plan::new();
        build(&mut plan);
        plan.into_state()
    }

    fn words(reducers: u32) -> PlanState {
        plan(|plan| {
            let words = plan.read(Text::at("in")).map(|line, out: &mut Emit<String, u64>| out.emit(line, 1));
            words
                .reducers(reducers)
                .reduce(|key, counts, out: &mut Emit<String, u64>| out.emit(key, counts.sum()))
                .write(TextOutput::at("out"));
        })
    }

    #[test]
    fn the_same_plan_has_the_same_fingerprint_and_another_has_another() {
        assert_eq!(fingerprint(&words(2)), fingerprint(&words(2)));
        assert_ne!(fingerprint(&words(2)), fingerprint(&words(3)));
        let (two, three) = (canonical(&words(2)), canonical(&words(3)));
        let differing: Vec<_> = two.lines().zip(three.lines()).filter(|(a, b)| a != b).collect();
        assert_eq!(differing.len(), 1, "the diff names the shuffle and nothing else: {differing:?}");
    }
}
