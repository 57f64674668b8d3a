//! Growing pauses between tries, each process's a little different, so that not all come at once when a master starts.

use std::time::Duration;

use gristmill_proto::ids::Incarnation;

/// The pauses of one process.
#[derive(Debug)]
pub struct Pause {
    first: Duration,
    longest: Duration,
    pause: Duration,
    /// Never 0.
    random: u64,
}

impl Pause {
    /// The first pause and the longest; apart from those of other incarnations.
    pub fn new((first, longest): (Duration, Duration), incarnation: Incarnation) -> Pause {
        let (seed, _rest) = incarnation.0.split_at(8);
        let random = seed.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)) | 1;
        Pause { first, longest, pause: first, random }
    }

    /// The next pause is the first again: a try went well.
    pub fn start_over(&mut self) {
        self.pause = self.first;
    }

    /// How long to wait now: between half of the pause and all of it. The next one is twice as long.
    pub fn next_wait(&mut self) -> Duration {
        // Xorshift: enough to be apart.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = self.pause / 2;
        let pause = half + half.mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64);
        self.pause = (self.pause * 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_each_workers_own() {
        let bounds = (Duration::from_millis(100), Duration::from_secs(1));
        let mut pause = Pause::new(bounds, Incarnation([7; 16]));
        let mut other = Pause::new(bounds, Incarnation([8; 16]));
        let mut differ = 0;
        for longest_ms in [100, 200, 400, 800, 1000, 1000] {
            let (ours, others) = (pause.next_wait(), other.next_wait());
            assert!(ours * 2 >= Duration::from_millis(longest_ms), "{ours:?}");
            assert!(ours <= Duration::from_millis(longest_ms), "{ours:?}");
            differ += usize::from(ours != others);
        }
        assert!(differ > 3, "{differ}");
        pause.start_over();
        assert!(pause.next_wait() <= Duration::from_millis(100));
    }
}
