//! Lists: the number of elements, and the elements.

use super::{Datum, DecodeError, Element, Place, varint};

/// What fills the place of an element that takes no bytes: each takes one, so that the input bounds the number.
const FILLER: u8 = 0;

/// Whether the elements take no bytes.
const fn is_empty<T: Datum>() -> bool {
    matches!(T::FIXED_BYTES, Some(0))
}

/// Takes the number of elements, which what is left of the input must be able to hold.
fn decode_count<T: Datum>(input: &mut &[u8]) -> Result<usize, DecodeError> {
    let count = varint::decode(input)?;
    let needed_bytes = count.saturating_mul(T::FIXED_BYTES.unwrap_or(1).max(1));
    if needed_bytes > input.len() {
        return Err(DecodeError::Truncated { what: "a list", needed_bytes, found_bytes: input.len() });
    }
    Ok(count)
}

fn take_filler(input: &mut &[u8]) -> Result<(), DecodeError> {
    match super::take(input, 1, "a list")?[0] {
        FILLER => Ok(()),
        other => Err(DecodeError::InvalidTag { what: "an element without bytes", tag: other.into() }),
    }
}

impl<T: Element> Datum for Vec<T> {
    type Ref<'a> = Vec<T::Ref<'a>>;

    fn encode(value: Vec<T::Ref<'_>>, _: Place, out: &mut Vec<u8>) {
        varint::encode(value.len(), out);
        for element in value {
            T::encode(element, Place::Inner, out);
            if is_empty::<T>() {
                out.push(FILLER);
            }
        }
    }

    fn store(&self, _: Place, out: &mut Vec<u8>) {
        varint::encode(self.len(), out);
        for element in self {
            element.store(Place::Inner, out);
            if is_empty::<T>() {
                out.push(FILLER);
            }
        }
    }

    fn decode<'a>(input: &mut &'a [u8], _: Place) -> Result<Vec<T::Ref<'a>>, DecodeError> {
        let count = decode_count::<T>(input)?;
        // An element may take more memory than input: what is reserved ahead is bounded by the input.
        let mut list = Vec::with_capacity(count.min(input.len() / size_of::<T::Ref<'a>>().max(1)));
        for _ in 0..count {
            list.push(T::decode(input, Place::Inner)?);
            if is_empty::<T>() {
                take_filler(input)?;
            }
        }
        Ok(list)
    }

    fn own(value: Vec<T::Ref<'_>>) -> Self {
        value.into_iter().map(T::own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list that says to have far more elements than the input could hold is refused before any is read.
    #[test]
    fn the_input_bounds_the_number() {
        let mut input = Vec::new();
        varint::encode(usize::MAX, &mut input);
        assert!(matches!(Vec::<()>::decode_all(&input), Err(DecodeError::Truncated { .. })));
        assert!(matches!(Vec::<u64>::decode_all(&input), Err(DecodeError::Truncated { .. })));
        assert!(matches!(Vec::<String>::decode_all(&input), Err(DecodeError::Truncated { .. })));
    }

    #[test]
    fn nothing_but_the_filler_fills() {
        assert_eq!(Vec::<()>::decode_all(&[2, 0, 0]).unwrap(), [(), ()]);
        assert!(matches!(Vec::<()>::decode_all(&[2, 0, 7]), Err(DecodeError::InvalidTag { tag: 7, .. })));
    }
}
