//! Counts words and orders them: the most frequent first, words of the same count by their bytes.
//!
//! A line of output is word, TAB, count; the part files, one after the other, are in order. A word is what it is
//! to `word_count`: a maximal run of bytes other than space, tab, LF, CR and FF.

use clap::Args;
use gristmill::{Dataset, Emit, Keyed, Lines, Plan, TextOutput, words};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::process::ExitCode;

/// Counts words and orders them, the most frequent first.
#[derive(Args)]
struct TopWords {
    /// Files, directories or globs to read
    #[arg(long, required = true, value_name = "URI", num_args = 1..)]
    input: Vec<String>,
    /// Directory for the counts, a line each: word, TAB, count
    #[arg(long, value_name = "URI")]
    output: String,
    /// Write only the N most frequent words
    #[arg(long, value_name = "N")]
    top: Option<NonZeroUsize>,
}

/// The most frequent word is the first.
type Rank = (Reverse<u64>, Vec<u8>);

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &TopWords, plan: &mut Plan) {
    let counts = count_words(plan.read(Lines::at(&args.input)));
    let ordered = match args.top {
        Some(n) => first(counts, n.get()),
        None => all(counts),
    };
    ordered.write(TextOutput::at(&args.output));
}

fn count_words(lines: Dataset<Vec<u8>>) -> Keyed<Vec<u8>, u64> {
    lines
        .map(|line, out: &mut Emit<Vec<u8>, u64>| words(line).for_each(|word| out.emit(word, 1)))
        .combine(|sum, n| *sum += n)
        .reduce(|word, counts, out| out.emit(word, counts.sum()))
}

/// All words in total order: each reducer gets a range of counts.
fn all(counts: Keyed<Vec<u8>, u64>) -> Keyed<Vec<u8>, u64> {
    counts
        .map(|(word, count), out: &mut Emit<Rank, ()>| {
            out.emit((Reverse(count), word), ());
        })
        .range_partition()
        .reduce(|(Reverse(count), word), _, out| out.emit(word, count))
}

/// The `n` first words: each task keeps its own `n` first, and one reducer chooses among those.
fn first(counts: Keyed<Vec<u8>, u64>, n: usize) -> Keyed<Vec<u8>, u64> {
    let kept: Keyed<(), Rank> = counts.pairs().map_finish(
        BTreeSet::new,
        move |kept: &mut BTreeSet<Rank>, (word, count), _| {
            kept.insert((Reverse(count), word.to_vec()));
            if kept.len() > n {
                kept.pop_last();
            }
        },
        |kept, out| kept.iter().for_each(|(count, word)| out.emit((), (*count, &word[..]))),
    );
    kept.sort_values_by(|(count, word)| (count, word.to_vec())).reducers(1).reduce(move |(), kept, out| {
        for (Reverse(count), word) in kept.into_iter().take(n) {
            out.emit(&word[..], count);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{all, count_words, first};
    use gristmill::testing;

    const LINES: [&str; 3] = ["b a c", "c b  d c", "e"];
    const ORDERED: [(&str, u64); 5] = [("c", 3), ("b", 2), ("a", 1), ("d", 1), ("e", 1)];

    fn owned(pairs: &[(&str, u64)]) -> Vec<(Vec<u8>, u64)> {
        pairs.iter().map(|(word, count)| (word.as_bytes().to_vec(), *count)).collect()
    }

    #[test]
    fn words_come_by_count_then_by_bytes() {
        assert_eq!(testing::run_in_order(LINES, |lines| all(count_words(lines))), owned(&ORDERED));
    }

    #[test]
    fn the_top_is_the_start_of_all() {
        for n in [1, 3, 4, 9] {
            let top = testing::run_in_order(LINES, |lines| first(count_words(lines), n));
            assert_eq!(top, owned(&ORDERED[..n.min(5)]));
        }
    }

    #[test]
    fn no_input_gives_no_words() {
        assert_eq!(testing::run_in_order([""], |lines| first(count_words(lines), 1)), []);
    }
}
