//! Keys whose ordinary encoding is in order already.

use super::Key;
use crate::datum::{Datum, DecodeError, Place, take_mut};

/// Takes the bytes of a fixed-size key and reads them as the value they are.
#[inline]
fn decode<'a, T: Datum>(input: &mut &'a mut [u8], bytes: usize) -> Result<T::Ref<'a>, DecodeError> {
    let value: &'a [u8] = take_mut(input, bytes, "a key of a fixed size")?;
    T::decode_all(value)
}

/// Implements the key of a datum of a fixed size.
macro_rules! same_as_datum {
    ($(($($N:ident)?) $T:ty),*) => { $(
        impl$(<const $N: usize>)? Key for $T {
            #[inline]
            fn encode_key(value: Self::Ref<'_>, place: Place, out: &mut Vec<u8>) {
                Self::encode(value, place, out);
            }

            #[inline]
            fn store_key(&self, place: Place, out: &mut Vec<u8>) {
                self.store(place, out);
            }

            #[inline]
            fn decode_key<'a>(input: &mut &'a mut [u8], _: Place) -> Result<Self::Ref<'a>, DecodeError> {
                decode::<Self>(input, size_of::<Self>())
            }

            #[inline]
            fn key_bytes<'s, 'v: 's>(value: Self::Ref<'v>, scratch: &'s mut Vec<u8>) -> &'s [u8] {
                Self::bytes(value, scratch)
            }
        }
    )* };
}
same_as_datum!(() u8, () u16, () u32, () u64, () u128, () i8, () i16, () i32, () i64, () i128);
same_as_datum!(() f32, () f64, () bool, () char, () (), (N) [u8; N]);
