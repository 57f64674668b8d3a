//! Caller tokens: the holder of the secret opens a control stream with one, in the metadata of the call.

use std::fmt;

use uuid::Uuid;

use super::signature;
use super::{Secret, TokenError};
use crate::messages::CallerToken;

/// The name of a caller token in the metadata of a call.
pub const CALLER_TOKEN_METADATA: &str = "gristmill-token";
/// How long a caller token is good: long enough for clocks that differ by minutes. Within it, whoever sees the token
/// can use it again.
pub const CALLER_TOKEN_LIFETIME_MS: u64 = 5 * 60 * 1000;

const LABEL: &str = "gristmill caller key 1\n";

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A program that uses the file system.
    Client = 1,
    /// A worker of the cluster.
    Worker = 2,
    /// An attempt at a task: author's code, which acts as the job's user and nobody else.
    Attempt = 3,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Client => "client",
            Role::Worker => "worker",
            Role::Attempt => "job's attempt",
        })
    }
}

impl Secret {
    /// A token for the service `audience` ("namespace", "attendance", "jobs", "tasks", "gateway"), in hexadecimal, good for
    /// [`CALLER_TOKEN_LIFETIME_MS`] from `now_ms` (wall time since 1970). Each stream takes a new one.
    pub fn caller_token(&self, role: Role, audience: &str, now_ms: u64) -> String {
        to_hex(&self.caller_token_bytes(role, audience, now_ms))
    }

    /// The same as bytes, for the header of a bulk frame.
    pub fn caller_token_bytes(&self, role: Role, audience: &str, now_ms: u64) -> Vec<u8> {
        let token = CallerToken {
            role: role as u32,
            nonce: Uuid::new_v4().as_bytes().to_vec().into(),
            expires_ms: now_ms.saturating_add(CALLER_TOKEN_LIFETIME_MS),
            audience: audience.to_owned(),
            ..CallerToken::default()
        };
        signature::sign(&self.caller_key(), &token)
    }

    /// Whether `token` was made with this secret, by a caller of that role, for that service, and is still good. A
    /// clock may be up to [`CALLER_TOKEN_LIFETIME_MS`] behind or ahead of the other.
    ///
    /// The same token passes again until it expires: nothing is kept of those seen.
    pub fn check_caller(
        &self,
        token: &str,
        role: Role,
        audience: &str,
        now_ms: u64,
    ) -> Result<(), TokenError> {
        self.check_caller_bytes(&from_hex(token)?, role, audience, now_ms)
    }

    /// The same of a token as bytes.
    pub fn check_caller_bytes(
        &self,
        token: &[u8],
        role: Role,
        audience: &str,
        now_ms: u64,
    ) -> Result<(), TokenError> {
        let token: CallerToken = signature::open(&self.caller_key(), token)?;
        if token.role != role as u32 {
            return Err(TokenError::WrongRole { wanted: role });
        }
        if token.audience != audience {
            return Err(TokenError::WrongAudience { theirs: token.audience, wanted: audience.to_owned() });
        }
        if now_ms >= token.expires_ms {
            return Err(TokenError::Expired { ago_ms: now_ms - token.expires_ms });
        }
        let ahead_ms = token.expires_ms - now_ms;
        if ahead_ms > 2 * CALLER_TOKEN_LIFETIME_MS {
            return Err(TokenError::TooFarAhead { ahead_ms, lifetime_ms: CALLER_TOKEN_LIFETIME_MS });
        }
        Ok(())
    }

