//! Optional keys: `None` comes first.

use super::Key;
use crate::datum::{DecodeError, Place};

impl<T: Key> Key for Option<T> {
    #[inline]
    fn encode_key(value: Option<T::Ref<'_>>, place: Place, out: &mut Vec<u8>) {
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            T::encode_key(value, place, out);
        }
    }

    #[inline]
    fn store_key(&self, place: Place, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.store_key(place, out);
        }
    }

    #[inline]
    fn decode_key<'a>(input: &mut &'a mut [u8], place: Place) -> Result<Option<T::Ref<'a>>, DecodeError> {
        if bool::decode_key(input, Place::Inner)? { T::decode_key(input, place).map(Some) } else { Ok(None) }
    }
}
