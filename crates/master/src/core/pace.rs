//! How fast the tasks of a stage are done: what a running attempt is compared with.

/// Up to here every time has a bucket of its own; beyond, eight buckets share each power of two.
const EXACT_MS: u64 = 16;
/// A task that took longer counts as one of 34 years: then sums of a million do not overflow.
const TOOK_MS_MAX: u64 = 1 << 40;

/// What an attempt has done, or has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effort {
    /// Without the time in which it waited for map outputs.
    pub(super) took_ms: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// From when on an attempt is slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slowness {
    /// It takes so many hundredths of what others take, by the clock and for what it has read.
    pub(super) percent: u64,
    /// And so much longer, or it is not worth the trouble.
    pub(super) behind_ms: u64,
}

/// Sums over the winners of a stage, and how long they took: a histogram, so that the median costs nothing.
#[derive(Debug, Default)]
pub(super) struct Pace {
    buckets: Vec<u32>,
    tasks: u32,
    all: Effort,
}

impl Pace {
    pub(super) fn add(&mut self, effort: Effort) {
        let took_ms = effort.took_ms.min(TOOK_MS_MAX);
        let bucket = bucket(took_ms);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.tasks += 1;
        self.all.took_ms += took_ms;
        self.all.records = self.all.records.saturating_add(effort.records);
        self.all.bytes = self.all.bytes.saturating_add(effort.bytes);
    }

    /// Takes out what was added.
    pub(super) fn remove(&mut self, effort: Effort) {
        let took_ms = effort.took_ms.min(TOOK_MS_MAX);
        self.buckets[bucket(took_ms)] -= 1;
        self.tasks -= 1;
        self.all.took_ms -= took_ms;
        self.all.records = self.all.records.saturating_sub(effort.records);
        self.all.bytes = self.all.bytes.saturating_sub(effort.bytes);
    }

    /// At least the time that half of the tasks took at most, and at most an eighth more.
    fn median_ms(&self) -> Option<u64> {
        let mut left = self.tasks.div_ceil(2);
        for (bucket, tasks) in self.buckets.iter().enumerate().filter(|(_, tasks)| **tasks > 0) {
            left = left.saturating_sub(*tasks);
            if left == 0 {
                return Some(longest_ms(bucket));
            }
        }
        None
    }

    /// Whether an attempt that has done so much is slow. One that has more to do than others, and does it as fast, is
    /// not: a twin would take as long.
    pub(super) fn is_slow(&self, effort: Effort, slowness: Slowness) -> bool {
        let Some(median_ms) = self.median_ms() else { return false };
        let factor = u128::from(slowness.percent);
        u128::from(effort.took_ms) * 100 >= u128::from(median_ms) * factor
            && effort.took_ms >= median_ms.saturating_add(slowness.behind_ms)
            && self.reads_slowly(effort, factor)
    }

    fn reads_slowly(&self, effort: Effort, factor: u128) -> bool {
        let (own, all) = match self.all.bytes {
            0 => (effort.records, self.all.records),
            bytes => (effort.bytes, bytes),
        };
        // own / own time < all / all time / factor, without dividing.
        let own = u128::from(own) * u128::from(self.all.took_ms) * factor;
        all == 0 || own <= u128::from(all) * u128::from(effort.took_ms) * 100
    }
}

fn bucket(took_ms: u64) -> usize {
    if took_ms < EXACT_MS {
        return took_ms as usize;
    }
    let power = took_ms.ilog2();
    let eighth = (took_ms >> (power - 3)) as usize - 8;
    EXACT_MS as usize + (power as usize - 4) * 8 + eighth
}

/// The longest time in a bucket.
fn longest_ms(bucket: usize) -> u64 {
    let Some(beyond) = bucket.checked_sub(EXACT_MS as usize) else { return bucket as u64 };
    let (power, eighth) = (beyond / 8 + 4, (beyond % 8) as u64);
    ((9 + eighth) << (power - 3)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOWNESS: Slowness = Slowness { percent: 150, behind_ms: 5_000 };

    fn effort(took_ms: u64, bytes: u64) -> Effort {
        Effort { took_ms, records: 0, bytes }
    }

    #[test]
    fn every_time_is_in_the_bucket_that_ends_at_or_just_after_it() {
        for power in 0..40 {
            for took_ms in [(1u64 << power) - 1, 1 << power, (1 << power) + 1, (3 << power) / 2] {
                let end_ms = longest_ms(bucket(took_ms));
                assert!(took_ms <= end_ms && end_ms <= took_ms + took_ms / 8, "{took_ms} in {end_ms}");
                assert_eq!(bucket(end_ms) + 1, bucket(end_ms + 1), "buckets leave no gap at {end_ms}");
            }
        }
    }

    #[test]
    fn the_median_follows_what_comes_and_goes() {
        let mut pace = Pace::default();
        assert_eq!(pace.median_ms(), None);
        for took_ms in [3, 5, 1_000_000] {
            pace.add(effort(took_ms, 1));
        }
        assert_eq!(pace.median_ms(), Some(5));
        pace.remove(effort(5, 1));
        pace.remove(effort(1_000_000, 1));
        assert_eq!(pace.median_ms(), Some(3));
        pace.remove(effort(3, 1));
        assert_eq!(pace.median_ms(), None);
    }

    #[test]
    fn slow_is_who_takes_longer_for_no_more() {
        let mut pace = Pace::default();
        assert!(!pace.is_slow(effort(1 << 50, 0), SLOWNESS), "nobody is done: nobody is slow");
        (0..9).for_each(|_| pace.add(effort(10_000, 1_000)));
        assert!(!pace.is_slow(effort(14_000, 100), SLOWNESS), "not yet");
        assert!(pace.is_slow(effort(16_000, 100), SLOWNESS));
        assert!(!pace.is_slow(effort(16_000, 1_600), SLOWNESS), "it only has more to read");
        let mut pace = Pace::default();
        pace.add(effort(1_000, 1_000));
        assert!(!pace.is_slow(effort(5_900, 1), SLOWNESS), "a twin would not gain much");
        assert!(pace.is_slow(effort(6_100, 1), SLOWNESS));
    }
}
