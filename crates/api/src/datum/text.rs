//! Strings of characters and of bytes: a length and the bytes, or only the bytes where they end the record.

use super::{Datum, DecodeError, Place, input::take_array, take, varint};

impl Datum for Vec<u8> {
    type Ref<'a> = &'a [u8];

    #[inline]
    fn encode(value: &[u8], place: Place, out: &mut Vec<u8>) {
        if place == Place::Inner {
            varint::encode(value.len(), out);
        }
        out.extend_from_slice(value);
    }

    #[inline]
    fn store(&self, place: Place, out: &mut Vec<u8>) {
        Self::encode(self, place, out);
    }

    #[inline]
    fn decode<'a>(input: &mut &'a [u8], place: Place) -> Result<&'a [u8], DecodeError> {
        let bytes = match place {
            Place::Inner => varint::decode(input)?,
            Place::Last => input.len(),
        };
        take(input, bytes, "a string")
    }

    #[inline]
    fn own(value: &[u8]) -> Self {
        value.to_vec()
    }

    #[inline]
    fn bytes<'s, 'v: 's>(value: &'v [u8], _: &'s mut Vec<u8>) -> &'s [u8] {
        value
    }
}

impl Datum for String {
    type Ref<'a> = &'a str;

    #[inline]
    fn encode(value: &str, place: Place, out: &mut Vec<u8>) {
        Vec::<u8>::encode(value.as_bytes(), place, out);
    }

    #[inline]
    fn store(&self, place: Place, out: &mut Vec<u8>) {
        Self::encode(self, place, out);
    }

    #[inline]
    fn decode<'a>(input: &mut &'a [u8], place: Place) -> Result<&'a str, DecodeError> {
        Ok(str::from_utf8(Vec::<u8>::decode(input, place)?)?)
    }

    #[inline]
    fn own(value: &str) -> Self {
        value.to_owned()
    }

    #[inline]
    fn bytes<'s, 'v: 's>(value: &'v str, _: &'s mut Vec<u8>) -> &'s [u8] {
        value.as_bytes()
    }
}

impl<const N: usize> Datum for [u8; N] {
    type Ref<'a> = &'a [u8; N];
    const FIXED_BYTES: Option<usize> = Some(N);

    #[inline]
    fn encode(value: &Self, _: Place, out: &mut Vec<u8>) {
        out.extend_from_slice(value);
    }

    #[inline]
    fn store(&self, place: Place, out: &mut Vec<u8>) {
        Self::encode(self, place, out);
    }

    #[inline]
    fn decode<'a>(input: &mut &'a [u8], _: Place) -> Result<&'a Self, DecodeError> {
        take_array(input, "an array of bytes")
    }

    #[inline]
    fn own(value: &Self) -> Self {
        *value
    }

    #[inline]
    fn bytes<'s, 'v: 's>(value: &'v Self, _: &'s mut Vec<u8>) -> &'s [u8] {
        value
    }
}
