//! How values look inside a shuffle.

use crate::datum::{Datum, Place};
use std::sync::Arc;

/// What stands around a value's encoding inside a shuffle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueForm {
    /// The encoding alone.
    Plain,
    /// Order bytes, the encoding, and the number of order bytes (4, big-endian): values sort by their order
    /// bytes, which no other value's order bytes are a prefix of.
    Ordered,
    /// The number of the side of a join, then the encoding.
    Side(u8),
}

/// Appends the bytes by which a value is sorted.
pub(crate) type ValueOrder<V> = Arc<dyn Fn(<V as Datum>::Ref<'_>, &mut Vec<u8>) + Send + Sync>;

impl ValueForm {
    /// The value's own encoding within its bytes in the shuffle.
    #[inline]
    pub(crate) fn payload(self, bytes: &[u8]) -> &[u8] {
        match self {
            Self::Plain => bytes,
            Self::Side(_) => bytes.get(1..).unwrap_or(&[]),
            Self::Ordered => bytes.split_last_chunk::<4>().map_or(&[], |(rest, order_bytes)| {
                rest.get(u32::from_be_bytes(*order_bytes) as usize..).unwrap_or(&[])
            }),
        }
    }
}

/// Appends a value in its form; `encoded` is scratch.
pub(crate) fn encode_as<V: Datum>(
    form: ValueForm,
    order: Option<&ValueOrder<V>>,
    value: V::Ref<'_>,
    encoded: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    if let ValueForm::Side(side) = form {
        out.push(side);
    }
    let Some(order) = order else { return V::encode(value, Place::Last, out) };
    encoded.clear();
    V::encode(value, Place::Last, encoded);
    let again = V::decode_all(encoded).expect("a value decodes from its own encoding");
    order(again, out);
    let order_bytes = out.len() as u32;
    out.extend_from_slice(encoded);
    out.extend_from_slice(&order_bytes.to_be_bytes());
}
