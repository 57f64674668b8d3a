//! Counts words: how often each occurs.
//!
//! A word is a maximal run of bytes other than space, tab, LF, CR and FF, counted byte for byte, whether the
//! input is valid UTF-8 or not.

use clap::Args;
use gristmill::{Dataset, Emit, Keyed, Lines, Plan, TextOutput, words};
use std::process::ExitCode;

/// Counts words: how often each occurs.
#[derive(Args)]
struct WordCount {
    /// Files, directories or globs to read
    #[arg(long, required = true, value_name = "URI", num_args = 1..)]
    input: Vec<String>,
    /// Directory for the counts, a line each: word, TAB, count
    #[arg(long, value_name = "URI")]
    output: String,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &WordCount, plan: &mut Plan) {
    count_words(plan.read(Lines::at(&args.input))).write(TextOutput::at(&args.output));
}

fn count_words(lines: Dataset<Vec<u8>>) -> Keyed<Vec<u8>, u64> {
    lines
        .map(|line, out: &mut Emit<Vec<u8>, u64>| words(line).for_each(|word| out.emit(word, 1)))
        .combine(|sum, n| *sum += n)
        .reduce(|word, counts, out| out.emit(word, counts.sum()))
}

#[cfg(test)]
mod tests {
    use super::count_words;
    use gristmill::testing;

    #[test]
    fn words_are_counted_over_all_lines() {
        let counts = testing::run(["to be or", "not  to be"], count_words);
        assert_eq!(counts, [("be", 2), ("not", 1), ("or", 1), ("to", 2)].map(|(word, n)| (word.into(), n)));
    }
}
