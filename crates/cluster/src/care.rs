//! What a cluster needs that is to be as its record says: a pure decision.

use std::collections::HashMap;
use std::time::Duration;

use crate::provider::Condition;

/// Between two tries to start a member again: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A member that has run for so long is well: its next end is a first one.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The cluster is over: nothing of it is to be left.
    Remove,
    /// A member that has ended is to go on.
    Revive(String),
}

/// What is remembered of members that ended.
#[derive(Debug, Default)]
pub(crate) struct Care {
    troubles: HashMap<String, Trouble>,
}

#[derive(Debug)]
struct Trouble {
    tries: u32,
    last_try_ms: u64,
}

impl Care {
    /// What is to be done at a time. `is_over`: the master has ended, and has left word that it was the cluster's end.
    pub(crate) fn decide(
        &mut self,
        members: &[(String, Condition)],
        is_over: bool,
        now_ms: u64,
    ) -> Vec<Order> {
        if is_over {
            return vec![Order::Remove];
        }
        let mut orders = Vec::new();
        for (role, condition) in members {
            let is_well = match (condition, self.troubles.get(role)) {
                (Condition::Running, Some(trouble)) => {
                    now_ms.saturating_sub(trouble.last_try_ms) >= millis(WELL_AFTER)
                }
                _ => false,
            };
            if is_well {
                self.troubles.remove(role);
            }
            if *condition != Condition::Running && self.is_time(role, now_ms) {
                orders.push(Order::Revive(role.clone()));
            }
        }
        self.troubles.retain(|role, _| members.iter().any(|(member, _)| member == role));
        orders
    }

    /// Whether to try now; if so, it is noted.
    fn is_time(&mut self, role: &str, now_ms: u64) -> bool {
        let Some(trouble) = self.troubles.get_mut(role) else {
            self.troubles.insert(role.to_owned(), Trouble { tries: 1, last_try_ms: now_ms });
            return true;
        };
        let doublings = (trouble.tries - 1).min(16);
        let pause = millis(BACK_OFF.0).saturating_mul(1 << doublings).min(millis(BACK_OFF.1));
        if now_ms.saturating_sub(trouble.last_try_ms) < pause {
            return false;
        }
        *trouble = Trouble { tries: trouble.tries.saturating_add(1), last_try_ms: now_ms };
        true
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::End;

    fn members(core: Condition) -> Vec<(String, Condition)> {
        vec![("master".to_owned(), Condition::Running), ("core-1".to_owned(), core)]
    }

    #[test]
    fn who_has_ended_goes_on_at_once_and_then_less_and_less_often() {
        let mut care = Care::default();
        let ended = members(Condition::Ended(End::Gone, None));
        assert_eq!(care.decide(&members(Condition::Running), false, 0), []);
        let mut tries = Vec::new();
        for now_ms in (0..120_000).step_by(100) {
            if care.decide(&ended, false, now_ms) == [Order::Revive("core-1".to_owned())] {
                tries.push(now_ms / 1000);
            }
        }
        assert_eq!(tries, [0, 1, 3, 7, 15, 31, 61, 91]);
        // It runs, but not for long; then for long.
        assert_eq!(care.decide(&members(Condition::Running), false, 130_000), []);
        assert_eq!(care.decide(&ended, false, 130_001), [Order::Revive("core-1".to_owned())]);
        assert_eq!(care.decide(&members(Condition::Running), false, 190_001), []);
        assert_eq!(care.decide(&ended, false, 190_002), [Order::Revive("core-1".to_owned())]);
        assert_eq!(care.decide(&ended, false, 191_002), [Order::Revive("core-1".to_owned())]);
    }

    #[test]
    fn a_cluster_that_is_over_is_not_revived() {
        let ended = members(Condition::Ended(End::Gone, None));
        assert_eq!(Care::default().decide(&ended, true, 0), [Order::Remove]);
    }
}
