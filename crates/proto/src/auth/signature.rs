//! Messages signed with HMAC-SHA256: 32 bytes of signature, then the encoded message.

use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;

use super::TokenError;

/// Most bytes of a token, before anything in it is looked at. Tokens have about 100; a user's name, the one part that
/// can be long, is what remains.
pub const TOKEN_BYTES_MAX: usize = 1 << 10;

const SIGNATURE_BYTES: usize = 32;

/// HMAC-SHA256 of the parts, one after the other.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; SIGNATURE_BYTES] {
    with_parts(key, parts).finalize().into_bytes().into()
}

pub(super) fn sign(key: &[u8], message: &impl Message) -> Vec<u8> {
    let encoded = message.encode_to_vec();
    let mut signed = Vec::with_capacity(SIGNATURE_BYTES + encoded.len());
    signed.extend(hmac(key, &[&encoded]));
    signed.extend(encoded);
    signed
}

/// The message in a token, if it was signed with `key`. The signature is compared in constant time, and before the
/// message is decoded.
pub(super) fn open<M: Message + Default>(key: &[u8], token: &[u8]) -> Result<M, TokenError> {
    check_length(token.len())?;
    let (signature, encoded) = token.split_at_checked(SIGNATURE_BYTES).ok_or(TokenError::Forged)?;
    with_parts(key, &[encoded]).verify_slice(signature).map_err(|_| TokenError::Forged)?;
    M::decode(encoded).map_err(TokenError::Decode)
}

/// Whether `claimed` is that HMAC, compared in constant time.
pub(super) fn is_hmac(key: &[u8], parts: &[&[u8]], claimed: &[u8]) -> bool {
    with_parts(key, parts).verify_slice(claimed).is_ok()
}

pub(super) fn check_length(bytes: usize) -> Result<(), TokenError> {
    if bytes > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong { bytes: bytes as u64, max: TOKEN_BYTES_MAX as u64 });
    }
    Ok(())
}

fn with_parts(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        hmac.update(part);
    }
    hmac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_hmac_of_the_standard() {
        // RFC 4231, test case 2.
        let found = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        let hex: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
