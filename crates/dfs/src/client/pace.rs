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
    /// Nothing but the way from the writer is slow: it may be the writer's own.
    pub(crate) by_the_way_in: bool,
}

/// What the packets of one pipeline have cost.
#[derive(Debug)]
pub(crate) struct PipelinePace {
    /// Of each worker, in the order of the pipeline.
    costs: Vec<Cost>,
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    worker: WorkerId,
    storing: Duration,
    /// Who sends a packet has all of it, so this is the way to the worker.
    receiving: Duration,
}

impl Cost {
    fn total(&self) -> Duration {
        self.storing.saturating_add(self.receiving)
    }

    fn is_the_way(&self) -> bool {
        self.receiving >= self.storing
    }
}

impl PipelinePace {
    /// Nothing was sent yet to `workers`, which are in the order of the pipeline.
    pub(crate) fn new(workers: impl Iterator<Item = WorkerId>) -> PipelinePace {
        let none = Duration::ZERO;
        PipelinePace {
            costs: workers.map(|worker| Cost { worker, storing: none, receiving: none }).collect(),
        }
    }

    /// A packet was acknowledged. What does not name each worker in turn says nothing.
    pub(crate) fn acknowledged(&mut self, spent: &[Spent]) {
        if !spent.iter().map(|spent| spent.worker).eq(self.costs.iter().map(|cost| cost.worker.0)) {
            return;
        }
        for (cost, spent) in self.costs.iter_mut().zip(spent) {
            // Sums of what anybody may have said.
            cost.storing = cost.storing.saturating_add(Duration::from_micros(spent.storing_us));
            cost.receiving = cost.receiving.saturating_add(Duration::from_micros(spent.receiving_us));
        }
    }

    /// The worker whose disk, or the way to which, costs far more than those of all others.
    ///
    /// Two ways meet at a worker: to it, and on from it. Where both are slow it is that worker's link. Its own is seen
    /// as the quicker of the two, as packets come in while it sends on the one before.
    pub(crate) fn slow(&self) -> Option<Slow> {
        let mut ranked: Vec<usize> = (0..self.costs.len()).collect();
        ranked.sort_by_key(|at| std::cmp::Reverse(self.costs[*at].total()));
        let [worst, next, ref rest @ ..] = ranked[..] else { return None };
        let (took, others) = (self.costs[worst].total(), self.costs[next].total());
        if took < HELD_UP_MIN {
            return None;
        }
        if is_far_above(took, others) {
            let by_the_way_in = worst == 0 && self.costs[worst].is_the_way();
            return Some(Slow { worker: self.costs[worst].worker, took, others, by_the_way_in });
        }
        let rest = self.costs[*rest.first()?].total();
        let is_one_link =
            worst.abs_diff(next) == 1 && [worst, next].iter().all(|at| self.costs[*at].is_the_way());
        let worker = self.costs[worst.min(next)].worker;
        (is_one_link && is_far_above(others, rest)).then_some(Slow {
            worker,
            took,
            others: rest,
            by_the_way_in: false,
        })
    }
}

fn is_far_above(took: Duration, others: Duration) -> bool {
    took >= others.saturating_mul(SLOW_FACTOR)
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

    /// Three workers, and what a packet costs each: storing and receiving, in milliseconds.
    fn pipeline(costs_ms: [(u64, u64); 3], packets: u32) -> Option<Slow> {
        let mut pace = PipelinePace::new((1..=3).map(WorkerId));
        let spent: Vec<Spent> = (1..)
            .zip(costs_ms)
            .map(|(worker, (storing, receiving))| Spent {
                worker,
                storing_us: storing * 1000,
                receiving_us: receiving * 1000,
            })
            .collect();
        (0..packets).for_each(|_| pace.acknowledged(&spent));
        pace.slow()
    }

    fn culprit(costs_ms: [(u64, u64); 3], packets: u32) -> Option<u64> {
        pipeline(costs_ms, packets).map(|slow| slow.worker.0)
    }

    #[test]
    fn a_slow_disk_is_that_of_the_worker_that_writes() {
        let slow = pipeline([(10, 1), (100, 1), (9, 1)], 30);
        let (took, others) = (3030 * MS, 330 * MS);
        assert_eq!(slow, Some(Slow { worker: WorkerId(2), took, others, by_the_way_in: false }));
        assert_eq!(culprit([(100, 1), (10, 1), (10, 1)], 30), Some(1));
        assert_eq!(culprit([(10, 1), (10, 1), (100, 1)], 30), Some(3));
    }

    #[test]
    fn a_slow_link_is_that_of_the_worker_where_its_ways_meet() {
        // The last has one way only.
        assert_eq!(culprit([(10, 1), (10, 1), (10, 190)], 20), Some(3));
        // To the second and on from it; the first of these partly while it sends.
        let slow = pipeline([(10, 1), (10, 100), (10, 190)], 20);
        let (took, others) = (4000 * MS, 220 * MS);
        assert_eq!(slow, Some(Slow { worker: WorkerId(2), took, others, by_the_way_in: false }));
        // The first, whose way in is not the writer's fault: the one on from it is slow too.
        let slow = pipeline([(10, 100), (10, 190), (10, 1)], 20).expect("one is slow");
        assert_eq!((slow.worker, slow.by_the_way_in), (WorkerId(1), false));
    }

    #[test]
    fn what_may_be_the_writers_own_way_is_told_apart() {
        let slow = pipeline([(10, 190), (10, 1), (10, 1)], 20).expect("one is slow");
        assert_eq!((slow.worker, slow.by_the_way_in), (WorkerId(1), true));
        let slow = pipeline([(190, 1), (10, 1), (10, 1)], 20).expect("one is slow");
        assert_eq!((slow.worker, slow.by_the_way_in), (WorkerId(1), false), "a disk is nobody else's");
    }

    #[test]
    fn nobody_is_slow_where_all_are_and_nobody_soon() {
        assert_eq!(pipeline([(300, 1), (280, 20), (290, 0)], 100), None, "a busy machine");
        assert_eq!(pipeline([(10, 300), (10, 280), (10, 300)], 100), None, "a busy network");
        assert_eq!(pipeline([(10, 0), (100, 0), (10, 0)], 19), None, "1.9 s are not worth a pipeline");
        assert_eq!(pipeline([(30, 70), (100, 0), (30, 0)], 100), None, "three times is no fault");
        assert_eq!(pipeline([(10, 190), (10, 1), (10, 190)], 100), None, "two that have nothing in common");
        assert_eq!(pipeline([(190, 10), (10, 190), (10, 1)], 100), None, "a disk and a link");
    }

    #[test]
    fn words_that_make_no_sense_say_nothing() {
        let mut pace = PipelinePace::new((1..=2).map(WorkerId));
        let age = |worker| Spent { worker, storing_us: u64::MAX, receiving_us: 0 };
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
