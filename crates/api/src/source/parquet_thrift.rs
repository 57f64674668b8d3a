//! Thrift's compact protocol, in which Parquet has its metadata: read as far as limits need it, before the parquet crate does.
//!
//! What this reads otherwise than the crate would let something pass, so a known field of another type than the format has is
//! refused.

use std::io::{self, Read};

/// Structs and lists within each other: the metadata of a file has ten.
const LEVELS_MAX: u32 = 64;

/// The types of fields.
pub(super) const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
pub(super) const NUMBER: u8 = 5;
pub(super) const BYTES: u8 = 8;
pub(super) const LIST: u8 = 9;
const SET: u8 = 10;
pub(super) const STRUCT: u8 = 12;

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

    /// Calls `take` for each field of a struct whose type is known, with its number; skips others.
    pub(super) fn fields(
        &mut self,
        types: &[u8],
        mut take: impl FnMut(&mut Self, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut last = 0;
        while let Some((number, found)) = self.field(last)? {
            last = number;
            let known = usize::try_from(number).ok().filter(|number| (1..=types.len()).contains(number));
            let Some(number) = known else {
                self.skip(found, 1)?;
                continue;
            };
            match (types[number - 1], found) {
                // A truth is all in its type.
                (TRUE, TRUE | FALSE) => {}
                (wanted, found) if wanted == found => take(self, number)?,
                _ => return Err(malformed("a field of another type")),
            }
        }
        Ok(())
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

    pub(super) fn skip(&mut self, found: u8, levels: u32) -> io::Result<()> {
        if levels > LEVELS_MAX {
            return Err(malformed("too many levels"));
        }
        match found {
            TRUE | FALSE => {}
            BYTE => drop(self.byte()?),
            4..=6 => drop(self.varint()?),
            7 => self.pass(8)?,
            BYTES => {
                let length = self.varint()?;
                self.pass(length)?;
            }
            LIST | SET => {
                let (count, found) = self.list()?;
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
    pub(super) fn list(&mut self) -> io::Result<(u64, u8)> {
        let byte = self.byte()?;
        let (count, found) = (u64::from(byte >> 4), byte & 0xf);
        let count = if count == 15 { self.varint()? } else { count };
        // In a list a truth is a byte: no element takes none.
        Ok((count, if matches!(found, TRUE | FALSE) { BYTE } else { found }))
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
