//! Rows of serde types as columns of Arrow, and back: `shape` says which columns a type has, `read` takes rows out of them,
//! `write` puts rows in.

mod read;
mod shape;
mod write;

pub(crate) use read::{Rows, UnreadableColumn};
pub(crate) use shape::{field_names, schema_of};
pub(crate) use write::Builder;

use serde::{de, ser};
use std::fmt;
use thiserror::Error;

/// Why a row does not go into columns or does not come out of them, in serde's words.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct RowError(pub(crate) String);

impl de::Error for RowError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl ser::Error for RowError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}
