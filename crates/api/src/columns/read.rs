//! Rows out of columns.

use super::RowError;
use super::shape::NoFields;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;
use std::cell::Cell;
use std::sync::Arc;
use thiserror::Error;

/// A column of a type that no field of a row can have.
#[derive(Debug, Error)]
pub(crate) enum UnreadableColumn {
    /// There is no such field.
    #[error("column {name} is of the type {data_type}, which rows cannot have")]
    Type {
        /// Which.
        name: String,
        /// As Arrow calls it.
        data_type: DataType,
    },
    /// It cannot be brought into a form that rows have.
    #[error("column {name}: {source}")]
    Cast {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: ArrowError,
    },
}

/// The columns of a batch, by the fields of a row.
pub(crate) struct Rows {
    fields: Fields,
    count: usize,
}

impl Rows {
    /// The columns in the order of `names`, without those that the batch lacks; all of them if no names are given.
    pub(crate) fn new(batch: &RecordBatch, names: Option<&[&str]>) -> Result<Self, UnreadableColumn> {
        let schema = batch.schema();
        let in_order: Vec<usize> = match names {
            None => (0..batch.num_columns()).collect(),
            Some(names) => names.iter().filter_map(|name| schema.index_of(name).ok()).collect(),
        };
        let columns = in_order.iter().map(|&at| (schema.field(at).name().as_str(), batch.column(at)));
        Ok(Self { fields: Fields::new(columns)?, count: batch.num_rows() })
    }

    /// Number of rows.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// One row. What it calls is inlined: a row of two numbers is then two loads, and not four calls.
    #[inline(always)]
    pub(crate) fn row<T: DeserializeOwned>(&self, row: usize) -> Result<T, RowError> {
        T::deserialize(Record { fields: &self.fields, row })
    }
}

/// Columns that make up a record.
struct Fields {
    names: Vec<String>,
    columns: Vec<Column>,
    /// The fields of a type whose names were found to be these, in this order: names are compared once, and not for each row.
    in_order_of: Cell<Option<&'static [&'static str]>>,
}

impl Fields {
    fn new<'a>(
        columns: impl Iterator<Item = (&'a str, &'a ArrayRef)> + Clone,
    ) -> Result<Self, UnreadableColumn> {
        let names = columns.clone().map(|(name, _)| name.to_owned()).collect();
        let columns = columns.map(|(name, array)| Column::new(name, array)).collect::<Result<_, _>>()?;
        Ok(Self { names, columns, in_order_of: Cell::new(None) })
    }

    #[inline]
    fn are_in_order_of(&self, fields: &'static [&'static str]) -> bool {
        self.in_order_of.get().is_some_and(|known| std::ptr::eq(known, fields)) || self.compare(fields)
    }

    fn compare(&self, fields: &'static [&'static str]) -> bool {
        let same = self.names.iter().map(String::as_str).eq(fields.iter().copied());
        if same {
            self.in_order_of.set(Some(fields));
        }
        same
    }
}

/// A column, in the form in which its values are taken one by one.
struct Column {
    /// None: no value is null.
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Null,
    Bool(BooleanBuffer),
    I8(ScalarBuffer<i8>),
    I16(ScalarBuffer<i16>),
    I32(ScalarBuffer<i32>),
    I64(ScalarBuffer<i64>),
    U8(ScalarBuffer<u8>),
    U16(ScalarBuffer<u16>),
    U32(ScalarBuffer<u32>),
    U64(ScalarBuffer<u64>),
    F32(ScalarBuffer<f32>),
    F64(ScalarBuffer<f64>),
    Text(StringArray),
    /// Decimals, as text: no number of Rust holds them all.
    Decimal(StringArray),
    Bytes(BinaryArray),
    List(OffsetBuffer<i32>, Box<Column>),
    Struct(Fields),
}

