//! The metadata at the end of a Parquet file, looked at before the parquet crate reads it: the crate follows its columns by
//! recursion, makes room for as many as a group says it has, and passes over lists of truths as long as they say they are, which
//! take no byte: two thousand million of them are seconds.

use super::parquet_page::PartTooLarge;
use super::parquet_scan::ScanError;
use super::parquet_thrift::{
    Kind::{self, Byte, Bytes, Double, List, Number, Struct, Truth, Unread},
    Thrift, malformed,
};
use std::io;

/// Groups of columns within each other: each takes the crate a frame of the stack, several times. Tables have a few.
const LEVELS_MAX: usize = 128;

/// The fields 1, 2, ... of `FileMetaData`, and below of the structs in it: all that the crate reads.
const METADATA: [Kind; 7] = [
    Number,
    List(&Struct(&COLUMN)),
    Number,
    List(&Struct(&ROW_GROUP)),
    List(&Struct(&KEY_VALUE)),
    Bytes,
    List(&Struct(&COLUMN_ORDER)),
];
const COLUMN: [Kind; 10] =
    [Number, Number, Number, Bytes, Number, Number, Number, Number, Number, Struct(&LOGICAL_TYPE)];
const LOGICAL_TYPE: [Kind; 19] = [
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    Struct(&[Number, Number]),
    EMPTY,
    Struct(&TIME),
    Struct(&TIME),
    Unread,
    Struct(&[Byte, Truth]),
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    Struct(&[Byte]),
    Struct(&[Bytes]),
    Struct(&[Bytes, Number]),
    EMPTY,
];
const EMPTY: Kind = Struct(&[]);
const TIME: [Kind; 2] = [Truth, Struct(&[EMPTY, EMPTY, EMPTY])];
const ROW_GROUP: [Kind; 7] =
    [List(&Struct(&CHUNK)), Number, Number, List(&Struct(&[Number, Truth, Truth])), Number, Unread, Number];
const CHUNK: [Kind; 7] = [Bytes, Number, Struct(&CHUNK_METADATA), Number, Number, Number, Number];
const CHUNK_METADATA: [Kind; 17] = [
    Number,
    List(&Number),
    Unread,
    Number,
    Number,
    Number,
    Number,
    Unread,
    Number,
    Number,
    Number,
    Struct(&[Bytes, Bytes, Number, Number, Bytes, Bytes, Truth, Truth, Number]),
    List(&Struct(&[Number, Number, Number])),
    Number,
    Number,
    Struct(&[Number, List(&Number), List(&Number)]),
    Struct(&[Struct(&[Double; 8]), List(&Number)]),
];
const KEY_VALUE: [Kind; 2] = [Bytes, Bytes];
const COLUMN_ORDER: [Kind; 3] = [EMPTY, EMPTY, EMPTY];

/// Whether the crate may read it.
pub(super) fn check(metadata: &[u8]) -> Result<(), ScanError> {
    let mut too_large = None;
    let mut thrift = Thrift::new(metadata);
    let read = thrift.fields(&METADATA, |thrift, field| match field {
        2 => {
            too_large = columns(thrift)?;
            if too_large.is_some() { Err(malformed("too many columns")) } else { Ok(()) }
        }
        _ => thrift.pass_over(METADATA[field - 1]),
    });
    match (too_large, read) {
        (Some(too_large), _) => Err(too_large.into()),
        (None, read) => Ok(read?),
    }
}

/// Each column is followed by those that are in it. Says what is too much.
fn columns(thrift: &mut Thrift<&[u8]>) -> io::Result<Option<PartTooLarge>> {
    let count = thrift.list_of(Struct(&COLUMN))?;
    // Of the groups that are open, how many columns are still to come; and of all of them.
    let (mut open, mut to_come): (Vec<u64>, u64) = (Vec::new(), 0);
    for number in 0..count {
        let mut children = 0;
        thrift.fields(&COLUMN, |thrift, field| match field {
            5 => {
                children = u64::try_from(thrift.number()?).unwrap_or(0);
                Ok(())
            }
            _ => thrift.pass_over(COLUMN[field - 1]),
        })?;
        if let Some(left) = open.last_mut() {
            *left -= 1;
            to_come -= 1;
        }
        to_come += children;
        let limit = count - number - 1;
        if to_come > limit {
            return Ok(Some(PartTooLarge::Columns { columns: to_come, limit }));
        }
        if children > 0 {
            open.push(children);
        }
        if open.len() > LEVELS_MAX {
            return Ok(Some(PartTooLarge::Levels { limit: LEVELS_MAX }));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups within each other, and a column.
    fn nested(groups: usize) -> Vec<u8> {
        let mut bytes = vec![0x15, 2, 0x19, 0xfc];
        bytes.extend([(groups as u8 + 1) | 0x80, ((groups + 1) >> 7) as u8]);
        for _ in 0..groups {
            // Name, children.
            bytes.extend([0x48, 1, b'g', 0x15, 2, 0]);
        }
        bytes.extend([0x15, 2, 0x38, 1, b'c', 0, 0]);
        bytes
    }

    #[test]
    fn groups_within_each_other_have_a_limit() {
        check(&nested(LEVELS_MAX)).expect("so many are taken");
        let error = check(&nested(LEVELS_MAX + 1)).expect_err("one is too many").to_string();
        assert!(error.contains("128 groups"), "{error}");
    }

    #[test]
    fn a_list_that_says_it_is_long_ends_with_the_bytes() {
        let truths = [0x19 | 0xf0, 0xf1, 0xff, 0xff, 0xff, 0xff, 7, 0];
        check(&truths).expect_err("there are no so many");
    }

    #[test]
    fn groups_have_no_more_columns_than_follow() {
        let of_one = |children: &[u8]| {
            let mut bytes = vec![0x15, 2, 0x19, 0x2c, 0x48, 1, b'g', 0x15];
            bytes.extend(children);
            bytes.extend([0, 0x48, 1, b'c', 0, 0]);
            bytes
        };
        check(&of_one(&[2])).expect("a group of one column");
        let error = check(&of_one(&[0xfe, 0xff, 0xff, 0xff, 0xf])).expect_err("room for 16 GiB").to_string();
        assert!(error.contains("2147483647 columns") && error.contains("than 1 follow"), "{error}");
    }

    /// Field 3 says that it is a list of eight bytes. The crate reads a number, the first two of these, and then a field that
    /// it does not know: a list of two thousand million truths, which take nothing.
    #[test]
    fn a_field_of_another_type_than_the_format_has_is_refused() {
        let mut bytes = nested(1);
        assert_eq!(bytes.pop(), Some(0), "the end of the metadata");
        bytes.extend([0x19, 0x83, 0, 0xc9, 0xf1, 0xff, 0xff, 0xff, 0xff, 7, 0]);
        let error = check(&bytes).expect_err("the crate would pass over them for seconds").to_string();
        assert!(error.contains("another type"), "{error}");
    }

    /// A field that the format does not have holds two truths: two bytes. The crate passes over none, and reads them as the
    /// beginning of a list of two thousand million truths.
    #[test]
    fn a_list_of_truths_is_refused() {
        let mut bytes = nested(1);
        assert_eq!(bytes.pop(), Some(0), "the end of the metadata");
        bytes.extend([0xe9, 0x21, 0xc9, 0xf1, 0xf8, 0xff, 0xff, 0xff, 7]);
        bytes.extend([0; 3]);
        let error = check(&bytes).expect_err("the crate would pass over them for seconds").to_string();
        assert!(error.contains("a list of truths"), "{error}");
    }
}
