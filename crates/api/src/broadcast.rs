//! Values that the driver gives to every task.

use crate::datum::{Datum, Place};
use std::ops::Deref;
use std::sync::Arc;

/// A value made where the job is started; closures see it through `Deref`. Cheap to clone.
pub struct Broadcast<T> {
    value: Arc<T>,
}

impl<T: Datum + Sync> Broadcast<T> {
    /// The broadcast and its encoding. The value goes through its encoding at once, so that a program sees the
    /// same value on a laptop as in a task on a cluster.
    pub(crate) fn make(value: T) -> (Self, Vec<u8>) {
        let mut bytes = Vec::new();
        value.store(Place::Last, &mut bytes);
        let value = T::own(T::decode_all(&bytes).expect("a value decodes from its own encoding"));
        (Self { value: Arc::new(value) }, bytes)
    }

    /// The broadcast that the driver encoded.
    ///
    /// # Panics
    /// If these are not the bytes of such a value: an attempt catches it, as it means another plan.
    pub(crate) fn given(bytes: &[u8]) -> Self {
        match T::decode_all(bytes) {
            Ok(value) => Self { value: Arc::new(T::own(value)) },
            Err(error) => {
                panic!("what the driver broadcast does not decode as {}: {error}", std::any::type_name::<T>())
            }
        }
    }
}

impl<T> Deref for Broadcast<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Clone for Broadcast<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone() }
    }
}
