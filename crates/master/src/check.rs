//! `gristmill master --check`: whether what a master has kept is whole. It changes nothing, and no master may run.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gristmill_dfs::namenode::namespace::{Integrity, Namespace, NamespaceOptions};

use crate::data_dir::{DataDir, DataDirError};
use crate::jobs::Jobs;
use crate::options::MasterOptions;

/// Why the check has not found everything whole.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is nothing to check.
    #[error("cannot check {}: it is not there", .path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// A master runs on it, or it cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// What was found cannot be said.
    #[error("cannot say what was found: {0}")]
    Say(#[from] io::Error),
    /// Something is wrong, and was said.
    #[error(
        "{} is damaged: {problems} found; start no master on it, restore a copy of what is named",
        .path.display()
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// How many: "1 problem".
        problems: String,
    },
}

/// Looks at the namespace and the jobs in the data directory, and says on `out` what it finds, a line for each problem.
pub fn check(options: &MasterOptions, out: &mut dyn Write) -> Result<(), CheckError> {
    if !options.data_dir.is_dir() {
        return Err(CheckError::Missing { path: options.data_dir.clone() });
    }
    let data_dir = DataDir::lock(&options.data_dir)?;
    let problems = namespace(options, &data_dir.namespace(), out)? + jobs(&data_dir.jobs(), out)?;
    out.flush()?;
    match problems {
        0 => Ok(()),
        _ => {
            let problems = format!("{problems} problem{}", if problems == 1 { "" } else { "s" });
            Err(CheckError::Damaged { path: options.data_dir.clone(), problems })
        }
    }
}

/// How many problems there are.
fn namespace(options: &MasterOptions, path: &Path, out: &mut dyn Write) -> Result<u64, CheckError> {
    let cache_bytes = usize::try_from(options.cache_mib << 20).unwrap_or(usize::MAX);
    let checked = Namespace::check(path, &NamespaceOptions { cache_bytes, ..NamespaceOptions::default() });
    let integrity = match checked {
        Ok(integrity) => integrity,
        Err(error) => {
            writeln!(out, "{}: {error}", path.display())?;
            return Ok(1);
        }
    };
    let Integrity { inodes, names, blocks, problems, problems_total } = integrity;
    for problem in &problems {
        writeln!(out, "{}: {problem}", path.display())?;
    }
    let untold = problems_total - problems.len() as u64;
    if untold > 0 {
        writeln!(out, "{}: and {untold} more", path.display())?;
    }
    if problems_total == 0 {
        writeln!(out, "{} is whole: {inodes} inodes, {names} names, {blocks} blocks", path.display())?;
    }
    Ok(problems_total)
}

/// How many problems there are: the first ends the look.
fn jobs(path: &Path, out: &mut dyn Write) -> Result<u64, CheckError> {
    match Jobs::check(path) {
        Ok(records) => {
            writeln!(out, "{} is whole: {records} records", path.display())?;
            Ok(0)
        }
        Err(error) => {
            writeln!(out, "{}: {error}", path.display())?;
            Ok(1)
        }
    }
}
