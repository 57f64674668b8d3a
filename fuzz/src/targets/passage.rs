//! The first frame of a connection through the master's port, as the master reads it.

use super::Target;
use crate::input::Input;
use crate::mending;
use gristmill_proto::bulk::HEAD_BYTES;
use gristmill_proto::passage::{PASSAGE_HEADER_BYTES_MAX, Passage};

pub(super) const TARGET: Target = Target {
    name: "passage",
    input_bytes_max: 4096,
    memory_bytes: PASSAGE_HEADER_BYTES_MAX as usize + (16 << 10),
    // Of a frame that is mended; anyone may send it, so it is little.
    memory_bytes_per_byte: 8,
    run,
};

/// One byte: whether to mend the frame. The rest comes over the wire.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mend = input.byte() & 1 == 1;
    let mut wire = input.rest().to_vec();
    if mend {
        mending::frames(&mut wire);
    }
    let Some(head) = wire.first_chunk::<HEAD_BYTES>() else { return };
    match Passage::header_bytes(head) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(header_bytes) => {
            assert!(header_bytes <= PASSAGE_HEADER_BYTES_MAX as usize);
            if let Some(frame) = wire.get(..HEAD_BYTES + header_bytes) {
                check(frame);
            }
        }
    }
}

/// What is understood is written and read again as the same.
fn check(frame: &[u8]) {
    match Passage::decode(frame) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(passage) => {
            let mut again = Vec::new();
            passage.write(&mut again).expect("it fitted before");
            assert_eq!(Passage::decode(&again).expect("it was written"), passage);
        }
    }
}