impl Column {
    fn new(name: &str, array: &ArrayRef) -> Result<Self, UnreadableColumn> {
        use DataType::*;
        let to = |data_type: DataType| {
            cast(array, &data_type).map_err(|source| UnreadableColumn::Cast { name: name.to_owned(), source })
        };
        let again = |data_type: DataType| Self::new(name, &to(data_type)?);
        let values = match array.data_type() {
            Null => Values::Null,
            Boolean => Values::Bool(array.as_boolean().values().clone()),
            Int8 => Values::I8(array.as_primitive::<Int8Type>().values().clone()),
            Int16 => Values::I16(array.as_primitive::<Int16Type>().values().clone()),
            Int32 => Values::I32(array.as_primitive::<Int32Type>().values().clone()),
            Int64 => Values::I64(array.as_primitive::<Int64Type>().values().clone()),
            UInt8 => Values::U8(array.as_primitive::<UInt8Type>().values().clone()),
            UInt16 => Values::U16(array.as_primitive::<UInt16Type>().values().clone()),
            UInt32 => Values::U32(array.as_primitive::<UInt32Type>().values().clone()),
            UInt64 => Values::U64(array.as_primitive::<UInt64Type>().values().clone()),
            Float32 => Values::F32(array.as_primitive::<Float32Type>().values().clone()),
            Float64 => Values::F64(array.as_primitive::<Float64Type>().values().clone()),
            Float16 => return again(Float32),
            Utf8 => Values::Text(array.as_string().clone()),
            LargeUtf8 | Utf8View => return again(Utf8),
            Binary => Values::Bytes(array.as_binary().clone()),
            LargeBinary | BinaryView | FixedSizeBinary(_) => return again(Binary),
            Date32 | Time32(_) => return again(Int32),
            Date64 | Time64(_) | Timestamp(..) | Duration(_) => return again(Int64),
            Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => {
                let text = to(Utf8)?;
                return Ok(Self { nulls: nulls(&text), values: Values::Decimal(text.as_string().clone()) });
            }
            Dictionary(_, values) => return again((**values).clone()),
            RunEndEncoded(_, values) => return again(values.data_type().clone()),
            List(item) => {
                let list = array.as_list::<i32>();
                let items = Self::new(item.name(), list.values())?;
                Values::List(list.offsets().clone(), Box::new(items))
            }
            LargeList(item) | FixedSizeList(item, _) | ListView(item) | LargeListView(item) => {
                return again(List(item.clone()));
            }
            Map(entries, _) => return again(List(Arc::new(Field::clone(entries)))),
            Struct(fields) => {
                let columns = fields.iter().zip(array.as_struct().columns());
                Values::Struct(Fields::new(columns.map(|(field, column)| (field.name().as_str(), column)))?)
            }
            Interval(_) | Union(..) => {
                let (name, data_type) = (name.to_owned(), array.data_type().clone());
                return Err(UnreadableColumn::Type { name, data_type });
            }
        };
        Ok(Self { nulls: nulls(array), values })
    }

    #[inline]
    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }
}

fn nulls(array: &ArrayRef) -> Option<NullBuffer> {
    array.logical_nulls().filter(|nulls| nulls.null_count() > 0)
}

/// One row.
#[derive(Clone, Copy)]
struct Record<'c> {
    fields: &'c Fields,
    row: usize,
}

impl<'de> Deserializer<'de> for Record<'_> {
    type Error = RowError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_map(Named { record: self, at: 0 })
    }

    #[inline(always)]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        if self.fields.are_in_order_of(fields) {
            visitor.visit_seq(Ordered { record: self, at: 0 })
        } else {
            self.deserialize_any(visitor)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_seq(Ordered { record: self, at: 0 })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_seq(Ordered { record: self, at: 0 })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq map enum identifier ignored_any
    }
}

/// Fields in the order of the type's.
struct Ordered<'c> {
    record: Record<'c>,
    at: usize,
}

impl Record<'_> {
    /// The value of a field.
    #[inline(always)]
    fn value<'de, S: DeserializeSeed<'de>>(self, at: usize, seed: S) -> Result<S::Value, RowError> {
        let value = seed.deserialize(Value { column: &self.fields.columns[at], row: self.row });
        value.map_err(|error| self.of_column(at, error))
    }

    #[cold]
    fn of_column(self, at: usize, error: RowError) -> RowError {
        RowError(format!("column {}: {error}", self.fields.names[at]))
    }
}

impl<'de> SeqAccess<'de> for Ordered<'_> {
    type Error = RowError;

    #[inline(always)]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, RowError> {
        if self.at == self.record.fields.columns.len() {
            return Ok(None);
        }
        self.at += 1;
        self.record.value(self.at - 1, seed).map(Some)
    }
}

/// Fields by their names.
struct Named<'c> {
    record: Record<'c>,
    at: usize,
}

