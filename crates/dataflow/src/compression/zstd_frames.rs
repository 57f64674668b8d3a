//! Where the frames of a zstd file begin: from its seek table, or by going from block header to block header. Nothing is
//! decompressed, and nothing is guessed: four bytes of magic occur in data too.

use gristmill_dfs::ReadAt;
use std::io;

const FRAME_MAGIC: u32 = 0xFD2F_B528;
/// Frames that decoders skip: 16 magics.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;
const SKIPPABLE_MASK: u32 = 0xFFFF_FFF0;
/// The last bytes of the [seekable format](https://github.com/facebook/zstd/blob/dev/contrib/seekable_format).
pub(super) const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
/// The magic of the skippable frame that holds a seek table.
pub(super) const SEEK_TABLE_MAGIC: u32 = SKIPPABLE_MAGIC | 0xE;
/// Magic and length.
const SKIPPABLE_HEADER_BYTES: u64 = 8;
/// Number of frames, descriptor, magic.
const FOOTER_BYTES: u64 = 9;
/// In the descriptor: entries end with a checksum.
const CHECKSUM_FLAG: u8 = 0x80;
/// A seek table may have so many entries: 4 GiB of files of our own.
const SEEK_TABLE_ENTRIES_MAX: u64 = 1 << 20;
/// So many block headers are looked at; what follows is one piece. A block has up to 128 KiB of data.
const BLOCKS_MAX: u32 = 1 << 16;
/// If the first frame has more blocks than this (256 MiB of data), the file is taken for one frame.
const FIRST_FRAME_BLOCKS_MAX: u32 = 2048;
/// The longest header of a frame: magic, descriptor, window, dictionary, content size.
const FRAME_HEADER_BYTES_MAX: usize = 18;

/// Offsets at which frames with data begin, the first one included, in order. A file that is damaged gives what comes before the
/// damage: whoever decompresses it will say what is wrong.
pub fn zstd_frames(file: &dyn ReadAt) -> io::Result<Vec<u64>> {
    if let Some(frames) = seek_table(file)? {
        return Ok(frames);
    }
    let mut frames = Vec::new();
    let (mut at, mut blocks) = (0, 0);
    while at < file.bytes() {
        let Some(next) = Walk { file, blocks: &mut blocks, first: frames.is_empty() }.frame(at)? else {
            break;
        };
        match next {
            Frame::Data { end } => {
                frames.push(at);
                at = end;
            }
            Frame::Skippable { end } => at = end,
        }
    }
    // The last piece reaches to the end of the file, whatever is there.
    if frames.is_empty() && file.bytes() > 0 {
        frames.push(0);
    } else if at < file.bytes() && frames.last() != Some(&at) {
        frames.push(at);
    }
    Ok(frames)
}

enum Frame {
    Data { end: u64 },
    Skippable { end: u64 },
}

/// Goes from header to header.
struct Walk<'w> {
    file: &'w dyn ReadAt,
    blocks: &'w mut u32,
    first: bool,
}

impl Walk<'_> {
    /// The frame at `at`; none if it is damaged, or too much to look at.
    fn frame(&mut self, at: u64) -> io::Result<Option<Frame>> {
        let mut header = [0; FRAME_HEADER_BYTES_MAX];
        let header = read_up_to(self.file, &mut header, at)?;
        let Some(magic) = number::<4>(header, 0) else { return Ok(None) };
        if magic as u32 & SKIPPABLE_MASK == SKIPPABLE_MAGIC {
            let end = number::<4>(header, 4).map(|bytes| at + SKIPPABLE_HEADER_BYTES + bytes);
            return Ok(end.filter(|end| *end <= self.file.bytes()).map(|end| Frame::Skippable { end }));
        }
        if magic as u32 != FRAME_MAGIC || header.len() < 6 {
            return Ok(None);
        }
        let descriptor = header[4];
        let mut block = at + frame_header_bytes(descriptor);
        let before = *self.blocks;
        loop {
            *self.blocks += 1;
            let too_many = self.first && *self.blocks - before > FIRST_FRAME_BLOCKS_MAX;
            let mut bytes = [0; 3];
            let Some(header) = number::<3>(read_up_to(self.file, &mut bytes, block)?, 0) else {
                return Ok(None);
            };
            if too_many || *self.blocks > BLOCKS_MAX {
                return Ok(None);
            }
            let (last, kind, size) = (header & 1 == 1, header >> 1 & 3, header >> 3);
            // A block of one repeated byte takes one byte.
            block += 3 + if kind == 1 { 1 } else { size };
            if last {
                let checksum = if descriptor & 4 == 0 { 0 } else { 4 };
                let end = block + checksum;
                return Ok((end <= self.file.bytes()).then_some(Frame::Data { end }));
            }
        }
    }
}

/// The length of a frame's header, by its descriptor (RFC 8878, 3.1.1.1).
fn frame_header_bytes(descriptor: u8) -> u64 {
    let single_segment = descriptor >> 5 & 1;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = match descriptor >> 6 {
        0 => u64::from(single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    4 + 1 + u64::from(1 - single_segment) + dictionary + content
}

/// The frames of a file's seek table, if it has one that agrees with the file.
fn seek_table(file: &dyn ReadAt) -> io::Result<Option<Vec<u64>>> {
    let Some(footer_at) = file.bytes().checked_sub(FOOTER_BYTES) else { return Ok(None) };
    let mut footer = [0; FOOTER_BYTES as usize];
    let footer = read_up_to(file, &mut footer, footer_at)?;
    let (Some(count), Some(magic)) = (number::<4>(footer, 0), number::<4>(footer, 5)) else {
        return Ok(None);
    };
    if magic as u32 != SEEKABLE_MAGIC || count > SEEK_TABLE_ENTRIES_MAX {
        return Ok(None);
    }
    let entry_bytes = if footer[4] & CHECKSUM_FLAG == 0 { 8 } else { 12 };
    let Some(table_at) = footer_at.checked_sub(count * entry_bytes + SKIPPABLE_HEADER_BYTES) else {
        return Ok(None);
    };
    let mut table = vec![0; (footer_at - table_at) as usize];
    let table = read_up_to(file, &mut table, table_at)?;
    if number::<4>(table, 0) != Some(SEEK_TABLE_MAGIC.into()) {
        return Ok(None);
    }
    let (mut frames, mut at) = (Vec::new(), 0);
    for entry in table[SKIPPABLE_HEADER_BYTES as usize..].chunks_exact(entry_bytes as usize) {
        let (Some(stored), Some(raw)) = (number::<4>(entry, 0), number::<4>(entry, 4)) else {
            return Ok(None);
        };
        if raw > 0 {
            frames.push(at);
        }
        at += stored;
    }
    Ok((at == table_at && frames.first().is_none_or(|first| *first == 0)).then_some(frames))
}

/// A little-endian number of so many bytes, if they are there.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + N)?;
    Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// As much as the file has there.
fn read_up_to<'b>(file: &dyn ReadAt, buffer: &'b mut [u8], offset: u64) -> io::Result<&'b [u8]> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&buffer[..filled])
}
