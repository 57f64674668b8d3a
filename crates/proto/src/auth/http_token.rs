//! The http token: whoever shows it may read the pages of the master's HTTP port.

use super::Secret;
use super::caller_token::{from_hex, to_hex};

const LABEL: &str = "gristmill http key 1\n";

impl Secret {
    /// What a reader of the master's pages puts after `Authorization: Bearer`. It stays the same for as long as the
    /// secret does, as those who collect metrics keep it in a file; nothing but pages can be had for it.
    pub fn http_token(&self) -> String {
        to_hex(&self.derive(LABEL, &[]))
    }

    /// Whether `token` is the http token of this secret, compared in constant time.
    pub fn is_http_token(&self, token: &str) -> bool {
        from_hex(token).is_ok_and(|claimed| self.is_derived(LABEL, &claimed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_one_secret_and_every_digit_counts() {
        let secret = Secret::from_bytes(&[b's'; 32]).unwrap();
        let token = secret.http_token();
        assert!(secret.is_http_token(&token));
        assert!(!Secret::from_bytes(&[b't'; 32]).unwrap().is_http_token(&token));
        for at in 0..token.len() {
            let other = if token.as_bytes()[at] == b'0' { "1" } else { "0" };
            assert!(!secret.is_http_token(&format!("{}{other}{}", &token[..at], &token[at + 1..])));
            assert!(!secret.is_http_token(&token[..at]));
        }
        assert!(!secret.is_http_token(&token.to_uppercase()), "a token has one form");
    }
}
