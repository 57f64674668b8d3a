//! Rows out of columns.

use super::RowError;
use super::shape::NoFields;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, ListArray, PrimitiveArray, RecordBatch, StringArray,
    StructArray,
};
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
    names: Vec<String>,
    columns: Vec<Column>,
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
        let names = in_order.iter().map(|&at| schema.field(at).name().clone()).collect();
        let columns = in_order.iter().map(|&at| Column::new(schema.field(at).name(), batch.column(at)));
        Ok(Self { names, columns: columns.collect::<Result<_, _>>()?, count: batch.num_rows() })
    }

    /// Number of rows.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// One row.
    pub(crate) fn row<T: DeserializeOwned>(&self, row: usize) -> Result<T, RowError> {
        T::deserialize(Cells { names: &self.names, columns: &self.columns, row })
    }
}

enum Column {
    Null,
    Bool(BooleanArray),
    I8(PrimitiveArray<Int8Type>),
    I16(PrimitiveArray<Int16Type>),
    I32(PrimitiveArray<Int32Type>),
    I64(PrimitiveArray<Int64Type>),
    U8(PrimitiveArray<UInt8Type>),
    U16(PrimitiveArray<UInt16Type>),
    U32(PrimitiveArray<UInt32Type>),
    U64(PrimitiveArray<UInt64Type>),
    F32(PrimitiveArray<Float32Type>),
    F64(PrimitiveArray<Float64Type>),
    Text(StringArray),
    /// Decimals, as text: no number of Rust holds them all.
    Decimal(StringArray),
    Bytes(BinaryArray),
    List(ListArray, Box<Column>),
    Struct(StructArray, Vec<String>, Vec<Column>),
}

impl Column {
    fn new(name: &str, array: &ArrayRef) -> Result<Self, UnreadableColumn> {
        use DataType::*;
        let to = |data_type: DataType| {
            cast(array, &data_type).map_err(|source| UnreadableColumn::Cast { name: name.to_owned(), source })
        };
        let again = |data_type: DataType| Self::new(name, &to(data_type)?);
        Ok(match array.data_type() {
            Null => Self::Null,
            Boolean => Self::Bool(array.as_boolean().clone()),
            Int8 => Self::I8(array.as_primitive().clone()),
            Int16 => Self::I16(array.as_primitive().clone()),
            Int32 => Self::I32(array.as_primitive().clone()),
            Int64 => Self::I64(array.as_primitive().clone()),
            UInt8 => Self::U8(array.as_primitive().clone()),
            UInt16 => Self::U16(array.as_primitive().clone()),
            UInt32 => Self::U32(array.as_primitive().clone()),
            UInt64 => Self::U64(array.as_primitive().clone()),
            Float32 => Self::F32(array.as_primitive().clone()),
            Float64 => Self::F64(array.as_primitive().clone()),
            Float16 => return again(Float32),
            Utf8 => Self::Text(array.as_string().clone()),
            LargeUtf8 | Utf8View => return again(Utf8),
            Binary => Self::Bytes(array.as_binary().clone()),
            LargeBinary | BinaryView | FixedSizeBinary(_) => return again(Binary),
            Date32 | Time32(_) => return again(Int32),
            Date64 | Time64(_) | Timestamp(..) | Duration(_) => return again(Int64),
            Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => {
                Self::Decimal(to(Utf8)?.as_string().clone())
            }
            Dictionary(_, values) => return again((**values).clone()),
            RunEndEncoded(_, values) => return again(values.data_type().clone()),
            List(item) => {
                let list = array.as_list::<i32>().clone();
                let items = Self::new(item.name(), list.values())?;
                Self::List(list, Box::new(items))
            }
            LargeList(item) | FixedSizeList(item, _) | ListView(item) | LargeListView(item) => {
                return again(List(item.clone()));
            }
            Map(entries, _) => return again(List(Arc::new(Field::clone(entries)))),
            Struct(fields) => {
                let array = array.as_struct().clone();
                let columns =
                    fields.iter().zip(array.columns()).map(|(field, column)| Self::new(field.name(), column));
                let columns = columns.collect::<Result<_, _>>()?;
                Self::Struct(array, fields.iter().map(|field| field.name().clone()).collect(), columns)
            }
            Interval(_) | Union(..) => {
                let (name, data_type) = (name.to_owned(), array.data_type().clone());
                return Err(UnreadableColumn::Type { name, data_type });
            }
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(array) => array.is_null(row),
            Self::I8(array) => array.is_null(row),
            Self::I16(array) => array.is_null(row),
            Self::I32(array) => array.is_null(row),
            Self::I64(array) => array.is_null(row),
            Self::U8(array) => array.is_null(row),
            Self::U16(array) => array.is_null(row),
            Self::U32(array) => array.is_null(row),
            Self::U64(array) => array.is_null(row),
            Self::F32(array) => array.is_null(row),
            Self::F64(array) => array.is_null(row),
            Self::Text(array) | Self::Decimal(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
            Self::List(array, _) => array.is_null(row),
            Self::Struct(array, ..) => array.is_null(row),
        }
    }
}

/// One row.
struct Cells<'c> {
    names: &'c [String],
    columns: &'c [Column],
    row: usize,
}

impl<'de> Deserializer<'de> for Cells<'_> {
    type Error = RowError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_map(Named { cells: self, at: 0 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        let ordered = self.names.len() == fields.len()
            && self.names.iter().zip(fields).all(|(name, field)| name == field);
        if ordered {
            visitor.visit_seq(Ordered { cells: self, at: 0 })
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
        visitor.visit_seq(Ordered { cells: self, at: 0 })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_seq(Ordered { cells: self, at: 0 })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq map enum identifier ignored_any
    }
}

/// Fields in the order of the type's.
struct Ordered<'c> {
    cells: Cells<'c>,
    at: usize,
}

impl<'de> SeqAccess<'de> for Ordered<'_> {
    type Error = RowError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, RowError> {
        let Some(column) = self.cells.columns.get(self.at) else { return Ok(None) };
        self.at += 1;
        let value = seed.deserialize(Cell { column, row: self.cells.row });
        value
            .map(Some)
            .map_err(|error| RowError(format!("column {}: {error}", self.cells.names[self.at - 1])))
    }
}

