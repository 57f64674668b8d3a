//! Types that hold another: a tag before the value, or the value as it is.

use std::cmp::Reverse;

use super::{Datum, DecodeError, Place};

impl<T: Datum> Datum for Option<T> {
    type Ref<'a> = Option<T::Ref<'a>>;

    #[inline]
    fn encode(value: Option<T::Ref<'_>>, place: Place, out: &mut Vec<u8>) {
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            T::encode(value, place, out);
        }
    }

    #[inline]
    fn store(&self, place: Place, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.store(place, out);
        }
    }

    #[inline]
    fn decode<'a>(input: &mut &'a [u8], place: Place) -> Result<Option<T::Ref<'a>>, DecodeError> {
        if bool::decode(input, Place::Inner)? { T::decode(input, place).map(Some) } else { Ok(None) }
    }

    #[inline]
    fn own(value: Option<T::Ref<'_>>) -> Self {
        value.map(T::own)
    }
}

impl<T: Datum> Datum for Reverse<T> {
    type Ref<'a> = Reverse<T::Ref<'a>>;
    const FIXED_BYTES: Option<usize> = T::FIXED_BYTES;

    #[inline]
    fn encode(Reverse(value): Reverse<T::Ref<'_>>, place: Place, out: &mut Vec<u8>) {
        T::encode(value, place, out);
    }

    #[inline]
    fn store(&self, place: Place, out: &mut Vec<u8>) {
        self.0.store(place, out);
    }

    #[inline]
    fn decode<'a>(input: &mut &'a [u8], place: Place) -> Result<Reverse<T::Ref<'a>>, DecodeError> {
        T::decode(input, place).map(Reverse)
    }

    #[inline]
    fn own(Reverse(value): Reverse<T::Ref<'_>>) -> Self {
        Reverse(T::own(value))
    }

    #[inline]
    fn bytes<'s, 'v: 's>(Reverse(value): Reverse<T::Ref<'v>>, scratch: &'s mut Vec<u8>) -> &'s [u8] {
        T::bytes(value, scratch)
    }
}
