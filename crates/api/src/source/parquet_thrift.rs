//! Thrift's compact protocol, in which Parquet has its metadata: read as far as limits need it, before the parquet crate does.
//!
//! What this reads otherwise than the crate would let something pass. The crate reads a field that it knows as the format has it,
//! whatever type the file says that it is of, so one of another type is refused.

use std::io::{self, Read};

/// Structs and lists within each other: the metadata of a file has ten.
const LEVELS_MAX: u32 = 64;

/// The types of fields.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 7;
const BYTES: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

/// What the format has in a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Truth,
    Byte,
    /// Of any width: they are written in the same way.
    Number,
    Double,
    Bytes,
    List(&'static Kind),
    /// Of the fields 1, 2, ...
    Struct(&'static [Kind]),
    /// What the crate passes over, as the file says that it is.
    Unread,
}

impl Kind {
    /// Whether this is what a file calls `found`.
    fn is(self, found: u8) -> bool {
        match self {
            Self::Truth => matches!(found, TRUE | FALSE),
            Self::Byte => found == BYTE,
            Self::Number => matches!(found, 4..=6),
            Self::Double => found == DOUBLE,
            Self::Bytes => found == BYTES,
            Self::List(_) => found == LIST,
            Self::Struct(_) => found == STRUCT,
            Self::Unread => true,
        }
    }
}

/// Reads the compact protocol.
pub(super) struct Thrift<R> {
    input: R,
    bytes: u64,
}

impl<R: Read> Thrift<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, bytes: 0 }
    }

    /// How many were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Calls `take` for each field of a struct that is one of `kinds`, with its number; passes over others.
    pub(super) fn fields(
        &mut self,
        kinds: &[Kind],
        mut take: impl FnMut(&mut Self, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut last = 0;
        while let Some((number, found)) = self.field(last)? {
            last = number;
            let known = usize::try_from(number).ok().filter(|number| (1..=kinds.len()).contains(number));
            match known.map(|number| (number, kinds[number - 1])) {
                None | Some((_, Kind::Unread)) => self.skip(found, 1)?,
                Some((_, kind)) if !kind.is(found) => return Err(malformed("a field of another type")),
                // A truth is all in its type.
                Some((_, Kind::Truth)) => {}
                Some((number, _)) => take(self, number)?,
            }
        }
        Ok(())
    }

    /// Passes over a value, and all that is in it, as the crate reads it.
    pub(super) fn pass_over(&mut self, kind: Kind) -> io::Result<()> {
        match kind {
            Kind::Truth | Kind::Unread => Ok(()),
            Kind::Byte => self.skip(BYTE, 1),
            Kind::Number => self.varint().map(drop),
            Kind::Double => self.skip(DOUBLE, 1),
            Kind::Bytes => self.skip(BYTES, 1),
            Kind::List(of) => {
                for _ in 0..self.list_of(*of)? {
                    self.pass_over(*of)?;
                }
                Ok(())
            }
            Kind::Struct(kinds) => self.fields(kinds, |thrift, field| thrift.pass_over(kinds[field - 1])),
        }
    }

    /// How many elements of this kind follow.
    pub(super) fn list_of(&mut self, kind: Kind) -> io::Result<u64> {
        let (count, found) = self.list()?;
        if count > 0 && !kind.is(found) {
            return Err(malformed("a list of another type"));
        }
        Ok(count)
    }

    /// Number and type of the next field; none: the struct ends.
    fn field(&mut self, last: i16) -> io::Result<Option<(i16, u8)>> {
        let byte = self.byte()?;
        let (delta, found) = (i16::from(byte >> 4), byte & 0xf);
        match (found, delta) {
            (0, _) => Ok(None),
            (_, 0) => Ok(Some((self.zigzag()? as i16, found))),
            _ => {
                let number = last.checked_add(delta).ok_or_else(|| malformed("a field's number"))?;
                Ok(Some((number, found)))
            }
        }
    }

    fn skip(&mut self, found: u8, levels: u32) -> io::Result<()> {
        if levels > LEVELS_MAX {
            return Err(malformed("too many levels"));
        }
        match found {
            TRUE | FALSE => {}
            BYTE => drop(self.byte()?),
            4..=6 => drop(self.varint()?),
            DOUBLE => self.pass(8)?,
            BYTES => {
                let length = self.varint()?;
                self.pass(length)?;
            }
            LIST | SET => {
                let (count, found) = self.list()?;
                if count > 0 && matches!(found, TRUE | FALSE) {
                    // Each is a byte, but the crate passes over them as if they were none, and reads what comes next otherwise.
                    return Err(malformed("a list of truths, of which the format has none"));
                }
                for _ in 0..count {
                    self.skip(found, levels + 1)?;
                }
            }
            STRUCT => {
                while let Some((_, found)) = self.field(0)? {
                    self.skip(found, levels + 1)?;
                }
            }
            13 => self.pass(16)?,
            _ => return Err(malformed("a field of an unknown type")),
        }
        Ok(())
    }

    /// How many elements of which type follow.
    fn list(&mut self) -> io::Result<(u64, u8)> {
        let byte = self.byte()?;
        let (count, found) = (u64::from(byte >> 4), byte & 0xf);
        Ok((if count == 15 { self.varint()? } else { count }, found))
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.input.by_ref().take(bytes), &mut io::sink())?;
        self.bytes += passed;
        if passed < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// As the crate has it: cut to 32 bits.
    pub(super) fn number(&mut self) -> io::Result<i64> {
        Ok(i64::from(self.zigzag()? as i32))
    }

    fn zigzag(&mut self) -> io::Result<i64> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn varint(&mut self) -> io::Result<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            if shift > 63 {
                return Err(malformed("a number of more than ten bytes"));
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
            shift += 7;
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        self.bytes += 1;
        Ok(byte[0])
    }
}

pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("its metadata is malformed: {what}"))
}
