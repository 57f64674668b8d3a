//! The metadata at the end of a Parquet file, looked at before the parquet crate reads it: the crate follows its columns by
//! recursion, and passes over lists of fields that it does not know as long as they say they are.

use super::parquet_page::PartTooLarge;
use super::parquet_scan::ScanError;
use super::parquet_thrift::{BYTES, LIST, NUMBER, STRUCT, Thrift, malformed};
use std::io;

/// Types of the fields 1, 2, ... of `FileMetaData`, up to the columns, and of `SchemaElement`.
const METADATA: [u8; 2] = [NUMBER, LIST];
const COLUMN: [u8; 10] = [NUMBER, NUMBER, NUMBER, BYTES, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, STRUCT];
/// Groups of columns within each other: each takes the crate a frame of the stack, several times. Tables have a few.
const LEVELS_MAX: usize = 128;

/// Whether the crate may read it.
pub(super) fn check(metadata: &[u8]) -> Result<(), ScanError> {
    let mut is_too_deep = false;
    let mut thrift = Thrift::new(metadata);
    let read = thrift.fields(&METADATA, |thrift, field| match METADATA[field - 1] {
        LIST => columns(thrift, &mut is_too_deep),
        other => thrift.skip(other, 1),
    });
    match read {
        Err(_) if is_too_deep => Err(PartTooLarge::Levels { limit: LEVELS_MAX }.into()),
        read => Ok(read?),
    }
}

/// Each column is followed by those that are in it.
fn columns(thrift: &mut Thrift<&[u8]>, is_too_deep: &mut bool) -> io::Result<()> {
    let (count, found) = thrift.list()?;
    if found != STRUCT && count > 0 {
        return Err(malformed("columns of another type"));
    }
    // Of the groups that are open, how many columns are still to come.
    let mut open: Vec<u64> = Vec::new();
    for _ in 0..count {
        let mut children = 0;
        thrift.fields(&COLUMN, |thrift, field| match field {
            5 => {
                children = u64::try_from(thrift.number()?).unwrap_or(0);
                Ok(())
            }
            _ => thrift.skip(COLUMN[field - 1], 1),
        })?;
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            open.push(children);
        }
        *is_too_deep = open.len() > LEVELS_MAX;
        if *is_too_deep {
            return Err(malformed("too many levels"));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    Ok(())
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
}
