//! Words of a text, which are found 64 bytes at a time.

use super::Target;

pub(super) const TARGET: Target =
    Target { name: "words", input_bytes_max: 512, memory_bytes: 4 << 10, memory_bytes_per_byte: 100, run };

fn run(text: &[u8]) {
    let is_space = |byte: &u8| b" \t\n\r\x0c".contains(byte);
    let plain: Vec<_> = text.split(is_space).filter(|word| !word.is_empty()).collect();
    assert_eq!(gristmill::words(text).collect::<Vec<_>>(), plain);
}
