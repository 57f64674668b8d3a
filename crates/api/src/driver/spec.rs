//! What the master needs to know of a job.

use super::DriverOptions;
use super::job_file::StoredJobFile;
use super::jobs::now_ms;
use crate::explain::{canonical, fingerprint};
use crate::plan::{PlanState, Target};
use crate::stages::{PreparedStage, Stages};
use gristmill_dataflow::partition::Partitioner;
use gristmill_dfs::Existing;
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::stage::{Origin as WireOrigin, Target as WireTarget};
use gristmill_proto::job::{JobSpec, Output, Program, Shuffle, Stage};

/// The spec of a job whose files are in the cluster.
pub(super) fn of(
    options: &DriverOptions,
    job: JobId,
    program: Program,
    job_file: StoredJobFile,
    state: &PlanState,
    stages: &Stages,
) -> JobSpec {
    let shuffles = stages.rules.iter().map(|rule| Shuffle {
        partitions: rule.partitions,
        range: matches!(rule.partitioner, Partitioner::Range),
    });
    let outputs = stages.output_uris.iter().zip(&state.outputs);
    JobSpec {
        version: PROTOCOL_VERSION,
        job: job.0.to_vec().into(),
        name: options.name.clone(),
        user: options.user.clone(),
        groups: options.groups.clone(),
        queue: options.queue.clone(),
        priority: options.priority,
        program: Some(program),
        job_file: job_file.path,
        job_file_sha256: job_file.sha256.to_vec().into(),
        fingerprint: fingerprint(&canonical(state)),
        stages: stages.stages.iter().map(stage).collect(),
        shuffles: shuffles.collect(),
        outputs: outputs.map(|(uri, spec)| Output { uri: uri.to_string(), extra: spec.extra }).collect(),
        counters: state.counters.clone(),
        overwrite: options.existing == Existing::Overwrite,
        attempts_max: options.attempts_max,
        memory_bytes: options.memory_bytes,
        no_progress_ms: options.no_progress_ms,
        no_worker_ms: options.no_worker_ms,
        no_twins: options.no_twins,
        master: options.master.clone(),
        submitted_ms: now_ms(),
        kill_on_exit: options.kill_on_exit,
        shuffle_local: options.shuffle_local,
        bad_records_limits: state.bad_records_limits(),
        append: options.existing == Existing::Append,
        makes_files_below: state.makes_files_below.clone(),
    }
}

fn stage(stage: &PreparedStage) -> Stage {
    let (target, target_index) = match stage.target {
        Target::Nothing => (WireTarget::Nothing, 0),
        Target::Shuffle(shuffle) => (WireTarget::ToShuffle, shuffle as u32),
        Target::Output(output) => (WireTarget::ToOutput, output as u32),
    };
    let (origin, shuffle) = match stage.shuffle {
        None => (WireOrigin::Input, 0),
        Some(shuffle) => (WireOrigin::Shuffle, shuffle as u32),
    };
    Stage {
        name: stage.name.clone(),
        origin: origin.into(),
        shuffle,
        tasks: stage.tasks as u32,
        target: target.into(),
        target_index,
        part_bases: stage.part_bases.to_vec(),
        input_bytes: stage.bytes,
    }
}
