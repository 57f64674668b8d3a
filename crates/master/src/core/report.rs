//! The report of a job: what its winners did, and nobody else.

use gristmill_proto::job::stage::Origin;
use gristmill_proto::report::{CounterReport, FileReport, OutputReport, Report, StageReport};

use super::job::{Job, Stage, task_name};
use super::task::Figures;

/// The manifest of a job whose tasks are all done, as JSON.
pub(super) fn of(job: &Job, at_ms: u64) -> String {
    let mut report = Report {
        job: job.spec.name.clone(),
        job_id: Some(job.id.to_string()),
        elapsed_ms: at_ms.saturating_sub(job.submitted_ms),
        ..Report::default()
    };
    for (name, value) in job.spec.counters.iter().zip(&job.counters) {
        report.counters.push(CounterReport { name: name.clone(), value: *value });
    }
    for (spec, stage) in job.spec.stages.iter().zip(&job.stages) {
        let of_stage = stage_report(&spec.name, stage);
        if spec.origin() == Origin::Input {
            report.read_bytes += of_stage.bytes_in;
        }
        report.bad_records += sum(stage, |figures| figures.bad_records);
        report.spilled_bytes += sum(stage, |figures| figures.spilled_bytes);
        report.shuffled_bytes += of_stage.bytes_shuffled;
        report.written_bytes += of_stage.bytes_out;
        report.stages.push(of_stage);
    }
    let empty = |uri: &String| OutputReport { uri: uri.clone(), bytes: 0, files: Vec::new() };
    report.outputs = job.spec.outputs.iter().map(|output| empty(&output.uri)).collect();
    for won in job.stages.iter().flat_map(|stage| &stage.tasks).filter_map(|task| task.won.as_ref()) {
        for part in &won.parts {
            let (name, bytes, crc32c) = (part.name.clone(), part.bytes, format!("{:08x}", part.crc32c));
            let output = &mut report.outputs[part.output as usize];
            output.files.push(FileReport { name, bytes, crc32c });
            output.bytes += bytes;
        }
    }
    serde_json::to_string_pretty(&report).expect("names and numbers are JSON")
}

fn winners(stage: &Stage) -> impl Iterator<Item = (u32, &Figures)> {
    let tasks = (0u32..).zip(&stage.tasks);
    tasks.filter_map(|(task, state)| state.won.as_ref().map(|won| (task, &won.figures)))
}

fn sum(stage: &Stage, field: fn(&Figures) -> u64) -> u64 {
    winners(stage).map(|(_, figures)| field(figures)).fold(0, u64::wrapping_add)
}

fn stage_report(name: &str, stage: &Stage) -> StageReport {
    let slowest = winners(stage).max_by_key(|(_, figures)| figures.elapsed_ms);
    let bytes_in = sum(stage, |figures| figures.bytes_in);
    let most = winners(stage).map(|(_, figures)| figures.bytes_in).max().unwrap_or(0);
    let tasks = stage.tasks.len() as u64;
    StageReport {
        name: name.to_owned(),
        tasks,
        records_in: sum(stage, |figures| figures.records_in),
        bytes_in,
        groups: sum(stage, |figures| figures.groups),
        records_collected: sum(stage, |figures| figures.records_collected),
        records_shuffled: sum(stage, |figures| figures.records_shuffled),
        bytes_shuffled: sum(stage, |figures| figures.bytes_shuffled),
        records_out: sum(stage, |figures| figures.records_out),
        bytes_out: sum(stage, |figures| figures.bytes_out),
        slowest_task: slowest.map_or(String::new(), |(task, _)| task_name(name, task)),
        slowest_task_ms: slowest.map_or(0, |(_, figures)| figures.elapsed_ms),
        skew: if bytes_in == 0 { 1.0 } else { most as f64 * tasks as f64 / bytes_in as f64 },
        largest_group: winners(stage).map(|(_, figures)| figures.largest_group).max().unwrap_or(0),
    }
}
