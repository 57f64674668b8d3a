//! What records are sorted and grouped by.

use crate::datum::{Datum, DecodeError, Place};

mod escape;
#[cfg(test)]
mod laws;
mod list;
mod number;
mod option;
mod reverse;
mod text;
mod tuple;

/// A [`Datum`] to partition, sort and group by: the order of the encodings, byte by byte, is the order of the values.
///
/// Of the encodings at [`Place::Inner`] none is the start of another, so whatever follows a field decides only
/// between equal fields.
///
/// Floats have the order of `total_cmp`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "this type is not a `Key`",
    note = "for your own type, derive it with `#[derive(Key)]`; every field must be a key"
)]
pub trait Key: Datum {
    /// Appends the ordered encoding of a value.
    fn encode_key(value: Self::Ref<'_>, place: Place, out: &mut Vec<u8>);

    /// Appends the ordered encoding of an owned value: the same bytes as [`encode_key`](Self::encode_key).
    fn store_key(&self, place: Place, out: &mut Vec<u8>);

    /// Reads a value and moves `input` behind it. `input` is the caller's private copy: it may be changed.
    fn decode_key<'a>(input: &mut &'a mut [u8], place: Place) -> Result<Self::Ref<'a>, DecodeError>;

    /// The ordered encoding as the last field; in `scratch`, unless the value can lend its own bytes.
    #[inline]
    fn key_bytes<'s, 'v: 's>(value: Self::Ref<'v>, scratch: &'s mut Vec<u8>) -> &'s [u8] {
        scratch.clear();
        Self::encode_key(value, Place::Last, scratch);
        scratch
    }

    /// Reads a value from all of `input`.
    #[inline]
    fn decode_key_all<'a>(mut input: &'a mut [u8]) -> Result<Self::Ref<'a>, DecodeError> {
        let value = Self::decode_key(&mut input, Place::Last)?;
        if input.is_empty() { Ok(value) } else { Err(DecodeError::Trailing { bytes: input.len() }) }
    }
}
