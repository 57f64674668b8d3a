//! Range partitions: where to cut the key space so that reduces get equal shares and part files are in total
//! order. The sample is the index of the map outputs: each block's first key stands for the block's bytes, so
//! the cuts are right to a block for each map output, and the input is read only once.

use crate::partition::PARTITIONS_MAX;
use crate::run::{Run, RunPart};
use crate::run_file::INDEX_KEY_BYTES;
use crate::varint;
use std::sync::Arc;
use thiserror::Error;

const HEADER: [u8; 12] = *b"GRISTCUT\x01\0\0\0";
const CHECKSUM_BYTES: usize = 4;

/// Why bytes are no cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RangeCutsError {
    /// Not these, or of another version.
    #[error("no range cuts of version 1")]
    Header,
    /// Changed on the way.
    #[error("range cuts are damaged: checksum mismatch")]
    Checksum,
    /// The checksum is right, and the content is not.
    #[error("malformed range cuts at byte {at}")]
    Malformed {
        /// Where.
        at: usize,
    },
}

/// Keys at which partitions begin; partition `i` has the keys from cut `i - 1` on and before cut `i`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeCuts {
    cuts: Vec<Arc<[u8]>>,
}

impl RangeCuts {
    /// Cuts the keys of `runs` into at most `partitions` shares of about equal bytes.
    pub fn choose(runs: &[Arc<Run>], partitions: u32) -> Self {
        Self::of_sample(runs.iter().flat_map(|run| run.index.sample(u32::MAX)).collect(), partitions)
    }

    /// The same from keys and the bytes that each stands for, in any order.
    pub(crate) fn of_sample(mut sample: Vec<(&[u8], u64)>, partitions: u32) -> Self {
        sample.sort_unstable();
        let total: u64 = sample.iter().map(|(_, bytes)| bytes).sum();
        let mut cuts: Vec<Arc<[u8]>> = Vec::new();
        let mut below = 0u64;
        // A cut at the least key of all would leave nothing below it.
        let mut last = sample.first().map_or(&[][..], |(key, _)| key);
        for (key, bytes) in sample {
            let share = cuts.len() as u128 + 1;
            let wanted = (u128::from(total) * share / u128::from(partitions.max(1))) as u64;
            if share < partitions.into() && below >= wanted && key > last {
                cuts.push(key.into());
                last = key;
            }
            below += bytes;
        }
        Self { cuts }
    }

    /// The keys of `partition`: from, and until; `None` for no bound. Or that it has none.
    #[allow(clippy::type_complexity)]
    pub(crate) fn bounds(&self, partition: u32) -> Option<(Option<Arc<[u8]>>, Option<Arc<[u8]>>)> {
        let partition = partition as usize;
        if partition > self.cuts.len() {
            return None;
        }
        let from = partition.checked_sub(1).and_then(|before| self.cuts.get(before)).cloned();
        Some((from, self.cuts.get(partition).cloned()))
    }

    /// What partition `partition` reads of `run`.
    pub fn part(&self, run: &Arc<Run>, partition: u32) -> RunPart {
        match self.bounds(partition) {
            Some((from, until)) => RunPart::keys(run, from, until),
            None => RunPart::none(run),
        }
    }

    /// As they travel (`docs/formats.md`).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = HEADER.to_vec();
        varint::put(self.cuts.len() as u64, &mut out);
        for cut in &self.cuts {
            varint::put(cut.len() as u64, &mut out);
            out.extend_from_slice(cut);
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads what [`Self::encode`] wrote. Each cut has 1 to 32 bytes, and they ascend.
    pub fn decode(bytes: &[u8]) -> Result<Self, RangeCutsError> {
        let (content, crc) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(RangeCutsError::Header)?;
        if !content.starts_with(&HEADER) {
            return Err(RangeCutsError::Header);
        }
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return Err(RangeCutsError::Checksum);
        }
        let mut at = HEADER.len();
        let mut cuts: Vec<Arc<[u8]>> = Vec::new();
        let count = varint::take(content, &mut at).filter(|&count| count < PARTITIONS_MAX.into());
        for _ in 0..count.ok_or(RangeCutsError::Malformed { at })? {
            let start = at;
            let key = take_key(content, &mut at).ok_or(RangeCutsError::Malformed { at: start })?;
            let last = cuts.last().map_or(&[][..], |last| last);
            if key <= last {
                return Err(RangeCutsError::Malformed { at: start });
            }
            cuts.push(key.into());
        }
        if at != content.len() {
            return Err(RangeCutsError::Malformed { at });
        }
        Ok(Self { cuts })
    }
}

