//! Keys (`docs/formats.md`, section 3). Equal keys must have equal bytes, so a key has one encoding and no other.

use super::Target;
use crate::input::Input;
use gristmill::{Datum, DecodeError, Key, Place};
use serde::{Deserialize, Serialize};
use std::cmp::{Ordering, Reverse};

pub(super) const TARGET: Target =
    Target { name: "key", input_bytes_max: 1024, memory_bytes: 16 << 10, memory_bytes_per_byte: 600, run };

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Datum, Key)]
struct Visit {
    site: String,
    day: Reverse<i64>,
    referrer: Option<String>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Datum, Key)]
struct Unit;

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Datum, Key)]
enum Event<T> {
    Stop,
    Step(i64, String),
    Visit { place: u32, visit: T },
    Empty(),
}

type Check = fn(&[u8], &[u8]);

const TYPES: [Check; 34] = [
    check::<u8>,
    check::<u32>,
    check::<u128>,
    check::<i16>,
    check::<i64>,
    |a, b| check_by::<f32>(a, b, f32::total_cmp),
    |a, b| check_by::<f64>(a, b, f64::total_cmp),
    check::<bool>,
    check::<char>,
    check::<()>,
    check::<String>,
    check::<Vec<u8>>,
    check::<[u8; 3]>,
    check::<Option<String>>,
    check::<Option<Option<i16>>>,
    check::<(String,)>,
    check::<(String, Vec<u8>)>,
    check::<((String, Vec<u8>), (i16, String))>,
    check::<(String, bool, (), i16, bool, Vec<u8>)>,
    check::<Vec<String>>,
    check::<Vec<i16>>,
    check::<Vec<Vec<Vec<u8>>>>,
    check::<Vec<()>>,
    check::<(Vec<String>, Vec<String>)>,
    check::<Reverse<i64>>,
    check::<Reverse<String>>,
    check::<Reverse<Vec<String>>>,
    check::<(Reverse<String>, Reverse<Option<i16>>)>,
    check::<Reverse<(Reverse<String>, i16)>>,
    check::<Vec<Reverse<String>>>,
    check::<Visit>,
    check::<(Unit, Event<Visit>)>,
    check::<Vec<Event<Visit>>>,
    check::<Reverse<Event<Visit>>>,
];

/// One byte: the type. One: where a second key begins. The rest are both keys.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let check = TYPES[usize::from(input.byte()) % TYPES.len()];
    let length = usize::from(input.byte());
    let first = input.take(length);
    check(first, input.rest());
}

fn check<T: Key + Ord>(a: &[u8], b: &[u8]) {
    check_by::<T>(a, b, T::cmp);
}

fn check_by<T: Key>(a: &[u8], b: &[u8], compare: fn(&T, &T) -> Ordering) {
    for place in [Place::Inner, Place::Last] {
        if let (Some((a, of_a)), Some((b, of_b))) = (key::<T>(a, place), key::<T>(b, place)) {
            let order = compare(&of_a, &of_b);
            assert_eq!(a.cmp(&b), order, "{a:?} and {b:?}");
            let starts = place == Place::Inner && (a.starts_with(&b) || b.starts_with(&a));
            assert!(order.is_eq() || !starts, "{a:?} and {b:?}");
        }
    }
}

/// The key at the front of some bytes, if there is one, with the bytes that it takes.
fn key<T: Key>(bytes: &[u8], place: Place) -> Option<(Vec<u8>, T)> {
    let mut copy = bytes.to_vec();
    let (value, left) = match decode::<T>(&mut copy, place) {
        Ok(decoded) => decoded,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let taken = bytes[..bytes.len() - left].to_vec();
    let mut stored = b"before".to_vec();
    value.store_key(place, &mut stored);
    assert_eq!(stored.strip_prefix(b"before"), Some(&taken[..]), "another encoding of the same key");
    assert!(T::FIXED_BYTES.is_none_or(|bytes| bytes == taken.len()));

    let mut copy = [&taken[..], b"what follows"].concat();
    let end = if place == Place::Last { taken.len() } else { copy.len() };
    let mut input = &mut copy[..end];
    let again = T::decode_key(&mut input, place).expect("it was written");
    assert_eq!(input.len(), end - taken.len());
    let mut encoded = Vec::new();
    T::encode_key(again, place, &mut encoded);
    assert_eq!(encoded, taken);
    if place == Place::Last {
        let again = T::decode_key_all(&mut copy[..end]).map(T::own);
        // In place: what was decoded once is not what it was.
        drop(again);
        let mut copy = taken.clone();
        let again = T::decode_key_all(&mut copy).expect("it was written");
        assert_eq!(T::key_bytes(again, &mut b"old".to_vec()), taken);
    }
    Some((taken, value))
}

fn decode<T: Key>(bytes: &mut [u8], place: Place) -> Result<(T, usize), DecodeError> {
    if place == Place::Last {
        return Ok((T::own(T::decode_key_all(bytes)?), 0));
    }
    let mut input = bytes;
    let value = T::own(T::decode_key(&mut input, place)?);
    Ok((value, input.len()))
}
