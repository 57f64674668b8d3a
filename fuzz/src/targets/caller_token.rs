//! Caller tokens, in hexadecimal, and whom they let in.

use super::Target;
use super::block_token::{assert_refused, signed};
use crate::input::Input;
use gristmill_proto::auth::{CALLER_TOKEN_LIFETIME_MS, Role, Secret, TOKEN_BYTES_MAX, TokenError};
use gristmill_proto::messages::CallerToken;
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;

pub(super) const TARGET: Target = Target {
    name: "caller_token",
    input_bytes_max: 3 * TOKEN_BYTES_MAX,
    memory_bytes: 16 << 10,
    memory_bytes_per_byte: 40,
    run,
};

const SECRET: [u8; 32] = [5; 32];
const AUDIENCE: &str = "namespace";

/// How it comes, the time; the rest is the token, or what is signed.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (how, now_ms) = (input.byte(), input.u64());
    let rest = input.rest();
    let role = if how & 4 == 0 { Role::Client } else { Role::Worker };
    let secret = Secret::from_bytes(&SECRET).expect("32 bytes");
    let check = |token: &str| secret.check_caller(token, role, AUDIENCE, now_ms);
    match how & 3 {
        0 => {
            let Ok(text) = str::from_utf8(rest) else { return };
            let error = check(text).expect_err("nobody guesses a signature");
            let is_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
            match error {
                TokenError::TooLong { .. } => assert!(text.len() > 2 * TOKEN_BYTES_MAX),
                TokenError::NotHex => assert!(!text.bytes().all(is_hex) || text.len() % 2 == 1),
                other => assert!(matches!(other, TokenError::Forged), "{other}"),
            }
        }
        1 => {
            let error = check(&hex(rest)).expect_err("nobody guesses a signature");
            assert_refused(&error, rest.len());
        }
        2 => {
            let token = signed(&caller_key(), rest);
            match check(&hex(&token)) {
                Err(error) => assert_refused(&error, token.len()),
                Ok(()) => assert_lets_in(&CallerToken::decode(rest).expect("it was let in"), role, now_ms),
            }
        }
        _ => check(&secret.caller_token(role, AUDIENCE, now_ms))
            .unwrap_or_else(|error| assert_eq!(now_ms, u64::MAX, "{error}")),
    }
}

fn assert_lets_in(token: &CallerToken, role: Role, now_ms: u64) {
    assert_eq!((token.role, &token.audience[..]), (role as u32, AUDIENCE));
    assert!(token.expires_ms > now_ms && token.expires_ms - now_ms <= 2 * CALLER_TOKEN_LIFETIME_MS);
}

/// As the secret derives it.
fn caller_key() -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(&SECRET).expect("a key of any length");
    hmac.update(b"gristmill caller key 1\n");
    hmac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
