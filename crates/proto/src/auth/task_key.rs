//! Shuffle tokens: the master signs one for each job, the job's attempts carry it, workers check it. No worker asks the
//! master.

use std::fmt;

use super::signature;
use super::{Secret, TokenError};
use crate::ids::{ClusterId, Epoch, JobId};
use crate::messages::ShuffleToken;

/// How long a shuffle token is good: no job is supposed to run longer. (Hadoop's delegation tokens: 7 days)
pub const SHUFFLE_TOKEN_LIFETIME_MS: u64 = 7 * 24 * 60 * 60 * 1000;

const LABEL: &str = "gristmill task key 1\n";

/// What is done at a shuffle listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShuffleOperation {
    /// Map outputs, or what they are indexed by, are read.
    Fetch,
    /// A map output is given away.
    Keep,
}

impl ShuffleOperation {
    /// Its bit in `ShuffleToken.operations`.
    pub fn bit(self) -> u32 {
        match self {
            ShuffleOperation::Fetch => 1,
            ShuffleOperation::Keep => 2,
        }
    }
}

impl fmt::Display for ShuffleOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ShuffleOperation::Fetch => "fetch",
            ShuffleOperation::Keep => "keep",
        })
    }
}

/// What a request needs a shuffle token for.
#[derive(Clone, Copy, Debug)]
pub struct ShuffleWanted {
    /// The worker's cluster.
    pub cluster: ClusterId,
    /// Whose map output.
    pub job: JobId,
    /// What is to be done with it.
    pub operation: ShuffleOperation,
    /// Wall time, since 1970.
    pub now_ms: u64,
}

/// The key of a cluster's shuffle tokens.
#[derive(Clone)]
pub struct TaskKey {
    bytes: [u8; 32],
}

impl TaskKey {
    /// The key of the cluster with this secret: the same in every process, and another one in every cluster.
    pub fn of_secret(secret: &Secret, cluster: ClusterId) -> TaskKey {
        TaskKey { bytes: secret.derive(LABEL, &cluster.0) }
    }

    /// A new key, for one life of a master of a cluster without a secret; and as it stands in `Welcome.open_key`.
    pub fn open_random() -> (TaskKey, Vec<u8>) {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the system has random numbers");
        (TaskKey { bytes }, bytes.to_vec())
    }

    /// The key in a message (`Welcome.open_key`), if it has 32 bytes.
    pub fn from_open(bytes: &[u8]) -> Option<TaskKey> {
        bytes.try_into().ok().map(|bytes| TaskKey { bytes })
    }

    /// The token that allows `operations` on the map outputs of `job`, for [`SHUFFLE_TOKEN_LIFETIME_MS`] from `now_ms`
    /// (wall time since 1970).
    pub fn shuffle_token(
        &self,
        cluster: ClusterId,
        epoch: Epoch,
        job: JobId,
        operations: &[ShuffleOperation],
        now_ms: u64,
    ) -> Vec<u8> {
        let token = ShuffleToken {
            cluster_id: cluster.0.to_vec().into(),
            epoch: epoch.0,
            job: job.0.to_vec().into(),
            operations: operations.iter().fold(0, |bits, operation| bits | operation.bit()),
            expires_ms: now_ms.saturating_add(SHUFFLE_TOKEN_LIFETIME_MS),
        };
        signature::sign(&self.bytes, &token)
    }

    /// Whether `token` allows what is wanted.
    ///
    /// The epoch in it is for the record and is not checked: a job goes on under the next master.
    pub fn check_shuffle(&self, token: &[u8], wanted: ShuffleWanted) -> Result<(), TokenError> {
        let token: ShuffleToken = signature::open(&self.bytes, token)?;
        let ShuffleWanted { cluster, job, operation, now_ms } = wanted;
        let theirs = ClusterId::from_wire(&token.cluster_id);
        if theirs != Some(cluster) {
            return Err(TokenError::WrongCluster { theirs, ours: cluster });
        }
        let theirs = JobId::from_wire(&token.job);
        if theirs != Some(job) {
            return Err(TokenError::WrongJob { theirs, wanted: job });
        }
        if token.operations & operation.bit() == 0 {
            return Err(TokenError::NoShuffle { job, operation });
        }
        if now_ms >= token.expires_ms {
            return Err(TokenError::Expired { ago_ms: now_ms - token.expires_ms });
        }
        Ok(())
    }
}

