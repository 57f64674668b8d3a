//! Bzip2 from the middle. A bzip2 stream is a row of blocks that know nothing of each other; they begin at any **bit**, with 48
//! bits that nothing else is likely to hold. So a reader looks for those, gives the decoder each block as a stream of its own,
//! and checks the sum over the blocks itself where it has seen all of them.
//!
//! ```text
//!  "BZh9" | block magic 48, CRC 32, ... | block magic 48, ... | end magic 48, sum of CRCs 32, padding | "BZh9" | ...
//! ```

use super::compressed_file::CompressedFile;
use super::decoder::Truncated;
use bzip2::{Decompress, Status};
use std::io::{self, BufRead, Read};
use thiserror::Error;

const BLOCK_MAGIC: u64 = 0x3141_5926_5359;
const END_MAGIC: u64 = 0x1772_4538_5090;
const MAGIC_BITS: usize = 48;
const MAGIC_MASK: u64 = (1 << MAGIC_BITS) - 1;
/// The magic and the sum behind it.
const MARKER_BITS: usize = MAGIC_BITS + 32;
/// `BZh` and the size of blocks.
const HEADER_BYTES: usize = 4;
/// A block holds at most 900,000 bytes, which no coding makes much longer.
const BLOCK_BYTES_MAX: usize = 2 << 20;

/// Bytes of which the one at bits 24 to 31 of a magic, however shifted, is one.
const MAY_BE_MAGIC: [bool; 256] = {
    let mut table = [false; 256];
    let mut shift = 0;
    while shift < 8 {
        table[((BLOCK_MAGIC << shift) >> 24 & 0xff) as usize] = true;
        table[((END_MAGIC << shift) >> 24 & 0xff) as usize] = true;
        shift += 1;
    }
    table
};

/// What is wrong with a file.
#[derive(Debug, Error)]
enum Bzip2Error {
    #[error("there is no bzip2 header where a stream should begin")]
    Header,
    #[error("there is no block where one should begin")]
    Marker,
    #[error("a block is longer than {BLOCK_BYTES_MAX} bytes")]
    BlockTooLong,
    #[error("a block does not decompress: {0}")]
    Block(bzip2::Error),
    #[error("the checksum of the stream is {stored:08x}, and that of its blocks {found:08x}")]
    Sum { stored: u32, found: u32 },
}

impl From<Bzip2Error> for io::Error {
    fn from(error: Bzip2Error) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Decompresses the blocks that begin in a piece of a file, and those behind it when asked.
pub(super) struct Bzip2Reader {
    file: CompressedFile,
    /// Bytes of the file, from the one in which the next marker begins.
    bytes: Vec<u8>,
    /// File offset of `bytes[0]`.
    base: u64,
    /// Where in `bytes` the next marker begins.
    bit: usize,
    /// Blocks that begin here or later are not wanted.
    end: u64,
    /// Of the stream's blocks so far, if its beginning was seen.
    sum: Option<u32>,
    /// No marker is left.
    finished: bool,
    /// The block that is decompressed, as a stream of its own.
    block: Option<Decompress>,
    stream: Vec<u8>,
    stream_at: usize,
}

impl Bzip2Reader {
    /// Stands before the first block that begins at `start` or later; `file` goes from `start` to the file's end.
    pub(super) fn new(file: CompressedFile, start: u64, end: u64) -> io::Result<Self> {
        let mut reader = Self {
            file,
            bytes: Vec::new(),
            base: start,
            bit: 0,
            end,
            sum: None,
            finished: false,
            block: None,
            stream: Vec::new(),
            stream_at: 0,
        };
        if start == 0 {
            reader.header()?;
        } else {
            reader.find_block()?;
        }
        Ok(reader)
    }

    /// Goes on with the blocks behind the piece.
    pub(super) fn go_beyond(&mut self) {
        self.end = u64::MAX;
    }

    /// Reads the header of a stream, which begins at a whole byte.
    fn header(&mut self) -> io::Result<()> {
        self.need(self.bit + 8 * HEADER_BYTES)?;
        let at = self.bit / 8;
        let [b'B', b'Z', b'h', b'1'..=b'9'] = self.bytes[at..at + HEADER_BYTES] else {
            return Err(Bzip2Error::Header.into());
        };
        (self.sum, self.bit) = (Some(0), self.bit + 8 * HEADER_BYTES);
        Ok(())
    }

    /// Finds the first block, if there is one.
    fn find_block(&mut self) -> io::Result<()> {
        let mut from = 0;
        loop {
            while let Some(bit) = find_marker(&self.bytes, from) {
                if bits(&self.bytes, bit, MAGIC_BITS) == BLOCK_MAGIC {
                    self.bit = bit;
                    return Ok(());
                }
                from = bit + 1;
            }
            // What was searched is not needed any more, but for the beginning of a magic.
            self.bit = (8 * self.bytes.len()).saturating_sub(MAGIC_BITS + 8).max(from);
            self.forget();
            from = self.bit;
            if !self.extend()? {
                self.finished = true;
                return Ok(());
            }
        }
    }

    /// Drops the bytes before the next marker.
    fn forget(&mut self) {
        let bytes = self.bit / 8;
        self.bytes.drain(..bytes);
        self.base += bytes as u64;
        self.bit -= 8 * bytes;
    }

    /// Reads some more; false at the end of the file.
    fn extend(&mut self) -> io::Result<bool> {
        let read = self.file.fill_buf()?;
        let bytes = read.len();
        self.bytes.extend_from_slice(read);
        self.file.consume(bytes);
        Ok(bytes > 0)
    }

