//! What becomes of the map output of an attempt that is done: it stays here, or goes to a core worker. One that a task
//! worker keeps is lost with it, and that may be at any moment.

use std::path::Path;
use std::time::Duration;

use gristmill_dataflow::shuffle::{OutputStore, OutputStoreError, keep};
use gristmill_process::sentence;
use gristmill_proto::task::{AttemptResult, MapOutput};
use thiserror::Error;

use super::assignment::{Assignment, short};

/// For a core worker to take a map output. One that is busy with something else is not waited for longer.
const KEEP_TIMEOUT: Duration = Duration::from_secs(60);
/// Of a digest.
const DIGEST_BYTES: usize = 16;

/// Why an attempt that says it is done left nothing to fetch.
#[derive(Debug, Error)]
pub(crate) enum MapOutputError {
    #[error("the program said that it is done, and left no map output")]
    None,
    #[error("the digest of the map output has {bytes} bytes, not {DIGEST_BYTES}")]
    Digest { bytes: usize },
    #[error("the map output cannot be served")]
    Store(#[source] OutputStoreError),
}

/// Settles where the map output is, and notes it in `result`.
pub(crate) fn settle(
    store: &OutputStore,
    disk: usize,
    path: &Path,
    assignment: &Assignment,
    result: &mut AttemptResult,
) -> Result<(), MapOutputError> {
    if !assignment.feeds_shuffle() {
        result.map_output = None;
        return Ok(());
    }
    let digest = result.map_output.take().ok_or(MapOutputError::None)?.digest;
    if digest.len() != DIGEST_BYTES {
        return Err(MapOutputError::Digest { bytes: digest.len() });
    }
    let attempt = assignment.attempt;
    // From here on it is listed, whatever happens next.
    let bytes = store.add(disk, attempt).map_err(MapOutputError::Store)?;
    let mut worker = assignment.worker.0;
    let mut refusals = Vec::new();
    for holder in &assignment.keep {
        match keep(&holder.address, &assignment.shuffle_token, attempt, path, KEEP_TIMEOUT) {
            Ok(()) => {
                worker = holder.worker;
                store.remove(attempt).map_err(MapOutputError::Store)?;
                break;
            }
            Err(error) => {
                let reason = sentence(&error);
                tracing::warn!(%attempt, holder = holder.worker, address = %holder.address, %reason, "does not keep it");
                refusals.push(format!("{}: {reason}", holder.address));
            }
        }
    }
    if !refusals.is_empty() && worker == assignment.worker.0 {
        let refusals = refusals.join("; ");
        result.note = short(format!("no core worker took the map output of {attempt}: {refusals}"));
    }
    result.map_output = Some(MapOutput { worker, bytes, digest });
    Ok(())
}
