//! The summary that a job program prints when it is done.

use crate::size::{ByteSize, thousands};
use gristmill_proto::report::{Report, StageReport};
use std::fmt::Write;

/// The report as a person reads it.
pub(crate) fn summary(report: &Report) -> String {
    let mut text = String::new();
    write_summary(report, &mut text).expect("writing to a string does not fail");
    text
}

fn write_summary(report: &Report, out: &mut String) -> std::fmt::Result {
    let seconds = report.elapsed_ms as f64 / 1000.0;
    write!(out, "{} done in {seconds:.2} s", report.job)?;
    match &report.job_id {
        Some(id) => writeln!(out, " (job {id})")?,
        None => writeln!(out)?,
    }
    for stage in &report.stages {
        write_stage(stage, out)?;
    }
    writeln!(
        out,
        "  read {}, shuffled {}, spilled {}, wrote {}",
        ByteSize(report.read_bytes),
        ByteSize(report.shuffled_bytes),
        ByteSize(report.spilled_bytes),
        ByteSize(report.written_bytes),
    )?;
    for counter in &report.counters {
        writeln!(out, "  {}: {}", counter.name, thousands(counter.value))?;
    }
    if report.bad_records > 0 {
        let plural = if report.bad_records == 1 { "" } else { "s" };
        writeln!(out, "  skipped {} bad record{plural}", thousands(report.bad_records))?;
    }
    for note in &report.notes {
        writeln!(out, "  note: {note}")?;
    }
    for output in &report.outputs {
        let plural = if output.files.len() == 1 { "" } else { "s" };
        writeln!(
            out,
            "  output {}: {} file{plural}, {}",
            output.uri,
            thousands(output.files.len() as u64),
            ByteSize(output.bytes)
        )?;
    }
    Ok(())
}

fn write_stage(stage: &StageReport, out: &mut String) -> std::fmt::Result {
    let plural = if stage.tasks == 1 { "" } else { "s" };
    write!(
        out,
        "  {:<9} {} task{plural}, {} records in",
        stage.name,
        stage.tasks,
        thousands(stage.records_in)
    )?;
    if stage.groups > 0 {
        write!(out, ", {} groups", thousands(stage.groups))?;
    }
    if stage.records_collected > 0 {
        write!(out, ", {} emitted", thousands(stage.records_collected))?;
        if stage.records_shuffled < stage.records_collected {
            write!(out, " and combined to {}", thousands(stage.records_shuffled))?;
        }
    }
    if stage.records_out > 0 {
        write!(out, ", {} records out", thousands(stage.records_out))?;
    }
    if stage.tasks > 1 {
        let seconds = stage.slowest_task_ms as f64 / 1000.0;
        write!(out, "; slowest {} {seconds:.2} s; skew {:.1}", stage.slowest_task, stage.skew)?;
    }
    writeln!(out)
}
