//! `status`: what has become of a job; and how its state is shown elsewhere.

use clap::Args;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::{JobStatus, StageStatus, job_status::State};
use serde_json::{Value, json};

use super::client::{JobsClient, is_ended};
use super::find::find;
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fs::format::{counted, duration, size, time};

/// Shows what has become of a job: its state and the reason, its stages, counters, warnings and outputs
#[derive(Args)]
pub(crate) struct Status {
    /// The job
    job: String,
}

impl Status {
    pub(crate) fn run(self, jobs: &JobsClient, console: &mut Console) -> Result<Exit, Failure> {
        let status = jobs.status(find(jobs, &self.job)?)?;
        if console.json {
            console.object(&object(&status))?;
        } else {
            console.lines(lines(&status))?;
        }
        Ok(Exit::Done)
    }
}

/// The id as it is displayed.
pub(crate) fn id(status: &JobStatus) -> String {
    JobId::from_wire(&status.job).map_or_else(|| "?".to_owned(), |job| job.to_string())
}

/// `RUNNING`, as it is shown.
pub(crate) fn state(status: &JobStatus) -> &'static str {
    match status.state() {
        State::Unspecified => "UNKNOWN",
        State::Preparing => "PREPARING",
        State::Running => "RUNNING",
        State::Committing => "COMMITTING",
        State::Done => "DONE",
        State::Failed => "FAILED",
        State::Killed => "KILLED",
    }
}

/// How long a job took, or, by this machine's clock, has taken.
pub(crate) fn elapsed_ms(status: &JobStatus, now_ms: u64) -> u64 {
    let end_ms = if is_ended(status) { status.ended_ms } else { now_ms };
    end_ms.saturating_sub(status.submitted_ms)
}

fn lines(status: &JobStatus) -> Vec<String> {
    // A reason may have lines, as of a diff between two plans.
    let mut reason = status.reason.lines();
    let because = reason.next().map_or_else(String::new, |first| format!(": {first}"));
    let mut lines = vec![
        format!("Job       {}", id(status)),
        format!("Name      {}", status.name),
        format!("State     {}{because}", state(status)),
    ];
    lines.extend(reason.map(|more| format!("          {more}")));
    lines.extend([
        format!("Owner     {}, queue {}, priority {}", status.user, queue(status), status.priority),
        format!("Program   {}", status.program),
        format!("Submitted {}{}", time(status.submitted_ms, true), course(status)),
    ]);
    section(&mut lines, "Stages", status.stages.iter().map(stage_line));
    let counter = |counter: &gristmill_proto::job::Counter| format!("{:<40} {}", counter.name, counter.value);
    section(&mut lines, "Counters", status.counters.iter().map(counter));
    section(&mut lines, "Warnings", status.warnings.iter().cloned());
    section(&mut lines, "Outputs", outputs(status).into_iter());
    lines
}

/// A size that stands among other numbers.
pub(crate) fn bytes_of(bytes: u64) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { size(bytes, true) }
}

fn section(lines: &mut Vec<String>, title: &str, entries: impl Iterator<Item = String>) {
    let mut entries = entries.peekable();
    if entries.peek().is_some() {
        lines.push(format!("{title}:"));
        lines.extend(entries.map(|entry| format!("  {entry}")));
    }
}

fn queue(status: &JobStatus) -> &str {
    if status.queue.is_empty() { "default" } else { &status.queue }
}

/// When it began and ended, as far as it did.
fn course(status: &JobStatus) -> String {
    let since = |at_ms: u64| duration(at_ms.saturating_sub(status.submitted_ms));
    let mut course = String::new();
    if status.started_ms > 0 {
        course.push_str(&format!(", first attempt after {}", since(status.started_ms)));
    }
    if status.ended_ms > 0 {
        course.push_str(&format!(", ended after {}", since(status.ended_ms)));
    }
    course
}

/// One stage: tasks first, then what went wrong, then how much it was.
fn stage_line(stage: &StageStatus) -> String {
    let mut tasks = format!("{} of {} done", stage.done, stage.tasks);
    for (count, what) in
        [(stage.running, "running"), (stage.failed_attempts, "failed"), (stage.lost_attempts, "lost")]
    {
        if count > 0 {
            tasks.push_str(&format!(", {count} {what}"));
        }
    }
    if stage.twins > 0 {
        tasks.push_str(&format!(", {} ({} won)", counted(stage.twins.into(), "twin"), stage.twins_won));
    }
    let of = match stage.input_bytes {
        0 => String::new(),
        bytes => format!(" of {}", bytes_of(bytes)),
    };
    let near = match (stage.local, stage.rack_local) {
        (0, 0) => String::new(),
        (local, 0) => format!(", {local} near their input"),
        (local, rack) => format!(", {local} near their input, {rack} in its rack"),
    };
    format!("{:<10} {tasks}; {} records, {}{of}{near}", stage.name, stage.records, bytes_of(stage.bytes))
}

/// The outputs that the report of a finished job names.
fn outputs(status: &JobStatus) -> Vec<String> {
    let report = report(status);
    let of = |output: &Value| {
        let files = counted(output["files"].as_array().map_or(0, Vec::len) as u64, "file");
        let bytes = bytes_of(output["bytes"].as_u64().unwrap_or_default());
        format!("{} {bytes} in {files}", output["uri"].as_str().unwrap_or("?"))
    };
    report["outputs"].as_array().map_or_else(Vec::new, |outputs| outputs.iter().map(of).collect())
}