/// Fields by their names.
struct Named<'c> {
    cells: Cells<'c>,
    at: usize,
}

impl<'de> MapAccess<'de> for Named<'_> {
    type Error = RowError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, RowError> {
        let Some(name) = self.cells.names.get(self.at) else { return Ok(None) };
        let name: StrDeserializer<'_, RowError> = name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, RowError> {
        self.at += 1;
        let value = seed.deserialize(Cell { column: &self.cells.columns[self.at - 1], row: self.cells.row });
        value.map_err(|error| RowError(format!("column {}: {error}", self.cells.names[self.at - 1])))
    }
}

/// One value.
struct Cell<'c> {
    column: &'c Column,
    row: usize,
}

impl Cell<'_> {
    fn text(&self) -> Result<&str, RowError> {
        match self.column {
            Column::Text(array) | Column::Decimal(array) if !array.is_null(self.row) => {
                Ok(array.value(self.row))
            }
            _ => Err(RowError("it is not text".to_owned())),
        }
    }

    fn float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        match self.column {
            Column::Decimal(array) if !array.is_null(self.row) => {
                let text = array.value(self.row);
                let value = text.parse().map_err(|_| RowError(format!("{text} is no number")))?;
                visitor.visit_f64(value)
            }
            _ => self.deserialize_any(visitor),
        }
    }
}

impl<'de> Deserializer<'de> for Cell<'_> {
    type Error = RowError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        let row = self.row;
        if self.column.is_null(row) {
            return Err(RowError("it is null, and the field is no Option".to_owned()));
        }
        match self.column {
            Column::Null => unreachable!("it is null"),
            Column::Bool(array) => visitor.visit_bool(array.value(row)),
            Column::I8(array) => visitor.visit_i8(array.value(row)),
            Column::I16(array) => visitor.visit_i16(array.value(row)),
            Column::I32(array) => visitor.visit_i32(array.value(row)),
            Column::I64(array) => visitor.visit_i64(array.value(row)),
            Column::U8(array) => visitor.visit_u8(array.value(row)),
            Column::U16(array) => visitor.visit_u16(array.value(row)),
            Column::U32(array) => visitor.visit_u32(array.value(row)),
            Column::U64(array) => visitor.visit_u64(array.value(row)),
            Column::F32(array) => visitor.visit_f32(array.value(row)),
            Column::F64(array) => visitor.visit_f64(array.value(row)),
            Column::Text(array) | Column::Decimal(array) => visitor.visit_str(array.value(row)),
            Column::Bytes(array) => visitor.visit_bytes(array.value(row)),
            Column::List(array, items) => {
                let offsets = array.value_offsets();
                let (at, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                visitor.visit_seq(Items { items, at, end })
            }
            Column::Struct(_, names, columns) => Cells { names, columns, row }.deserialize_any(visitor),
        }
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
        match self.column {
            Column::Struct(array, names, columns) if !array.is_null(self.row) => {
                Cells { names, columns, row: self.row }.deserialize_struct(name, fields, visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, RowError> {
        match self.column {
            Column::Struct(array, names, columns) if !array.is_null(self.row) => {
                Cells { names, columns, row: self.row }.deserialize_tuple(length, visitor)
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

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        self.float(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        self.float(visitor)
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
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf unit unit_struct seq map identifier
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
        seed.deserialize(Cell { column: self.items, row: self.at - 1 }).map(Some)
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
