//! Who may call the services for jobs.

use gristmill_proto::auth::{CALLER_TOKEN_METADATA, Role, Secret};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::shared::{Shared, wall_ms};

/// Checks the token of a driver or a user.
pub(super) fn check_client(shared: &Shared, metadata: &MetadataMap) -> Result<(), Status> {
    check(shared.secret.as_ref(), metadata, Role::Client, "jobs")
}

/// Checks the token of a worker.
pub(super) fn check_worker(shared: &Shared, metadata: &MetadataMap) -> Result<(), Status> {
    check(shared.secret.as_ref(), metadata, Role::Worker, "tasks")
}

/// Without a secret the listener is on loopback only, and everybody is who they say they are.
pub(super) fn check(
    secret: Option<&Secret>,
    metadata: &MetadataMap,
    role: Role,
    audience: &str,
) -> Result<(), Status> {
    let Some(secret) = secret else {
        return Ok(());
    };
    let token = metadata.get(CALLER_TOKEN_METADATA).and_then(|token| token.to_str().ok());
    let Some(token) = token else {
        tracing::warn!(audience, "a caller without a token was refused");
        return Err(Status::unauthenticated("this cluster has a secret: give it with --secret-file"));
    };
    secret.check_caller(token, role, audience, wall_ms()).map_err(|error| {
        tracing::warn!(audience, %error, "a caller was refused");
        Status::unauthenticated(error.to_string())
    })
}
