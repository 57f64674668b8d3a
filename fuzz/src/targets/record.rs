//! Values of derived types, which bincode reads: any serde type an author may write, so also recursive ones and
//! lists of nothing.

use super::{Target, datum};
use gristmill::{Datum, DecodeError, Place};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const TARGET: Target = Target {
    name: "record",
    input_bytes_max: 2048,
    memory_bytes: 64 << 10,
    memory_bytes_per_byte: 1200,
    run,
};

#[derive(Serialize, Deserialize, Datum)]
struct Page {
    url: String,
    links: Vec<String>,
    size: Option<u128>,
    rank: f64,
    digest: [u8; 8],
}

#[derive(Serialize, Deserialize, Datum)]
enum Event<T> {
    Stop,
    Step(i64),
    Visit { page: T },
    Both(char, bool),
}

/// A value may hold its like, to any depth.
#[derive(Serialize, Deserialize, Datum)]
struct Tree {
    label: u8,
    left: Option<Box<Tree>>,
    children: Vec<Tree>,
}

#[derive(Serialize, Deserialize, Datum)]
enum Chain {
    End,
    Link(Box<Chain>),
}

#[derive(Serialize, Deserialize, Datum)]
struct Nothing;

/// Lists whose elements take no bytes: nothing in the input bounds them.
#[derive(Serialize, Deserialize, Datum)]
struct Nothings {
    units: Vec<()>,
    structs: Vec<Nothing>,
    pairs: Vec<((), Nothing)>,
}

#[derive(Serialize, Deserialize, Datum)]
struct Tables {
    counts: BTreeMap<String, i32>,
    seen: BTreeSet<u16>,
    nothing: BTreeMap<(), ()>,
    cells: Vec<Vec<Vec<u8>>>,
}

#[derive(Serialize, Deserialize, Datum)]
struct Numbers(u8, i8, u16, i16, u32, i32, u64, i64, u128, i128, f32, f64);

const TYPES: [fn(&[u8]); 9] = [
    check::<Page>,
    check::<Event<Page>>,
    check::<Tree>,
    check::<Chain>,
    check::<Nothings>,
    check::<Tables>,
    check::<Numbers>,
    check::<Vec<Event<Tables>>>,
    check::<(Nothing, Option<Page>, Vec<Nothing>)>,
];

/// One byte: the type. The rest is the encoding.
fn run(bytes: &[u8]) {
    if let Some((&number, encoding)) = bytes.split_first() {
        TYPES[usize::from(number) % TYPES.len()](encoding);
    }
}

fn check<T: Datum>(bytes: &[u8]) {
    if !is_at_the_bound::<T>(bytes, Place::Inner) && !is_at_the_bound::<T>(bytes, Place::Last) {
        datum::check::<T>(bytes);
    }
}

/// How many elements may take no bytes goes by the bytes of the record. So one whose lengths are longer than need be
/// may have a few more than it has once it is written again: that is no broken promise.
fn is_at_the_bound<T: Datum>(bytes: &[u8], place: Place) -> bool {
    let mut left = bytes;
    let Ok(value) = T::decode(&mut left, place) else { return false };
    let mut stored = Vec::new();
    T::own(value).store(place, &mut stored);
    let again = T::decode(&mut &stored[..], place);
    stored.len() < bytes.len() - left.len() && matches!(again, Err(DecodeError::TooMany { .. }))
}
