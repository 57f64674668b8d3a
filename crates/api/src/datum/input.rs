use super::DecodeError;

/// Takes a number of bytes off the front.
#[inline]
pub(crate) fn take<'a>(
    input: &mut &'a [u8],
    bytes: usize,
    what: &'static str,
) -> Result<&'a [u8], DecodeError> {
    let found_bytes = input.len();
    input.split_off(..bytes).ok_or(DecodeError::Truncated { what, needed_bytes: bytes, found_bytes })
}

/// Takes a number of bytes off the front of a private copy.
#[inline]
pub(crate) fn take_mut<'a>(
    input: &mut &'a mut [u8],
    bytes: usize,
    what: &'static str,
) -> Result<&'a mut [u8], DecodeError> {
    let found_bytes = input.len();
    input.split_off_mut(..bytes).ok_or(DecodeError::Truncated { what, needed_bytes: bytes, found_bytes })
}

/// Takes an array off the front, without a copy.
#[inline]
pub(super) fn take_array<'a, const N: usize>(
    input: &mut &'a [u8],
    what: &'static str,
) -> Result<&'a [u8; N], DecodeError> {
    let (array, rest) = input.split_first_chunk().ok_or(DecodeError::Truncated {
        what,
        needed_bytes: N,
        found_bytes: input.len(),
    })?;
    *input = rest;
    Ok(array)
}
