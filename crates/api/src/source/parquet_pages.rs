//! The pages of some row groups on their way from the parquet crate's page reader to its decoders, which believe the counts in
//! them: a count that asks for more memory than a page may take is refused here.

use super::parquet_file::ParquetFile;
use super::parquet_page::PartTooLarge;
use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData};
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::record::reader::RowIter;
use parquet::schema::types::{ColumnDescPtr, Type};
use std::sync::Arc;

/// The decoders of lengths keep one of these for each value.
const LENGTH_BYTES: u64 = 4;

/// Some row groups of a file, as a file that has no others.
pub(super) struct ChosenGroups {
    file: Arc<ParquetFile>,
    metadata: ParquetMetaData,
}

impl ChosenGroups {
    /// The groups of these numbers, which have so many rows.
    pub(super) fn new(file: &ParquetFile, metadata: &ParquetMetaData, chosen: &[usize], rows: i64) -> Self {
        let all = metadata.file_metadata();
        let (schema, version) = (all.schema_descr_ptr(), all.version());
        let groups = chosen.iter().map(|&group| metadata.row_group(group).clone()).collect();
        let of_file = FileMetaData::new(version, rows, None, None, schema, all.column_orders().cloned());
        let metadata = ParquetMetaDataBuilder::new(of_file).set_row_groups(groups).build();
        Self { file: Arc::new(file.clone()), metadata }
    }
}

impl FileReader for ChosenGroups {
    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    fn num_row_groups(&self) -> usize {
        self.metadata.num_row_groups()
    }

    fn get_row_group(&self, group: usize) -> Result<Box<dyn RowGroupReader + '_>> {
        Ok(Box::new(Group { file: self.file.clone(), metadata: self.metadata.row_group(group) }))
    }

    fn get_row_iter(&self, _: Option<Type>) -> Result<RowIter<'_>> {
        Err(batches_only())
    }
}

struct Group<'m> {
    file: Arc<ParquetFile>,
    metadata: &'m RowGroupMetaData,
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.metadata
    }

    fn num_columns(&self) -> usize {
        self.metadata.num_columns()
    }

    fn get_column_page_reader(&self, column: usize) -> Result<Box<dyn PageReader>> {
        let (chunk, rows) = (self.metadata.column(column), self.metadata.num_rows() as usize);
        let pages = SerializedPageReader::new(self.file.clone(), chunk, rows, None)?;
        let (limit_bytes, column) = (self.file.part_bytes_max(), chunk.column_descr_ptr());
        Ok(Box::new(Checked { pages, column, limit_bytes }))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, _: Option<Type>) -> Result<RowIter<'_>> {
        Err(batches_only())
    }
}

/// Of ways to read that nothing here takes.
fn batches_only() -> ParquetError {
    ParquetError::NYI("rows are read in batches".to_owned())
}

/// The pages of a column of a group.
struct Checked {
    pages: SerializedPageReader<ParquetFile>,
    column: ColumnDescPtr,
    limit_bytes: usize,
}

impl Checked {
    fn check(&self, page: &Page) -> Result<()> {
        let limit_bytes = self.limit_bytes;
        let values = match (page, page.encoding()) {
            // Room is made for all values before one has been seen. None that a dictionary can have takes less than a byte.
            (Page::DictionaryPage { buf, num_values, .. }, _) => {
                let (values, bytes) = (u64::from(*num_values), buf.len());
                return if values <= bytes as u64 {
                    Ok(())
                } else {
                    Err(refused(PartTooLarge::Dictionary { values, bytes }))
                };
            }
            (_, Encoding::DELTA_LENGTH_BYTE_ARRAY) => {
                self.values(page).and_then(lengths).map(|lengths| lengths.count)
            }
            (_, Encoding::DELTA_BYTE_ARRAY) => self.values(page).and_then(|values| {
                let prefixes = lengths(values)?;
                let suffixes = values.get(prefixes.end..).and_then(lengths);
                Some(suffixes.map_or(prefixes.count, |suffixes| suffixes.count.max(prefixes.count)))
            }),
            _ => None,
        };
        match values {
            Some(values) if values.saturating_mul(LENGTH_BYTES) > limit_bytes as u64 => {
                Err(refused(PartTooLarge::Lengths { values, limit_bytes }))
            }
            _ => Ok(()),
        }
    }

