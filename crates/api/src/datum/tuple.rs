//! Tuples: their fields one after the other; only the last has the place of the whole.

use super::{Datum, DecodeError, Element, Place, sum_fixed_bytes};

/// Implements tuples of some fields and a last one.
macro_rules! tuple {
    ($($T:ident $value:ident,)* ; $Last:ident $last:ident) => {
        impl<$($T: Datum,)* $Last: Datum> Datum for ($($T,)* $Last,) {
            type Ref<'a> = ($($T::Ref<'a>,)* $Last::Ref<'a>,);
            const FIXED_BYTES: Option<usize> = sum_fixed_bytes(&[$($T::FIXED_BYTES,)* $Last::FIXED_BYTES]);

            #[inline]
            fn encode(($($value,)* $last,): Self::Ref<'_>, place: Place, out: &mut Vec<u8>) {
                $($T::encode($value, Place::Inner, out);)*
                $Last::encode($last, place, out);
            }

            #[inline]
            fn store(&self, place: Place, out: &mut Vec<u8>) {
                let ($($value,)* $last,) = self;
                $($value.store(Place::Inner, out);)*
                $last.store(place, out);
            }

            #[inline]
            fn decode<'a>(input: &mut &'a [u8], place: Place) -> Result<Self::Ref<'a>, DecodeError> {
                Ok(($($T::decode(input, Place::Inner)?,)* $Last::decode(input, place)?,))
            }

            #[inline]
            fn own(($($value,)* $last,): Self::Ref<'_>) -> Self {
                ($($T::own($value),)* $Last::own($last),)
            }
        }

        impl<$($T: Datum,)* $Last: Datum> Element for ($($T,)* $Last,) {}
    };
}
tuple!(; A a);
tuple!(A a, ; B b);
tuple!(A a, B b, ; C c);
tuple!(A a, B b, C c, ; D d);
tuple!(A a, B b, C c, D d, ; E e);
tuple!(A a, B b, C c, D d, E e, ; F f);
