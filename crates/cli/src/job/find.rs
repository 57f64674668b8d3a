//! Which job is meant: by its id, or by any beginning of it.

use gristmill_proto::ids::JobId;

use super::client::JobsClient;
use crate::failure::Failure;

/// So many candidates are named where a beginning is not enough.
const CANDIDATES_SHOWN: usize = 4;

/// The job that `text` means.
pub(crate) fn find(jobs: &JobsClient, text: &str) -> Result<JobId, Failure> {
    // A whole id needs no search, and names a job that is only on its way, too.
    if let Some(job) = JobId::from_text(text) {
        return Ok(job);
    }
    let known = jobs.list(true)?;
    let known: Vec<JobId> = known.iter().filter_map(|status| JobId::from_wire(&status.job)).collect();
    among(&known, text).map_err(Failure::Refused)
}

/// The one of these that `text` means.
pub(super) fn find_among(known: &[JobId], text: &str) -> Result<JobId, Failure> {
    among(known, text).map_err(Failure::Refused)
}

fn among(known: &[JobId], text: &str) -> Result<JobId, String> {
    let begins = text.to_ascii_lowercase();
    let found: Vec<JobId> = known
        .iter()
        .copied()
        .filter(|job| !text.is_empty() && job.to_string().starts_with(&begins))
        .collect();
    match found.as_slice() {
        [job] => Ok(*job),
        [] => Err(format!("no job is named {text}; `gristmill job list --all` shows those that are known")),
        many => {
            let shown: Vec<String> = many.iter().take(CANDIDATES_SHOWN).map(JobId::to_string).collect();
            let more = if many.len() > shown.len() { " ..." } else { "" };
            Err(format!("{} jobs are named {text}...: {}{more}", many.len(), shown.join(" ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_beginning_that_no_other_has_names_a_job() {
        let known = [JobId([0xab; 16]), JobId([0xac; 16])];
        assert_eq!(among(&known, "ab"), Ok(known[0]));
        assert_eq!(among(&known, "ACAC"), Ok(known[1]));
        assert_eq!(among(&known, &known[1].to_string()), Ok(known[1]));
        assert!(among(&known, "a").unwrap_err().starts_with("2 jobs are named a...: abababab-"));
        assert!(among(&known, "x").unwrap_err().starts_with("no job is named x;"));
        assert!(among(&known, "").is_err(), "nothing names nothing");
    }
}
