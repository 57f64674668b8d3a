//! Checksums of a block: one CRC32C for each 16 KiB of it, made by the writer, checked at every hop and by the reader.

use thiserror::Error;

/// Bytes under one sum. Chunks start at multiples of it within their block; the last of a block may be short.
/// Large enough that sums are a 4096th of the data, small enough that a small read need not fetch much more.
pub const CHUNK_BYTES: u64 = 16 << 10;
/// Bytes of a sum: a CRC32C, little-endian.
pub const SUM_BYTES: u64 = 4;

/// Data that is not what its sums were made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("chunk {index} does not match its checksum")]
pub struct BadChunk {
    /// The first bad chunk, from 0 at the start of the data checked. One that has a sum but no data, or data but no
    /// sum, is bad.
    pub index: u64,
}

/// Length of the sums of `data_bytes` bytes that start at a chunk border.
pub fn sums_bytes(data_bytes: u64) -> u64 {
    data_bytes.div_ceil(CHUNK_BYTES) * SUM_BYTES
}

/// Adds the sums of `data`, which starts at a chunk border, to `sums`.
pub fn append_sums(data: &[u8], sums: &mut Vec<u8>) {
    sums.reserve(sums_bytes(data.len() as u64) as usize);
    for sum in sums_of(data) {
        sums.extend_from_slice(&sum);
    }
}

/// Checks `data`, which starts at a chunk border, against all of `sums`.
pub fn verify(data: &[u8], sums: &[u8]) -> Result<(), BadChunk> {
    let mut wanted = sums.chunks(SUM_BYTES as usize);
    let mut index = 0;
    for sum in sums_of(data) {
        if wanted.next() != Some(&sum) {
            return Err(BadChunk { index });
        }
        index += 1;
    }
    wanted.next().map_or(Ok(()), |_| Err(BadChunk { index }))
}

fn sums_of(data: &[u8]) -> impl Iterator<Item = [u8; SUM_BYTES as usize]> {
    data.chunks(CHUNK_BYTES as usize).map(|chunk| crc_fast::crc32_iscsi(chunk).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNK: usize = CHUNK_BYTES as usize;

    fn data(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    fn sums(data: &[u8]) -> Vec<u8> {
        let mut sums = Vec::new();
        append_sums(data, &mut sums);
        sums
    }

    #[test]
    fn a_sum_is_the_crc32c_of_its_chunk() {
        // The check value of CRC-32C (Castagnoli).
        assert_eq!(sums(b"123456789"), 0xe306_9283_u32.to_le_bytes());
        let all = data(2 * CHUNK + 1);
        let apart: Vec<u8> = all.chunks(CHUNK).flat_map(sums).collect();
        assert_eq!(sums(&all), apart);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        // The files of earlier builds have sums that crc32c made.
        #[test]
        fn two_libraries_agree(chunk in proptest::collection::vec(any::<u8>(), 0..=CHUNK), from in 0..64_usize) {
            let chunk = &chunk[from.min(chunk.len())..];
            prop_assert_eq!(crc_fast::crc32_iscsi(chunk), crc32c::crc32c(chunk));
        }
    }

    #[test]
    fn every_length_has_its_sums() {
        for bytes in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let data = data(bytes);
            let sums = sums(&data);
            assert_eq!(sums.len() as u64, sums_bytes(bytes as u64), "{bytes} bytes");
            assert_eq!(verify(&data, &sums), Ok(()), "{bytes} bytes");
        }
        assert_eq!(sums_bytes(u64::MAX), 1 << 52);
    }

    #[test]
    fn a_wrong_bit_is_found_where_it_is() {
        let good = data(2 * CHUNK + 100);
        let good_sums = sums(&good);
        for (at, index) in [(0, 0), (CHUNK - 1, 0), (CHUNK, 1), (2 * CHUNK, 2), (good.len() - 1, 2)] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(verify(&bad, &good_sums), Err(BadChunk { index }), "byte {at}");
        }
        for at in 0..good_sums.len() {
            let mut bad = good_sums.clone();
            bad[at] ^= 1;
            assert_eq!(verify(&good, &bad), Err(BadChunk { index: at as u64 / 4 }), "byte {at} of the sums");
        }
    }

    #[test]
    fn what_is_missing_is_bad() {
        let data = data(2 * CHUNK);
        let sums = sums(&data);
        assert_eq!(verify(&data[..CHUNK], &sums), Err(BadChunk { index: 1 }));
        assert_eq!(verify(&data[..CHUNK + 5], &sums), Err(BadChunk { index: 1 }));
        assert_eq!(verify(&data, &sums[..4]), Err(BadChunk { index: 1 }));
        assert_eq!(verify(&data, &sums[..7]), Err(BadChunk { index: 1 }));
        assert_eq!(verify(&data, &[&sums[..], &[0]].concat()), Err(BadChunk { index: 2 }));
        assert_eq!(verify(&[], &[]), Ok(()));
    }
}
