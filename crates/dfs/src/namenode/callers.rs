//! Who may open a control stream.

use gristmill_proto::auth::{CALLER_TOKEN_METADATA, JobCaller, Role, Secret, TokenError};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::state::State;

/// Checks the token of a worker's stream, where the cluster has a secret. Without one the listener is on loopback only.
pub(crate) fn check_worker(state: &State, metadata: &MetadataMap) -> Result<(), Status> {
    let Some(secret) = &state.secret else {
        return Ok(());
    };
    let token = token(metadata, "attendance")?;
    let checked = secret.check_caller(token, Role::Worker, "attendance", state.clock.wall_ms());
    checked.map_err(|error| refused(error, "attendance"))
}

/// Checks the token of a client's stream. Holders of the secret are who they say they are; an attempt has no secret,
/// but a token of its job, and is whom that names.
pub(crate) fn check_client(state: &State, metadata: &MetadataMap) -> Result<Option<JobCaller>, Status> {
    let Some(secret) = &state.secret else {
        return Ok(None);
    };
    let token = token(metadata, "namespace")?;
    let checked = client_or_attempt(secret, token, state.clock.wall_ms());
    checked.map_err(|error| refused(error, "namespace"))
}

fn client_or_attempt(secret: &Secret, token: &str, wall_ms: u64) -> Result<Option<JobCaller>, TokenError> {
    match secret.check_caller(token, Role::Client, "namespace", wall_ms) {
        Ok(()) => Ok(None),
        Err(TokenError::WrongRole { wanted }) => match secret.check_job(token, wall_ms) {
            Err(TokenError::WrongRole { .. }) => Err(TokenError::WrongRole { wanted }),
            checked => checked.map(Some),
        },
        Err(error) => Err(error),
    }
}

fn token<'m>(metadata: &'m MetadataMap, audience: &str) -> Result<&'m str, Status> {
    let token = metadata.get(CALLER_TOKEN_METADATA).and_then(|token| token.to_str().ok());
    token.ok_or_else(|| {
        tracing::warn!(audience, "a caller without a token was refused");
        Status::unauthenticated("this cluster has a secret: give it with --secret-file")
    })
}

fn refused(error: TokenError, audience: &str) -> Status {
    tracing::warn!(audience, %error, "a caller was refused");
    Status::unauthenticated(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::ids::JobId;

    const NOW_MS: u64 = 1_800_000_000_000;

    #[test]
    fn clients_and_attempts_come_in_and_workers_do_not() {
        let secret = Secret::from_bytes(&[b's'; 32]).unwrap();
        let client = secret.caller_token(Role::Client, "namespace", NOW_MS);
        assert_eq!(client_or_attempt(&secret, &client, NOW_MS).unwrap(), None);
        let attempt = secret.job_token(JobId([7; 16]), "ann", &[], NOW_MS);
        let caller = client_or_attempt(&secret, &attempt, NOW_MS).unwrap().unwrap();
        assert_eq!((caller.job, caller.user.as_str()), (JobId([7; 16]), "ann"));
        let worker = secret.caller_token(Role::Worker, "attendance", NOW_MS);
        let error = client_or_attempt(&secret, &worker, NOW_MS).unwrap_err();
        assert_eq!(error.to_string(), "the token is not that of a client");
        let late = client_or_attempt(&secret, &attempt, u64::MAX).unwrap_err();
        assert!(matches!(late, TokenError::Expired { .. }), "{late}");
    }
}
