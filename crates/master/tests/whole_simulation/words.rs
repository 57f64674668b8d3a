//! The job of the simulation: words of some files are counted. What is read, and what must come out.

use std::collections::BTreeMap;

/// Bytes of `w07` and its end of line.
const WORD_BYTES: usize = 4;
/// Words of a full block.
const BLOCK_WORDS: usize = crate::dfs::BLOCK_BYTES as usize / WORD_BYTES;

/// How often each word came.
pub(crate) type Counts = BTreeMap<u64, u64>;

/// The blocks of a file with so many words, each taken from the dice.
pub(crate) fn file(words: usize, mut below: impl FnMut(u64) -> u64) -> Vec<Vec<u8>> {
    let words: Vec<String> = (0..words).map(|_| format!("w{:02}\n", below(40))).collect();
    words.chunks(BLOCK_WORDS).map(|block| block.concat().into_bytes()).collect()
}

/// What a map makes of its split.
pub(crate) fn count(bytes: &[u8]) -> Counts {
    let mut counts = Counts::new();
    for word in bytes.chunks(WORD_BYTES) {
        let number = std::str::from_utf8(&word[1..3]).expect("it is text").parse().expect("a number");
        *counts.entry(number).or_default() += 1;
    }
    counts
}

/// The part of one partition, in blocks.
pub(crate) fn part(counts: &Counts, partition: u64, partitions: u64) -> Vec<Vec<u8>> {
    let here = counts.iter().filter(|(word, _)| *word % partitions == partition);
    let text: String = here.map(|(word, count)| format!("w{word:02}\t{count}\n")).collect();
    text.into_bytes().chunks(crate::dfs::BLOCK_BYTES as usize).map(<[u8]>::to_vec).collect()
}

/// All counts together.
pub(crate) fn sum<'a>(all: impl Iterator<Item = &'a Counts>) -> Counts {
    let mut sum = Counts::new();
    for (word, count) in all.flatten() {
        *sum.entry(*word).or_default() += count;
    }
    sum
}
