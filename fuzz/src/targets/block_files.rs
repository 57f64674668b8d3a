//! Small things on the disks of a worker: heads and marks of checksum files, names of replicas, VERSION files. What is
//! accepted is exactly what a worker writes.

use super::Target;
use crate::input::Input;
use crate::mending;
use gristmill_dfs::datanode::block_store::fuzzing::{mark, replica_name, sum_head, version};

pub(super) const TARGET: Target = Target {
    name: "block_files",
    input_bytes_max: 256,
    memory_bytes: 4 << 10,
    memory_bytes_per_byte: 40,
    run,
};

/// What it is, whether to mend it; the rest is what is on the disk.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (what, mend) = (input.byte(), input.byte() & 1 == 1);
    let rest = input.rest();
    match what % 3 {
        0 => check_sum_file(rest, mend),
        1 => {
            let Ok(text) = str::from_utf8(rest) else { return };
            assert!(replica_name(text).is_none_or(|again| again == text), "{text:?}");
        }
        _ => match version(&String::from_utf8_lossy(rest)) {
            Ok(again) => assert_eq!(again.as_bytes(), rest),
            Err(error) => assert!(error.to_string().contains("VERSION"), "{error}"),
        },
    }
}

fn check_sum_file(bytes: &[u8], mend: bool) {
    let mut bytes = bytes.to_vec();
    if mend {
        mending::sum_file(&mut bytes, 12, 7);
    }
    let Some((head, rest)) = bytes.split_first_chunk() else { return };
    match sum_head(head) {
        Err(fault) => assert!(!fault.to_string().is_empty()),
        Ok(again) => {
            assert_eq!(&again, head);
            for bytes in rest.as_chunks().0.iter().take(2) {
                let mark = mark(head, bytes).expect("the head is right");
                assert!(mark.is_none_or(|again| again == *bytes));
            }
        }
    }
}
