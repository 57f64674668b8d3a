//! Who may open a control stream.

use gristmill_proto::auth::Role;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::state::State;

/// The metadata that holds a caller's token.
const TOKEN: &str = "gristmill-token";

/// Checks the token of a stream, where the cluster has a secret. Without one the listener is on loopback only.
pub(crate) fn check(state: &State, metadata: &MetadataMap, role: Role, audience: &str) -> Result<(), Status> {
    let Some(secret) = &state.secret else {
        return Ok(());
    };
    let token = metadata.get(TOKEN).and_then(|token| token.to_str().ok());
    let Some(token) = token else {
        tracing::warn!(audience, "a caller without a token was refused");
        return Err(Status::unauthenticated("this cluster has a secret: give it with --secret-file"));
    };
    secret.check_caller(token, role, audience, state.clock.wall_ms()).map_err(|error| {
        tracing::warn!(audience, %error, "a caller was refused");
        Status::unauthenticated(error.to_string())
    })
}
