//! The names that staged files may have.

use crate::store::{SUCCESS_FILE, StageError};

/// Refuses what would not stay in the attempt's own directory, and the name that says that an output is whole.
pub(crate) fn check(attempt: &str, name: &str) -> Result<(), StageError> {
    check_part(attempt)?;
    name.split('/').try_for_each(|part| check_part(part).map_err(|_| bad_name(name)))?;
    if name.split('/').next() == Some(SUCCESS_FILE) {
        return Err(bad_name(name));
    }
    Ok(())
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
