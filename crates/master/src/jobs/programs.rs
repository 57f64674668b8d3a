//! Which programs in dfs:// are of no more use: pure.

use std::collections::HashMap;
use std::time::Duration;

/// A program that no job uses for less than this is kept, however many there are: its driver may be about to submit.
const FRESH: Duration = Duration::from_secs(10 * 60);

/// From when a driver has stored a program until it has submitted its job, however slow the machine; nobody's program goes
/// meanwhile.
const SUBMIT_TIME: Duration = Duration::from_secs(5);

/// How long, and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgramLimits {
    /// A program that no job uses for so long goes.
    pub(crate) keep: Duration,
    /// With more programs than this, those that are not used go, the longest unused first.
    pub(crate) count_max: usize,
    /// The same for the bytes of all of them.
    pub(crate) bytes_max: u64,
}

/// A program in dfs://.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredProgram {
    pub(super) path: String,
    pub(super) bytes: u64,
    /// Since 1970, as the next.
    pub(super) stored_ms: u64,
}

/// Who uses a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A job that has not ended.
    Now,
    /// The last job that is known has ended then.
    Until(u64),
}

impl Use {
    /// The later of two.
    pub(super) fn or(self, other: Use) -> Use {
        match (self, other) {
            (Use::Until(one_ms), Use::Until(other_ms)) => Use::Until(one_ms.max(other_ms)),
            _ => Use::Now,
        }
    }
}

/// The programs that are to go. Of a program that no known job has used it counts since when it is there.
pub(super) fn surplus(
    programs: Vec<StoredProgram>,
    uses: &HashMap<String, Use>,
    now_ms: u64,
    limits: &ProgramLimits,
) -> Vec<StoredProgram> {
    let (mut count, mut bytes) = (programs.len(), programs.iter().map(|program| program.bytes).sum::<u64>());
    let submit_ms = SUBMIT_TIME.as_millis() as u64;
    let idle_since = |program: StoredProgram| match uses.get(&program.path) {
        Some(Use::Now) => None,
        _ if now_ms < program.stored_ms.saturating_add(submit_ms) => None,
        Some(Use::Until(ended_ms)) => Some((program.stored_ms.max(*ended_ms), program)),
        None => Some((program.stored_ms, program)),
    };
    let mut idle: Vec<(u64, StoredProgram)> = programs.into_iter().filter_map(idle_since).collect();
    idle.sort_by_key(|(since_ms, _)| *since_ms);
    let fresh = FRESH.min(limits.keep);
    let mut gone = Vec::new();
    for (since_ms, program) in idle {
        let idle = Duration::from_millis(now_ms.saturating_sub(since_ms));
        let is_too_much = count > limits.count_max || bytes > limits.bytes_max;
        if idle >= limits.keep || (is_too_much && idle >= fresh) {
            count -= 1;
            bytes -= program.bytes;
            gone.push(program);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const NOW_MS: u64 = 1_000 * HOUR_MS;

    fn limits() -> ProgramLimits {
        ProgramLimits { keep: Duration::from_secs(24 * 3600), count_max: 10, bytes_max: 1000 }
    }

    /// A program of 10 bytes that is there since so many hours.
    fn stored(name: &str, hours: u64) -> StoredProgram {
        StoredProgram { path: name.to_owned(), bytes: 10, stored_ms: NOW_MS - hours * HOUR_MS }
    }

    fn gone(programs: Vec<StoredProgram>, uses: &[(&str, Use)], limits: &ProgramLimits) -> Vec<String> {
        let uses = uses.iter().map(|(path, used)| ((*path).to_owned(), *used)).collect();
        surplus(programs, &uses, NOW_MS, limits).into_iter().map(|program| program.path).collect()
    }

    #[test]
    fn what_nobody_uses_for_a_day_goes() {
        let programs =
            vec![stored("old", 25), stored("young", 23), stored("running", 99), stored("ended", 99)];
        let uses = [("running", Use::Now), ("ended", Use::Until(NOW_MS - HOUR_MS))];
        assert_eq!(gone(programs, &uses, &limits()), ["old"]);
    }

    #[test]
    fn of_too_many_the_longest_unused_go_and_none_that_is_used_or_fresh() {
        let programs =
            || vec![stored("a", 3), stored("running", 9), stored("b", 5), stored("c", 2), stored("new", 0)];
        let uses = [("running", Use::Now), ("b", Use::Until(NOW_MS - HOUR_MS))];
        let few = |count_max| ProgramLimits { count_max, ..limits() };
        assert_eq!(gone(programs(), &uses, &few(3)), ["a", "c"]);
        assert_eq!(gone(programs(), &uses, &few(0)), ["a", "c", "b"]);
        let small = ProgramLimits { bytes_max: 45, ..limits() };
        assert_eq!(gone(programs(), &uses, &small), ["a"]);
        assert_eq!(gone(programs(), &uses, &limits()), [""; 0]);
    }

    #[test]
    fn what_was_stored_just_now_stays_for_its_driver_even_if_nothing_is_kept() {
        let stored =
            |name: &str, before_ms| StoredProgram { stored_ms: NOW_MS - before_ms, ..stored(name, 0) };
        let programs = vec![stored("new", 0), stored("again", 4_999), stored("old", 5_000)];
        let uses = [("again", Use::Until(NOW_MS - HOUR_MS))];
        let none = ProgramLimits { keep: Duration::ZERO, ..limits() };
        assert_eq!(gone(programs, &uses, &none), ["old"]);
    }

    #[test]
    fn a_program_is_used_as_long_as_one_job_uses_it() {
        assert_eq!(Use::Until(3).or(Use::Until(7)), Use::Until(7));
        assert_eq!(Use::Until(3).or(Use::Now), Use::Now);
    }
}
