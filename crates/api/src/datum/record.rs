//! What `#[derive(Datum)]` calls: any serde type as a record, in bincode's standard form.

use std::marker::PhantomData;

use bincode::config::standard;
#[doc(hidden)]
pub use serde::{Serialize, de::DeserializeOwned};

use super::bounded::{Bound, Bounds, EMPTY_ELEMENTS_MAX, LEVELS_MAX, Within};
use super::{Datum, DecodeError, Place, varint};

/// Appends a value.
///
/// # Panics
/// If the type's `Serialize` refuses the value, as `#[serde(flatten)]` and `#[serde(tag)]` do in a format without
/// field names: that is a mistake in the type, and no record of it could be read back.
pub fn store<T: Serialize>(value: &T, place: Place, out: &mut Vec<u8>) {
    let start = out.len();
    if let Err(error) = bincode::serde::encode_into_std_write(value, out, standard()) {
        panic!("`{}` cannot be written as a record: {error}", std::any::type_name::<T>());
    }
    if place == Place::Inner {
        prefix_length(start, out);
    }
}

/// Puts the length of what was written since `start` before it.
fn prefix_length(start: usize, out: &mut Vec<u8>) {
    let end = out.len();
    varint::encode(end - start, out);
    let prefix_bytes = out.len() - end;
    out[start..].rotate_right(prefix_bytes);
}

/// Takes a value off the front.
pub fn decode<T: DeserializeOwned>(input: &mut &[u8], place: Place) -> Result<T, DecodeError> {
    let record = Vec::<u8>::decode(input, place)?;
    let bounds = Bounds::new(record.len());
    let within = Within { bounds: &bounds, value: PhantomData };
    let (value, bytes) =
        bincode::serde::seed_decode_from_slice(within, record, standard()).map_err(|source| match bounds
            .met()
        {
            None => DecodeError::Record { source },
            Some(Bound::Levels) => DecodeError::TooDeep { levels_max: LEVELS_MAX },
            Some(Bound::Elements) => DecodeError::TooMany { elements_max: EMPTY_ELEMENTS_MAX },
        })?;
    if bytes == record.len() { Ok(value) } else { Err(DecodeError::Trailing { bytes: record.len() - bytes }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn stored<T: Serialize>(value: &T, place: Place) -> Vec<u8> {
        let mut out = Vec::new();
        store(value, place, &mut out);
        out
    }

    #[test]
    fn large_records_come_back() {
        for values in [1, 70_000, 1 << 20] {
            let written = vec![1_u128; values];
            let (inner, last) = (stored(&written, Place::Inner), stored(&written, Place::Last));
            assert_eq!(decode::<Vec<u128>>(&mut &inner[..], Place::Inner).unwrap(), written);
            assert_eq!(decode::<Vec<u128>>(&mut &last[..], Place::Last).unwrap(), written);
        }
    }

    #[test]
    fn a_length_without_its_bytes_is_refused() {
        for length in [3, 1_u64 << 30, u64::MAX] {
            let mut input = stored(&length, Place::Last);
            input.extend(b"ab");
            let result = decode::<String>(&mut &input[..], Place::Last);
            assert!(matches!(result, Err(DecodeError::Record { .. })), "{length}");
            let result = decode::<Vec<u8>>(&mut &input[..], Place::Last);
            assert!(result.is_err(), "{length}");
        }
    }

    #[test]
    fn a_list_of_nothing_has_its_bound() {
        type Both = (Vec<()>, BTreeMap<(), ()>);
        let written: Both = (vec![(); EMPTY_ELEMENTS_MAX], BTreeMap::new());
        let last = stored(&written, Place::Last);
        assert_eq!(decode::<Both>(&mut &last[..], Place::Last).unwrap(), written);
        for lengths in [(u64::MAX, 0), (0, u64::MAX), (EMPTY_ELEMENTS_MAX as u64, 100)] {
            let last = stored(&lengths, Place::Last);
            let error = decode::<Both>(&mut &last[..], Place::Last).unwrap_err();
            assert!(matches!(error, DecodeError::TooMany { .. }), "{lengths:?}: {error}");
        }
    }

    /// Every element of these takes bytes, at least one, so any number of them will do.
    #[test]
    fn lists_of_something_have_none() {
        #[derive(Clone, PartialEq, Debug, Serialize, serde::Deserialize)]
        struct Wrapped((Vec<()>,), Option<()>);
        let wrapped = vec![vec![Wrapped((Vec::new(),), None); 100_000]; 11];
        let last = stored(&wrapped, Place::Last);
        assert!(last.len() > 2 * EMPTY_ELEMENTS_MAX);
        assert_eq!(decode::<Vec<Vec<Wrapped>>>(&mut &last[..], Place::Last).unwrap(), wrapped);
    }

    #[test]
    fn a_value_that_holds_itself_has_a_depth() {
        #[derive(Debug, Serialize, serde::Deserialize)]
        enum Chain {
            End,
            Link(Box<Chain>),
        }
        let chain = |links: u32| (0..links).fold(Chain::End, |chain, _| Chain::Link(Box::new(chain)));
        let last = stored(&chain(LEVELS_MAX - 1), Place::Last);
        decode::<Chain>(&mut &last[..], Place::Last).unwrap();
        for links in [LEVELS_MAX, 1000] {
            let last = stored(&chain(links), Place::Last);
            let error = decode::<Chain>(&mut &last[..], Place::Last).unwrap_err();
            assert_eq!(error.to_string(), "values within values are more than 128 levels deep");
        }
        // Nobody could write so many, but somebody may have other bytes there.
        let error = decode::<Chain>(&mut &[1; 1 << 20][..], Place::Last).unwrap_err();
        assert!(matches!(error, DecodeError::TooDeep { .. }), "{error}");
    }

    #[test]
    fn a_record_takes_all_its_bytes() {
        let pair = stored(&(1_u8, 2_u8), Place::Inner);
        let result = decode::<u8>(&mut &pair[..], Place::Inner);
        assert!(matches!(result, Err(DecodeError::Trailing { bytes: 1 })));
    }

    #[test]
    #[should_panic(expected = "cannot be written as a record")]
    fn a_type_that_bincode_cannot_write_is_named() {
        #[derive(Serialize)]
        struct Open {
            #[serde(flatten)]
            rest: std::collections::BTreeMap<String, u8>,
        }
        stored(&Open { rest: [(String::from("a"), 1)].into() }, Place::Last);
    }
}
