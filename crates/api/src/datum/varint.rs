//! Lengths: seven bits a byte, the lowest first; the high bit says that more follow.

use super::{DecodeError, take};

const BITS: u32 = 7;
const MORE: u8 = 1 << BITS;

/// Appends a length.
#[inline]
pub(super) fn encode(mut length: usize, out: &mut Vec<u8>) {
    while length >= usize::from(MORE) {
        out.push(length as u8 | MORE);
        length >>= BITS;
    }
    out.push(length as u8);
}

/// Takes a length off the front.
#[inline]
pub(super) fn decode(input: &mut &[u8]) -> Result<usize, DecodeError> {
    let mut length = 0;
    for shift in (0..usize::BITS).step_by(BITS as usize) {
        let byte = take(input, 1, "a length")?[0];
        let bits = usize::from(byte & !MORE);
        if bits << shift >> shift != bits {
            return Err(DecodeError::InvalidLength);
        }
        length |= bits << shift;
        if byte & MORE == 0 {
            return Ok(length);
        }
    }
    Err(DecodeError::InvalidLength)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_beyond_the_host_is_refused() {
        let too_long = [0xFF; 11];
        assert!(matches!(decode(&mut &too_long[..]), Err(DecodeError::InvalidLength)));
        let too_high = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02];
        assert!(matches!(decode(&mut &too_high[..]), Err(DecodeError::InvalidLength)));
    }

    proptest! {
        #[test]
        fn lengths_come_back(length in any::<usize>(), shift in 0..usize::BITS) {
            let mut out = Vec::new();
            encode(length >> shift, &mut out);
            let mut input = &out[..];
            prop_assert_eq!(decode(&mut input).unwrap(), length >> shift);
            prop_assert!(input.is_empty());
        }
    }
}
