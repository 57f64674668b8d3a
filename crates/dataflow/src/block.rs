//! Blocks: what run files are made of. A block is some records, compressed or not, under one checksum that also
//! binds the block to its place in the file. `docs/formats.md` draws the bytes.

use crate::varint;
use thiserror::Error;

/// A block is closed before its records exceed this many bytes, unless it holds only one: large enough to compress
/// well and be read in one call, small enough that a merge can hold one block of each of hundreds of runs.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Bytes before a block's payload.
pub const BLOCK_HEADER_BYTES: usize = 20;
/// No payload is larger: a record of at most 1 GiB and its two lengths.
pub const BLOCK_BYTES_MAX: usize = (1 << 30) + 64;

/// A byte of LZ4 makes no more than this: lengths grow by 255 for each.
const LZ4_EXPANSION_MAX: usize = 255;

/// How a block's payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// LZ4 block format.
    Lz4 = 1,
}

/// What is wrong with a block; the run file adds path and offset.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BlockError {
    /// The checksum of header, payload and place does not match.
    #[error("checksum mismatch")]
    Checksum,
    /// A length in the header is not what the index says or exceeds its limit.
    #[error("a length of {found} bytes where {expected} were expected")]
    Length {
        /// What the index or a limit allows.
        expected: u64,
        /// What the header says.
        found: u64,
    },
    /// The codec's number is unknown.
    #[error("unknown codec {0}")]
    Codec(u32),
    /// The compressed payload does not decompress.
    #[error("payload does not decompress")]
    Compressed,
    /// A record runs over the end of its block.
    #[error("a record runs over the end of its block")]
    Record,
}

/// Appends header and payload of a block that will stand at `offset` of its file.
///
/// Compression that saves less than an eighth is not kept: decompressing would cost more than it saves.
pub(crate) fn seal(raw: &[u8], records: u32, codec: Codec, offset: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + BLOCK_HEADER_BYTES, 0);
    let used = match codec {
        Codec::Lz4 if compress(raw, out) => Codec::Lz4,
        _ => {
            out.truncate(start + BLOCK_HEADER_BYTES);
            out.extend_from_slice(raw);
            Codec::Raw
        }
    };
    let stored = (out.len() - start - BLOCK_HEADER_BYTES) as u32;
    let fields = [used as u32, stored, raw.len() as u32, records];
    for (index, field) in fields.into_iter().enumerate() {
        out[start + 4 + 4 * index..][..4].copy_from_slice(&field.to_le_bytes());
    }
    let crc = checksum(&out[start + 4..], offset);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

fn compress(raw: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
    match lz4_flex::block::compress_into(raw, &mut out[start..]) {
        Ok(stored) if stored < raw.len() - raw.len() / 8 => {
            out.truncate(start + stored);
            true
        }
        // The buffer has the size that the library asks for, so the error cannot happen; raw is right anyway.
        Ok(_) | Err(_) => false,
    }
}

fn checksum(header_and_payload: &[u8], offset: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), header_and_payload)
}

/// What a block says of itself. Nothing of it counts before [`check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) stored_bytes: u32,
    pub(crate) raw_bytes: u32,
    pub(crate) records: u32,
}

impl BlockHeader {
    pub(crate) fn of(header: &[u8; BLOCK_HEADER_BYTES]) -> Self {
        let field = |index: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[4 * index + byte]));
        Self { stored_bytes: field(2), raw_bytes: field(3), records: field(4) }
    }
}

/// Whether header, payload and place of a block belong together.
pub(crate) fn check(block: &[u8], offset: u64) -> Result<(), BlockError> {
    match block.split_first_chunk::<4>() {
        Some((crc, rest)) if u32::from_le_bytes(*crc) == checksum(rest, offset) => Ok(()),
        Some(_) | None => Err(BlockError::Checksum),
    }
}

/// Verifies the block that was read from `offset` and puts its payload, decompressed, into `raw`.
/// `raw_bytes` and `records` are what the index says: nothing is allocated on the block's own word, nor more than the
/// payload can hold.
pub(crate) fn open(
    block: &[u8],
    offset: u64,
    raw_bytes: u32,
    records: u32,
    raw: &mut Vec<u8>,
) -> Result<(), BlockError> {
    let (header, payload) = block
        .split_at_checked(BLOCK_HEADER_BYTES)
        .ok_or(BlockError::Length { expected: BLOCK_HEADER_BYTES as u64, found: block.len() as u64 })?;
    let field = |index: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[4 * index + byte]));
    if field(0) != checksum(&block[4..], offset) {
        return Err(BlockError::Checksum);
    }
    expect(payload.len() as u64, field(2))?;
    expect(raw_bytes.into(), field(3))?;
    expect(records.into(), field(4))?;
    raw.clear();
    match field(1) {
        0 => {
            expect(payload.len() as u64, raw_bytes)?;
            raw.extend_from_slice(payload);
        }
        1 => {
            if raw_bytes as usize > payload.len() * LZ4_EXPANSION_MAX {
                return Err(BlockError::Compressed);
            }
            raw.resize(raw_bytes as usize, 0);
            let filled =
                lz4_flex::block::decompress_into(payload, raw).map_err(|_| BlockError::Compressed)?;
            expect(raw_bytes.into(), filled as u32)?;
        }
        other => return Err(BlockError::Codec(other)),
    }
    Ok(())
}

