//! The plan in words, for `--explain`, and its fingerprint.

use crate::error::JobError;
use crate::local::{LocalOptions, prepare_stages};
use crate::plan::{Origin, PlanState, StageSpec, Target};
use crate::size::{ByteSize, thousands};
use crate::stages::{PreparedStage, Stages};
use gristmill_dataflow::partition::Partitioner;
use std::fmt::Write;
use xxhash_rust::xxh3::xxh3_128;

/// What a laptop would do.
pub(crate) fn explain_local(state: &PlanState, options: &LocalOptions) -> Result<String, JobError> {
    let memory = options.memory();
    let stages = prepare_stages(state, options, memory)?;
    let mut text = explain(state, &stages);
    let (total, task) = (ByteSize(memory.total_bytes as u64), ByteSize(memory.task_bytes as u64));
    let (threads, resident) = (options.threads, ByteSize(memory.resident_bytes as u64));
    text.push_str(&format!(
        "memory: {total} in all: {task} for each of {threads} tasks at once, {resident} for finished runs\n"
    ));
    Ok(text)
}

/// Stages, shuffles, splits and reducers, one line each.
pub(crate) fn explain(state: &PlanState, prepared: &Stages) -> String {
    let mut text = format!("plan {}\n", fingerprint(&canonical(state)));
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    for (spec, stage) in state.stages.iter().zip(&prepared.stages) {
        line(format!("{}: {}", stage.name, tasks(stage)));
        line(format!("  {}{}", origin(spec), spec.steps.join(" -> ")));
        line(format!("  {}", target(spec, state)));
        stage.notes.iter().for_each(|note| line(format!("  note: {note}")));
    }
    for (number, (spec, rule)) in state.shuffles.iter().zip(&prepared.rules).enumerate() {
        let (kind, reducers) = (partitioning(&rule.partitioner), rule.partitions);
        line(format!("shuffle {}: {} by {kind} to {reducers} reduce tasks", number + 1, spec.description));
    }
    text
}

fn tasks(stage: &PreparedStage) -> String {
    match stage.shuffle {
        Some(_) => format!("{} tasks", stage.tasks),
        None if stage.files == 0 => format!("{} tasks", stage.tasks),
        None => {
            let (files, bytes) = (thousands(stage.files), ByteSize(stage.bytes));
            let plural = if stage.files == 1 { "" } else { "s" };
            format!("{} tasks, a split each, of {files} file{plural} with {bytes}", thousands(stage.tasks))
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

/// Of a plan's canonical text: the same for the same plan, whatever machine, memory and input files. What a driver and
/// its attempts compare.
pub(crate) fn fingerprint(canonical: &str) -> String {
    format!("{:032x}", xxh3_128(canonical.as_bytes()))
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
        writeln!(out, "{kind} {number}: {} of {} at {}", output.format, output.record, output.uri)?;
    }
    writeln!(out, "counters: {:?}", state.counters)?;
    for (number, broadcast) in state.broadcasts.iter().enumerate() {
        writeln!(out, "broadcast {number}: {} in {} bytes", broadcast.value, broadcast.bytes.len())?;
    }
    Ok(())
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
        assert_eq!(fingerprint(&canonical(&words(2))), fingerprint(&canonical(&words(2))));
        assert_ne!(fingerprint(&canonical(&words(2))), fingerprint(&canonical(&words(3))));
        let (two, three) = (canonical(&words(2)), canonical(&words(3)));
        let differing: Vec<_> = two.lines().zip(three.lines()).filter(|(a, b)| a != b).collect();
        assert_eq!(differing.len(), 1, "the diff names the shuffle and nothing else: {differing:?}");
    }
}
