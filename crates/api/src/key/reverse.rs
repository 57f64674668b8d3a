//! Keys from the greatest to the least: the complement of the encoding.
//!
//! Complementing reverses the order only where no encoding is the start of another. Those of a fixed size are so as
//! they are. Any other is escaped as a string of bytes first, which also tells the reader what to complement back.

use std::cmp::Reverse;

use super::{Key, escape};
use crate::datum::{DecodeError, Place, take_mut};

const COMPLEMENT: u8 = 0xFF;

fn complement(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte ^= COMPLEMENT);
}

/// Turns around the key that was written since `start`.
fn reverse<T: Key>(start: usize, out: &mut Vec<u8>) {
    if T::FIXED_BYTES.is_none() {
        escape::escape(start, out);
    }
    complement(&mut out[start..]);
}

impl<T: Key> Key for Reverse<T> {
    #[inline]
    fn encode_key(Reverse(value): Reverse<T::Ref<'_>>, _: Place, out: &mut Vec<u8>) {
        let start = out.len();
        T::encode_key(value, Place::Last, out);
        reverse::<T>(start, out);
    }

    #[inline]
    fn store_key(&self, _: Place, out: &mut Vec<u8>) {
        let start = out.len();
        self.0.store_key(Place::Last, out);
        reverse::<T>(start, out);
    }

    #[inline]
    fn decode_key<'a>(input: &mut &'a mut [u8], _: Place) -> Result<Reverse<T::Ref<'a>>, DecodeError> {
        let key = match T::FIXED_BYTES {
            Some(bytes) => {
                let key = take_mut(input, bytes, "a reversed key")?;
                complement(key);
                key
            }
            None => escape::unescape(input, COMPLEMENT)?,
        };
        T::decode_key_all(key).map(Reverse)
    }
}
