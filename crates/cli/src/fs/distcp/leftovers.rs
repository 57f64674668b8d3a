//! What copies that were killed have left in DST.
//!
//! Nothing rests on it but room: a copy that is thought dead and lives finds its unfinished file gone, and makes it again.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use gristmill_dfs::file_system::Status;
use gristmill_dfs::{Place, Uri};
use gristmill_process::machine;
use gristmill_proto::wall_clock;
use tempfile::TempDir;

use super::{JOBS, Site, UNFINISHED, remove_unfinished};
use crate::fs::failure::Failure;
use crate::fs::session::{Session, look};

/// Begins the names of the directories, among those of this machine for what is temporary, of copies in one process.
const PREFIX: &str = "gristmill-distcp-";
/// A file in it, which is locked as long as the copy lives.
const ALIVE: &str = "alive";
/// Of some copies nobody here can say whether they live: those of other machines and clusters. No file takes so long.
const FORGOTTEN_AFTER_MS: u64 = 24 * 60 * 60 * 1000;

/// A directory for a copy in this process, and what says that it lives.
pub(super) fn begin() -> std::io::Result<(TempDir, File)> {
    let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
    let alive = File::create(directory.path().join(ALIVE))?;
    alive.lock()?;
    Ok((directory, alive))
}

/// What tells the unfinished files of a copy in this process from those of others.
pub(super) fn id(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    format!("{}-{name}", machine::host())
}

/// Removes the unfinished files of dead copies.
pub(super) fn remove_dead(session: &mut Session, site: &Site, to: &Uri) -> Result<(), Failure> {
    // On S3 there are none: what is not whole is an upload.
    if matches!(to.place(), Place::S3 { .. }) {
        return Ok(());
    }
    let fs = session.fs(to)?;
    if !look(&*fs, to)?.is_some_and(|status| status.is_directory()) {
        return Ok(());
    }
    for status in fs.list(to)? {
        let status = status?;
        let name = status.uri.name().to_string_lossy().into_owned();
        let Some(id) = name.strip_prefix(UNFINISHED).filter(|_| status.is_directory()) else { continue };
        if is_dead(session, site, id, &status)? {
            remove_unfinished(session, &status.uri);
            session.say(&format!("removed {}, which a copy that was killed has left", status.uri));
        }
    }
    Ok(())
}

fn is_dead(session: &Session, site: &Site, id: &str, status: &Status) -> Result<bool, Failure> {
    if let Some(name) =
        id.strip_prefix(&format!("{}-", machine::host())).filter(|name| name.starts_with(PREFIX))
    {
        return is_unlocked(&std::env::temp_dir().join(name)).map_err(Failure::Scratch);
    }
    if let (Site::Cluster { master, .. }, Ok(_)) = (site, uuid::Uuid::parse_str(id)) {
        // The master removes it with the job.
        let job = Uri::dfs(master, format!("{JOBS}/{id}"));
        return Ok(look(&*session.fs(&job)?, &job)?.is_none());
    }
    Ok(status.modified_ms.saturating_add(FORGOTTEN_AFTER_MS) < wall_clock::now_ms())
}

/// Whether nobody lives in the directory of a copy; then it goes, too.
fn is_unlocked(directory: &Path) -> std::io::Result<bool> {
    let alive = match File::open(directory.join(ALIVE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        opened => opened?,
    };
    match alive.try_lock() {
        Ok(()) => {
            std::fs::remove_dir_all(directory)?;
            Ok(true)
        }
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
