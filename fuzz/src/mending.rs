//! Magic numbers, lengths and checksums put right: random bytes never have them, and what lies behind them is to be
//! reached too.

const RUN_HEADER: [u8; 16] = *b"GRISTRUN\x01\0\0\0\0\0\0\0";
const RUN_TRAILER_BYTES: usize = 24;
const RUN_TRAILER_MAGIC: &[u8; 8] = b"GRISTEND";
const BLOCK_HEADER_BYTES: usize = 20;

/// Mends a run file (`docs/formats.md`, section 1): header, trailer, and the checksums of the blocks that follow each
/// other from the start.
pub(crate) fn run_file(file: &mut [u8]) {
    let Some(trailer_at) = file.len().checked_sub(RUN_TRAILER_BYTES) else { return };
    let Some(room) = trailer_at.checked_sub(RUN_HEADER.len()) else { return };
    file[..RUN_HEADER.len()].copy_from_slice(&RUN_HEADER);
    file[trailer_at + 16..].copy_from_slice(RUN_TRAILER_MAGIC);
    let footer_bytes = wrapped(u32_at(file, trailer_at + 8), room);
    let footer_at = trailer_at - footer_bytes as usize;
    file[trailer_at..][..8].copy_from_slice(&(footer_at as u64).to_le_bytes());
    file[trailer_at + 8..][..4].copy_from_slice(&footer_bytes.to_le_bytes());
    let crc = crc32c::crc32c(&file[footer_at..trailer_at + 12]);
    file[trailer_at + 12..][..4].copy_from_slice(&crc.to_le_bytes());

    let mut at = RUN_HEADER.len();
    while at + BLOCK_HEADER_BYTES <= footer_at {
        let end = at + BLOCK_HEADER_BYTES + u32_at(file, at + 8) as usize;
        if end > footer_at {
            return;
        }
        block(&mut file[at..end], at as u64);
        at = end;
    }
}

/// Mends the checksum of a block of a run file that stands at `offset`.
pub(crate) fn block(block: &mut [u8], offset: u64) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), &block[4..]);
    block[..4].copy_from_slice(&crc.to_le_bytes());
}

/// Mends bulk frames that follow each other (`docs/protocol.md`).
pub(crate) fn frames(wire: &mut [u8]) {
    let mut at = 0;
    while at + 28 <= wire.len() {
        let header_bytes = wrapped(u32_at(wire, at + 8), wire.len() - at - 28);
        let body_bytes = u32_at(wire, at + 12);
        wire[at..at + 4].copy_from_slice(b"GMB\x01");
        wire[at + 8..at + 12].copy_from_slice(&header_bytes.to_le_bytes());
        let body_at = at + 28 + header_bytes as usize;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&wire[at..at + 24]), &wire[at + 28..body_at]);
        wire[at + 24..at + 28].copy_from_slice(&crc.to_le_bytes());
        at = body_at.saturating_add(body_bytes as usize);
    }
}

/// Mends the head of a checksum file (`docs/formats.md`, "Block files") of a replica, and its marks.
pub(crate) fn sum_file(file: &mut [u8], block: u64, generation: u64) {
    let Some((head, rest)) = file.split_first_chunk_mut::<48>() else { return };
    head[..16].copy_from_slice(b"GRISTSUM\x01\0\0\0\0\x40\0\0");
    head[16..24].copy_from_slice(&block.to_le_bytes());
    head[24..32].copy_from_slice(&generation.to_le_bytes());
    let crc = crc32c::crc32c(&head[..44]);
    head[44..].copy_from_slice(&crc.to_le_bytes());
    for mark in rest.as_chunks_mut::<16>().0.iter_mut().take(2) {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[16..32]), &mark[..12]);
        mark[12..].copy_from_slice(&crc.to_le_bytes());
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A length as it is, if there is room for it.
fn wrapped(length: u32, room: usize) -> u32 {
    (u64::from(length) % (room as u64 + 1)) as u32
}
