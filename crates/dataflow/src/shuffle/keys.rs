//! Whether a bearer may do something at a shuffle listener.

use gristmill_proto::auth::{ShuffleOperation, ShuffleWanted, TaskKey, TokenError};
use gristmill_proto::ids::{ClusterId, JobId};
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;

/// What the master told the worker: its cluster and the key of shuffle tokens. While it has told nothing, nobody is
/// served. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ShuffleKeys {
    told: Arc<RwLock<Option<(ClusterId, TaskKey)>>>,
}

/// Why a bearer is not served.
#[derive(Debug, Error)]
pub(super) enum KeyError {
    #[error("this worker has not heard from its master yet")]
    NotYet,
    #[error("the shuffle token does not allow this")]
    Token(#[from] TokenError),
}

impl ShuffleKeys {
    /// Nothing is known: everything is refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on this counts.
    pub fn set(&self, cluster: ClusterId, key: TaskKey) {
        *self.told.write().unwrap_or_else(PoisonError::into_inner) = Some((cluster, key));
    }

    pub(super) fn check(
        &self,
        token: &[u8],
        job: JobId,
        operation: ShuffleOperation,
    ) -> Result<(), KeyError> {
        let told = self.told.read().unwrap_or_else(PoisonError::into_inner);
        let (cluster, key) = told.as_ref().ok_or(KeyError::NotYet)?;
        let wanted = ShuffleWanted { cluster: *cluster, job, operation, now_ms: wall_ms() };
        Ok(key.check_shuffle(token, wanted)?)
    }
}

/// Wall time: tokens come from other machines. Before 1970 no token has expired.
fn wall_ms() -> u64 {
    gristmill_proto::wall_clock::now_ms()
}
