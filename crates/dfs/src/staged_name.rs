//! The names that staged files may have.

use crate::store::{Existing, SUCCESS_FILE, StageError};

/// Refuses what would not stay in the attempt's own directory, and the name that says that an output is whole.
pub(crate) fn check(attempt: &str, name: &str) -> Result<(), StageError> {
    check_part(attempt)?;
    name.split('/').try_for_each(|part| check_part(part).map_err(|_| bad_name(name)))?;
    let first = name.split('/').next().unwrap_or_default();
    if first.strip_prefix(SUCCESS_FILE).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
        return Err(bad_name(name));
    }
    Ok(())
}

/// The file that says that the output of `job` is whole.
pub(crate) fn success_file(existing: Existing, job: &str) -> String {
    match existing {
        Existing::Append => format!("{SUCCESS_FILE}-{job}"),
        Existing::Refuse | Existing::Overwrite => SUCCESS_FILE.to_owned(),
    }
}

/// Whether an output that was appended by `job` brought the file of this name.
pub(crate) fn is_of_job(name: &std::ffi::OsStr, job: &str) -> bool {
    !job.is_empty() && name.to_str().is_some_and(|name| name.contains(job))
}

/// Refuses what is not the name of one entry of a directory.
pub(crate) fn check_part(part: &str) -> Result<(), StageError> {
    if matches!(part, "" | "." | "..") || part.contains(['/', '\0']) {
        return Err(bad_name(part));
    }
    Ok(())
}

fn bad_name(name: &str) -> StageError {
    StageError::BadName { name: name.to_owned() }
}
