//! Words of a line.

/// Bytes that are looked at together: a bit each.
const CHUNK_BYTES: usize = 64;

/// The words of a text: maximal runs of bytes other than space, tab, LF, CR and FF.
#[inline]
pub fn words(text: &[u8]) -> Words<'_> {
    Words { text, word_start: 0, chunk_start: 0, ends: separators(text) }
}

/// See [`words`].
///
/// Separators are found 64 bytes at a time, without a branch for each byte; then each word costs a few
/// instructions.
#[derive(Clone, Debug)]
pub struct Words<'t> {
    text: &'t [u8],
    word_start: usize,
    chunk_start: usize,
    /// Bit `i` is set where byte `chunk_start + i` is a separator that was not passed yet.
    ends: u64,
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t [u8];

    #[inline]
    fn next(&mut self) -> Option<&'t [u8]> {
        loop {
            let word_start = self.word_start;
            if self.ends != 0 {
                let end = self.chunk_start + self.ends.trailing_zeros() as usize;
                self.ends &= self.ends - 1;
                self.word_start = end + 1;
                if end > word_start {
                    return Some(&self.text[word_start..end]);
                }
            } else if self.text.len() - self.chunk_start > CHUNK_BYTES {
                self.chunk_start += CHUNK_BYTES;
                self.ends = separators(&self.text[self.chunk_start..]);
            } else {
                self.word_start = self.text.len();
                return self.text.get(word_start..).filter(|word| !word.is_empty());
            }
        }
    }
}

/// A bit for each of the first 64 bytes, or as many as there are: set where it is a separator.
#[inline]
fn separators(text: &[u8]) -> u64 {
    match text.first_chunk::<CHUNK_BYTES>() {
        Some(chunk) => separators_of(chunk),
        None => {
            let mut chunk = [0; CHUNK_BYTES];
            chunk[..text.len()].copy_from_slice(text);
            separators_of(&chunk)
        }
    }
}

/// Written so that the compiler makes vector comparisons of it: first a byte for each byte, then a bit.
#[inline]
fn separators_of(chunk: &[u8; CHUNK_BYTES]) -> u64 {
    let flags = chunk.map(|byte| u8::from(is_space(byte)));
    let (eights, _) = flags.as_chunks::<8>();
    // The multiplication moves the lowest bit of byte `i` to bit `56 + i`, with nothing in its way.
    let bits = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    eights.iter().rev().fold(0, |mask, eight| mask << 8 | bits(eight))
}

/// Whether a byte separates words.
#[inline]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_are_what_lies_between_separators(text in "([a-c\\x00]|[ \\t\n\r\x0c]){0,300}") {
            let text = text.as_bytes();
            let plain: Vec<_> = text.split(|&byte| is_space(byte)).filter(|word| !word.is_empty()).collect();
            prop_assert_eq!(words(text).collect::<Vec<_>>(), plain);
        }
    }

    #[test]
    fn words_around_the_border_of_a_chunk_are_whole() {
        for length in 60..70 {
            let word = vec![b'x'; length];
            assert_eq!(words(&word).collect::<Vec<_>>(), [&word[..]]);
            let two = [&word[..], b" ", &word[..]].concat();
            assert_eq!(words(&two).collect::<Vec<_>>(), [&word[..], &word[..]]);
            let spaces = [vec![b' '; length], word.clone(), vec![b' '; 64]].concat();
            assert_eq!(words(&spaces).collect::<Vec<_>>(), [&word[..]]);
        }
        assert_eq!(words(b"").count(), 0);
    }
}
