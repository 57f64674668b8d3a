//! Key prefixes: order most keys without touching them.

/// The first 16 bytes of `key`, zero-padded, as a big-endian number.
///
/// Short keys are put together from overlapping loads: copying them to a padded buffer would make the processor
/// wait for the copy before it can load all 16 bytes.
#[inline]
pub(crate) fn prefix(key: &[u8]) -> u128 {
    let unused_bits = |bytes: usize| 8 * (bytes - key.len()) as u32;
    if let Some(first) = key.first_chunk::<16>() {
        return u128::from_be_bytes(*first);
    }
    if let (Some(first), Some(last)) = (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        let rest = (u128::from(u64::from_be_bytes(*last)) << unused_bits(16)) as u64;
        return u128::from(u64::from_be_bytes(*first)) << 64 | u128::from(rest);
    }
    let high = if let (Some(first), Some(last)) = (key.first_chunk::<4>(), key.last_chunk::<4>()) {
        let rest = (u64::from(u32::from_be_bytes(*last)) << unused_bits(8)) as u32;
        u64::from(u32::from_be_bytes(*first)) << 32 | u64::from(rest)
    } else if let [first, .., last] = key {
        // Two or three bytes: the middle one is the last one again if there are two.
        let middle = u64::from(key[1]) << 48;
        u64::from(*first) << 56 | middle | u64::from(*last) << (64 - 8 * key.len())
    } else {
        key.first().map_or(0, |&only| u64::from(only) << 56)
    };
    u128::from(high) << 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prefix_is_the_first_bytes_padded_with_zeros(key in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut padded = key.clone();
            padded.resize(16, 0);
            prop_assert_eq!(&prefix(&key).to_be_bytes()[..], &padded[..16]);
        }
    }
}
