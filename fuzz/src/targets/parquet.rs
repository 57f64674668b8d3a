//! Parquet files: rows or an error that names the file, and the same rows whatever the cuts.

use super::Target;
use crate::held_file::{HeldFile, assert_names_the_place};
use crate::input::Input;
use gristmill::fuzzing::parquet_rows;
use gristmill_dataflow::memory::TaskMemory;
use gristmill_dfs::ReadAt;

pub(super) const TARGET: Target = Target {
    name: "parquet",
    input_bytes_max: 4096,
    // Pages of 8 MiB, which every task takes; some columns have one and a dictionary at hand.
    memory_bytes: 256 << 20,
    memory_bytes_per_byte: 4096,
    run,
};

const MEMORY: TaskMemory = TaskMemory { bytes: 1 << 20 };
/// A run of equal rows takes some bytes however long it is: so many rows are enough.
const ROWS_MAX: usize = 5_000;

/// Where to cut; the rest is the file.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cut = u64::from(input.u16());
    let file = HeldFile::new(input.rest(), usize::MAX);
    let length = file.bytes();
    let read = |from: u64, to: u64| parquet_rows(file.open(), &file.range(from..to), MEMORY, ROWS_MAX);
    let mut whole = match read(0, length) {
        Err(error) => return assert_names_the_place(&error),
        Ok(rows) if rows.len() == ROWS_MAX => return,
        Ok(rows) => rows,
    };
    let cut = cut % (length + 1);
    // In a damaged file the pages of one group may be what another one lacks.
    let (Ok(mut cut), Ok(rest)) = (read(0, cut), read(cut, length)) else { return };
    cut.extend(rest);
    cut.sort_unstable();
    whole.sort_unstable();
    assert!(cut == whole, "another cut, other rows");
}
