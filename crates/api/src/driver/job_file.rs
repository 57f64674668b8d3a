//! The job file: all that attempts need to know and the master does not.

use super::{DriverError, DriverOptions};
use crate::explain::canonical;
use crate::pipe::TaskInput;
use crate::plan::PlanState;
use crate::stages::{PreparedStage, Stages};
use gristmill_dfs::Uri;
use gristmill_dfs::file_system::CreateOptions;
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::{FileRange, JobFile, Rows, StageInputs, TaskInput as WireInput};
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

/// Where jobs are, in dfs://.
const JOBS: &str = "/.gristmill/jobs";
/// Each attempt reads and keeps the whole file.
const JOB_FILE_BYTES_MAX: usize = 256 << 20;

/// A job file in the cluster.
pub(super) struct StoredJobFile {
    /// Its path in dfs://.
    pub(super) path: String,
    pub(super) sha256: [u8; 32],
}

/// The job's own directory.
pub(super) fn directory(job: JobId) -> String {
    format!("{JOBS}/{job}")
}

/// Writes the job's file into the cluster.
pub(super) fn put(
    options: &DriverOptions,
    job: JobId,
    state: &PlanState,
    stages: &Stages,
) -> Result<StoredJobFile, DriverError> {
    let file = job_file(options, job, state, stages);
    let bytes = file.encoded_len();
    if bytes > JOB_FILE_BYTES_MAX {
        return Err(DriverError::JobFileTooLong { bytes, limit_bytes: JOB_FILE_BYTES_MAX });
    }
    let encoded = file.encode_to_vec();
    let path = format!("{}/job", directory(job));
    let uri = Uri::dfs(&options.master, &path);
    // With an id that was given, a driver before this one may have died here.
    let create = CreateOptions { overwrite: true, ..CreateOptions::default() };
    let mut writer = uri.file_system()?.create(&uri, &create)?;
    writer.write_all(&encoded).map_err(|source| DriverError::Write { uri, source })?;
    writer.finish()?;
    Ok(StoredJobFile { path, sha256: Sha256::digest(&encoded).into() })
}

fn job_file(options: &DriverOptions, job: JobId, state: &PlanState, stages: &Stages) -> JobFile {
    let inputs = stages.stages.iter().filter(|stage| stage.shuffle.is_none());
    JobFile {
        version: PROTOCOL_VERSION,
        job: job.0.to_vec().into(),
        arguments: options.arguments.iter().map(|argument| argument.as_bytes().to_vec().into()).collect(),
        plan: canonical(state),
        broadcasts: state.broadcasts.iter().map(|broadcast| broadcast.bytes.clone().into()).collect(),
        inputs: inputs.map(stage_inputs).collect(),
        reducers: stages.reducers,
    }
}

/// The tasks of a stage; a file's name stands once, however many pieces it is cut into.
fn stage_inputs(stage: &PreparedStage) -> StageInputs {
    let mut numbers: HashMap<&Uri, u32> = HashMap::new();
    let mut uris = Vec::new();
    let mut tasks = Vec::with_capacity(stage.inputs.len());
    for input in &stage.inputs {
        let mut task = WireInput::default();
        match input {
            TaskInput::Rows(rows) => task.rows = Some(Rows { start: rows.start, end: rows.end }),
            TaskInput::Split(split) => {
                for range in &split.ranges {
                    let uri = *numbers.entry(&range.uri).or_insert_with(|| {
                        uris.push(range.uri.to_string());
                        uris.len() as u32 - 1
                    });
                    let (start, end, file_bytes) = (range.start, range.end, range.file_bytes);
                    let stamp = range.stamp.number();
                    task.ranges.push(FileRange { uri, start, end, file_bytes, stamp });
                }
            }
            TaskInput::Parts(_) => unreachable!("a stage with inputs reads no shuffle"),
        }
        tasks.push(task);
    }
    StageInputs { stage: stage.number as u32, tasks, uris }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_lives_in_a_directory_of_its_own() {
        let job = JobId([7; 16]);
        assert_eq!(directory(job), "/.gristmill/jobs/07070707-0707-0707-0707-070707070707");
    }
}
