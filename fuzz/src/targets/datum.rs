//! Values as they stand in records (`docs/formats.md`, section 2), but for derived types.

use super::Target;
use gristmill::{Datum, Place};
use std::cmp::Reverse;

pub(super) const TARGET: Target = Target {
    name: "datum",
    input_bytes_max: 2048,
    memory_bytes: 16 << 10,
    // A list of empty lists has 24 bytes for each of one byte, and there are several at a time.
    memory_bytes_per_byte: 400,
    run,
};

const TYPES: [fn(&[u8]); 28] = [
    check_strictly::<u8>,
    check_strictly::<u16>,
    check_strictly::<u64>,
    check_strictly::<u128>,
    check_strictly::<i8>,
    check_strictly::<i32>,
    check_strictly::<i128>,
    check_strictly::<f32>,
    check_strictly::<f64>,
    check_strictly::<bool>,
    check_strictly::<char>,
    check_strictly::<()>,
    check_strictly::<String>,
    check_strictly::<Vec<u8>>,
    check_strictly::<[u8; 0]>,
    check_strictly::<[u8; 5]>,
    check_strictly::<Option<String>>,
    check_strictly::<Option<Option<u16>>>,
    check_strictly::<Reverse<(String, u64)>>,
    check_strictly::<(String, Vec<u8>)>,
    check_strictly::<((String, i8), (Option<u8>, String))>,
    check_strictly::<(u8, String, (), i64, bool, char)>,
    check_strictly::<Vec<String>>,
    check_strictly::<Vec<Vec<Vec<u8>>>>,
    check_strictly::<Vec<(u64, String)>>,
    check_strictly::<Vec<((), [u8; 0])>>,
    check_strictly::<(Vec<()>, Vec<Option<()>>, Vec<char>)>,
    check_strictly::<Vec<Vec<f64>>>,
];

/// One byte: the type. The rest is the encoding.
fn run(bytes: &[u8]) {
    if let Some((&number, encoding)) = bytes.split_first() {
        TYPES[usize::from(number) % TYPES.len()](encoding);
    }
}

/// The laws, and that an encoding may be longer than need be (by lengths that are not in their shortest form), but
/// not otherwise another one.
fn check_strictly<T: Datum>(bytes: &[u8]) {
    check::<T>(bytes);
    for place in [Place::Inner, Place::Last] {
        let mut left = bytes;
        let Ok(value) = T::decode(&mut left, place) else { continue };
        let encoding = &bytes[..bytes.len() - left.len()];
        let again = check_writers::<T>(value, place);
        assert!(again.len() < encoding.len() || again == encoding, "{again:?}");
    }
}

/// The laws of a datum, for one that is decoded.
pub(super) fn check<T: Datum>(bytes: &[u8]) {
    let mut left = bytes;
    match T::decode(&mut left, Place::Inner) {
        Ok(value) => check_inner::<T>(value, &bytes[..bytes.len() - left.len()]),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match T::decode_all(bytes) {
        Ok(value) => check_last::<T>(value, bytes),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// It tells where it ends, and needs no more bytes than it had.
fn check_inner<T: Datum>(value: T::Ref<'_>, encoding: &[u8]) {
    let again = check_writers::<T>(value, Place::Inner);
    assert!(again.len() <= encoding.len(), "{again:?}");
    let followed = [&again[..], b"what follows"].concat();
    let mut left = &followed[..];
    let value = T::decode(&mut left, Place::Inner).expect("it was written");
    assert_eq!(left, b"what follows");
    assert_eq!(check_writers::<T>(value, Place::Inner), again);
}

fn check_last<T: Datum>(value: T::Ref<'_>, encoding: &[u8]) {
    let again = check_writers::<T>(value, Place::Last);
    assert!(again.len() <= encoding.len(), "{again:?}");
    let value = T::decode_all(&again).expect("it was written");
    assert_eq!(T::bytes(value, &mut b"old".to_vec()), again);
}

/// All writers agree; what they write.
fn check_writers<T: Datum>(value: T::Ref<'_>, place: Place) -> Vec<u8> {
    let owned = T::own(value);
    let mut stored = Vec::new();
    owned.store(place, &mut stored);
    assert!(T::FIXED_BYTES.is_none_or(|bytes| bytes == stored.len()));
    let mut encoded = b"before".to_vec();
    T::encode(T::decode(&mut &stored[..], place).expect("it was written"), place, &mut encoded);
    assert_eq!(encoded.strip_prefix(b"before"), Some(&stored[..]));
    if T::FIXED_BYTES.is_some_and(|bytes| bytes <= 8) {
        let word = stored.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
        assert_eq!(owned.word(&mut Vec::new()), word);
    }
    stored
}
