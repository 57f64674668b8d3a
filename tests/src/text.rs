//! Texts to count words in, and the plainest way to count them.

use std::collections::BTreeMap;

/// Random numbers that are the same in each run (SplitMix64).
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The same seed, the same numbers.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    /// One of `choices`.
    pub fn pick<'c, T: ?Sized>(&mut self, choices: &[&'c T]) -> &'c T {
        choices[self.below(choices.len())]
    }

    /// The same things in another order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for end in (1..things.len()).rev() {
            things.swap(end, self.below(end + 1));
        }
    }
}

/// All that separates words, alone and in company, and ends lines.
const SEPARATORS: [&[u8]; 9] =
    [b" ", b"\t", b"\n", b"\r\n", b"\r", b"\x0c", b" \n\n ", b"\r\r\n", b"\t\x0c "];
/// Whatever may stand within a word, although some think otherwise: NUL, vertical tab, a no-break space,
/// an ideographic space, bytes that are no UTF-8, a line separator.
const ODDITIES: [&[u8]; 8] = [
    b"\0",
    b"\x0b",
    b"\xc2\xa0",
    b"\xe3\x80\x80",
    b"\xff\xfe",
    b"\xc3",
    b"\xe2\x80\xa8",
    b"\xf0\x9f\xa6\x80",
];

/// About `bytes` bytes of text with everything in it that has ever broken a word count. It does not end with a
/// separator, so its last line has no end.
pub fn corpus(bytes: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut text = Vec::new();
    while text.len() < bytes {
        match dice.below(100) {
            0 => text.resize(text.len() + 1 + dice.below(bytes / 50), b'x'),
            1..10 => {
                text.extend_from_slice(dice.pick(&ODDITIES));
                text.extend_from_slice(dice.pick(&[b"a" as &[u8], b"", b"\0b"]));
            }
            // Some words are frequent and most are rare.
            _ => {
                let rank = dice.below(12);
                text.extend_from_slice(format!("w{}", dice.below(1 << rank)).as_bytes());
            }
        }
        text.extend_from_slice(dice.pick(&SEPARATORS));
    }
    text.extend_from_slice(b"last\xff");
    text
}

/// `count` different words, one a line, in a random order.
pub fn distinct_words(count: u64, seed: u64) -> Vec<u8> {
    let mut numbers: Vec<u64> = (0..count).collect();
    Dice::new(seed).shuffle(&mut numbers);
    let lines = numbers.iter().map(|&number| format!("{:016x}\n", Dice::new(number).roll()));
    lines.collect::<String>().into_bytes()
}

/// How often each word occurs, byte by byte.
pub fn word_counts(text: &[u8]) -> BTreeMap<Vec<u8>, u64> {
    let mut counts = BTreeMap::new();
    let mut word = Vec::new();
    for &byte in text.iter().chain(b" ") {
        if [0x20, 0x09, 0x0a, 0x0d, 0x0c].contains(&byte) {
            if !word.is_empty() {
                *counts.entry(std::mem::take(&mut word)).or_insert(0) += 1;
            }
        } else {
            word.push(byte);
        }
    }
    counts
}

/// `bytes` bytes that do not compress.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        noise.extend_from_slice(&dice.roll().to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}
