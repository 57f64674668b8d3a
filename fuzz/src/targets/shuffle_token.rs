//! Shuffle tokens, and what they allow.

use super::Target;
use super::block_token::{assert_refused, signed};
use crate::input::Input;
use gristmill_proto::auth::{ShuffleOperation, ShuffleWanted, TOKEN_BYTES_MAX, TaskKey};
use gristmill_proto::ids::{ClusterId, JobId};
use gristmill_proto::messages::ShuffleToken;
use prost::Message;

pub(super) const TARGET: Target = Target {
    name: "shuffle_token",
    input_bytes_max: 2 * TOKEN_BYTES_MAX,
    memory_bytes: 16 << 10,
    memory_bytes_per_byte: 40,
    run,
};

const KEY: [u8; 32] = [7; 32];
const CLUSTER: ClusterId = ClusterId(*b"the one cluster!");
const JOB: JobId = JobId(*b"the one job here");

/// Whether to sign, what is wanted, the time; the rest is the token, or what is signed.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let how = input.byte();
    let operation = if how & 2 == 0 { ShuffleOperation::Fetch } else { ShuffleOperation::Keep };
    let wanted = ShuffleWanted { cluster: CLUSTER, job: JOB, operation, now_ms: input.u64() };
    let rest = input.rest();
    assert_eq!(TaskKey::from_open(rest).is_some(), rest.len() == 32);
    let key = TaskKey::from_open(&KEY).expect("32 bytes");
    if how & 1 == 0 {
        let error = key.check_shuffle(rest, wanted).expect_err("nobody guesses a signature");
        return assert_refused(&error, rest.len());
    }
    let token = signed(&KEY, rest);
    match key.check_shuffle(&token, wanted) {
        Err(error) => assert_refused(&error, token.len()),
        Ok(()) => {
            let token = ShuffleToken::decode(rest).expect("it was let in");
            assert_eq!((&token.cluster_id[..], &token.job[..]), (&CLUSTER.0[..], &JOB.0[..]));
            assert!(token.operations & operation.bit() != 0 && token.expires_ms > wanted.now_ms);
        }
    }
}
