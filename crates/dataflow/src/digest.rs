//! What a map output's partition holds, whatever the order in which it was emitted: two attempts of a
//! deterministic map have equal digests.

use xxhash_rust::xxh3::xxh3_128;

/// Count and order-independent 128-bit sum over the records of one partition.
///
/// The sum wraps; each record adds the XXH3-128 hash (seed 0) of its encoded bytes, lengths included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Records.
    pub records: u64,
    /// Wrapping sum of the records' hashes.
    pub sum: u128,
}

impl Digest {
    /// Adds one record, as it is encoded in a block: lengths, key, value.
    #[inline]
    pub fn add(&mut self, record: &[u8]) {
        self.records += 1;
        self.sum = self.sum.wrapping_add(xxh3_128(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(records: &[&[u8]]) -> Digest {
        let mut digest = Digest::default();
        records.iter().for_each(|record| digest.add(record));
        digest
    }

    #[test]
    fn order_does_not_count_but_each_record_does() {
        assert_eq!(digest(&[b"a", b"b", b"b"]), digest(&[b"b", b"a", b"b"]));
        assert_ne!(digest(&[b"a", b"b", b"b"]), digest(&[b"a", b"a", b"b"]));
        assert_ne!(digest(&[b"a", b"b"]), digest(&[b"a", b"b", b"b"]));
    }
}