impl fmt::Debug for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::BlockKey;

    const CLUSTER: ClusterId = ClusterId([7; 16]);
    const JOB: JobId = JobId([9; 16]);
    const NOW_MS: u64 = 1_800_000_000_000;

    fn secret() -> Secret {
        Secret::from_bytes(&[b's'; 32]).unwrap()
    }

    fn key() -> TaskKey {
        TaskKey::of_secret(&secret(), CLUSTER)
    }

    fn token(operations: &[ShuffleOperation]) -> Vec<u8> {
        key().shuffle_token(CLUSTER, Epoch(3), JOB, operations, NOW_MS)
    }

    fn want(operation: ShuffleOperation) -> ShuffleWanted {
        ShuffleWanted { cluster: CLUSTER, job: JOB, operation, now_ms: NOW_MS }
    }

    #[test]
    fn a_token_allows_what_it_says() {
        let all = [ShuffleOperation::Fetch, ShuffleOperation::Keep];
        for operation in all {
            key().check_shuffle(&token(&[operation]), want(operation)).unwrap();
            key().check_shuffle(&token(&all), want(operation)).unwrap();
            let late = ShuffleWanted { now_ms: NOW_MS + SHUFFLE_TOKEN_LIFETIME_MS - 1, ..want(operation) };
            key().check_shuffle(&token(&[operation]), late).unwrap();
        }
    }

    #[test]
    fn and_nothing_else() {
        let signed = token(&[ShuffleOperation::Fetch]);
        let fetch = want(ShuffleOperation::Fetch);
        let refused = |wanted: ShuffleWanted| key().check_shuffle(&signed, wanted).unwrap_err();
        let error = refused(ShuffleWanted { cluster: ClusterId([8; 16]), ..fetch });
        assert!(matches!(error, TokenError::WrongCluster { theirs: Some(CLUSTER), .. }), "{error}");
        let other = JobId([10; 16]);
        let error = refused(ShuffleWanted { job: other, ..fetch });
        assert_eq!(error.to_string(), format!("the token is for job {JOB}, not for job {other}"));
        let error = refused(want(ShuffleOperation::Keep));
        assert_eq!(error.to_string(), format!("the token does not allow a keep of map outputs of job {JOB}"));
        let error = refused(ShuffleWanted { now_ms: NOW_MS + SHUFFLE_TOKEN_LIFETIME_MS, ..fetch });
        assert!(matches!(error, TokenError::Expired { ago_ms: 0 }), "{error}");
        let error = key().check_shuffle(&token(&[]), fetch).unwrap_err();
        assert!(matches!(error, TokenError::NoShuffle { .. }), "{error}");
    }

    #[test]
    fn every_bit_of_a_token_counts() {
        let signed = token(&[ShuffleOperation::Fetch]);
        for bit in 0..signed.len() * 8 {
            let mut forged = signed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let error = key().check_shuffle(&forged, want(ShuffleOperation::Fetch)).unwrap_err();
            assert!(matches!(error, TokenError::Forged), "bit {bit}: {error}");
        }
        for length in 0..signed.len() {
            let error = key().check_shuffle(&signed[..length], want(ShuffleOperation::Fetch)).unwrap_err();
            assert!(matches!(error, TokenError::Forged), "{length} bytes: {error}");
        }
    }

    #[test]
    fn a_key_is_of_one_secret_one_cluster_and_one_purpose() {
        let signed = token(&[ShuffleOperation::Fetch]);
        let other_secret = TaskKey::of_secret(&Secret::from_bytes(&[b't'; 32]).unwrap(), CLUSTER);
        let other_cluster = TaskKey::of_secret(&secret(), ClusterId([8; 16]));
        for other in [other_secret, other_cluster, TaskKey::open_random().0] {
            let error = other.check_shuffle(&signed, want(ShuffleOperation::Fetch)).unwrap_err();
            assert!(matches!(error, TokenError::Forged), "{error}");
        }
        assert_ne!(key().bytes[..], BlockKey::from_secret(&secret(), CLUSTER).to_wire()[..]);
    }

    #[test]
    fn an_open_key_travels() {
        let (key, wire) = TaskKey::open_random();
        assert_ne!(wire, TaskKey::open_random().1);
        let arrived = TaskKey::from_open(&wire).unwrap();
        let signed = key.shuffle_token(CLUSTER, Epoch(1), JOB, &[ShuffleOperation::Keep], NOW_MS);
        arrived.check_shuffle(&signed, want(ShuffleOperation::Keep)).unwrap();
        assert!(TaskKey::from_open(&wire[1..]).is_none());
        assert!(TaskKey::from_open(&[]).is_none());
        assert_eq!(format!("{key:?}"), "TaskKey(redacted)");
    }

    #[test]
    fn what_is_signed_but_strange_is_refused() {
        let strange = ShuffleToken { cluster_id: CLUSTER.0.to_vec().into(), ..ShuffleToken::default() };
        let signed = signature::sign(&key().bytes, &strange);
        let error = key().check_shuffle(&signed, want(ShuffleOperation::Fetch)).unwrap_err();
        assert!(matches!(error, TokenError::WrongJob { theirs: None, .. }), "{error}");
        let mut no_message = signature::hmac(&key().bytes, &[b"\xff\xff"]).to_vec();
        no_message.extend(b"\xff\xff");
        let error = key().check_shuffle(&no_message, want(ShuffleOperation::Fetch)).unwrap_err();
        assert!(matches!(error, TokenError::Decode(_)), "{error}");
    }
}
