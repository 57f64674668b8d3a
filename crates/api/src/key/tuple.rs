//! Tuples as keys: their fields one after the other; only the last has the place of the whole.

use super::Key;
use crate::datum::{DecodeError, Place};

/// Implements tuples of some fields and a last one.
macro_rules! tuple {
    ($($T:ident $value:ident,)* ; $Last:ident $last:ident) => {
        impl<$($T: Key,)* $Last: Key> Key for ($($T,)* $Last,) {
            #[inline]
            fn encode_key(($($value,)* $last,): Self::Ref<'_>, place: Place, out: &mut Vec<u8>) {
                $($T::encode_key($value, Place::Inner, out);)*
                $Last::encode_key($last, place, out);
            }

            #[inline]
            fn store_key(&self, place: Place, out: &mut Vec<u8>) {
                let ($($value,)* $last,) = self;
                $($value.store_key(Place::Inner, out);)*
                $last.store_key(place, out);
            }

            #[inline]
            fn decode_key<'a>(input: &mut &'a mut [u8], place: Place) -> Result<Self::Ref<'a>, DecodeError> {
                Ok(($($T::decode_key(input, Place::Inner)?,)* $Last::decode_key(input, place)?,))
            }
        }
    };
}
tuple!(; A a);
tuple!(A a, ; B b);
tuple!(A a, B b, ; C c);
tuple!(A a, B b, C c, ; D d);
tuple!(A a, B b, C c, D d, ; E e);
tuple!(A a, B b, C c, D d, E e, ; F f);
