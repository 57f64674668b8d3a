//! Headers of Parquet pages, read before the parquet crate acts on them: it takes the memory that they ask for.

use super::parquet_thrift::{
    Kind::{self, Number, Struct, Truth, Unread},
    Thrift,
};
use parquet::basic::CompressionCodec;
use std::io::{self, Read};
use thiserror::Error;

/// Gzip makes at most so many bytes of one, an LZ4 frame so many.
const GZIP_RATIO_MAX: u64 = 1032;
const LZ4_RATIO_MAX: u64 = 255;
/// The fields 1, 2, ... of `PageHeader`, and of the structs in it.
const HEADER: [Kind; 8] = [
    Number,
    Number,
    Number,
    Number,
    Struct(&DATA_HEADER),
    Struct(&[]),
    Struct(&DICTIONARY_HEADER),
    Struct(&DATA_HEADER_V2),
];
// The crate passes over statistics.
const DATA_HEADER: [Kind; 5] = [Number, Number, Number, Number, Unread];
const DICTIONARY_HEADER: [Kind; 3] = [Number, Number, Truth];
const DATA_HEADER_V2: [Kind; 8] = [Number, Number, Number, Number, Number, Number, Truth, Unread];

/// More than a task takes at a time.
#[derive(Debug, Error)]
pub(super) enum PartTooLarge {
    /// Of a column.
    #[error(
        "a page of {bytes} bytes at offset {offset}, and a task of this memory takes pages of {limit_bytes} at most"
    )]
    Page {
        /// Where it is.
        offset: u64,
        /// What its header says.
        bytes: u64,
        /// The limit.
        limit_bytes: usize,
    },
    /// A dictionary that says it has more values than bytes.
    #[error("a dictionary is said to have {values} values in {bytes} bytes")]
    Dictionary {
        /// What its header says.
        values: u64,
        /// All that it has.
        bytes: usize,
    },
    /// Lengths of values, which packed may take nearly nothing.
    #[error(
        "a page with the lengths of {values} values, and a task of this memory takes pages of {limit_bytes} bytes at most"
    )]
    Lengths {
        /// How many the page says it has.
        values: u64,
        /// The limit.
        limit_bytes: usize,
    },
    /// A page that decompresses to more than its header says.
    #[error("a page at offset {offset} holds more than the {bytes} bytes of its header")]
    Bomb {
        /// Where it is.
        offset: u64,
        /// What its header says.
        bytes: u64,
    },
    /// Groups of columns within each other.
    #[error("its columns are in more than {limit} groups within each other")]
    Levels {
        /// The limit.
        limit: usize,
    },
    /// Columns that are said to be there, for which the crate makes room.
    #[error("its groups are said to have {columns} columns, and no more than {limit} follow")]
    Columns {
        /// What its groups say.
        columns: u64,
        /// As many as the metadata has.
        limit: u64,
    },
    /// The metadata at the end of the file.
    #[error("metadata of {bytes} bytes, and a task of this memory takes {limit_bytes} at most")]
    Footer {
        /// What the file says.
        bytes: u64,
        /// The limit.
        limit_bytes: usize,
    },
}

/// What a page is said to need. Of fields that are there twice, the greater one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// Length of the header itself.
    pub(super) header_bytes: u64,
    pub(super) uncompressed_bytes: u64,
    pub(super) compressed_bytes: u64,
    /// Levels before what is compressed.
    pub(super) levels_bytes: u64,
}

impl PageHeader {
    pub(super) fn read(input: impl Read) -> io::Result<Self> {
        let mut thrift = Thrift::new(input);
        let mut header = Self::default();
        thrift.fields(&HEADER, |thrift, field| {
            match field {
                2 => raise(&mut header.uncompressed_bytes, thrift.number()?),
                3 => raise(&mut header.compressed_bytes, thrift.number()?),
                8 => header.levels_bytes = header.levels_bytes.max(levels(thrift)?),
                _ => thrift.pass_over(HEADER[field - 1])?,
            }
            Ok(())
        })?;
        header.header_bytes = thrift.bytes();
        Ok(header)
    }

    /// Whether a task takes the page that has this header at `offset`.
    pub(super) fn check(&self, offset: u64, limit_bytes: usize) -> Result<(), PartTooLarge> {
        let bytes = self.uncompressed_bytes.max(self.compressed_bytes);
        if bytes > limit_bytes as u64 {
            return Err(PartTooLarge::Page { offset, bytes, limit_bytes });
        }
        Ok(())
    }

