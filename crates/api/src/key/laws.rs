//! What every key has to keep, and that all of them do.

use std::{
    cmp::{Ordering, Reverse},
    fmt::Debug,
};

use proptest::{collection::vec, prelude::*};
use serde::{Deserialize, Serialize};

use super::Key;
use crate::datum::Place;

/// The encoding of a key.
fn stored<T: Key>(key: &T, place: Place) -> Vec<u8> {
    let mut out = Vec::new();
    key.store_key(place, &mut out);
    out
}

/// A key comes back at both places, and all writers agree.
fn check_round_trip<T: Key + PartialEq + Debug>(key: &T) {
    let last = stored(key, Place::Last);
    assert_eq!(&T::own(T::decode_key_all(&mut last.clone()).unwrap()), key);
    assert_eq!(T::key_bytes(T::decode_key_all(&mut last.clone()).unwrap(), &mut b"old".to_vec()), last);

    let inner = stored(key, Place::Inner);
    let mut followed = [&inner[..], b"what follows"].concat();
    let mut input = &mut followed[..];
    assert_eq!(&T::own(T::decode_key(&mut input, Place::Inner).unwrap()), key);
    assert_eq!(input, b"what follows");

    for (place, encoding) in [(Place::Last, last), (Place::Inner, inner)] {
        let mut again = b"before".to_vec();
        T::encode_key(T::decode_key(&mut &mut encoding.clone()[..], place).unwrap(), place, &mut again);
        assert_eq!(again, [b"before", &encoding[..]].concat());
        assert!(T::FIXED_BYTES.is_none_or(|bytes| bytes == encoding.len()));
    }
}

/// The bytes have the order of the keys, and no inner encoding starts another.
fn check_order<T: Key>(a: &T, b: &T, order: Ordering) {
    assert_eq!(stored(a, Place::Last).cmp(&stored(b, Place::Last)), order);
    let (a, b) = (stored(a, Place::Inner), stored(b, Place::Inner));
    assert_eq!(a.cmp(&b), order);
    assert!(order.is_eq() || !(a.starts_with(&b) || b.starts_with(&a)));
}

/// A truncated encoding is refused, or at the last place perhaps a lesser key.
fn check_truncated<T: Key>(key: &T) {
    let (inner, last) = (stored(key, Place::Inner), stored(key, Place::Last));
    for end in 0..inner.len() {
        assert!(T::decode_key(&mut &mut inner.clone()[..end], Place::Inner).is_err());
    }
    for end in 0..last.len() {
        check_any_bytes::<T>(&last[..end]);
    }
}

/// Any bytes are a key, which can be written, or are refused with a sentence.
fn check_any_bytes<T: Key>(bytes: &[u8]) {
    let (mut all, mut start) = (bytes.to_vec(), bytes.to_vec());
    for result in [T::decode_key_all(&mut all), T::decode_key(&mut &mut start[..], Place::Inner)] {
        match result {
            Ok(key) => drop(stored(&T::own(key), Place::Last)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Checks the laws for a type, which may have another order than `Ord`.
macro_rules! laws {
    ($($name:ident: $T:ty = $keys:expr $(, by $compare:expr)?;)*) => { $(
        proptest! {
            #[test]
            fn $name(a in $keys, b in $keys, noise in vec(tricky_byte(), 0..40)) {
                check_round_trip::<$T>(&a);
                check_order::<$T>(&a, &b, laws!(@compare a, b $(, $compare)?));
                check_truncated::<$T>(&a);
                check_any_bytes::<$T>(&noise);
            }
        }
    )* };
    (@compare $a:expr, $b:expr) => { $a.cmp(&$b) };
    (@compare $a:expr, $b:expr, $compare:expr) => { $compare(&$a, &$b) };
}

/// Bytes among which those with a meaning in the encoding are frequent.
fn tricky_byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0x00), Just(0x01), Just(0xFE), Just(0xFF), any::<u8>()]
}

/// Strings that often hold NULs and often start each other.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(tricky_byte(), 0..6)
}

fn text() -> impl Strategy<Value = String> {
    let chars = prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), any::<char>()];
    vec(chars, 0..6).prop_map(String::from_iter)
}

/// Numbers that often are equal.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![-2..3_i64, any::<i64>()]
}

