//! Strings of bytes that tell their end and keep their order: `00` becomes `00 FF`, and `00 00` ends the string.
//!
//! Let `a < b`. If they differ first at some byte, so do the encodings at its image: either both bytes stand for
//! themselves, or `a` has a NUL there and `00` is less than what `b` has. If `a` is the start of `b`, `a` goes on with
//! `00 00` where `b` goes on with `00 FF` or with a byte above `00`. Both times the encodings differ before either
//! ends, with that of `a` the lesser: so none is the start of another, and complementing them reverses the order.

use crate::datum::{DecodeError, take_mut};

const NUL: u8 = 0x00;
const ESCAPED: u8 = 0xFF;
const END: [u8; 2] = [NUL, NUL];

/// Escapes what was written since `start`, and ends it.
#[inline]
pub(super) fn escape(start: usize, out: &mut Vec<u8>) {
    let nuls = memchr::memchr_iter(NUL, &out[start..]).count();
    let (mut from, mut to) = (out.len(), out.len() + nuls);
    out.resize(to, ESCAPED);
    // From the back: `to - from` is the number of NULs still to move.
    while from < to {
        from -= 1;
        if out[from] == NUL {
            to -= 1;
            out[to] = ESCAPED;
        }
        to -= 1;
        out[to] = out[from];
    }
    out.extend_from_slice(&END);
}

/// Takes an escaped string, all bytes of which are complemented by `mask`, and restores it in place.
#[inline]
pub(super) fn unescape<'a>(input: &mut &'a mut [u8], mask: u8) -> Result<&'a mut [u8], DecodeError> {
    let (bytes, nuls) = measure(input, mask)?;
    let string = take_mut(input, bytes, "a string in a key")?;
    take_mut(input, END.len(), "the end of a string in a key")?;
    if mask != 0 {
        string.iter_mut().for_each(|byte| *byte ^= mask);
    }
    if nuls > 0 {
        compact(string);
    }
    Ok(&mut string[..bytes - nuls])
}

/// The length of the escaped string without its end, and how many NULs it holds.
fn measure(input: &[u8], mask: u8) -> Result<(usize, usize), DecodeError> {
    let (mut bytes, mut nuls) = (0, 0);
    while let Some(nul) = memchr::memchr(NUL ^ mask, &input[bytes..]) {
        bytes += nul;
        match input.get(bytes + 1).map(|byte| byte ^ mask) {
            Some(NUL) => return Ok((bytes, nuls)),
            Some(ESCAPED) => (bytes, nuls) = (bytes + 2, nuls + 1),
            Some(byte) => return Err(DecodeError::InvalidEscape { byte }),
            None => break,
        }
    }
    let what = "a string in a key";
    Err(DecodeError::Truncated { what, needed_bytes: input.len() + 1, found_bytes: input.len() })
}

/// Drops the byte behind each NUL.
fn compact(string: &mut [u8]) {
    let (mut from, mut to) = (0, 0);
    while from < string.len() {
        string[to] = string[from];
        from += if string[from] == NUL { 2 } else { 1 };
        to += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(string: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        out.extend_from_slice(string);
        escape(6, &mut out);
        out.split_off(6)
    }

    #[test]
    fn nuls_are_escaped() {
        assert_eq!(escaped(b""), b"\0\0");
        assert_eq!(escaped(b"ab"), b"ab\0\0");
        assert_eq!(escaped(b"\0a\0\0"), b"\0\xFFa\0\xFF\0\xFF\0\0");
    }

    #[test]
    fn what_no_writer_writes_is_refused() {
        let error = |bytes: &[u8]| unescape(&mut &mut bytes.to_vec()[..], 0).unwrap_err();
        assert!(matches!(error(b"a\0b\0\0"), DecodeError::InvalidEscape { byte: b'b' }));
        assert!(matches!(error(b"abc"), DecodeError::Truncated { needed_bytes: 4, found_bytes: 3, .. }));
        assert!(matches!(error(b"a\0"), DecodeError::Truncated { .. }));
        assert!(matches!(error(b"a\0\xFF"), DecodeError::Truncated { .. }));
    }
}
