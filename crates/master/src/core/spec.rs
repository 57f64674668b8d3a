//! Whether a job makes sense.

use std::collections::BTreeSet;

use gristmill_proto::ids::JobId;
use gristmill_proto::job::stage::{Origin, Target};
use gristmill_proto::job::{JobSpec, Stage, TaskHints};

use super::options::{COUNTERS_MAX, NAME_BYTES_MAX, PARTITIONS_MAX, STAGES_MAX, TASKS_MAX};

/// Version of specs that this master understands.
const SPEC_VERSION: u32 = 1;
const GROUPS_MAX: usize = 1_000;
const PATH_BYTES_MAX: usize = 4_096;
const ATTEMPTS_MAX: u32 = 100;

/// The job's id, or one sentence that says what is wrong.
pub(super) fn check(spec: &JobSpec, hints: &[TaskHints]) -> Result<JobId, String> {
    let job = JobId::from_wire(&spec.job).ok_or("the job's id does not have 16 bytes")?;
    if spec.version != SPEC_VERSION {
        return Err(format!("the job is of version {}; this master takes {SPEC_VERSION}", spec.version));
    }
    check_names(spec)?;
    check_program(spec)?;
    check_counts(spec)?;
    for (number, stage) in spec.stages.iter().enumerate() {
        check_stage(spec, stage).map_err(|wrong| format!("stage {number} ({}) {wrong}", stage.name))?;
    }
    for shuffle in 0..spec.shuffles.len() as u32 {
        check_shuffle(spec, shuffle).map_err(|wrong| format!("shuffle {shuffle} {wrong}"))?;
    }
    for part in hints {
        check_hints(spec, part)?;
    }
    Ok(job)
}

fn check_names(spec: &JobSpec) -> Result<(), String> {
    let names =
        [("name", &spec.name), ("user", &spec.user), ("queue", &spec.queue), ("master", &spec.master)];
    let groups = spec.groups.iter().map(|group| ("group", group));
    let counters = spec.counters.iter().map(|counter| ("counter", counter));
    let stages = spec.stages.iter().map(|stage| ("stage", &stage.name));
    for (what, name) in names.into_iter().chain(groups).chain(counters).chain(stages) {
        check_length(what, name, NAME_BYTES_MAX)?;
    }
    check_length("job file", &spec.job_file, PATH_BYTES_MAX)?;
    check_length("fingerprint", &spec.fingerprint, PATH_BYTES_MAX)?;
    spec.outputs.iter().try_for_each(|output| check_length("output", &output.uri, PATH_BYTES_MAX))
}

fn check_length(what: &str, text: &str, bytes_max: usize) -> Result<(), String> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    Err(format!("a {what} of the job has {} bytes, more than {bytes_max}", text.len()))
}

fn check_program(spec: &JobSpec) -> Result<(), String> {
    let Some(program) = &spec.program else { return Err("the job has no program".to_owned()) };
    check_length("program's path", &program.path, PATH_BYTES_MAX)?;
    check_length("program's name", &program.name, NAME_BYTES_MAX)?;
    if program.sha256.len() != 32 || spec.job_file_sha256.len() != 32 {
        return Err("a SHA-256 of the job does not have 32 bytes".to_owned());
    }
    Ok(())
}

fn check_counts(spec: &JobSpec) -> Result<(), String> {
    let counts = [
        ("stages", spec.stages.len(), STAGES_MAX),
        ("shuffles", spec.shuffles.len(), STAGES_MAX),
        ("outputs", spec.outputs.len(), STAGES_MAX),
        ("counters", spec.counters.len(), COUNTERS_MAX),
        ("groups", spec.groups.len(), GROUPS_MAX),
        ("tasks", tasks(spec), TASKS_MAX),
        ("attempts for a task", spec.attempts_max as usize, ATTEMPTS_MAX as usize),
    ];
    match counts.into_iter().find(|(_, count, max)| count > max) {
        Some((what, count, max)) => Err(format!("the job has {count} {what}, more than {max}")),
        None if spec.stages.is_empty() => Err("the job has no stage".to_owned()),
        None => Ok(()),
    }
}

/// Tasks of all stages.
pub(super) fn tasks(spec: &JobSpec) -> usize {
    spec.stages.iter().map(|stage| stage.tasks as usize).sum()
}

fn check_stage(spec: &JobSpec, stage: &Stage) -> Result<(), String> {
    let origin =
        Origin::try_from(stage.origin).map_err(|_| "has an origin that this master does not know")?;
    let target = Target::try_from(stage.target).map_err(|_| "has a target that this master does not know")?;
    if origin == Origin::Shuffle {
        let read = spec.shuffles.get(stage.shuffle as usize).ok_or("reads a shuffle that is not there")?;
        if read.partitions != stage.tasks {
            let partitions = read.partitions;
            return Err(format!("has {} tasks for a shuffle of {partitions} partitions", stage.tasks));
        }
    }
    let index = stage.target_index as usize;
    match target {
        Target::ToShuffle if index >= spec.shuffles.len() => {
            Err("feeds a shuffle that is not there".to_owned())
        }
        Target::ToOutput if index >= spec.outputs.len() => {
            Err("writes an output that is not there".to_owned())
        }
        _ if stage.part_bases.len() > spec.outputs.len() => {
            Err("names parts of outputs that are not there".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_shuffle(spec: &JobSpec, number: u32) -> Result<(), String> {
    let partitions = spec.shuffles[number as usize].partitions;
    if partitions == 0 || partitions > PARTITIONS_MAX {
        return Err(format!("has {partitions} partitions, not between 1 and {PARTITIONS_MAX}"));
    }
    let reads = |stage: &Stage| stage.origin() == Origin::Shuffle && stage.shuffle == number;
    let feeds = |stage: &Stage| stage.target() == Target::ToShuffle && stage.target_index == number;
    let readers: Vec<usize> = (0..spec.stages.len()).filter(|at| reads(&spec.stages[*at])).collect();
    let [reader] = readers[..] else {
        return Err(format!("is read by {} stages, not by one", readers.len()));
    };
    match spec.stages.iter().rposition(feeds) {
        None => Err("is fed by no stage".to_owned()),
        Some(last) if last >= reader => {
            Err("is read by a stage that comes before one that feeds it".to_owned())
        }
        Some(_) => Ok(()),
    }
}

fn check_hints(spec: &JobSpec, part: &TaskHints) -> Result<(), String> {
    let stage = spec.stages.get(part.stage as usize).filter(|stage| stage.origin() == Origin::Input);
    let end = part.first_task as usize + part.hints.len();
    if stage.is_none_or(|stage| end > stage.tasks as usize) {
        return Err(format!("hints for stage {} are for tasks that are not there", part.stage));
    }
    Ok(())
}

/// Whether a job that is submitted again is the same.
pub(super) fn is_same(one: &JobSpec, other: &JobSpec) -> bool {
    let differs_at_most_in_time = |spec: &JobSpec| JobSpec { submitted_ms: 0, ..spec.clone() };
    one == other || differs_at_most_in_time(one) == differs_at_most_in_time(other)
}

/// Outputs by URI must be different ones.
pub(super) fn check_outputs(spec: &JobSpec) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match spec.outputs.iter().find(|output| !seen.insert(&output.uri)) {
        Some(output) => Err(format!("the output {} stands twice in the job", output.uri)),
        None => Ok(()),
    }
}
