//! Who holds up the others: what each worker of a pipeline spends on its packets, and how fast a replica gives its bytes.
//! Pure: times come in.

use std::time::Duration;

use gristmill_proto::ids::WorkerId;
use gristmill_proto::messages::Spent;

/// A worker that has cost less is not worth a new pipeline.
const HELD_UP_MIN: Duration = Duration::from_secs(2);
/// A worker is slow when it costs so many times what the slowest of the others does. Where all are slow nobody is: the
/// machine is busy, or the writer asks for much.
const SLOW_FACTOR: u32 = 5;
/// For how long a replica is waited for before it is judged.
const READ_WINDOW: Duration = Duration::from_secs(2);
/// A replica that gives less is worth a look at another one: a tenth of what an old disk or a network of 1 Gbit/s gives.
const SLOW_BYTES_PER_S: u64 = 8 << 20;

/// A worker that holds up a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slow {
    pub(crate) worker: WorkerId,
    /// What all packets of the pipeline have cost it, with the way to it.
    pub(crate) took: Duration,
    /// And the slowest of the others.
    pub(crate) others: Duration,
}

/// What the packets of one pipeline have cost.
#[derive(Debug)]
pub(crate) struct PipelinePace {
    workers: Vec<WorkerId>,
    /// Of each worker, in the order of the pipeline.
    costs: Vec<Cost>,
    /// Until the first worker, or the system on its way there, had taken the packets.
    sending: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    storing: Duration,
    sending: Duration,
}

impl PipelinePace {
    /// Nothing was sent yet to `workers`, which are in the order of the pipeline.
    pub(crate) fn new(workers: Vec<WorkerId>) -> PipelinePace {
        let costs = vec![Cost::default(); workers.len()];
        PipelinePace { workers, costs, sending: Duration::ZERO }
    }

    /// A packet was sent to the first worker.
    pub(crate) fn sent(&mut self, took: Duration) {
        self.sending += took;
    }

    /// A packet was acknowledged. What does not name each worker in turn says nothing.
    pub(crate) fn acknowledged(&mut self, spent: &[Spent]) {
        if !spent.iter().map(|spent| WorkerId(spent.worker)).eq(self.workers.iter().copied()) {
            return;
        }
        for (cost, spent) in self.costs.iter_mut().zip(spent) {
            // Sums of what anybody may have said.
            cost.storing = cost.storing.saturating_add(Duration::from_micros(spent.storing_us));
            cost.sending = cost.sending.saturating_add(Duration::from_micros(spent.sending_us));
        }
    }

    /// The worker whose disk, or the way to which, costs far more than those of all others.
    ///
    /// Who is slow holds up all before it: they cannot send. So what a worker's predecessor waits for is its own doing
    /// only as far as it neither writes nor waits itself meanwhile.
    pub(crate) fn slow(&self) -> Option<Slow> {
        let before = std::iter::once(self.sending).chain(self.costs.iter().map(|cost| cost.sending));
        let taken = before.zip(&self.costs).map(|(sending, own)| {
            let busy = own.storing.saturating_add(own.sending);
            own.storing.saturating_add(sending.saturating_sub(busy))
        });
        let mut ranked: Vec<(Duration, WorkerId)> = taken.zip(self.workers.iter().copied()).collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        let [(took, worker), (others, _), ..] = ranked[..] else { return None };
        let is_slow = took >= HELD_UP_MIN && took >= others.saturating_mul(SLOW_FACTOR);
        is_slow.then_some(Slow { worker, took, others })
    }
}

/// How fast a replica gives its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadPace {
    bytes: u64,
    waited: Duration,
}

impl ReadPace {
    /// `bytes` came after `waited`. Whether another replica should be tried, if there is one.
    pub(crate) fn is_slow(&mut self, bytes: u64, waited: Duration) -> bool {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < READ_WINDOW {
            return false;
        }
        let judged = std::mem::take(self);
        u128::from(judged.bytes) * 1000 < u128::from(SLOW_BYTES_PER_S) * judged.waited.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Three workers, and what a packet costs each: storing and sending, in milliseconds.
    fn pipeline(sending_ms: u32, costs_ms: [(u64, u64); 3], packets: u32) -> Option<Slow> {
        let mut pace = PipelinePace::new(vec![WorkerId(1), WorkerId(2), WorkerId(3)]);
        let spent: Vec<Spent> = (1..)
            .zip(costs_ms)
            .map(|(worker, (storing, sending))| Spent {
                worker,
                storing_us: storing * 1000,
                sending_us: sending * 1000,
            })
            .collect();
        for _ in 0..packets {
            pace.sent(sending_ms * MS);
            pace.acknowledged(&spent);
        }
        pace.slow()
    }

    #[test]
    fn a_slow_disk_is_told_from_those_that_wait_for_it() {
        // The second writes for 100 ms; the first, and the writer, cannot send meanwhile.
        let slow = pipeline(100, [(10, 90), (100, 1), (9, 0)], 30);
        assert_eq!(slow, Some(Slow { worker: WorkerId(2), took: 3000 * MS, others: 300 * MS }));
        // The last one's disk: both before it wait.
        assert_eq!(
            pipeline(100, [(10, 90), (10, 90), (100, 0)], 30).map(|slow| slow.worker),
            Some(WorkerId(3))
        );
    }

    #[test]
    fn a_slow_way_is_that_of_the_worker_at_its_end() {
        // The third has nothing to do and the second cannot get rid of packets.
        let slow = pipeline(200, [(10, 190), (10, 190), (10, 0)], 20);
        assert_eq!(slow.map(|slow| slow.worker), Some(WorkerId(3)));
        assert_eq!(pipeline(200, [(10, 1), (10, 1), (10, 0)], 20).map(|slow| slow.worker), Some(WorkerId(1)));
    }

    #[test]
    fn nobody_is_slow_where_all_are_and_nobody_soon() {
        assert_eq!(pipeline(300, [(300, 1), (280, 20), (290, 0)], 100), None, "a busy machine");
        assert_eq!(pipeline(1, [(10, 90), (100, 0), (10, 0)], 19), None, "1.9 s are not worth a pipeline");
        assert_eq!(pipeline(1, [(30, 70), (100, 0), (30, 0)], 100), None, "three times is no fault");
    }

    #[test]
    fn words_that_make_no_sense_say_nothing() {
        let mut pace = PipelinePace::new(vec![WorkerId(1), WorkerId(2)]);
        let age = |worker| Spent { worker, storing_us: u64::MAX, sending_us: 0 };
        for nonsense in [vec![], vec![age(2)], vec![age(2), age(1)], vec![age(1), age(2), age(3)]] {
            pace.acknowledged(&nonsense);
            assert_eq!(pace.slow(), None);
        }
        // It may say what it likes of itself: sums end at the largest number.
        (0..3).for_each(|_| pace.acknowledged(&[age(1), Spent { worker: 2, ..Spent::default() }]));
        assert_eq!(pace.slow().map(|slow| slow.worker), Some(WorkerId(1)));
    }

    #[test]
    fn a_replica_is_judged_by_what_it_gives_while_it_is_waited_for() {
        let mut pace = ReadPace::default();
        // 1 MiB in 300 ms: 3.3 MiB/s, told after two seconds.
        let slow: Vec<bool> = (0..8).map(|_| pace.is_slow(1 << 20, 300 * MS)).collect();
        assert_eq!(slow, [false, false, false, false, false, false, true, false]);
        // A reader that takes its time has waited for little.
        let mut pace = ReadPace::default();
        assert!(!(0..1000).any(|_| pace.is_slow(1 << 20, 10 * MS)));
    }
}