    /// Not bound to a cluster's id: a caller learns that from the first answer.
    pub(super) fn caller_key(&self) -> [u8; 32] {
        self.derive(LABEL, &[])
    }
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).expect("four bits");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Takes what [`to_hex`] makes and nothing else, so that a token has one form.
pub(super) fn from_hex(text: &str) -> Result<Vec<u8>, TokenError> {
    signature::check_length(text.len() / 2)?;
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(TokenError::NotHex),
    };
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if !odd.is_empty() {
        return Err(TokenError::NotHex);
    }
    pairs.iter().map(|[high, low]| Ok(value(*high)? << 4 | value(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn secret(byte: u8) -> Secret {
        Secret::from_bytes(&[byte; 32]).unwrap()
    }

    fn check(token: &str, now_ms: u64) -> Result<(), TokenError> {
        secret(b's').check_caller(token, Role::Worker, "attendance", now_ms)
    }

    #[test]
    fn a_caller_who_knows_the_secret_comes_in_again_and_again() {
        let token = secret(b's').caller_token(Role::Worker, "attendance", NOW_MS);
        for now_ms in [NOW_MS, NOW_MS, NOW_MS + CALLER_TOKEN_LIFETIME_MS - 1] {
            check(&token, now_ms).unwrap();
        }
        let another = secret(b's').caller_token(Role::Worker, "attendance", NOW_MS);
        assert_ne!(token, another, "each has a nonce");
    }

    #[test]
    fn a_token_is_for_one_secret_role_and_service() {
        let token = secret(b't').caller_token(Role::Worker, "attendance", NOW_MS);
        assert!(matches!(check(&token, NOW_MS), Err(TokenError::Forged)));
        let token = secret(b's').caller_token(Role::Client, "attendance", NOW_MS);
        assert_eq!(check(&token, NOW_MS).unwrap_err().to_string(), "the token is not that of a worker");
        let token = secret(b's').caller_token(Role::Worker, "namespace", NOW_MS);
        let said = r#"the token is for the service "namespace", this is "attendance""#;
        assert_eq!(check(&token, NOW_MS).unwrap_err().to_string(), said);
    }

    #[test]
    fn clocks_may_differ_by_minutes() {
        let made_at = |made_ms| secret(b's').caller_token(Role::Worker, "attendance", made_ms);
        let minutes_5 = CALLER_TOKEN_LIFETIME_MS;
        check(&made_at(NOW_MS - minutes_5 + 1), NOW_MS).unwrap();
        check(&made_at(NOW_MS + minutes_5), NOW_MS).unwrap();
        let error = check(&made_at(NOW_MS - minutes_5 - 20), NOW_MS).unwrap_err();
        assert_eq!(error.to_string(), "the token expired 20 ms ago by this machine's clock");
        let error = check(&made_at(NOW_MS + minutes_5 + 1), NOW_MS).unwrap_err();
        assert!(matches!(error, TokenError::TooFarAhead { ahead_ms: 600_001, .. }), "{error}");
        check(&made_at(u64::MAX), 0).unwrap_err();
        check(&made_at(0), u64::MAX).unwrap_err();
    }

    #[test]
    fn every_digit_of_a_token_counts() {
        let token = secret(b's').caller_token(Role::Worker, "attendance", NOW_MS);
        for at in 0..token.len() {
            let other = if token.as_bytes()[at] == b'0' { "1" } else { "0" };
            let forged = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            let error = check(&forged, NOW_MS).unwrap_err();
            assert!(matches!(error, TokenError::Forged), "digit {at}: {error}");
        }
        for length in (0..token.len()).step_by(2) {
            assert!(matches!(check(&token[..length], NOW_MS), Err(TokenError::Forged)), "{length} digits");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["0", "zz", "ÄÖ", "0x00", "AB", " ab", "abc"] {
            assert!(matches!(check(text, NOW_MS), Err(TokenError::NotHex)), "{text:?}");
        }
        let error = check(&"0".repeat(1 << 20), NOW_MS).unwrap_err();
        assert!(matches!(error, TokenError::TooLong { bytes: 524_288, .. }), "{error}");
        let upper = secret(b's').caller_token(Role::Worker, "attendance", NOW_MS).to_uppercase();
        assert!(matches!(check(&upper, NOW_MS), Err(TokenError::NotHex)));
    }
}
