//! Unsigned lengths in seven-bit groups, least significant first (LEB128): lengths below 128 take one byte.

/// Longest encoding of a `u64`.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Appends `value`.
#[inline]
pub(crate) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a value at `*at` and moves past it; `None` if it runs over the end or is longer than a `u64`.
#[inline]
pub(crate) fn take(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(u64::from(first));
    }
    take_long(bytes, at)
}

#[cold]
fn take_long(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for index in 0..VARINT_BYTES_MAX {
        let byte = *bytes.get(*at + index)?;
        let group = u64::from(byte & 0x7f);
        if index == VARINT_BYTES_MAX - 1 && group > 1 {
            return None;
        }
        value |= group << (7 * index);
        if byte < 0x80 {
            *at += index + 1;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_taken(value: u64, rest: Vec<u8>) {
            let mut bytes = Vec::new();
            put(value, &mut bytes);
            let end = bytes.len();
            bytes.extend_from_slice(&rest);
            let mut at = 0;
            prop_assert_eq!(take(&bytes, &mut at), Some(value));
            prop_assert_eq!(at, end);
            prop_assert_eq!(take(&bytes[..end - 1], &mut 0), None);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut at = 0;
            while take(&bytes, &mut at).is_some() {}
        }
    }
}
