//! Numbers and the other values of a fixed size. Their bytes are in the order of the values, so they serve keys too.

use super::{Datum, DecodeError, Place, input::take_array};

/// Implements the two writers of a type that is its own `Ref` and is `Copy`.
macro_rules! by_value {
    () => {
        type Ref<'a> = Self;
        const FIXED_BYTES: Option<usize> = Some(size_of::<Self>());

        #[inline]
        fn store(&self, place: Place, out: &mut Vec<u8>) {
            Self::encode(*self, place, out);
        }

        #[inline]
        fn own(value: Self) -> Self {
            value
        }
    };
}

/// Big-endian; `MIN` is the sign bit of a signed type and nothing of an unsigned one, and flipping it puts the
/// negative numbers first.
macro_rules! integer {
    ($($T:ident),*) => { $(
        impl Datum for $T {
            by_value!();

            #[inline]
            fn encode(value: Self, _: Place, out: &mut Vec<u8>) {
                out.extend_from_slice(&(value ^ Self::MIN).to_be_bytes());
            }

            #[inline]
            fn decode(input: &mut &[u8], _: Place) -> Result<Self, DecodeError> {
                take_array(input, stringify!($T)).map(|bytes| Self::from_be_bytes(*bytes) ^ Self::MIN)
            }

            #[inline]
            fn word(&self, _: &mut Vec<u8>) -> u64 {
                let bytes = (self ^ Self::MIN).to_be_bytes();
                bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte))
            }
        }
    )* };
}
integer!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

/// The order is IEEE 754's total order, that of `total_cmp`: a positive number has its sign bit flipped, a negative
/// one all its bits, because among negative numbers the greater magnitude comes first.
macro_rules! float {
    ($($T:ident as $Bits:ident),*) => { $(
        impl Datum for $T {
            by_value!();

            #[inline]
            fn encode(value: Self, place: Place, out: &mut Vec<u8>) {
                const SIGN: $Bits = 1 << ($Bits::BITS - 1);
                let bits = value.to_bits();
                $Bits::encode(if bits & SIGN == 0 { bits ^ SIGN } else { !bits }, place, out);
            }

            #[inline]
            fn decode(input: &mut &[u8], place: Place) -> Result<Self, DecodeError> {
                const SIGN: $Bits = 1 << ($Bits::BITS - 1);
                let bits = $Bits::decode(input, place)?;
                Ok(Self::from_bits(if bits & SIGN == 0 { !bits } else { bits ^ SIGN }))
            }

            #[inline]
            fn word(&self, _: &mut Vec<u8>) -> u64 {
                const SIGN: $Bits = 1 << ($Bits::BITS - 1);
                let bits = self.to_bits();
                (if bits & SIGN == 0 { bits ^ SIGN } else { !bits }).into()
            }
        }
    )* };
}
float!(f32 as u32, f64 as u64);

impl Datum for bool {
    by_value!();

    #[inline]
    fn encode(value: Self, _: Place, out: &mut Vec<u8>) {
        out.push(u8::from(value));
    }

    #[inline]
    fn decode(input: &mut &[u8], _: Place) -> Result<Self, DecodeError> {
        match take_array(input, "bool")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [tag] => Err(DecodeError::InvalidTag { what: "bool", tag: u32::from(*tag) }),
        }
    }
}

impl Datum for char {
    by_value!();

    #[inline]
    fn encode(value: Self, place: Place, out: &mut Vec<u8>) {
        u32::encode(u32::from(value), place, out);
    }

    #[inline]
    fn decode(input: &mut &[u8], place: Place) -> Result<Self, DecodeError> {
        let tag = u32::decode(input, place)?;
        Self::from_u32(tag).ok_or(DecodeError::InvalidTag { what: "char", tag })
    }
}

impl Datum for () {
    by_value!();

    #[inline]
    fn encode((): Self, _: Place, _: &mut Vec<u8>) {}

    #[inline]
    fn decode(_: &mut &[u8], _: Place) -> Result<Self, DecodeError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<T: Datum>(value: T) -> Vec<u8> {
        let mut out = Vec::new();
        value.store(Place::Last, &mut out);
        out
    }

    #[test]
    fn integers_are_big_endian_with_the_sign_flipped() {
        assert_eq!(bytes(0x0102_u16), [1, 2]);
        assert_eq!(bytes(-1_i16), [0x7F, 0xFF]);
        assert_eq!(bytes(1_i16), [0x80, 0x01]);
    }

    #[test]
    fn floats_have_the_total_order() {
        let ordered =
            [-f64::NAN, f64::NEG_INFINITY, -1.0, -f64::MIN_POSITIVE, -0.0, 0.0, 1.0, f64::INFINITY, f64::NAN];
        assert!(ordered.map(bytes).is_sorted_by(|a, b| a < b));
        for value in ordered {
            assert_eq!(f64::decode_all(&bytes(value)).unwrap().to_bits(), value.to_bits());
        }
    }

    #[test]
    fn bytes_that_are_no_value_are_refused() {
        assert!(matches!(bool::decode_all(&[2]), Err(DecodeError::InvalidTag { what: "bool", tag: 2 })));
        assert!(matches!(
            char::decode_all(&bytes(0xD800_u32)),
            Err(DecodeError::InvalidTag { what: "char", .. })
        ));
        assert!(matches!(u16::decode_all(&[0, 1, 2]), Err(DecodeError::Trailing { bytes: 1 })));
        let error = u32::decode_all(&[0]).unwrap_err();
        assert_eq!(error.to_string(), "u32 needs 4 bytes, but only 1 are left");
    }
}
