//! The same job gives the same bytes, whatever the order in which its maps emit.

use gristmill::{Dataset, Emit, Keyed, Plan, Text, TextOutput, run_local};
use gristmill_tests::{Dice, Home, bytes_of};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

const RUNS: usize = 20;

/// The orders in which tasks have emitted their words.
type Orders = Arc<Mutex<HashSet<Vec<String>>>>;

/// Counts words in a hash map, and emits the counts at the end, in the map's order: another one in each task.
fn partial_counts(lines: Dataset<String>, orders: &Orders) -> Keyed<String, String> {
    let orders = orders.clone();
    lines.map_finish(
        HashMap::<String, u64>::new,
        |counts, line, _| line.split(' ').for_each(|word| *counts.entry(word.to_owned()).or_default() += 1),
        move |counts, out: &mut Emit<String, String>| {
            let order = counts.keys().cloned().collect();
            orders.lock().expect("nobody panicked").insert(order);
            // Words that begin with the same letter have one key, so that each group has many values.
            for (word, count) in &counts {
                out.emit(&word[..1], &format!("{word}={count}"));
            }
        },
    )
}

/// 20 runs of one job; returns its part files, and the orders in which its map tasks emitted.
fn run_often(
    job: impl Fn(Dataset<String>, &Orders) -> Keyed<String, String>,
) -> (BTreeMap<String, Vec<u8>>, usize) {
    let home = Home::new();
    let mut dice = Dice::new(1);
    let letters = ["a", "b", "c", "d", "e"];
    let mut line =
        || (0..10).map(|_| format!("{}{}", dice.pick(&letters), dice.below(50))).collect::<Vec<_>>();
    let text: Vec<String> = (0..500).map(|_| line().join(" ")).collect();
    let input = home.write("in", text.join("\n"));
    let orders = Orders::default();
    let mut first: Option<BTreeMap<String, Vec<u8>>> = None;
    for run in 0..RUNS {
        let output = home.uri(&format!("out-{run}"));
        let mut options = home.options();
        // Which task ends first is another matter of chance.
        (options.threads, options.split_bytes, options.reducers) = (4, Some(2_000), Some(3));
        let done = run_local(&options, |plan: &mut Plan| {
            job(plan.read(Text::at(&input)), &orders).write(TextOutput::at(&output));
        });
        assert!(done.expect("the job is done").stages[0].tasks > 5);
        let mut parts = bytes_of(&output);
        parts.remove("_SUCCESS");
        let first = first.get_or_insert_with(|| parts.clone());
        assert!(*first == parts, "run {run} differs from run 0");
    }
    let orders = orders.lock().expect("nobody panicked").len();
    (first.expect("at least one run"), orders)
}

#[test]
fn values_come_in_the_same_order_in_each_run() {
    let (parts, orders) = run_often(|lines, orders| {
        partial_counts(lines, orders).reduce(|letter, values, out: &mut Emit<String, String>| {
            out.emit(letter, &values.into_iter().collect::<Vec<_>>().join(" "));
        })
    });
    // Chance was at work: with 20 runs of several tasks, each with hundreds of words, all orders differ.
    assert!(orders > 2 * RUNS, "only {orders} orders");
    assert_eq!(parts.len(), 3);
    let lines = parts.values().map(|part| part.split(|&byte| byte == b'\n').count() - 1).sum::<usize>();
    assert_eq!(lines, 5, "five letters");
}

#[test]
fn a_second_shuffle_is_as_deterministic_as_the_first() {
    let (_, orders) = run_often(|lines, orders| {
        let first = partial_counts(lines, orders).reduce(|letter, values, out: &mut Emit<u64, String>| {
            values
                .into_iter()
                .enumerate()
                .for_each(|(n, value)| out.emit(n as u64 % 7, &format!("{letter}{value}")));
        });
        first.sort_values_by(|value: &str| value.len() as u64).reduce(
            |n, values, out: &mut Emit<String, String>| {
                out.emit(&n.to_string(), &values.into_iter().collect::<Vec<_>>().join(" "));
            },
        )
    });
    assert!(orders > 2 * RUNS, "only {orders} orders");
}