fn take_key<'c>(content: &'c [u8], at: &mut usize) -> Option<&'c [u8]> {
    let bytes = varint::take(content, at).filter(|&bytes| bytes <= INDEX_KEY_BYTES as u64)?;
    let key = content.get(*at..*at + bytes as usize)?;
    *at += key.len();
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Codec;
    use crate::cursor::Cursor;
    use crate::memory::ResidentPool;
    use crate::run_writer::RunWriter;
    use crate::scratch::Scratch;
    use proptest::prelude::*;

    fn runs(scratch: &Scratch, keys: &[Vec<Vec<u8>>]) -> Vec<Arc<Run>> {
        let run = |keys: &Vec<Vec<u8>>| {
            let mut keys = keys.clone();
            keys.sort();
            let mut writer = RunWriter::new(scratch, true);
            // Values of 3,000 bytes: a block holds about 20 records, so a few hundred keys make many blocks.
            keys.iter().for_each(|key| writer.push(0, key, &[7; 3000]).expect("push"));
            Arc::new(writer.finish().expect("finish"))
        };
        keys.iter().map(run).collect()
    }

    fn partition_of(cuts: &RangeCuts, runs: &[Arc<Run>], partition: u32) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for run in runs {
            let mut cursor = Cursor::open(cuts.part(run, partition)).expect("open");
            while !cursor.ended {
                keys.push(cursor.key().to_vec());
                cursor.advance().expect("advance");
            }
        }
        keys.sort();
        keys
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn every_record_is_in_one_partition_and_partitions_are_in_order(
            // Long common beginnings: the index keeps only 32 bytes of a key.
            keys in prop::collection::vec(prop::collection::vec("(abcdefghijklmnopqrstuvwxyz){0,2}[a-c]{0,4}", 0..150), 1..4),
            partitions in 1u32..6, resident in any::<bool>(),
        ) {
            let keys: Vec<Vec<Vec<u8>>> =
                keys.into_iter().map(|run| run.into_iter().map(String::into_bytes).collect()).collect();
            let dir = tempfile::tempdir().expect("tempdir");
            let pool = ResidentPool::new(if resident { 1 << 30 } else { 0 });
            let scratch = Scratch::create(dir.path(), pool, Codec::Lz4).expect("scratch");
            let runs = runs(&scratch, &keys);
            let cuts = RangeCuts::choose(&runs, partitions);
            let found: Vec<_> = (0..partitions).flat_map(|part| partition_of(&cuts, &runs, part)).collect();
            let mut expected = keys.concat();
            expected.sort();
            // In order over all partitions, and nothing lost or doubled.
            prop_assert_eq!(found, expected);
            for cut in &cuts.cuts {
                prop_assert!(!cut.is_empty());
            }
            prop_assert_eq!(RangeCuts::decode(&cuts.encode()), Ok(cuts));
        }
    }

    fn sealed(content: &[u8]) -> Vec<u8> {
        [content, &crc32c::crc32c(content).to_le_bytes()].concat()
    }

    #[test]
    fn damaged_cuts_are_refused() {
        let cuts = RangeCuts { cuts: vec![b"g"[..].into(), b"mill"[..].into()] };
        let encoded = cuts.encode();
        // As docs/formats.md shows it.
        assert_eq!(encoded, *b"GRISTCUT\x01\0\0\0\x02\x01g\x04mill\x45\xd0\x52\x69");
        for bit in 0..encoded.len() * 8 {
            let mut damaged = encoded.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(RangeCuts::decode(&damaged).is_err(), "bit {bit}");
        }
        for bytes in 0..encoded.len() {
            assert!(RangeCuts::decode(&encoded[..bytes]).is_err(), "{bytes} bytes");
        }
        let malformed: [&[u8]; 7] = [
            b"",
            b"\x02\x01b\x01a",
            b"\x02\x01a\x01a",
            b"\x01\0",
            b"\x01\x01ab",
            b"\xff\xff\xff\xff\x0f",
            &[&[1, 33][..], &[b'k'; 33]].concat(),
        ];
        for content in malformed {
            let error = RangeCuts::decode(&sealed(&[&HEADER[..], content].concat()));
            assert!(matches!(error, Err(RangeCutsError::Malformed { .. })), "{content:x?}: {error:?}");
        }
    }

    #[test]
    fn uniform_keys_give_even_partitions() {
        let dir = tempfile::tempdir().expect("tempdir");
        let scratch = Scratch::create(dir.path(), ResidentPool::new(1 << 30), Codec::Lz4).expect("scratch");
        let key = |i: u32| i.wrapping_mul(2_654_435_761).to_be_bytes().to_vec();
        let keys: Vec<Vec<_>> = (0..4).map(|run| (0..2000).map(|i| key(2000 * run + i)).collect()).collect();
        let runs = runs(&scratch, &keys);
        let cuts = RangeCuts::choose(&runs, 4);
        for partition in 0..4 {
            let count = partition_of(&cuts, &runs, partition).len();
            // 2,000 each; a block of each run, 20 records, on either side is the sample's error.
            assert!(count.abs_diff(2000) <= 2 * 4 * 21, "{count} records in partition {partition}");
        }
    }
}
