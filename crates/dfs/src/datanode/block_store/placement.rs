//! On which volume a new replica goes.

/// Of so many replicas one goes to any volume with room, so that an empty new disk does not get them all.
const ANYWHERE_EVERY: u64 = 4;

/// Chooses among volumes by the bytes they have left, None for those that are out. `turn` rises with each replica.
///
/// In turn those with at least half as much room as the roomiest (Hadoop: `AvailableSpaceVolumeChoosingPolicy`), and
/// each fourth time any.
pub(super) fn choose(remaining: &[Option<u64>], needed: u64, turn: u64) -> Option<usize> {
    let most = remaining.iter().flatten().max()?;
    let least = if turn % ANYWHERE_EVERY == ANYWHERE_EVERY - 1 { 0 } else { most / 2 };
    let fits = |room: &Option<u64>| room.is_some_and(|room| room >= needed.max(least));
    let count = remaining.iter().filter(|room| fits(room)).count() as u64;
    if count == 0 {
        return None;
    }
    // Not the turn itself: fourth turns must not always fall on the same volume.
    let skip = (turn / ANYWHERE_EVERY + turn) % count;
    remaining.iter().enumerate().filter(|(_, room)| fits(room)).nth(skip as usize).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn spread(remaining: &[Option<u64>]) -> Vec<usize> {
        let mut counts = vec![0; remaining.len()];
        for turn in 0..1200 {
            counts[choose(remaining, 1, turn).expect("there is room")] += 1;
        }
        counts
    }

    #[test]
    fn equal_volumes_are_taken_in_turn() {
        for count in spread(&[Some(GIB); 3]) {
            assert!((360..=440).contains(&count), "{count}");
        }
    }

    #[test]
    fn a_new_disk_gets_most_but_not_all() {
        let counts = spread(&[Some(GIB), Some(10 * GIB)]);
        assert!((100..=200).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 1200);
    }

    #[test]
    fn full_and_failed_ones_are_out() {
        let remaining = [None, Some(10), Some(100)];
        assert!((0..100).all(|turn| choose(&remaining, 50, turn) == Some(2)));
        assert_eq!(choose(&remaining, 101, 0), None);
        assert_eq!(choose(&[None], 0, 0), None);
        assert_eq!(choose(&[], 0, 0), None);
    }
}
