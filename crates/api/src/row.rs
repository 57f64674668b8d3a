//! Records with named fields, as tables have them.

use crate::datum::Datum;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record whose fields are the columns of a table: CSV, JSON lines, Parquet. Every type with
/// `#[derive(Serialize, Deserialize, Datum)]` is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a row of a table",
    label = "this type has no named fields that a table's columns could be",
    note = "derive it: `#[derive(Serialize, Deserialize, Datum)]`"
)]
pub trait Row: for<'a> Datum<Ref<'a> = Self> + Serialize + DeserializeOwned {}

impl<T: for<'a> Datum<Ref<'a> = T> + Serialize + DeserializeOwned> Row for T {}