fn option<T: Clone + Debug>(keys: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    (any::<bool>(), keys).prop_map(|(some, key)| some.then_some(key))
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, crate::Datum, crate::Key)]
#[datum(crate = "crate")]
struct Visit {
    site: String,
    day: Reverse<i64>,
    referrer: Option<String>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, crate::Datum, crate::Key)]
#[datum(crate = "crate")]
struct Unit;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, crate::Datum, crate::Key)]
#[datum(crate = "crate")]
struct Wrapped<T>(T);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, crate::Datum, crate::Key)]
#[datum(crate = "crate")]
enum Event<T: Clone> {
    Stop,
    Step(i64, String),
    Visit { place: u32, visit: T },
    Empty(),
}

fn visit() -> impl Strategy<Value = Visit> {
    (text(), number(), option(text())).prop_map(|(site, day, referrer)| Visit {
        site,
        day: Reverse(day),
        referrer,
    })
}

fn event() -> impl Strategy<Value = Event<Visit>> {
    prop_oneof![
        Just(Event::Stop),
        (number(), text()).prop_map(|(number, text)| Event::Step(number, text)),
        (0..2_u32, visit()).prop_map(|(place, visit)| Event::Visit { place, visit }),
        Just(Event::Empty()),
    ]
}

laws! {
    u8s: u8 = any::<u8>();
    u16s: u16 = any::<u16>();
    u32s: u32 = any::<u32>();
    u64s: u64 = any::<u64>();
    u128s: u128 = any::<u128>();
    i8s: i8 = any::<i8>();
    i16s: i16 = any::<i16>();
    i32s: i32 = any::<i32>();
    i64s: i64 = number();
    i128s: i128 = any::<i128>();
    f32s: f32 = any::<f32>(), by f32::total_cmp;
    f64s: f64 = any::<f64>(), by f64::total_cmp;
    bools: bool = any::<bool>();
    chars: char = any::<char>();
    units: () = any::<()>();
    strings: String = text();
    byte_strings: Vec<u8> = bytes();
    byte_arrays: [u8; 2] = any::<[u8; 2]>();
    options: Option<String> = option(text());
    options_of_options: Option<Option<i64>> = option(option(number()));
    singles: (String,) = (text(),);
    pairs: (String, String) = (text(), text());
    pairs_with_numbers: (Vec<u8>, i64) = (bytes(), number());
    nested: ((String, Vec<u8>), (i64, String)) = ((text(), bytes()), (number(), text()));
    empty_last: (String, ()) = (text(), any::<()>());
    sixes: (String, bool, (), i64, bool, Vec<u8>) = (text(), any::<bool>(), Just(()), number(), any::<bool>(), bytes());
    lists: Vec<String> = vec(text(), 0..4);
    lists_of_numbers: Vec<i64> = vec(number(), 0..4);
    lists_of_lists: Vec<Vec<Vec<u8>>> = vec(vec(bytes(), 0..3), 0..3);
    lists_of_nothing: Vec<()> = vec(any::<()>(), 0..4);
    lists_inside: (Vec<String>, Vec<String>) = (vec(text(), 0..3), vec(text(), 0..3));
    reversed_numbers: Reverse<i64> = number().prop_map(Reverse);
    reversed_strings: Reverse<String> = text().prop_map(Reverse);
    reversed_options: Reverse<Option<i64>> = option(number()).prop_map(Reverse);
    reversed_pairs: Reverse<(String, i64)> = (text(), number()).prop_map(Reverse);
    reversed_lists: Reverse<Vec<String>> = vec(text(), 0..4).prop_map(Reverse);
    reversed_inside: (Reverse<String>, Reverse<String>) = (text().prop_map(Reverse), text().prop_map(Reverse));
    reversed_twice: Reverse<(Reverse<String>, i64)> = (text().prop_map(Reverse), number()).prop_map(Reverse);
    lists_of_reversed: Vec<Reverse<String>> = vec(text().prop_map(Reverse), 0..4);
    derived_structs: Visit = visit();
    derived_units: (Unit, String) = (Just(Unit), text());
    derived_generic_structs: Wrapped<(String, i64)> = (text(), number()).prop_map(Wrapped);
    derived_generic_enums: Event<Visit> = event();
    derived_inside: (Event<Visit>, Visit) = (event(), visit());
    lists_of_derived: Vec<Event<Visit>> = vec(event(), 0..4);
    reversed_derived: Reverse<Event<Visit>> = event().prop_map(Reverse);
}