impl<'de> MapAccess<'de> for Named<'_> {
    type Error = RowError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, RowError> {
        let Some(name) = self.record.fields.names.get(self.at) else { return Ok(None) };
        let name: StrDeserializer<'_, RowError> = name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, RowError> {
        self.at += 1;
        self.record.value(self.at - 1, seed)
    }
}

/// One value.
struct Value<'c> {
    column: &'c Column,
    row: usize,
}

impl Value<'_> {
    fn text(&self) -> Result<&str, RowError> {
        match &self.column.values {
            Values::Text(array) | Values::Decimal(array) if !self.column.is_null(self.row) => {
                Ok(array.value(self.row))
            }
            _ => Err(RowError("it is not text".to_owned())),
        }
    }

    fn float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        match &self.column.values {
            Values::Decimal(array) if !self.column.is_null(self.row) => {
                let text = array.value(self.row);
                let value = text.parse().map_err(|_| RowError(format!("{text} is no number")))?;
                visitor.visit_f64(value)
            }
            _ => self.deserialize_any(visitor),
        }
    }
}

macro_rules! as_asked {
    ($($method:ident: $visit:ident($values:ident) or $other:ident;)*) => { $(
        #[inline(always)]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
            match &self.column.values {
                Values::$values(values) if !self.column.is_null(self.row) => visitor.$visit(values[self.row]),
                _ => self.$other(visitor),
            }
        }
    )* };
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = RowError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        let row = self.row;
        if self.column.is_null(row) {
            return Err(RowError("it is null, and the field is no Option".to_owned()));
        }
        match &self.column.values {
            Values::Null => unreachable!("it is null"),
            Values::Bool(values) => visitor.visit_bool(values.value(row)),
            Values::I8(values) => visitor.visit_i8(values[row]),
            Values::I16(values) => visitor.visit_i16(values[row]),
            Values::I32(values) => visitor.visit_i32(values[row]),
            Values::I64(values) => visitor.visit_i64(values[row]),
            Values::U8(values) => visitor.visit_u8(values[row]),
            Values::U16(values) => visitor.visit_u16(values[row]),
            Values::U32(values) => visitor.visit_u32(values[row]),
            Values::U64(values) => visitor.visit_u64(values[row]),
            Values::F32(values) => visitor.visit_f32(values[row]),
            Values::F64(values) => visitor.visit_f64(values[row]),
            Values::Text(array) | Values::Decimal(array) => visitor.visit_str(array.value(row)),
            Values::Bytes(array) => visitor.visit_bytes(array.value(row)),
            Values::List(offsets, items) => {
                let (at, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                visitor.visit_seq(Items { items, at, end })
            }
            Values::Struct(fields) => Record { fields, row }.deserialize_any(visitor),
        }
    }

    // Of the type that the column has, as nearly all values are.
    as_asked! {
        deserialize_i8: visit_i8(I8) or deserialize_any;
        deserialize_i16: visit_i16(I16) or deserialize_any;
        deserialize_i32: visit_i32(I32) or deserialize_any;
        deserialize_i64: visit_i64(I64) or deserialize_any;
        deserialize_u8: visit_u8(U8) or deserialize_any;
        deserialize_u16: visit_u16(U16) or deserialize_any;
        deserialize_u32: visit_u32(U32) or deserialize_any;
        deserialize_u64: visit_u64(U64) or deserialize_any;
        deserialize_f32: visit_f32(F32) or float;
        deserialize_f64: visit_f64(F64) or float;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        if self.column.is_null(self.row) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        match &self.column.values {
            Values::Struct(columns) if !self.column.is_null(self.row) => {
                Record { fields: columns, row: self.row }.deserialize_struct(name, fields, visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, RowError> {
        match &self.column.values {
            Values::Struct(fields) if !self.column.is_null(self.row) => {
                Record { fields, row: self.row }.deserialize_tuple(length, visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_enum(Variant(self.text()?))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i128 u128 char str string bytes byte_buf unit unit_struct seq map identifier
    }
}

struct Items<'c> {
    items: &'c Column,
    at: usize,
    end: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = RowError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, RowError> {
        if self.at >= self.end {
            return Ok(None);
        }
        self.at += 1;
        seed.deserialize(Value { column: self.items, row: self.at - 1 }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.end.saturating_sub(self.at))
    }
}

/// A variant by its name.
struct Variant<'c>(&'c str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = RowError;
    type Variant = NoFields;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, NoFields), RowError> {
        let name: StrDeserializer<'_, RowError> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, NoFields))
    }
}