    /// What follows the levels; none: the page is too short, and its decoder says so.
    fn values<'p>(&self, page: &'p Page) -> Option<&'p [u8]> {
        match page {
            Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } => {
                let repetitions = (self.column.max_rep_level(), *rep_level_encoding);
                let definitions = (self.column.max_def_level(), *def_level_encoding);
                let rest = behind_levels(buf, *num_values, repetitions)?;
                behind_levels(rest, *num_values, definitions)
            }
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                buf.get((*def_levels_byte_len as usize).checked_add(*rep_levels_byte_len as usize)?..)
            }
            Page::DictionaryPage { .. } => None,
        }
    }
}

/// What follows the levels of a page of the first version.
fn behind_levels(bytes: &[u8], values: u32, (max_level, encoding): (i16, Encoding)) -> Option<&[u8]> {
    #[expect(deprecated, reason = "old files have it")]
    let length = match encoding {
        _ if max_level == 0 => 0,
        Encoding::BIT_PACKED => {
            let bits = u64::from(values) * u64::from(i16::BITS - max_level.leading_zeros());
            bits.div_ceil(8) as usize
        }
        _ => {
            let length = bytes.first_chunk::<4>().map(|length| u32::from_le_bytes(*length))?;
            (length as usize).checked_add(4)?
        }
    };
    bytes.get(length..)
}

/// Numbers that were packed as differences.
struct Lengths {
    count: u64,
    /// Where they end.
    end: usize,
}

/// Walks over `DELTA_BINARY_PACKED` numbers; none: they are damaged, and their decoder says so. If they have no end, that is
/// far away.
fn lengths(bytes: &[u8]) -> Option<Lengths> {
    let mut at = 0;
    let (block, miniblocks, count) =
        (varint(bytes, &mut at)?, varint(bytes, &mut at)?, varint(bytes, &mut at)?);
    varint(bytes, &mut at)?;
    let of_miniblock = block.checked_div(miniblocks)?;
    if of_miniblock == 0 && count > 1 {
        return Some(Lengths { count, end: usize::MAX });
    }
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let counted = varint(bytes, &mut at).and_then(|_| {
            let widths = bytes.get(at..at.checked_add(usize::try_from(miniblocks).ok()?)?)?;
            Some(widths)
        });
        let Some(widths) = counted else { return Some(Lengths { count, end: usize::MAX }) };
        at += widths.len();
        for width in widths {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(of_miniblock);
            let packed = u64::from(*width).saturating_mul(of_miniblock) / 8;
            at = at.saturating_add(usize::try_from(packed).unwrap_or(usize::MAX));
        }
    }
    Some(Lengths { count, end: at })
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

fn refused(error: PartTooLarge) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl Iterator for Checked {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Checked {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = &page {
            self.check(page)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_where_they_end() {
        // Blocks of 128 in 4 miniblocks; 34 values: the first, 32 of 3 bits, one of 2 bits; and what follows.
        let mut bytes = vec![0x80, 1, 4, 34, 0, 0, 3, 2, 9, 9];
        bytes.extend([0; 12 + 8 + 5]);
        let found = lengths(&bytes).expect("they are whole");
        assert_eq!((found.count, found.end), (34, 10 + 12 + 8));
        let one = lengths(&[0x80, 1, 4, 1, 0]).expect("one is whole without a block");
        assert_eq!((one.count, one.end), (1, 5));
        // A thousand million, of which nothing is there.
        let many = lengths(&[0x80, 1, 4, 0x80, 0x94, 0xeb, 0xdc, 3, 0]).expect("they say how many they are");
        assert_eq!((many.count, many.end), (1_000_000_000, usize::MAX));
        let empty_blocks = lengths(&[0, 4, 34, 0]).expect("they say how many they are");
        assert_eq!((empty_blocks.count, empty_blocks.end), (34, usize::MAX));
        assert!(lengths(&[0x80, 1, 0, 34, 0]).is_none() && lengths(&[0x80]).is_none());
    }
}
