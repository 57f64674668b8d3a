//! What stands between map and reduce: partitions, ranges, orders, combining, chains.

use gristmill::{Dataset, Emit, Keyed, Plan, Rows, TextOutput, run_local, testing};
use gristmill_tests::{Dice, Home, Output};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Writes `pairs` below a home of its own; returns the keys of each part.
fn parts_of(job: impl FnOnce(&mut Plan) -> Keyed<u64, u64>, reducers: u32) -> Vec<Vec<u64>> {
    let home = Home::new();
    let mut options = home.options();
    options.reducers = Some(reducers);
    let done = run_local(&options, |plan| job(plan).write(TextOutput::at(home.uri("out"))));
    done.expect("the job is done");
    let output = Output::read(home.path("out"));
    let keys = |part: Vec<(&[u8], u64)>| {
        let key = |(key, _): (&[u8], u64)| std::str::from_utf8(key).ok()?.parse().ok();
        part.into_iter().map(|pair| key(pair).expect("a number")).collect()
    };
    output.counts().into_iter().map(keys).collect()
}

/// `rows` rows under the keys that `key` gives them, counted.
fn counted(rows: u64, key: fn(u64) -> u64) -> impl Fn(&mut Plan) -> Keyed<u64, u64> {
    move |plan| plan.read(Rows::new(rows)).map(move |row, out: &mut Emit<u64, u64>| out.emit(key(row), 1))
}

fn count(key: u64, values: gristmill::Values<'_, u64>, out: &mut Emit<'_, u64, u64>) {
    out.emit(key, values.sum());
}

#[test]
fn partition_by_decides_where_a_key_goes() {
    let keyed = counted(10_000, |row| row % 1_000);
    let parts =
        parts_of(|plan| keyed(plan).partition_by(|key, partitions| key as u32 % partitions).reduce(count), 7);
    assert_eq!(parts.len(), 7);
    for (partition, keys) in parts.iter().enumerate() {
        let expected: Vec<u64> = (0..1_000).filter(|key| key % 7 == partition as u64).collect();
        assert_eq!(*keys, expected, "partition {partition}");
    }
}

#[test]
fn a_partition_that_does_not_exist_is_a_sentence() {
    let keyed = counted(10, |row| row);
    let failed = testing::try_run(|plan| {
        keyed(plan)
            .reducers(3)
            .partition_by(|key, partitions| if key == 5 { partitions } else { 0 })
            .reduce(count)
    });
    let sentence = failed.expect_err("there is no partition 3 of 3").to_string();
    assert!(sentence.contains("partition_by returned 3, but there are 3 reducers"), "{sentence}");
}

#[test]
fn ranges_are_in_total_order_and_balanced() {
    const KEYS: usize = 100_000;
    let keyed = counted(KEYS as u64, |row| Dice::new(row).roll());
    for reducers in [2, 5, 16] {
        let parts = parts_of(|plan| keyed(plan).range_partition().reduce(count), reducers);
        let all: Vec<u64> = parts.concat();
        assert_eq!(all.len(), KEYS);
        assert!(all.is_sorted_by(|a, b| a < b), "part after part, key after key");
        let (largest, mean) = (parts.iter().map(Vec::len).max().unwrap_or(0), KEYS / reducers as usize);
        assert!(
            2 * largest <= 3 * mean,
            "{reducers} reducers: the largest has {largest}, the mean is {mean}"
        );
    }
}

#[test]
fn a_hot_key_stays_whole_in_its_range() {
    // Half of all records have one key: no cut can go through it.
    let keyed = counted(50_000, |row| if row % 2 == 0 { 1 << 40 } else { Dice::new(row).roll() });
    let parts = parts_of(|plan| keyed(plan).range_partition().reduce(count), 4);
    let all = parts.concat();
    assert!(all.is_sorted_by(|a, b| a < b), "no key twice");
    assert_eq!(all.len(), 25_001);
}

#[test]
fn keys_that_begin_alike_are_cut_in_order() {
    // The index knows 32 bytes of a key: these differ after 40.
    let home = Home::new();
    let done = run_local(&home.options(), |plan| {
        plan.read(Rows::new(20_000))
            .map(|row, out: &mut Emit<String, u64>| {
                out.emit(&format!("{}{:05}", "=".repeat(40), row * 7919 % 20_000), 1);
            })
            .range_partition()
            .reducers(5)
            .reduce(|key, ones, out: &mut Emit<String, u64>| out.emit(key, ones.sum()))
            .write(TextOutput::at(home.uri("out")));
    });
    done.expect("the job is done");
    let output = Output::read(home.path("out"));
    let lines: Vec<String> =
        output.lines().flatten().map(|line| String::from_utf8(line.to_vec()).expect("text")).collect();
    let expected: Vec<String> = (0..20_000).map(|n| format!("{}{n:05}\t1", "=".repeat(40))).collect();
    assert!(lines == expected, "{} lines", lines.len());
}

