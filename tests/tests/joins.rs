//! Joins against the plainest reference: a loop in a loop.

use gristmill::{Emit, Keyed, Plan, Report, testing};
use gristmill_tests::Dice;
use proptest::prelude::*;
use std::collections::BTreeSet;

type Left = Vec<(String, u64)>;
type Right = Vec<(String, String)>;
/// Key, left value, right value.
type Joined = Vec<(String, (u64, Option<String>))>;

fn sides(plan: &mut Plan, left: &Left, right: &Right) -> (Keyed<String, u64>, Keyed<String, String>) {
    let left = plan.read(testing::records::<(String, u64)>(left.clone()));
    let right = plan.read(testing::records::<(String, String)>(right.clone()));
    (
        left.map(|(key, value), out: &mut Emit<String, u64>| out.emit(key, value)),
        right.map(|(key, value), out: &mut Emit<String, String>| out.emit(key, value)),
    )
}

fn join(left: &Left, right: &Right) -> Joined {
    let (pairs, _) = testing::run_plan_of(|plan| {
        let (left, right) = sides(plan, left, right);
        left.join(right, |key, left, right, out: &mut Emit<String, (u64, Option<String>)>| {
            out.emit(key, (left, Some(right)));
        })
    });
    sorted(pairs)
}

fn left_join(left: &Left, right: &Right) -> Joined {
    let (pairs, _) = testing::run_plan_of(|plan| {
        let (left, right) = sides(plan, left, right);
        left.left_join(right, |key, left, right, out: &mut Emit<String, (u64, Option<String>)>| {
            out.emit(key, (left, right));
        })
    });
    sorted(pairs)
}

/// Key, and both sides' values in order.
type Cogrouped = Vec<(String, (Vec<u64>, Vec<String>))>;

fn cogroup(left: &Left, right: &Right) -> Cogrouped {
    let (pairs, _) = testing::run_plan_of(|plan| {
        let (left, right) = sides(plan, left, right);
        left.cogroup(right, |key, left, right, out: &mut Emit<String, (Vec<u64>, Vec<String>)>| {
            // The right side first: both can be read in any order.
            let right: Vec<String> = right.into_iter().collect();
            out.emit(key, (left.into_iter().collect(), right.iter().map(String::as_str).collect()));
        })
    });
    sorted(pairs)
}

fn sorted<T: Ord>(mut things: Vec<T>) -> Vec<T> {
    things.sort();
    things
}

/// A loop in a loop; keys of the left side alone come with `None`, if they are `kept`.
fn nested_loops(left: &Left, right: &Right, kept: bool) -> Joined {
    let mut joined = Vec::new();
    for (key, value) in left {
        let before = joined.len();
        for (_, other) in right.iter().filter(|(other, _)| other == key) {
            joined.push((key.clone(), (*value, Some(other.clone()))));
        }
        if kept && joined.len() == before {
            joined.push((key.clone(), (*value, None)));
        }
    }
    sorted(joined)
}

fn both_sides(left: &Left, right: &Right) -> Cogrouped {
    let keys: BTreeSet<&String> =
        left.iter().map(|(key, _)| key).chain(right.iter().map(|(key, _)| key)).collect();
    let group = |key: &String| {
        let lefts = left.iter().filter(|(other, _)| other == key).map(|(_, value)| *value);
        let rights = right.iter().filter(|(other, _)| other == key).map(|(_, value)| value.clone());
        (key.clone(), (sorted(lefts.collect()), sorted(rights.collect())))
    };
    keys.into_iter().map(group).collect()
}

/// Few keys, so that they meet; some with NULs, some that begin like others, one empty.
fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]?", "a\0?b?", "\0{0,3}", "[a-z]{1,2}\0\u{1}?", "ü?"].prop_map(|key: String| key)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn joins_are_what_a_loop_in_a_loop_says(
        left in prop::collection::vec((key(), 0..9u64), 0..40),
        right in prop::collection::vec((key(), "[xy\0]{0,2}"), 0..40),
    ) {
        prop_assert_eq!(join(&left, &right), nested_loops(&left, &right, false));
        prop_assert_eq!(left_join(&left, &right), nested_loops(&left, &right, true));
        prop_assert_eq!(cogroup(&left, &right), both_sides(&left, &right));
    }
}

#[test]
fn keys_of_one_side_alone() {
    let left = vec![("both".into(), 1), ("left".into(), 2)];
    let right = vec![("both".into(), "x".into()), ("right".into(), "y".into())];
    assert_eq!(join(&left, &right), [("both".into(), (1, Some("x".into())))]);
    assert_eq!(
        left_join(&left, &right),
        [("both".into(), (1, Some("x".into()))), ("left".into(), (2, None))]
    );
    let expected = [("both", vec![1], vec!["x"]), ("left", vec![2], vec![]), ("right", vec![], vec!["y"])];
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
    assert_eq!(cogroup(&left, &right), expected.map(|(key, a, b)| (key.to_owned(), (a, owned(b)))));
}

