//! Lists as keys: a tag before each element says that there is one, so a list comes before those it starts.

use super::Key;
use crate::datum::{Datum, DecodeError, Element, Place};

/// What stands before an element, and, unless the list is last, behind all of them.
const ELEMENT: bool = true;
const END: bool = false;

fn encode_end(place: Place, out: &mut Vec<u8>) {
    if place == Place::Inner {
        bool::encode(END, Place::Inner, out);
    }
}

/// Whether another element follows. At the last place an end would be a second encoding of the same list.
fn decode_more(input: &mut &mut [u8], place: Place) -> Result<bool, DecodeError> {
    if place == Place::Last && input.is_empty() {
        return Ok(false);
    }
    let more = bool::decode_key(input, Place::Inner)?;
    if more == END && place == Place::Last {
        return Err(DecodeError::InvalidTag { what: "an element of the last list", tag: END.into() });
    }
    Ok(more)
}

impl<T: Key + Element> Key for Vec<T> {
    fn encode_key(value: Vec<T::Ref<'_>>, place: Place, out: &mut Vec<u8>) {
        for element in value {
            bool::encode(ELEMENT, Place::Inner, out);
            T::encode_key(element, Place::Inner, out);
        }
        encode_end(place, out);
    }

    fn store_key(&self, place: Place, out: &mut Vec<u8>) {
        for element in self {
            bool::encode(ELEMENT, Place::Inner, out);
            element.store_key(Place::Inner, out);
        }
        encode_end(place, out);
    }

    fn decode_key<'a>(input: &mut &'a mut [u8], place: Place) -> Result<Vec<T::Ref<'a>>, DecodeError> {
        let mut list = Vec::new();
        while decode_more(input, place)? {
            list.push(T::decode_key(input, Place::Inner)?);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_at_the_last_place_has_one_encoding() {
        assert_eq!(Vec::<u16>::decode_key_all(&mut [1, 0, 2]).unwrap(), [2]);
        for bytes in [&mut [1, 0, 2, 0][..], &mut [0]] {
            let refused = Vec::<u16>::decode_key_all(bytes);
            assert!(matches!(refused, Err(DecodeError::InvalidTag { tag: 0, .. })));
        }
    }
}
