//! Rows into columns.

use super::RowError;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, ListArray, PrimitiveBuilder, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use serde::Serialize;
use serde::ser::{
    Impossible, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct, Serializer,
};
use std::sync::Arc;

/// One column that is being made, of a type that `shape` gives.
pub(crate) enum Builder {
    Bool(BooleanBuilder),
    I8(PrimitiveBuilder<Int8Type>),
    I16(PrimitiveBuilder<Int16Type>),
    I32(PrimitiveBuilder<Int32Type>),
    I64(PrimitiveBuilder<Int64Type>),
    U8(PrimitiveBuilder<UInt8Type>),
    U16(PrimitiveBuilder<UInt16Type>),
    U32(PrimitiveBuilder<UInt32Type>),
    U64(PrimitiveBuilder<UInt64Type>),
    F32(PrimitiveBuilder<Float32Type>),
    F64(PrimitiveBuilder<Float64Type>),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    List(ListBuilder),
    Struct(StructBuilder),
}

/// Lists, one a row.
pub(crate) struct ListBuilder {
    field: FieldRef,
    items: Box<Builder>,
    items_count: usize,
    offsets: Vec<i32>,
    valid: Vec<bool>,
}

/// Structs, one a row.
pub(crate) struct StructBuilder {
    fields: Fields,
    columns: Vec<Builder>,
    /// Rows that each column has.
    filled: Vec<usize>,
    valid: Vec<bool>,
}

impl StructBuilder {
    fn new(fields: &Fields) -> Result<Self, RowError> {
        let columns =
            fields.iter().map(|field| Builder::new(field.data_type())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { fields: fields.clone(), filled: vec![0; columns.len()], columns, valid: Vec::new() })
    }

    /// The column of a field; fields mostly come in order.
    fn column(&mut self, name: &str, expected: usize) -> Result<usize, RowError> {
        if self.fields.get(expected).is_some_and(|field| field.name() == name) {
            return Ok(expected);
        }
        self.fields.find(name).map(|(at, _)| at).ok_or_else(|| RowError(format!("it has no column {name}")))
    }

    /// Ends a row: what was left out is null.
    fn end_row(&mut self, valid: bool) -> Result<(), RowError> {
        self.valid.push(valid);
        for ((column, filled), field) in self.columns.iter_mut().zip(&mut self.filled).zip(&self.fields) {
            if *filled < self.valid.len() {
                if valid && !field.is_nullable() {
                    return Err(RowError(format!("column {} was left out", field.name())));
                }
                column.append_null()?;
                *filled += 1;
            }
        }
        Ok(())
    }
}

impl Builder {
    /// The columns of rows.
    pub(crate) fn rows(fields: &Fields) -> Result<Self, RowError> {
        StructBuilder::new(fields).map(Self::Struct)
    }

    fn new(data_type: &DataType) -> Result<Self, RowError> {
        Ok(match data_type {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Int8 => Self::I8(PrimitiveBuilder::new()),
            DataType::Int16 => Self::I16(PrimitiveBuilder::new()),
            DataType::Int32 => Self::I32(PrimitiveBuilder::new()),
            DataType::Int64 => Self::I64(PrimitiveBuilder::new()),
            DataType::UInt8 => Self::U8(PrimitiveBuilder::new()),
            DataType::UInt16 => Self::U16(PrimitiveBuilder::new()),
            DataType::UInt32 => Self::U32(PrimitiveBuilder::new()),
            DataType::UInt64 => Self::U64(PrimitiveBuilder::new()),
            DataType::Float32 => Self::F32(PrimitiveBuilder::new()),
            DataType::Float64 => Self::F64(PrimitiveBuilder::new()),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Binary => Self::Bytes(BinaryBuilder::new()),
            DataType::List(field) => Self::List(ListBuilder {
                field: field.clone(),
                items: Box::new(Self::new(field.data_type())?),
                items_count: 0,
                offsets: vec![0],
                valid: Vec::new(),
            }),
            DataType::Struct(fields) => Self::Struct(StructBuilder::new(fields)?),
            other => return Err(RowError(format!("columns of type {other} are not written"))),
        })
    }

