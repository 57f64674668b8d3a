//! Which columns a type has. Serde tells when it is asked to read a value: what it asks for is the type.

use super::RowError;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use std::any::type_name;
use thiserror::Error;

/// Structs within lists within structs: no table has more, and a type that holds itself has no end.
const LEVELS_MAX: u32 = 32;

/// A type that has no columns.
#[derive(Debug, Error)]
#[error("{row} cannot be the rows of a table: {source}")]
pub(crate) struct ShapeError {
    row: &'static str,
    #[source]
    source: RowError,
}

/// The columns of a struct: fields as they are written, options as columns that may be null, lists, structs; variants
/// without fields as text.
pub(crate) fn schema_of<T: DeserializeOwned>() -> Result<Schema, ShapeError> {
    let failed = |source| ShapeError { row: type_name::<T>(), source };
    let mut shape = Shape::default();
    T::deserialize(Tracer { shape: &mut shape, levels: 0 }).map_err(failed)?;
    match shape.data_type {
        Some(DataType::Struct(fields)) if !shape.nullable => Ok(Schema::new(fields)),
        _ => Err(failed(RowError("it is not a struct".to_owned()))),
    }
}

/// The names of a struct's fields, as serde calls them; none if the type is no struct or takes any field.
pub(crate) fn field_names<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut names = None;
    // It has to fail: there is no value.
    drop(T::deserialize(Namer { names: &mut names }));
    names
}

struct Namer<'n> {
    names: &'n mut Option<&'static [&'static str]>,
}

impl<'de> Deserializer<'de> for Namer<'_> {
    type Error = RowError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, RowError> {
        Err(RowError("not a struct".to_owned()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, RowError> {
        *self.names = Some(fields);
        Err(RowError("only its names are wanted".to_owned()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// What is known of a value's type.
#[derive(Default)]
struct Shape {
    data_type: Option<DataType>,
    nullable: bool,
}

impl Shape {
    fn field(self, name: &str) -> Result<Field, RowError> {
        let missing = || RowError(format!("the type of {name} does not show"));
        Ok(Field::new(name, self.data_type.ok_or_else(missing)?, self.nullable))
    }
}

/// Hands out some value of every type that is asked for, and writes down the type.
struct Tracer<'s> {
    shape: &'s mut Shape,
    levels: u32,
}

impl Tracer<'_> {
    fn is(self, data_type: DataType) {
        self.shape.data_type = Some(data_type);
    }

    /// The fields of a struct, in order.
    fn fields<'de, V: Visitor<'de>>(self, names: Vec<String>, visitor: V) -> Result<V::Value, RowError> {
        if self.levels == LEVELS_MAX {
            return Err(RowError(format!("its values nest more than {LEVELS_MAX} levels deep")));
        }
        let mut fields = Vec::new();
        let levels = self.levels + 1;
        let value = visitor.visit_seq(Traced { names: names.into_iter(), fields: &mut fields, levels })?;
        self.is(DataType::Struct(Fields::from(fields)));
        Ok(value)
    }
}

macro_rules! simple {
    ($($method:ident: $visit:ident($value:expr) is $data_type:ident;)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
            self.is(DataType::$data_type);
            visitor.$visit($value)
        }
    )* };
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = RowError;

    simple! {
        deserialize_bool: visit_bool(false) is Boolean;
        deserialize_i8: visit_i8(0) is Int8;
        deserialize_i16: visit_i16(0) is Int16;
        deserialize_i32: visit_i32(0) is Int32;
        deserialize_i64: visit_i64(0) is Int64;
        deserialize_u8: visit_u8(0) is UInt8;
        deserialize_u16: visit_u16(0) is UInt16;
        deserialize_u32: visit_u32(0) is UInt32;
        deserialize_u64: visit_u64(0) is UInt64;
        deserialize_f32: visit_f32(0.0) is Float32;
        deserialize_f64: visit_f64(0.0) is Float64;
        deserialize_char: visit_char('-') is Utf8;
        deserialize_str: visit_str("") is Utf8;
        deserialize_string: visit_str("") is Utf8;
        deserialize_bytes: visit_bytes(b"") is Binary;
        deserialize_byte_buf: visit_bytes(b"") is Binary;
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, RowError> {
        Err(RowError("a field has no one type that a column could have".to_owned()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        self.shape.nullable = true;
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        if self.levels == LEVELS_MAX {
            return Err(RowError(format!("its values nest more than {LEVELS_MAX} levels deep")));
        }
        let mut fields = Vec::new();
        let names = vec![Field::LIST_FIELD_DEFAULT_NAME.to_owned()].into_iter();
        let value = visitor.visit_seq(Traced { names, fields: &mut fields, levels: self.levels + 1 })?;
        let item =
            fields.pop().ok_or_else(|| RowError("the type of a list's elements does not show".to_owned()))?;
        self.is(DataType::List(item.into()));
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, RowError> {
        self.fields((0..length).map(|number| number.to_string()).collect(), visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        self.fields(fields.iter().map(|name| (*name).to_owned()).collect(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        let first = variants.first().ok_or_else(|| RowError("an enum has no variants".to_owned()))?;
        self.is(DataType::Utf8);
        visitor.visit_enum(FirstVariant(first))
    }

    forward_to_deserialize_any! { i128 u128 unit unit_struct map identifier ignored_any }
}

/// Fields that are asked for one after the other.
struct Traced<'f> {
    names: std::vec::IntoIter<String>,
    fields: &'f mut Vec<Field>,
    levels: u32,
}

impl<'de> SeqAccess<'de> for Traced<'_> {
    type Error = RowError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, RowError> {
        let Some(name) = self.names.next() else { return Ok(None) };
        let mut shape = Shape::default();
        let value = seed.deserialize(Tracer { shape: &mut shape, levels: self.levels })?;
        self.fields.push(shape.field(&name)?);
        Ok(Some(value))
    }
}

/// A variant without fields.
struct FirstVariant(&'static str);

impl<'de> EnumAccess<'de> for FirstVariant {
    type Error = RowError;
    type Variant = NoFields;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, NoFields), RowError> {
        let name: StrDeserializer<'_, RowError> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, NoFields))
    }
}

pub(super) struct NoFields;

impl<'de> serde::de::VariantAccess<'de> for NoFields {
    type Error = RowError;

    fn unit_variant(self) -> Result<(), RowError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, RowError> {
        Err(RowError::custom("an enum whose variants have fields is no column"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, RowError> {
        Err(RowError::custom("an enum whose variants have fields is no column"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, RowError> {
        Err(RowError::custom("an enum whose variants have fields is no column"))
    }
}
