//! Block tokens, and what they allow; secrets, keys and ids as they arrive.

use super::Target;
use crate::input::Input;
use gristmill_proto::auth::{BlockKey, Operation, Secret, TOKEN_BYTES_MAX, TokenError, Wanted};
use gristmill_proto::ids::{BlockId, ClusterId, Generation};
use gristmill_proto::messages::BlockToken;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub(super) const TARGET: Target = Target {
    name: "block_token",
    input_bytes_max: 2 * TOKEN_BYTES_MAX,
    memory_bytes: 16 << 10,
    memory_bytes_per_byte: 40,
    run,
};

const KEY: [u8; 32] = [7; 32];
const CLUSTER: ClusterId = ClusterId(*b"the one cluster!");

/// Whether to sign, what is wanted; the rest is the token, or what is signed.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let how = input.byte();
    let want = Wanted {
        cluster: CLUSTER,
        block: BlockId(input.byte().into()),
        generation: Generation(input.byte().into()),
        operation: if how & 2 == 0 { Operation::Read } else { Operation::Write },
        now_ms: input.u64(),
    };
    let rest = input.rest();
    check_sizes(rest);
    let key = BlockKey::from_wire(&KEY).expect("32 bytes");
    if how & 1 == 0 {
        let error = key.verify(rest, &want).expect_err("nobody guesses a signature");
        return assert_refused(&error, rest.len());
    }
    let token = signed(&KEY, rest);
    match key.verify(&token, &want) {
        Err(error) => assert_refused(&error, token.len()),
        Ok(found) => assert_allows(&key, &found, &want),
    }
}

/// A secret, a key and an id have their sizes.
fn check_sizes(bytes: &[u8]) {
    assert_eq!(Secret::from_bytes(bytes).is_some(), (32..=4096).contains(&bytes.len()));
    assert_eq!(ClusterId::from_wire(bytes).is_some(), bytes.len() == 16);
    match BlockKey::from_wire(bytes) {
        Some(key) => assert_eq!(key.to_wire(), bytes),
        None => assert_ne!(bytes.len(), 32),
    }
}

/// An HMAC-SHA256 and what it signs: what a token is, by whoever has the key.
pub(super) fn signed(key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    hmac.update(content);
    [&hmac.finalize().into_bytes()[..], content].concat()
}

pub(super) fn assert_refused(error: &TokenError, token_bytes: usize) {
    assert!(!error.to_string().is_empty());
    let too_long = matches!(error, TokenError::TooLong { .. });
    assert_eq!(too_long, token_bytes > TOKEN_BYTES_MAX, "{error}");
}

fn assert_allows(key: &BlockKey, token: &BlockToken, want: &Wanted) {
    assert_eq!((&token.cluster_id[..], token.block), (&CLUSTER.0[..], want.block.0));
    assert!(token.operations & want.operation.bit() != 0 && token.expires_ms > want.now_ms);
    match want.operation {
        Operation::Read => assert!(token.generation <= want.generation.0),
        Operation::Write => assert_eq!(token.generation, want.generation.0),
    }
    let again = key.verify(&key.sign(token), want).expect("it was allowed");
    assert_eq!(again, *token);
}
