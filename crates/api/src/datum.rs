//! What a record can be made of, and its bytes.

use std::cmp;

mod bounded;
mod error;
mod input;
#[cfg(test)]
mod laws;
mod list;
mod number;
mod option;
#[doc(hidden)]
pub mod record;
mod text;
mod tuple;
mod varint;

pub use error::DecodeError;
pub(crate) use input::{take, take_mut};

/// Where in a record a value stands: the last field needs no length, because the record's own length ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// More follows, so the encoding has to tell where it ends.
    Inner,
    /// The value takes all that is left of the record.
    Last,
}

/// A value that can be read from and written to records.
///
/// The numbers, `bool`, `char`, `()`, `String`, `Vec<u8>`, `[u8; N]`, `Option`, [`Reverse`](cmp::Reverse), tuples
/// of up to six fields and `Vec`s of all these are data. Any other type becomes one by
/// `#[derive(Serialize, Deserialize, Datum)]`; it may hold itself, but its values may not nest more than 128 levels deep.
///
/// `usize` and `isize` are left out because their size is the host's, maps because they have no stable order.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a record",
    label = "this type is not a `Datum`",
    note = "for your own type, derive it: `#[derive(Serialize, Deserialize, Datum)]`",
    note = "instead of `usize` or `isize`, whose size depends on the host, use `u64` or `i64`",
    note = "instead of a map or set, whose order is not stable, use a `Vec` of pairs or emit the pairs"
)]
pub trait Datum: Sized + Send + 'static {
    /// How the functions of a job see the value: borrowed from the record where that saves a copy.
    type Ref<'a>;

    /// The size of an encoding, if all values take the same, as a value and as a [`Key`](crate::key::Key).
    const FIXED_BYTES: Option<usize> = None;

    /// Appends the encoding of a value.
    fn encode(value: Self::Ref<'_>, place: Place, out: &mut Vec<u8>);

    /// Appends the encoding of an owned value: the same bytes as [`encode`](Self::encode).
    fn store(&self, place: Place, out: &mut Vec<u8>);

    /// Reads a value and moves `input` behind it.
    fn decode<'a>(input: &mut &'a [u8], place: Place) -> Result<Self::Ref<'a>, DecodeError>;

    /// Makes a value that outlives its record.
    fn own(value: Self::Ref<'_>) -> Self;

    /// The encoding as the last field; in `scratch`, unless the value can lend its own bytes.
    #[inline]
    fn bytes<'s, 'v: 's>(value: Self::Ref<'v>, scratch: &'s mut Vec<u8>) -> &'s [u8] {
        scratch.clear();
        Self::encode(value, Place::Last, scratch);
        scratch
    }

    /// The encoding of a value of at most eight [`FIXED_BYTES`](Self::FIXED_BYTES), as a big-endian number: how
    /// combining keeps sums without touching memory. Numbers override it; `scratch` is for types that do not.
    #[doc(hidden)]
    #[inline]
    fn word(&self, scratch: &mut Vec<u8>) -> u64 {
        scratch.clear();
        self.store(Place::Last, scratch);
        scratch.iter().fold(0, |word, &byte| word << 8 | u64::from(byte))
    }

    /// Reads a value from all of `input`.
    #[inline]
    fn decode_all<'a>(mut input: &'a [u8]) -> Result<Self::Ref<'a>, DecodeError> {
        let value = Self::decode(&mut input, Place::Last)?;
        if input.is_empty() { Ok(value) } else { Err(DecodeError::Trailing { bytes: input.len() }) }
    }
}

/// A [`Datum`] that may stand in a `Vec`: every one except `u8`, because `Vec<u8>` is a string of bytes.
///
/// `#[derive(Datum)]` implements it too.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a record",
    label = "this type is not an element that a `Vec` in a record can hold",
    note = "for your own type, derive it: `#[derive(Serialize, Deserialize, Datum)]`",
    note = "instead of `usize` or `isize`, whose size depends on the host, use `u64` or `i64`"
)]
pub trait Element: Datum {}

impl<T: Datum> Element for Option<T> {}
impl<T: Datum> Element for cmp::Reverse<T> {}
impl<const N: usize> Element for [u8; N] {}
impl<T: Element> Element for Vec<T> {}
impl Element for Vec<u8> {}

/// Implements the marker for types that have no parameters.
macro_rules! element {
    ($($T:ty),*) => { $(impl Element for $T {})* };
}
element!(u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64, bool, char, (), String);

/// Sums the sizes of the fields of a record, if all are fixed.
const fn sum_fixed_bytes(fields: &[Option<usize>]) -> Option<usize> {
    let (mut sum, mut index) = (0, 0);
    while index < fields.len() {
        match fields[index] {
            Some(bytes) => sum += bytes,
            None => return None,
        }
        index += 1;
    }
    Some(sum)
}
