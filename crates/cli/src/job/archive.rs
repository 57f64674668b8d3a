//! Jobs of a cluster that has ended, by what was pushed to its `--log-uri`.

use gristmill_dfs::Uri;
use gristmill_dfs::file_system::{Access, FileSystem};
use gristmill_process::sentence;
use gristmill_proto::ids::JobId;
use gristmill_proto::job_history::JobHistory;

use super::find::find_among;
use super::history::tell_of;
use super::list::show;
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::record_file;

/// A history has at most 1,000 tasks with ten attempts each.
const HISTORY_BYTES_MAX: u64 = 64 << 20;
/// Jobs of one cluster: more are listed by their ids alone, with `gristmill fs ls`.
const JOBS_MAX: usize = 10_000;

/// Lists the jobs below `place`, the latest first; or tells of one.
pub(super) fn tell(place: &str, job: Option<&str>, console: &mut Console) -> Result<Exit, Failure> {
    let place = Uri::parse(place).map_err(|error| Failure::Refused(sentence(&error)))?.join("jobs");
    let files = Access::from_environment().file_system(&place);
    let files = files.map_err(|error| Failure::Refused(sentence(&error)))?;
    let known = jobs(files.as_ref(), &place)?;
    let read = |job: JobId| -> Result<JobHistory, Failure> {
        record_file::read(&place.join(format!("{job}/job.json")), HISTORY_BYTES_MAX, "history of a job")
    };
    if let Some(job) = job {
        let history = read(find_among(&known, job)?)?;
        tell_of(&history.status(), &history.tasks(), console)?;
        return Ok(Exit::Done);
    }
    let mut ended = known.into_iter().map(read).collect::<Result<Vec<JobHistory>, Failure>>()?;
    ended.sort_by_key(|history| std::cmp::Reverse(history.submitted_ms));
    show(&ended.iter().map(JobHistory::status).collect::<Vec<_>>(), console)?;
    Ok(Exit::Done)
}

/// The jobs that have a directory.
fn jobs(files: &dyn FileSystem, place: &Uri) -> Result<Vec<JobId>, Failure> {
    let refused = |error: &dyn std::error::Error| Failure::Refused(sentence(error));
    let mut jobs = Vec::new();
    for entry in files.list(place).map_err(|error| refused(&error))? {
        let entry = entry.map_err(|error| refused(&error))?;
        jobs.extend(entry.uri.name().to_str().and_then(JobId::from_text));
        if jobs.len() > JOBS_MAX {
            return Err(Failure::Refused(format!(
                "{place} has more than {JOBS_MAX} jobs: name one; `gristmill fs ls {place}` lists them"
            )));
        }
    }
    Ok(jobs)
}
