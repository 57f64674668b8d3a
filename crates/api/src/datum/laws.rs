//! What every datum has to keep, and that all of them do.

use std::{cmp::Reverse, fmt::Debug};

use proptest::{collection::vec, prelude::*};
use serde::{Deserialize, Serialize};

use super::{Datum, Place};

/// The encoding of a value.
fn stored<T: Datum>(value: &T, place: Place) -> Vec<u8> {
    let mut out = Vec::new();
    value.store(place, &mut out);
    out
}

/// A value comes back at both places, and all writers agree.
fn check_round_trip<T: Datum + PartialEq + Debug>(value: &T) {
    let last = stored(value, Place::Last);
    assert_eq!(&T::own(T::decode_all(&last).unwrap()), value);
    let mut scratch = b"old".to_vec();
    assert_eq!(T::bytes(T::decode_all(&last).unwrap(), &mut scratch), last);

    let inner = stored(value, Place::Inner);
    let followed = [&inner[..], b"what follows"].concat();
    let mut input = &followed[..];
    assert_eq!(&T::own(T::decode(&mut input, Place::Inner).unwrap()), value);
    assert_eq!(input, b"what follows");

    for (place, encoding) in [(Place::Last, last), (Place::Inner, inner)] {
        let mut again = b"before".to_vec();
        T::encode(T::decode(&mut &encoding[..], place).unwrap(), place, &mut again);
        assert_eq!(again, [b"before", &encoding[..]].concat());
        assert!(T::FIXED_BYTES.is_none_or(|bytes| bytes == encoding.len()));
    }
}

/// A truncated encoding is refused, or at the last place perhaps a shorter value.
fn check_truncated<T: Datum>(value: &T) {
    let (inner, last) = (stored(value, Place::Inner), stored(value, Place::Last));
    for end in 0..inner.len() {
        assert!(T::decode(&mut &inner[..end], Place::Inner).is_err());
    }
    for end in 0..last.len() {
        check_any_bytes::<T>(&last[..end]);
    }
}

/// Any bytes are a value, which can be written, or are refused with a sentence.
fn check_any_bytes<T: Datum>(bytes: &[u8]) {
    for result in [T::decode_all(bytes), T::decode(&mut &bytes[..], Place::Inner)] {
        match result {
            Ok(value) => drop(stored(&T::own(value), Place::Last)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Checks the laws for a type.
macro_rules! laws {
    ($($name:ident: $T:ty = $values:expr;)*) => { $(
        proptest! {
            #[test]
            fn $name(value in $values, noise in vec(any::<u8>(), 0..40)) {
                check_round_trip::<$T>(&value);
                check_truncated::<$T>(&value);
                check_any_bytes::<$T>(&noise);
            }
        }
    )* };
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, crate::Datum)]
#[datum(crate = "crate")]
struct Page {
    url: String,
    links: Vec<String>,
    size: Option<u128>,
    rank: f64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, crate::Datum)]
#[datum(crate = "crate")]
enum Event<T> {
    Stop,
    Step(i64),
    Visit { page: T },
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, crate::Datum)]
#[datum(crate = "crate")]
struct Nothing;

fn page() -> impl Strategy<Value = Page> {
    any::<(String, Vec<String>, Option<u128>, f64)>().prop_map(|(url, links, size, rank)| Page {
        url,
        links,
        size,
        rank,
    })
}

fn event() -> impl Strategy<Value = Event<Page>> {
    prop_oneof![
        Just(Event::Stop),
        any::<i64>().prop_map(Event::Step),
        page().prop_map(|page| Event::Visit { page }),
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
    i64s: i64 = any::<i64>();
    i128s: i128 = any::<i128>();
    f32s: f32 = any::<f32>();
    f64s: f64 = any::<f64>();
    bools: bool = any::<bool>();
    chars: char = any::<char>();
    units: () = any::<()>();
    strings: String = any::<String>();
    byte_strings: Vec<u8> = any::<Vec<u8>>();
    byte_arrays: [u8; 5] = any::<[u8; 5]>();
    empty_arrays: [u8; 0] = any::<[u8; 0]>();
    options: Option<String> = any::<Option<String>>();
    reversed: Reverse<(String, u64)> = any::<(String, u64)>().prop_map(Reverse);
    singles: (String,) = any::<(String,)>();
    pairs: (String, Vec<u8>) = any::<(String, Vec<u8>)>();
    pairs_of_numbers: (u32, [u8; 3]) = any::<(u32, [u8; 3])>();
    nested: ((String, i8), (Option<u8>, String)) = any::<((String, i8), (Option<u8>, String))>();
    sixes: (u8, String, (), i64, bool, char) = any::<(u8, String, (), i64, bool, char)>();
    lists: Vec<String> = any::<Vec<String>>();
    lists_of_lists: Vec<Vec<u8>> = vec(any::<Vec<u8>>(), 0..9);
    lists_of_pairs: Vec<(u64, String)> = vec(any::<(u64, String)>(), 0..9);
    lists_of_nothing: Vec<((), [u8; 0])> = any::<Vec<((), [u8; 0])>>();
    derived_structs: Page = page();
    derived_generic_enums: Event<Page> = event();
    derived_units: (Nothing, Nothing) = Just((Nothing, Nothing));
    lists_of_derived: Vec<Event<Page>> = vec(event(), 0..5);
}
