//! The derives of [Gristmill](https://docs.rs/gristmill): `Datum` makes a serde type part of records, `Key` something
//! to group by.
//!
//! ```ignore
//! #[derive(Serialize, Deserialize, Datum, Key)]
//! struct Visit {
//!     site: String,
//!     day: u32,
//! }
//! ```
//!
//! Both take the setting `#[datum(crate = "path")]`, for a crate that knows `gristmill` by another path.
#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

mod datum;
mod key;
mod subject;

/// Makes a type part of records: its values are written as serde sees them, in bincode's standard form.
///
/// It needs serde's `Serialize` and `Deserialize`, and may not borrow. Formats without field names do not know
/// `#[serde(flatten)]`, `#[serde(tag)]` and `#[serde(untagged)]`: they fail when a job runs.
#[proc_macro_derive(Datum, attributes(datum))]
pub fn derive_datum(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    datum::derive(&input).unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Makes a type, which has to be a `Datum`, something to partition, sort and group by.
///
/// The order is that of a derived `Ord`: by the fields in turn, and of an enum first by the variants. Every field
/// has to be a key.
#[proc_macro_derive(Key, attributes(datum))]
pub fn derive_key(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    key::derive(&input).unwrap_or_else(|error| error.into_compile_error()).into()
}
