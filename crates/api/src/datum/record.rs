//! What `#[derive(Datum)]` calls: any serde type as a record, in bincode's standard form.

use bincode::config::{Configuration, Limit, standard};
#[doc(hidden)]
pub use serde::{Serialize, de::DeserializeOwned};

use super::{Datum, DecodeError, Place, varint};

/// What bincode may count for each byte of input: it takes a number for its full size, and the greatest is a `u128`.
const COUNTED_BYTES: usize = size_of::<u128>();

/// bincode allocates a string before it looks whether there is one, so what it may take goes by the size of the
/// input. The limit is part of a type: a few sizes have to do.
const SMALL_BYTES: usize = 64 << 10;
const MEDIUM_BYTES: usize = 16 << 20;
const LARGE_BYTES: usize = 1 << 30;

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
    let (value, bytes) = match record.len() {
        bytes if bytes <= SMALL_BYTES => decode_limited::<T, { SMALL_BYTES * COUNTED_BYTES }>(record),
        bytes if bytes <= MEDIUM_BYTES => decode_limited::<T, { MEDIUM_BYTES * COUNTED_BYTES }>(record),
        _ => decode_limited::<T, { LARGE_BYTES * COUNTED_BYTES }>(record),
    }?;
    if bytes == record.len() { Ok(value) } else { Err(DecodeError::Trailing { bytes: record.len() - bytes }) }
}

fn decode_limited<T: DeserializeOwned, const LIMIT: usize>(record: &[u8]) -> Result<(T, usize), DecodeError> {
    let config: Configuration<_, _, Limit<LIMIT>> = standard().with_limit();
    bincode::serde::decode_from_slice(record, config).map_err(|source| DecodeError::Record { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored<T: Serialize>(value: &T, place: Place) -> Vec<u8> {
        let mut out = Vec::new();
        store(value, place, &mut out);
        out
    }

    /// The type for which bincode counts most for the fewest bytes.
    #[test]
    fn every_limit_admits_what_was_written() {
        for values in [1, SMALL_BYTES - 9, SMALL_BYTES + 1, MEDIUM_BYTES / 17] {
            let written = vec![1_u128; values];
            let (inner, last) = (stored(&written, Place::Inner), stored(&written, Place::Last));
            assert_eq!(decode::<Vec<u128>>(&mut &inner[..], Place::Inner).unwrap(), written);
            assert_eq!(decode::<Vec<u128>>(&mut &last[..], Place::Last).unwrap(), written);
        }
    }

    #[test]
    fn a_length_without_its_bytes_is_refused() {
        let huge = stored(&u64::MAX, Place::Last);
        assert!(matches!(decode::<String>(&mut &huge[..], Place::Last), Err(DecodeError::Record { .. })));
        let long = stored(&(1_u64 << 30), Place::Last);
        assert!(matches!(decode::<String>(&mut &long[..], Place::Last), Err(DecodeError::Record { .. })));
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
