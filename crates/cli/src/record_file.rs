//! Records as JSON files, wherever they are: what outlives a cluster.

use gristmill_dfs::Uri;
use gristmill_dfs::file_system::Access;
use gristmill_process::sentence;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// Reads a record of at most `bytes_max`; `what` it is, for people.
pub(crate) fn read<T: DeserializeOwned>(uri: &Uri, bytes_max: u64, what: &str) -> Result<T, Failure> {
    let refused = |error: &dyn std::error::Error| Failure::Refused(sentence(error));
    let files = Access::from_environment().file_system(uri).map_err(|error| refused(&error))?;
    let source = files.open(uri).map_err(|error| refused(&error))?;
    if source.bytes() > bytes_max {
        return Err(Failure::Refused(format!("{uri} is no {what}: it has {} bytes", source.bytes())));
    }
    let mut bytes = vec![0; source.bytes() as usize];
    let mut offset = 0;
    while offset < bytes.len() {
        match source.read_at(&mut bytes[offset..], offset as u64).map_err(|error| refused(&error))? {
            0 => break,
            read => offset += read,
        }
    }
    serde_json::from_slice(&bytes[..offset])
        .map_err(|error| Failure::Refused(format!("{uri} is no {what}: {error}")))
}