fn expect(expected: u64, found: u32) -> Result<(), BlockError> {
    if expected == u64::from(found) {
        return Ok(());
    }
    Err(BlockError::Length { expected, found: found.into() })
}

/// Where a record's key and value lie in its block.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecordSpan {
    pub(crate) start: usize,
    pub(crate) key: usize,
    pub(crate) value: usize,
    pub(crate) end: usize,
}

/// Appends a record: both lengths, key, value.
#[inline]
pub(crate) fn put_record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    if key.len() < 0x80 && value.len() < 0x80 {
        out.extend_from_slice(&[key.len() as u8, value.len() as u8]);
    } else {
        varint::put(key.len() as u64, out);
        varint::put(value.len() as u64, out);
    }
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

/// Bytes that [`put_record`] takes at most.
pub(crate) fn record_bytes(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + 2 * varint::VARINT_BYTES_MAX
}

/// The record that starts at `start` of `block`.
#[inline]
pub(crate) fn record_at(block: &[u8], start: usize) -> Result<RecordSpan, BlockError> {
    let mut at = start;
    let key_bytes = varint::take(block, &mut at).ok_or(BlockError::Record)? as usize;
    let value_bytes = varint::take(block, &mut at).ok_or(BlockError::Record)? as usize;
    let value = at.checked_add(key_bytes).ok_or(BlockError::Record)?;
    let end = value.checked_add(value_bytes).ok_or(BlockError::Record)?;
    if end > block.len() {
        return Err(BlockError::Record);
    }
    Ok(RecordSpan { start, key: at, value, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(raw: &[u8], codec: Codec, offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        seal(raw, 7, codec, offset, &mut out);
        out
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_again(raw: Vec<u8>, repeat in 1usize..200, offset: u64) {
            let raw = raw.repeat(repeat);
            for codec in [Codec::Raw, Codec::Lz4] {
                let block = sealed(&raw, codec, offset);
                let mut opened = Vec::new();
                prop_assert_eq!(open(&block, offset, raw.len() as u32, 7, &mut opened), Ok(()));
                prop_assert_eq!(&opened, &raw);
            }
        }

        #[test]
        fn any_bytes_open_without_panic(block: Vec<u8>, raw_bytes in 0u32..100_000) {
            prop_assert!(open(&block, 0, raw_bytes, 1, &mut Vec::new()).is_err());
        }

        #[test]
        fn records_are_found_where_they_were_put(records: Vec<(Vec<u8>, Vec<u8>)>) {
            let mut block = Vec::new();
            records.iter().for_each(|(key, value)| put_record(key, value, &mut block));
            let mut at = 0;
            for (key, value) in &records {
                let span = record_at(&block, at).expect("a record");
                prop_assert_eq!(&block[span.key..span.value], &key[..]);
                prop_assert_eq!(&block[span.value..span.end], &value[..]);
                at = span.end;
            }
            prop_assert_eq!(at, block.len());
        }

        #[test]
        fn any_bytes_are_searched_for_records_without_panic(block: Vec<u8>) {
            let mut at = 0;
            while at < block.len() {
                match record_at(&block, at) {
                    Ok(span) => at = span.end,
                    Err(error) => { prop_assert_eq!(error, BlockError::Record); break }
                }
            }
        }
    }

    #[test]
    fn a_block_moved_to_another_place_is_refused() {
        let block = sealed(b"payload", Codec::Raw, 100);
        assert_eq!(open(&block, 200, 7, 7, &mut Vec::new()), Err(BlockError::Checksum));
    }

    #[test]
    fn a_payload_cannot_hold_more_than_lz4_compresses() {
        let zeroes = vec![0; 16 << 20];
        let mut block = sealed(&zeroes, Codec::Lz4, 0);
        assert!(zeroes.len() / (block.len() - BLOCK_HEADER_BYTES) >= 250);
        let mut raw = Vec::new();
        assert_eq!(open(&block, 0, zeroes.len() as u32, 7, &mut raw), Ok(()));
        assert_eq!(raw, zeroes);
        let most = BLOCK_BYTES_MAX as u32;
        block[12..16].copy_from_slice(&most.to_le_bytes());
        let crc = checksum(&block[4..], 0);
        block[..4].copy_from_slice(&crc.to_le_bytes());
        let mut raw = Vec::new();
        assert_eq!(open(&block, 0, most, 7, &mut raw), Err(BlockError::Compressed));
        assert_eq!(raw.capacity(), 0);
    }

    #[test]
    fn text_is_stored_compressed_and_noise_is_not() {
        let text = b"to be or not to be ".repeat(1000);
        assert!(sealed(&text, Codec::Lz4, 0).len() < text.len() / 10);
        let noise: Vec<u8> =
            (0u32..5000).flat_map(|i| xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()).to_le_bytes()).collect();
        assert_eq!(sealed(&noise, Codec::Lz4, 0).len(), BLOCK_HEADER_BYTES + noise.len());
    }
}
