//! Strings as keys: escaped, or as they are where they end the record.

use super::{Key, escape};
use crate::datum::{DecodeError, Place, take_mut};

impl Key for Vec<u8> {
    #[inline]
    fn encode_key(value: &[u8], place: Place, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(value);
        if place == Place::Inner {
            escape::escape(start, out);
        }
    }

    #[inline]
    fn store_key(&self, place: Place, out: &mut Vec<u8>) {
        Self::encode_key(self, place, out);
    }

    #[inline]
    fn decode_key<'a>(input: &mut &'a mut [u8], place: Place) -> Result<&'a [u8], DecodeError> {
        match place {
            Place::Inner => escape::unescape(input, 0).map(|bytes| &*bytes),
            Place::Last => take_mut(input, input.len(), "a string in a key").map(|bytes| &*bytes),
        }
    }

    #[inline]
    fn key_bytes<'s, 'v: 's>(value: &'v [u8], _: &'s mut Vec<u8>) -> &'s [u8] {
        value
    }
}

impl Key for String {
    #[inline]
    fn encode_key(value: &str, place: Place, out: &mut Vec<u8>) {
        Vec::<u8>::encode_key(value.as_bytes(), place, out);
    }

    #[inline]
    fn store_key(&self, place: Place, out: &mut Vec<u8>) {
        Self::encode_key(self, place, out);
    }

    #[inline]
    fn decode_key<'a>(input: &mut &'a mut [u8], place: Place) -> Result<&'a str, DecodeError> {
        Ok(str::from_utf8(Vec::<u8>::decode_key(input, place)?)?)
    }

    #[inline]
    fn key_bytes<'s, 'v: 's>(value: &'v str, _: &'s mut Vec<u8>) -> &'s [u8] {
        value.as_bytes()
    }
}