    /// Whether the crate could decompress the page to more than `limit_bytes`, whatever the header says: it goes on to the end
    /// of these two, and compares lengths then.
    pub(super) fn may_burst(&self, compression: CompressionCodec, limit_bytes: usize) -> bool {
        let ratio = match compression {
            CompressionCodec::GZIP => GZIP_RATIO_MAX,
            CompressionCodec::LZ4 => LZ4_RATIO_MAX,
            _ => return false,
        };
        self.compressed_bytes.saturating_mul(ratio) > limit_bytes as u64
    }

    /// Whether `page` decompresses to more than the header says. What cannot be decompressed the crate will refuse.
    pub(super) fn bursts(&self, compression: CompressionCodec, page: &[u8]) -> bool {
        let compressed = page.get(self.levels_bytes as usize..).unwrap_or_default();
        let decompressed: &mut dyn Read = match compression {
            CompressionCodec::GZIP => &mut flate2::read::MultiGzDecoder::new(compressed),
            _ => &mut lz4_flex::frame::FrameDecoder::new(compressed),
        };
        let mut counted = Counted { bytes: 0 };
        let copied = io::copy(&mut decompressed.take(self.uncompressed_bytes + 1), &mut counted);
        drop(copied);
        counted.bytes > self.uncompressed_bytes
    }
}

/// The levels' lengths of a header of the second version.
fn levels<R: Read>(thrift: &mut Thrift<R>) -> io::Result<u64> {
    let (mut definitions, mut repetitions) = (0, 0);
    thrift.fields(&DATA_HEADER_V2, |thrift, field| {
        match field {
            5 => raise(&mut definitions, thrift.number()?),
            6 => raise(&mut repetitions, thrift.number()?),
            _ => thrift.pass_over(DATA_HEADER_V2[field - 1])?,
        }
        Ok(())
    })?;
    Ok(definitions.saturating_add(repetitions))
}

/// Counts what is written.
struct Counted {
    bytes: u64,
}

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Negative numbers the crate refuses.
fn raise(to: &mut u64, number: i64) {
    *to = u64::try_from(number).map_or(*to, |number| number.max(*to));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A header of a data page of these lengths, in decompressed and compressed bytes.
    fn header(uncompressed: u8, compressed: u8) -> Vec<u8> {
        let number = |number: u8| number * 2;
        // type 0, the lengths, and a data page header: values, three encodings.
        let mut bytes = vec![0x15, 0, 0x15, number(uncompressed), 0x15, number(compressed)];
        bytes.extend([0x2c, 0x15, number(5), 0x15, 0, 0x15, 0, 0x15, 0, 0, 0]);
        bytes
    }

    #[test]
    fn a_header_says_how_large_its_page_is() {
        let bytes = header(60, 50);
        let read = PageHeader::read(&bytes[..]).expect("it is whole");
        let header_bytes = bytes.len() as u64;
        let expected =
            PageHeader { header_bytes, uncompressed_bytes: 60, compressed_bytes: 50, levels_bytes: 0 };
        assert_eq!(read, expected);
        read.check(7, 60).expect("so much is taken");
        let error = read.check(7, 59).expect_err("it is too large").to_string();
        assert!(error.contains("60 bytes at offset 7") && error.contains("59"), "{error}");
        for cut in 0..bytes.len() {
            PageHeader::read(&bytes[..cut]).expect_err("it was cut");
        }
    }

    #[test]
    fn a_length_that_is_there_twice_does_not_hide_the_greater_one() {
        // After the first three fields: field 2 once more, by its full number.
        let bytes = [0x15, 0, 0x15, 120, 0x15, 2, 0x05, 4, 2, 0];
        assert_eq!(PageHeader::read(&bytes[..]).expect("it is whole").uncompressed_bytes, 60);
        // Field 2 as bytes: another reader could take it for a number.
        PageHeader::read(&[0x15, 0, 0x18, 1, 60, 0x15, 2, 0][..]).expect_err("it is of another type");
    }

    #[test]
    fn a_page_that_holds_more_than_its_header_says_is_found() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&[0; 1000]).expect("memory");
        let page = encoder.finish().expect("memory");
        let said = |uncompressed_bytes| PageHeader {
            uncompressed_bytes,
            compressed_bytes: page.len() as u64,
            ..PageHeader::default()
        };
        let gzip = CompressionCodec::GZIP;
        assert!(said(10).may_burst(gzip, 999) && said(999).bursts(gzip, &page));
        assert!(!said(1000).bursts(gzip, &page), "it holds what it says");
        assert!(!said(10).may_burst(gzip, 1 << 20), "it cannot become so large");
        assert!(!said(10).may_burst(CompressionCodec::SNAPPY, 1), "its decoder stops where the header says");
    }
}
