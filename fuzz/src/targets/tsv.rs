//! Fields of TSV text (`docs/formats.md`, section 6).

use super::Target;
use gristmill::fuzzing::{escape, unescape};

pub(super) const TARGET: Target =
    Target { name: "tsv", input_bytes_max: 1024, memory_bytes: 4 << 10, memory_bytes_per_byte: 40, run };

/// The bytes are a field, escaped or not.
fn run(bytes: &[u8]) {
    let mut line = Vec::new();
    escape(bytes, &mut line);
    assert!(!line.iter().any(|byte| b"\t\n\r".contains(byte)), "it is one field of one line");
    let Ok(field) = str::from_utf8(bytes) else { return };
    let line = String::from_utf8(line).expect("it still is text");
    assert_eq!(unescape(&line), field);

    let plain = unescape(field);
    assert!(plain.len() <= field.len());
    let mut again = Vec::new();
    escape(plain.as_bytes(), &mut again);
    assert_eq!(unescape(str::from_utf8(&again).expect("it still is text")), plain);
}