#[test]
fn values_are_sorted_by_what_the_job_says() {
    let mut dice = Dice::new(4);
    let records: Vec<(u64, i64)> =
        (0..20_000).map(|_| (dice.roll() % 7, dice.roll() as i64 % 1_000)).collect();
    let found = testing::run::<(u64, i64), _, _, _>(records.clone(), |records| {
        let keyed = records.map(|(key, value), out: &mut Emit<u64, i64>| out.emit(key, value));
        // The largest first: not the order of the encoded bytes.
        keyed.sort_values_by(std::cmp::Reverse).reduce(|key, values, out: &mut Emit<u64, Vec<i64>>| {
            out.emit(key, values.into_iter().collect());
        })
    });
    let mut expected = BTreeMap::<u64, Vec<i64>>::new();
    records.iter().for_each(|(key, value)| expected.entry(*key).or_default().push(*value));
    expected.values_mut().for_each(|values| values.sort_by(|a, b| b.cmp(a)));
    assert!(found == expected.into_iter().collect::<Vec<_>>());
}

fn word_pairs(records: Dataset<(String, u64)>) -> Keyed<String, u64> {
    records.map(|(word, n), out: &mut Emit<String, u64>| out.emit(word, n))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn groups_are_what_a_map_says(records in prop::collection::vec(("[a-c\0ü]{0,3}", 0..5u64), 0..60), reducers in 1..5u32) {
        let mut expected = BTreeMap::<String, Vec<u64>>::new();
        records.iter().for_each(|(word, n)| expected.entry(word.clone()).or_default().push(*n));
        expected.values_mut().for_each(|values| values.sort());
        let sums: Vec<(String, u64)> = expected.iter().map(|(word, ns)| (word.clone(), ns.iter().sum())).collect();

        let grouped = testing::run::<(String, u64), _, _, _>(records.clone(), |records| {
            word_pairs(records).reducers(reducers).reduce(|word, ns, out: &mut Emit<String, Vec<u64>>| {
                out.emit(word, ns.into_iter().collect());
            })
        });
        prop_assert_eq!(grouped, expected.into_iter().collect::<Vec<_>>());

        let combined = testing::run::<(String, u64), _, _, _>(records, |records| {
            let pairs = word_pairs(records).combine(|sum, n| *sum += n).reducers(reducers);
            pairs.reduce(|word, ns, out: &mut Emit<String, u64>| out.emit(word, ns.sum()))
        });
        prop_assert_eq!(combined, sums);
    }
}

#[test]
fn four_shuffles_follow_each_other() {
    // Numbers by their number of divisors, found without dividing: each n under each of its multiples; then counted;
    // then how many have as many; then the same by parity; then all.
    let found = testing::run(0..3_000u64, |rows: Dataset<u64>| {
        rows.map(|n, out: &mut Emit<u64, u64>| {
            let n = n + 1;
            (n..=3_000).step_by(n as usize).for_each(|multiple| out.emit(multiple, 1));
        })
        .combine(|sum, n| *sum += n)
        .reduce(|_, divisors, out: &mut Emit<u64, u64>| out.emit(divisors.sum(), 1))
        .combine(|sum, n| *sum += n)
        .reduce(|divisors, numbers, out: &mut Emit<(bool, u64), u64>| {
            out.emit((divisors % 2 == 1, divisors), numbers.sum());
        })
        .map(|((odd, divisors), numbers), out: &mut Emit<bool, (u64, u64)>| {
            out.emit(odd, (divisors, numbers))
        })
        .reduce(|odd, counts, out: &mut Emit<bool, u64>| {
            out.emit(odd, counts.into_iter().map(|(_, numbers)| numbers).sum());
        })
        .reduce(|odd, numbers, out: &mut Emit<String, u64>| {
            out.emit(if odd { "odd" } else { "even" }, numbers.sum());
        })
    });
    // Squares, and no other numbers, have an odd number of divisors; 54 * 54 = 2916.
    assert_eq!(found, [("even".to_owned(), 3_000 - 54), ("odd".to_owned(), 54)]);
}

#[test]
fn more_reducers_than_keys_leave_empty_parts() {
    let keyed = counted(100, |row| row % 3);
    let parts = parts_of(|plan| keyed(plan).reduce(count), 50);
    assert_eq!(parts.len(), 50);
    assert_eq!(parts.concat().into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2]));
}