/// The report of a job that is done; nothing of others, and nothing that is not JSON.
fn report(status: &JobStatus) -> Value {
    match serde_json::from_str(&status.report_json) {
        Ok(report) => report,
        Err(error) => {
            if !status.report_json.is_empty() {
                tracing::warn!(job = %id(status), %error, "the job's report is damaged");
            }
            Value::Null
        }
    }
}

/// A job for programs.
pub(crate) fn object(status: &JobStatus) -> Value {
    json!({
        "job": id(status),
        "name": status.name,
        "user": status.user,
        "queue": queue(status),
        "priority": status.priority,
        "program": status.program,
        "state": state(status),
        "reason": status.reason,
        "submitted_ms": status.submitted_ms,
        "started_ms": status.started_ms,
        "committing_ms": status.committing_ms,
        "ended_ms": status.ended_ms,
        "stages": status.stages.iter().map(stage_object).collect::<Vec<_>>(),
        "counters": counters(status),
        "warnings": status.warnings,
        "report": report(status),
        "version": status.version,
    })
}

/// The counters in the form that a job's report has.
pub(crate) fn counters(status: &JobStatus) -> Vec<Value> {
    let counters = status.counters.iter();
    counters.map(|counter| json!({ "name": counter.name, "value": counter.value })).collect()
}

fn stage_object(stage: &StageStatus) -> Value {
    json!({
        "name": stage.name,
        "tasks": stage.tasks,
        "running": stage.running,
        "done": stage.done,
        "failed_attempts": stage.failed_attempts,
        "lost_attempts": stage.lost_attempts,
        "twins": stage.twins,
        "twins_won": stage.twins_won,
        "records": stage.records,
        "bytes": stage.bytes,
        "input_bytes": stage.input_bytes,
        "local": stage.local,
        "rack_local": stage.rack_local,
        "started_ms": stage.started_ms,
        "ended_ms": stage.ended_ms,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use gristmill_proto::job::Counter;

    pub(crate) fn a_job(state: State) -> JobStatus {
        let map = StageStatus {
            name: "map 1".to_owned(),
            tasks: 20,
            running: 2,
            done: 12,
            failed_attempts: 1,
            lost_attempts: 3,
            twins: 2,
            twins_won: 1,
            records: 3000,
            bytes: 3 << 20,
            input_bytes: 4 << 20,
            local: 11,
            ..StageStatus::default()
        };
        let reduce = StageStatus { name: "reduce 1".to_owned(), tasks: 4, ..StageStatus::default() };
        JobStatus {
            job: vec![0xab; 16].into(),
            name: "words\u{1b}[2J".to_owned(),
            user: "ann".to_owned(),
            state: state.into(),
            reason: "it waits for workers".to_owned(),
            stages: vec![map, reduce],
            submitted_ms: 951_782_400_000,
            started_ms: 951_782_400_300,
            counters: vec![Counter { name: "words too short".to_owned(), value: 7 }],
            warnings: vec!["slow".to_owned()],
            ..JobStatus::default()
        }
    }

    #[test]
    fn a_running_job_says_what_it_does_and_what_it_waits_for() {
        let text = lines(&a_job(State::Running)).join("\n");
        for part in [
            "Job       abababab-abab-abab-abab-abababababab",
            "State     RUNNING: it waits for workers",
            "Owner     ann, queue default, priority 0",
            "Submitted 2000-02-29 00:00:00, first attempt after 300 ms",
            "map 1      12 of 20 done, 2 running, 1 failed, 3 lost, 2 twins (1 won); 3000 records, 3.0 MiB of 4.0 MiB, 11 near",
            "reduce 1   0 of 4 done; 0 records",
            "words too short                          7",
            "Warnings:\n  slow",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("Outputs"), "there are none yet");
    }

    #[test]
    fn a_finished_job_says_where_its_results_are() {
        let report_json = r#"{"outputs":[{"uri":"dfs:///out","bytes":2048,"files":[{},{}]}]}"#.to_owned();
        let status = JobStatus { report_json, ..a_job(State::Done) };
        assert!(lines(&status).join("\n").contains("Outputs:\n  dfs:///out 2.0 KiB in 2 files"));
        let report_json = r#"{"outputs":[{"uri":"dfs:///out","bytes":7,"files":[{}]}]}"#.to_owned();
        let status = JobStatus { report_json, ..status };
        assert!(lines(&status).join("\n").ends_with("dfs:///out 7 B in 1 file"));
        assert_eq!((bytes_of(18), bytes_of(1024)), ("18 B".to_owned(), "1.0 KiB".to_owned()));
        let object = object(&status);
        assert_eq!(object["report"]["outputs"][0]["uri"], "dfs:///out");
        assert_eq!((&object["state"], &object["stages"][0]["lost_attempts"]), (&json!("DONE"), &json!(3)));
    }

    #[test]
    fn a_terminal_gets_no_orders_from_a_jobs_name() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = crate::Streams {
            input: Box::new(std::io::empty()),
            out: Box::new(&mut out),
            err: Box::new(&mut err),
            out_is_terminal: true,
            err_is_terminal: true,
        };
        Console::new(&mut streams, false).lines(lines(&a_job(State::Running))).unwrap();
        drop(streams);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Name      words\\u{1b}[2J\n"), "{text}");
    }
}