    /// Sees to it that so many bits are at hand.
    fn need(&mut self, bits: usize) -> io::Result<()> {
        while 8 * self.bytes.len() < bits {
            if !self.extend()? {
                return Err(io::Error::other(Truncated));
            }
        }
        Ok(())
    }

    /// Makes the next block the current one; false if there is none in the piece.
    fn next_block(&mut self) -> io::Result<bool> {
        while !self.finished {
            self.need(self.bit + MARKER_BITS)?;
            let (magic, sum) = (
                bits(&self.bytes, self.bit, MAGIC_BITS),
                bits(&self.bytes, self.bit + MAGIC_BITS, 32) as u32,
            );
            match magic {
                BLOCK_MAGIC if self.base + self.bit as u64 / 8 >= self.end => return Ok(false),
                BLOCK_MAGIC => return self.take_block(sum).map(|()| true),
                END_MAGIC => self.end_stream(sum)?,
                _ => return Err(Bzip2Error::Marker.into()),
            }
        }
        Ok(false)
    }

    fn take_block(&mut self, sum: u32) -> io::Result<()> {
        let mut from = self.bit + MARKER_BITS;
        let next = loop {
            if let Some(next) = find_marker(&self.bytes, from) {
                break next;
            }
            from = from.max((8 * self.bytes.len()).saturating_sub(MAGIC_BITS + 8));
            if self.bytes.len() > BLOCK_BYTES_MAX {
                return Err(Bzip2Error::BlockTooLong.into());
            }
            if !self.extend()? {
                return Err(io::Error::other(Truncated));
            }
        };
        self.stream.clear();
        write_stream(&self.bytes, self.bit..next, sum, &mut self.stream);
        (self.block, self.stream_at) = (Some(Decompress::new(false)), 0);
        self.sum = self.sum.map(|all| all.rotate_left(1) ^ sum);
        self.bit = next;
        self.forget();
        Ok(())
    }

    /// Checks the sum of a stream, and goes to the next one.
    fn end_stream(&mut self, stored: u32) -> io::Result<()> {
        if let Some(found) = self.sum.filter(|found| *found != stored) {
            return Err(Bzip2Error::Sum { stored, found }.into());
        }
        self.bit = (self.bit + MARKER_BITS).next_multiple_of(8);
        self.forget();
        if self.bytes.len() <= self.bit / 8 && !self.extend()? {
            self.finished = true;
            return Ok(());
        }
        self.header()
    }

    /// Decompresses some of the current block; zero at its end.
    fn read_block(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(block) = &mut self.block else { return Ok(0) };
        let (read, written) = (block.total_in(), block.total_out());
        let status = block.decompress(&self.stream[self.stream_at..], buffer).map_err(Bzip2Error::Block)?;
        let (read, written) = (block.total_in() - read, block.total_out() - written);
        self.stream_at += read as usize;
        if status == Status::StreamEnd {
            self.block = None;
        } else if read == 0 && written == 0 {
            return Err(Bzip2Error::Block(bzip2::Error::Data).into());
        }
        Ok(written as usize)
    }
}

impl Read for Bzip2Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            while self.block.is_some() {
                let bytes = self.read_block(buffer)?;
                if bytes > 0 {
                    return Ok(bytes);
                }
            }
            if !self.next_block()? {
                break;
            }
        }
        Ok(0)
    }
}

/// The first bit at or after `from` at which a magic begins.
fn find_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let first = from / 8;
    let mut window = 0_u64;
    for (at, &byte) in bytes.iter().enumerate().skip(first) {
        window = window << 8 | u64::from(byte);
        if !MAY_BE_MAGIC[(window >> 24 & 0xff) as usize] || at < first + 5 {
            continue;
        }
        for shift in (0..8).rev() {
            let magic = window >> shift & MAGIC_MASK;
            let begins = (8 * (at + 1)).checked_sub(shift + MAGIC_BITS).filter(|bit| *bit >= from);
            if (magic == BLOCK_MAGIC || magic == END_MAGIC) && begins.is_some() {
                return begins;
            }
        }
    }
    None
}

/// Up to 56 bits from `bit` on, which must be there.
fn bits(bytes: &[u8], bit: usize, count: usize) -> u64 {
    let (first, last) = (bit / 8, (bit + count - 1) / 8);
    let window = bytes[first..=last].iter().fold(0_u64, |window, &byte| window << 8 | u64::from(byte));
    window >> (8 * (last + 1) - bit - count) & ((1 << count) - 1)
}

/// Writes the bits of one block as a stream that holds nothing else.
fn write_stream(bytes: &[u8], block: std::ops::Range<usize>, sum: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"BZh9");
    let (first, shift, whole) = (block.start / 8, block.start % 8, block.len() / 8);
    if shift == 0 {
        out.extend_from_slice(&bytes[first..first + whole]);
    } else {
        let pairs = bytes[first..].windows(2).take(whole);
        out.extend(pairs.map(|pair| pair[0] << shift | pair[1] >> (8 - shift)));
    }
    // The last bits of the block, the end, and padding.
    let rest = block.len() % 8;
    let tail = if rest == 0 { 0 } else { bits(bytes, block.end - rest, rest) };
    let end = u128::from(tail) << MARKER_BITS | u128::from(END_MAGIC) << 32 | u128::from(sum);
    let length = rest + MARKER_BITS;
    let padded = end << (length.next_multiple_of(8) - length);
    out.extend_from_slice(&padded.to_be_bytes()[16 - length.div_ceil(8)..]);
}
