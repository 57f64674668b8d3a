//! Tokens that the shell gives to workers for a job's attempts.

use gristmill_proto::auth::{Secret, ShuffleOperation, TaskKey};
use gristmill_proto::ids::{ClusterId, Epoch, JobId};
use gristmill_proto::job::JobSpec;

/// Signs the tokens of attempts.
pub(crate) struct TaskTokens {
    secret: Option<Secret>,
    key: TaskKey,
    open_key: Vec<u8>,
}

impl TaskTokens {
    /// Of a cluster with a secret.
    pub(crate) fn of_secret(secret: &Secret, cluster: ClusterId) -> TaskTokens {
        let key = TaskKey::of_secret(secret, cluster);
        TaskTokens { secret: Some(secret.clone()), key, open_key: Vec::new() }
    }

    /// Of a cluster without one: workers are told the key, which stays the same over starts of the master, as tokens
    /// that are out do.
    pub(crate) fn open(key: TaskKey, open_key: Vec<u8>) -> TaskTokens {
        TaskTokens { secret: None, key, open_key }
    }

    /// What workers are told in their `Welcome`.
    pub(super) fn open_key(&self) -> Vec<u8> {
        self.open_key.clone()
    }

    /// For attempts at the namespace; empty without a secret.
    pub(super) fn caller_token(&self, job: JobId, spec: &JobSpec, wall_ms: u64) -> String {
        self.secret
            .as_ref()
            .map_or_else(String::new, |secret| secret.job_token(job, &spec.user, &spec.groups, wall_ms))
    }

    /// For attempts at shuffle listeners.
    pub(super) fn shuffle_token(
        &self,
        cluster: ClusterId,
        epoch: Epoch,
        job: JobId,
        wall_ms: u64,
    ) -> Vec<u8> {
        let operations = [ShuffleOperation::Fetch, ShuffleOperation::Keep];
        self.key.shuffle_token(cluster, epoch, job, &operations, wall_ms)
    }
}
