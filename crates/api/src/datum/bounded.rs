//! Bounds around serde: how deep values may nest, and how many elements may take no bytes. A `Deserialize` believes
//! every length and follows every level, so bytes that nobody wrote could keep a reader busy for years, or overflow
//! its stack. All that is done otherwise is to lend strings, so that none is allocated before it is there.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

/// Levels of options, lists, structs and enums within each other: far more than types have that do not hold
/// themselves, and little enough for the stack of a thread.
pub(super) const LEVELS_MAX: u32 = 128;

/// Elements of lists and maps beyond one for each byte of the record. Only such as take no bytes (`()`, a struct
/// without fields) can be more than the bytes are.
pub(super) const EMPTY_ELEMENTS_MAX: usize = 1 << 16;

/// Which bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Levels,
    Elements,
}

/// What one record may still take.
pub(super) struct Bounds {
    record_bytes: usize,
    elements_left: Cell<usize>,
    met: Cell<Option<Bound>>,
}

impl Bounds {
    pub(super) fn new(record_bytes: usize) -> Self {
        let elements_left = Cell::new(record_bytes.saturating_add(EMPTY_ELEMENTS_MAX));
        Self { record_bytes, elements_left, met: Cell::new(None) }
    }

    /// Takes the elements of a list before any is read. Each that takes bytes has one that is in no other element, so
    /// those of all lists of a record are no more than its bytes.
    fn take_elements<E: Error>(&self, elements: usize) -> Result<(), E> {
        match self.elements_left.get().checked_sub(elements) {
            Some(left) => {
                self.elements_left.set(left);
                Ok(())
            }
            None => Err(self.meet(Bound::Elements)),
        }
    }

    /// The bound that ended the decoding, if one did.
    pub(super) fn met(&self) -> Option<Bound> {
        self.met.get()
    }

    #[cold]
    fn meet<E: Error>(&self, bound: Bound) -> E {
        self.met.set(Some(bound));
        E::custom("a bound is met")
    }
}

/// Decodes a `T` within bounds.
pub(super) struct Within<'b, T> {
    pub(super) bounds: &'b Bounds,
    pub(super) value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Within<'_, T> {
    type Value = T;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T, D::Error> {
        T::deserialize(Bounded { inner, bounds: self.bounds, levels_left: LEVELS_MAX })
    }
}

/// Any of serde's parts with the bounds around it.
struct Bounded<'b, T> {
    inner: T,
    bounds: &'b Bounds,
    levels_left: u32,
}

impl<'b, T> Bounded<'b, T> {
    #[inline]
    fn around<U>(&self, inner: U) -> Bounded<'b, U> {
        Bounded { inner, bounds: self.bounds, levels_left: self.levels_left }
    }

    /// One level down.
    #[inline]
    fn below<U, E: Error>(&self, inner: U) -> Result<Bounded<'b, U>, E> {
        match self.levels_left.checked_sub(1) {
            Some(levels_left) => Ok(Bounded { inner, bounds: self.bounds, levels_left }),
            None => Err(self.bounds.meet(Bound::Levels)),
        }
    }

    /// What a list reserves ahead is bounded by the record too.
    fn reserved(&self, elements: Option<usize>) -> Option<usize> {
        elements.map(|elements| elements.min(self.bounds.record_bytes))
    }
}

/// Passes on what holds no other values.
macro_rules! pass {
    ($($method:ident to $inner:ident),*) => { $(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$inner(visitor)
        }
    )* };
}

/// Passes on what holds other values, one level down.
macro_rules! descend {
    ($($method:ident($($argument:ident: $T:ty),*)),*) => { $(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $($argument: $T,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.below(visitor)?;
            self.inner.$method($($argument,)* visitor)
        }
    )* };
}

type Names = &'static [&'static str];

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    pass! {
        deserialize_any to deserialize_any, deserialize_bool to deserialize_bool, deserialize_i8 to deserialize_i8,
        deserialize_i16 to deserialize_i16, deserialize_i32 to deserialize_i32, deserialize_i64 to deserialize_i64,
        deserialize_i128 to deserialize_i128, deserialize_u8 to deserialize_u8, deserialize_u16 to deserialize_u16,
        deserialize_u32 to deserialize_u32, deserialize_u64 to deserialize_u64,
        deserialize_u128 to deserialize_u128, deserialize_f32 to deserialize_f32,
        deserialize_f64 to deserialize_f64, deserialize_char to deserialize_char, deserialize_str to deserialize_str,
        deserialize_string to deserialize_str, deserialize_bytes to deserialize_bytes,
        deserialize_byte_buf to deserialize_bytes, deserialize_unit to deserialize_unit,
        deserialize_identifier to deserialize_identifier, deserialize_ignored_any to deserialize_ignored_any
    }

    descend! {
        deserialize_option(), deserialize_newtype_struct(name: &'static str), deserialize_tuple(fields: usize),
        deserialize_tuple_struct(name: &'static str, fields: usize), deserialize_struct(name: &'static str, fields: Names),
        deserialize_enum(name: &'static str, variants: Names)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = Listed(self.below(visitor)?);
        self.inner.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = Listed(self.below(visitor)?);
        self.inner.deserialize_map(visitor)
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Meets only what [`Bounded`] descends to.
impl<'de, V: Visitor<'de>> Visitor<'de> for Bounded<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.around(value);
        self.inner.visit_some(value)
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.around(value);
        self.inner.visit_newtype_struct(value)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        let elements = self.around(elements);
        self.inner.visit_seq(elements)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let entries = self.around(entries);
        self.inner.visit_map(entries)
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        let variant = self.around(variant);
        self.inner.visit_enum(variant)
    }
}

/// Meets a list or map, whose length is the input's word. bincode says it before the first element.
struct Listed<'b, V>(Bounded<'b, V>);

impl<'de, V: Visitor<'de>> Visitor<'de> for Listed<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        self.0.bounds.take_elements(elements.size_hint().unwrap_or(0))?;
        self.0.visit_seq(elements)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.bounds.take_elements(entries.size_hint().unwrap_or(0))?;
        self.0.visit_map(entries)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<S::Value, D::Error> {
        let value = self.around(value);
        self.inner.deserialize(value)
    }
}

/// Elements of a list, or fields.
impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.around(seed);
        self.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.reserved(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.around(seed);
        self.inner.next_key_seed(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.around(seed);
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.reserved(self.inner.size_hint())
    }
}

impl<'de, 'b, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'b, A> {
    type Error = A::Error;
    type Variant = Bounded<'b, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let Self { inner, bounds, levels_left } = self;
        let (name, inner) = inner.variant_seed(seed)?;
        Ok((name, Bounded { inner, bounds, levels_left }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.around(seed);
        self.inner.newtype_variant_seed(seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, fields: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.around(visitor);
        self.inner.tuple_variant(fields, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(self, fields: Names, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.around(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}