/// Left value, and the sum and bytes of all right values that it met.
type Totals = Vec<(u64, (u64, u64))>;

/// 2,000 numbers and 2,000 values of 200 bytes under so many keys, joined; each number comes with the sum of the numbers
/// of the values that it met, and their bytes.
fn join_under(keys: u64) -> (Totals, Report) {
    let mut dice = Dice::new(3);
    let mut noise = || (0..12).map(|_| format!("{:016x}", dice.roll())).collect::<String>();
    let right: Right = (0..2_000).map(|n| (format!("k{}", n % keys), format!("{n:08}{}", noise()))).collect();
    let left: Left = (0..2_000).map(|n| (format!("k{}", n % keys), n)).collect();
    testing::run_plan_of(|plan| {
        let met = plan.counter("met");
        let (left, right) = sides(plan, &left, &right);
        left.join(right, move |_, left, right, out: &mut Emit<u64, (u64, u64)>| {
            out.count(met, 1);
            out.emit(left, (right[..8].parse().expect("digits"), right.len() as u64));
        })
        .combine(|(sum, bytes), (number, more)| (*sum, *bytes) = (*sum + number, *bytes + more))
        .reduce(|left, sums, out: &mut Emit<u64, (u64, u64)>| {
            let add = |(sum, bytes), (number, more)| (sum + number, bytes + more);
            out.emit(left, sums.into_iter().fold((0, 0), add));
        })
    })
}

#[test]
fn a_hot_key_with_thousands_on_both_sides_spills_and_joins() {
    let (found, hot) = join_under(1);
    assert_eq!(hot.counter("met"), 2_000 * 2_000);
    let all = ((0..2_000).sum::<u64>(), 2_000 * 200);
    assert!(found == (0..2_000).map(|left| (left, all)).collect::<Vec<_>>());
    // The kept side has 400 kB and an eighth of a task's half MiB to stay in. That it went to the disk shows in what the
    // same records spill if no key has more than one value: they do not compress to less than half.
    let (found, cold) = join_under(2_000);
    assert!(found == (0..2_000).map(|left| (left, (left, 200))).collect::<Vec<_>>());
    let (hot, cold) = (hot.spilled_bytes, cold.spilled_bytes);
    assert!(hot > cold + 100_000, "{hot} bytes spilled with one key, {cold} with many");
}

#[test]
fn both_sides_of_a_hot_key_can_be_left_unread() {
    // Whoever does not read all values must find the next key all the same.
    let left: Left = (0..2_000).map(|n| (format!("k{}", n % 3), n)).collect();
    let right: Right = (0..2_000).map(|n| (format!("k{}", n % 4), n.to_string())).collect();
    let (found, _) = testing::run_plan_of(|plan| {
        let (left, right) = sides(plan, &left, &right);
        left.cogroup(right, |key, mut left, _, out: &mut Emit<String, u64>| {
            let first = left.next().unwrap_or(u64::MAX);
            out.emit(key, first);
        })
    });
    let expected = [("k0", 0), ("k1", 1), ("k2", 2), ("k3", u64::MAX)];
    assert_eq!(found, expected.map(|(key, first)| (key.to_owned(), first)));
}

#[test]
fn a_joined_result_is_joined_again() {
    // Four shuffles: two joins, a count, and a count of counts.
    let numbers: Left = (0..600).map(|n| (format!("k{}", n % 30), n)).collect();
    let names: Right = (0..30).map(|n| (format!("k{n}"), format!("name{}", n % 5))).collect();
    let (found, _) = testing::run_plan_of(|plan| {
        let (numbers, names_of_keys) = sides(plan, &numbers, &names);
        let (_, more_names) = sides(plan, &Left::new(), &names);
        let named = numbers.join(names_of_keys, |key, n, name, out: &mut Emit<String, (u64, String)>| {
            out.emit(key, (n, name));
        });
        named
            .join(more_names, |_, (_, name), again, out: &mut Emit<String, u64>| {
                out.emit(&format!("{name}{again}"), 1)
            })
            .combine(|sum, n| *sum += n)
            .reduce(|name, counts, out: &mut Emit<u64, String>| out.emit(counts.sum(), name))
            .reduce(|count, names, out: &mut Emit<u64, u64>| out.emit(count, names.count()))
    });
    // 30 keys have 20 numbers each; 6 keys share each of 5 names: 120 numbers for each of 5 names.
    assert_eq!(found, [(120, 5)]);
}