    /// Appends a row, and adds its size to `bytes`, about.
    pub(crate) fn append<T: Serialize>(&mut self, row: &T, bytes: &mut usize) -> Result<(), RowError> {
        row.serialize(Cell { column: self, bytes })
    }

    fn append_null(&mut self) -> Result<(), RowError> {
        match self {
            Self::Bool(column) => column.append_null(),
            Self::I8(column) => column.append_null(),
            Self::I16(column) => column.append_null(),
            Self::I32(column) => column.append_null(),
            Self::I64(column) => column.append_null(),
            Self::U8(column) => column.append_null(),
            Self::U16(column) => column.append_null(),
            Self::U32(column) => column.append_null(),
            Self::U64(column) => column.append_null(),
            Self::F32(column) => column.append_null(),
            Self::F64(column) => column.append_null(),
            Self::Text(column) => column.append_null(),
            Self::Bytes(column) => column.append_null(),
            Self::List(column) => column.end_row(false)?,
            Self::Struct(column) => column.end_row(false)?,
        }
        Ok(())
    }

    /// The column, which begins anew.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(column) => Arc::new(column.finish()),
            Self::I8(column) => Arc::new(column.finish()),
            Self::I16(column) => Arc::new(column.finish()),
            Self::I32(column) => Arc::new(column.finish()),
            Self::I64(column) => Arc::new(column.finish()),
            Self::U8(column) => Arc::new(column.finish()),
            Self::U16(column) => Arc::new(column.finish()),
            Self::U32(column) => Arc::new(column.finish()),
            Self::U64(column) => Arc::new(column.finish()),
            Self::F32(column) => Arc::new(column.finish()),
            Self::F64(column) => Arc::new(column.finish()),
            Self::Text(column) => Arc::new(column.finish()),
            Self::Bytes(column) => Arc::new(column.finish()),
            Self::List(column) => {
                let offsets = OffsetBuffer::new(std::mem::replace(&mut column.offsets, vec![0]).into());
                let valid = NullBuffer::from(std::mem::take(&mut column.valid));
                column.items_count = 0;
                Arc::new(ListArray::try_new(
                    column.field.clone(),
                    offsets,
                    column.items.finish()?,
                    Some(valid),
                )?)
            }
            Self::Struct(column) => {
                let valid = NullBuffer::from(std::mem::take(&mut column.valid));
                column.filled.fill(0);
                let columns = column.columns.iter_mut().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new(column.fields.clone(), columns, Some(valid))?)
            }
        })
    }
}

impl ListBuilder {
    fn end_row(&mut self, valid: bool) -> Result<(), RowError> {
        let end = i32::try_from(self.items_count);
        self.offsets.push(end.map_err(|_| RowError("its lists have too many elements".to_owned()))?);
        self.valid.push(valid);
        Ok(())
    }
}

/// Where one value goes.
struct Cell<'b> {
    column: &'b mut Builder,
    bytes: &'b mut usize,
}

impl Cell<'_> {
    fn mismatch<T>(&self, found: &str) -> Result<T, RowError> {
        Err(RowError(format!("it writes {found} where it reads another type")))
    }

    fn text(self, value: &str) -> Result<(), RowError> {
        *self.bytes += value.len();
        match self.column {
            Builder::Text(column) => column.append_value(value),
            _ => return self.mismatch("text"),
        }
        Ok(())
    }
}

macro_rules! number {
    ($($method:ident($T:ty) to $Column:ident;)*) => { $(
        fn $method(self, value: $T) -> Result<(), RowError> {
            *self.bytes += size_of::<$T>();
            match self.column {
                Builder::$Column(column) => column.append_value(value),
                _ => return self.mismatch(stringify!($T)),
            }
            Ok(())
        }
    )* };
}

