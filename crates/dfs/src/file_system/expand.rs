//! What a glob names, on any file system.

use std::path::{Path, PathBuf};

use super::{FileSystem, FsError, Status};
use crate::glob::{Cursor, Pattern, PatternError};
use crate::uri::Uri;

/// Why a glob names nothing.
#[derive(Debug, thiserror::Error)]
pub enum ExpandError {
    /// The file system does not say.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// It is no well-formed glob.
    #[error("cannot find {pattern}: {source}")]
    BadPattern {
        /// The pattern.
        pattern: Uri,
        /// What is wrong with it.
        source: PatternError,
    },
    /// Nothing matches it.
    #[error("cannot find {pattern}: nothing matches it")]
    NoMatch {
        /// The pattern.
        pattern: Uri,
    },
}

/// What `pattern` names, by the bytes of the paths: whatever exists under the very name, else what it matches as a
/// glob. Wildcards match hidden names too, `**` is any number of directories, and what is below a match is not named.
pub fn expand(fs: &dyn FileSystem, pattern: &Uri) -> Result<Vec<Status>, ExpandError> {
    let error = match fs.stat(pattern) {
        Ok(status) => return Ok(vec![status]),
        Err(error) => error,
    };
    match Pattern::parse(pattern.path()) {
        Ok(None) => Err(error.into()),
        Err(source) => Err(ExpandError::BadPattern { pattern: pattern.clone(), source }),
        Ok(Some((base, glob))) => match follow(fs, pattern, base, &glob.with_hidden_names())? {
            found if found.is_empty() => Err(ExpandError::NoMatch { pattern: pattern.clone() }),
            found => Ok(found),
        },
    }
}

fn follow(fs: &dyn FileSystem, uri: &Uri, base: PathBuf, glob: &Pattern) -> Result<Vec<Status>, FsError> {
    let mut found = Vec::new();
    let mut waiting = vec![(base, glob.start())];
    while let Some((directory, cursor)) = waiting.pop() {
        let entries = match entries(fs, uri, &directory, glob, &cursor) {
            Err(error) if error.is_absence() => continue,
            entries => entries?,
        };
        for (status, mut cursor) in entries {
            let path = status.uri.path().to_path_buf();
            let is_directory = status.is_directory();
            if std::mem::take(&mut cursor.named) {
                found.push(status);
            }
            if is_directory && !cursor.is_astray() {
                waiting.push((path, cursor));
            }
        }
    }
    found.sort_unstable_by(|one, other| one.uri.cmp(&other.uri));
    Ok(found)
}

/// The entries of one directory that match a pattern or lead on to what may, each with how far it has come. `uri` says
/// which file system; an empty `directory` is the current one.
pub(crate) fn entries(
    fs: &dyn FileSystem,
    uri: &Uri,
    directory: &Path,
    pattern: &Pattern,
    cursor: &Cursor,
) -> Result<Vec<(Status, Cursor)>, FsError> {
    let mut entries = Vec::new();
    let mut enter = |status: Status| {
        let cursor = pattern.enter(cursor, status.uri.name());
        if !cursor.is_astray() {
            // Below an empty directory, the name has no `./` that the user did not write.
            let uri = Uri::of(uri.place().clone(), directory.join(status.uri.name()));
            entries.push((Status { uri, ..status }, cursor));
        }
    };
    let at = Uri::of(uri.place().clone(), directory);
    match pattern.only_names(cursor) {
        Some(names) => {
            for name in names {
                match fs.stat(&at.join(name)) {
                    Err(error) if error.is_absence() => {}
                    status => enter(status?),
                }
            }
        }
        None => {
            for status in fs.list(&at)? {
                let status = status?;
                // A file is listed as itself, and has nothing below it.
                if status.uri != at {
                    enter(status);
                }
            }
        }
    }
    Ok(entries)
}
