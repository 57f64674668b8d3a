//! Which reduce partition a key belongs to.

use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Partitions are numbered in 16 bits inside sort indexes.
pub const PARTITIONS_MAX: u32 = 1 << 16;

/// An author's own rule: encoded key and number of partitions in, partition out (checked by [`Partitioner::of`]).
pub type PartitionFn = dyn Fn(&[u8], u32) -> u32 + Send + Sync;

/// Assigns keys to partitions. The same key goes to the same partition on every machine and in every build.
#[derive(Clone)]
pub enum Partitioner {
    /// XXH3-64 with seed 0 of the encoded key, scaled to the number of partitions.
    Hash,
    /// Everything into one sorted run; reduces read ranges of keys from it (see [`crate::range`]).
    Range,
    /// The author's rule.
    Custom(Arc<PartitionFn>),
}

impl Partitioner {
    /// The partition of `key` among `partitions`. An author's rule that answers out of range is a panic with a
    /// sentence for the author: it is a bug in the job program.
    #[inline]
    pub fn of(&self, key: &[u8], partitions: u32) -> u32 {
        match self {
            Self::Hash if partitions == 1 => 0,
            Self::Hash => ((u128::from(xxh3_64(key)) * u128::from(partitions)) >> 64) as u32,
            Self::Range => 0,
            Self::Custom(rule) => checked(rule(key, partitions), partitions),
        }
    }
}

#[inline]
fn checked(partition: u32, partitions: u32) -> u32 {
    assert!(partition < partitions, "partition_by returned {partition}, but there are {partitions} reducers");
    partition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashing_is_frozen_across_builds() {
        // Computed with another implementation of XXH3: a change here would send a key to another partition than a worker of another build.
        assert_eq!(Partitioner::Hash.of(b"the", 1000), 793);
        assert_eq!(Partitioner::Hash.of(b"", 1000), 175);
    }

    #[test]
    fn hashing_spreads_keys_evenly() {
        let mut counts = [0u32; 7];
        for i in 0..70_000u32 {
            counts[Partitioner::Hash.of(&i.to_be_bytes(), 7) as usize] += 1;
        }
        // 10,000 each; four standard deviations are 370.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 400), "{counts:?}");
    }

    #[test]
    #[should_panic(expected = "partition_by returned 3, but there are 3 reducers")]
    fn a_rule_out_of_range_is_the_authors_bug() {
        Partitioner::Custom(Arc::new(|_, n| n)).of(b"k", 3);
    }
}