type Never = Impossible<(), RowError>;

impl<'b> Serializer for Cell<'b> {
    type Ok = ();
    type Error = RowError;
    type SerializeSeq = Items<'b>;
    type SerializeTuple = Members<'b>;
    type SerializeTupleStruct = Members<'b>;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Members<'b>;
    type SerializeStructVariant = Never;

    number! {
        serialize_bool(bool) to Bool;
        serialize_i8(i8) to I8;
        serialize_i16(i16) to I16;
        serialize_i32(i32) to I32;
        serialize_i64(i64) to I64;
        serialize_u8(u8) to U8;
        serialize_u16(u16) to U16;
        serialize_u32(u32) to U32;
        serialize_u64(u64) to U64;
        serialize_f32(f32) to F32;
        serialize_f64(f64) to F64;
    }

    fn serialize_char(self, value: char) -> Result<(), RowError> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), RowError> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), RowError> {
        *self.bytes += value.len();
        match self.column {
            Builder::Bytes(column) => column.append_value(value),
            _ => return self.mismatch("bytes"),
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), RowError> {
        *self.bytes += 1;
        self.column.append_null()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), RowError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), RowError> {
        self.mismatch("nothing")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), RowError> {
        self.mismatch(name)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), RowError> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), RowError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), RowError> {
        self.mismatch(name)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'b>, RowError> {
        *self.bytes += size_of::<i32>();
        match self.column {
            Builder::List(list) => Ok(Items { list, bytes: self.bytes }),
            _ => self.mismatch("a list"),
        }
    }

    fn serialize_tuple(self, length: usize) -> Result<Members<'b>, RowError> {
        self.serialize_struct("a tuple", length)
    }

    fn serialize_tuple_struct(self, name: &'static str, length: usize) -> Result<Members<'b>, RowError> {
        self.serialize_struct(name, length)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Never, RowError> {
        self.mismatch(name)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Never, RowError> {
        self.mismatch("a map")
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Members<'b>, RowError> {
        match self.column {
            Builder::Struct(fields) => Ok(Members { fields, at: 0, bytes: self.bytes }),
            _ => self.mismatch(name),
        }
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Never, RowError> {
        self.mismatch(name)
    }
}

/// The elements of one list.
struct Items<'b> {
    list: &'b mut ListBuilder,
    bytes: &'b mut usize,
}

impl SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = RowError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        value.serialize(Cell { column: &mut self.list.items, bytes: self.bytes })?;
        self.list.items_count += 1;
        Ok(())
    }

    fn end(self) -> Result<(), RowError> {
        self.list.end_row(true)
    }
}

/// The fields of one struct.
struct Members<'b> {
    fields: &'b mut StructBuilder,
    at: usize,
    bytes: &'b mut usize,
}

impl Members<'_> {
    fn put<T: Serialize + ?Sized>(&mut self, column: usize, value: &T) -> Result<(), RowError> {
        let Some(builder) = self.fields.columns.get_mut(column) else {
            return Err(RowError("it writes more fields than it reads".to_owned()));
        };
        value.serialize(Cell { column: builder, bytes: self.bytes })?;
        self.fields.filled[column] += 1;
        self.at = column + 1;
        Ok(())
    }
}

impl SerializeStruct for Members<'_> {
    type Ok = ();
    type Error = RowError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), RowError> {
        let column = self.fields.column(name, self.at)?;
        self.put(column, value)
    }

    fn end(self) -> Result<(), RowError> {
        self.fields.end_row(true)
    }
}

impl SerializeTuple for Members<'_> {
    type Ok = ();
    type Error = RowError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        self.put(self.at, value)
    }

    fn end(self) -> Result<(), RowError> {
        self.fields.end_row(true)
    }
}

impl SerializeTupleStruct for Members<'_> {
    type Ok = ();
    type Error = RowError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        self.put(self.at, value)
    }

    fn end(self) -> Result<(), RowError> {
        self.fields.end_row(true)
    }
}
