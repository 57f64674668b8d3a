//! Range cuts, as they come from the master.

use super::Target;
use crate::input::Input;
use gristmill_dataflow::range::{RangeCuts, RangeCutsError};

pub(super) const TARGET: Target = Target {
    name: "range_cuts",
    input_bytes_max: 4096,
    memory_bytes: 16 << 10,
    // A cut of one byte takes two, and is a key of its own.
    memory_bytes_per_byte: 200,
    run,
};

/// One byte: whether to mend the checksum. The rest are the cuts.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mend = input.byte() & 1 == 1;
    let mut cuts = input.rest().to_vec();
    if mend {
        let content = cuts.len().saturating_sub(4);
        let crc = crc32c::crc32c(&cuts[..content]);
        cuts.truncate(content);
        cuts.extend(crc.to_le_bytes());
    }
    match RangeCuts::decode(&cuts) {
        Ok(found) => assert_eq!(RangeCuts::decode(&found.encode()).as_ref(), Ok(&found)),
        Err(RangeCutsError::Malformed { at }) => assert!(at <= cuts.len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
