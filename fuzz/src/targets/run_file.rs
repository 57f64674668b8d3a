//! Run files, as whoever has nothing but the file reads them: header, trailer, footer, blocks, records.

use super::Target;
use crate::held_file::{HeldFile, assert_names_the_place};
use crate::input::Input;
use crate::mending;
use gristmill_dataflow::read::{ReadError, SequenceReader};
use gristmill_dfs::ReadAt;
use std::ops::Range;

pub(super) const TARGET: Target = Target {
    name: "run_file",
    input_bytes_max: 4096,
    memory_bytes: 64 << 10,
    // LZ4 makes 255 bytes of one; then the records are copied.
    memory_bytes_per_byte: 2000,
    run,
};

pub(super) type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// One byte: whether to mend the file. Two: where to cut it. The rest is the file.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mend, cut) = (input.byte() & 1 == 1, u64::from(input.u16()));
    let mut file = input.rest().to_vec();
    if mend {
        mending::run_file(&mut file);
    }
    let file = HeldFile::new(&file, usize::MAX);
    match read(&file, 0..file.bytes()) {
        Err(error) => assert_names_the_place(&error),
        Ok(records) => {
            let cut = cut % (file.bytes() + 1);
            let pieces = [0..cut, cut..file.bytes()];
            let cut = pieces.map(|piece| read(&file, piece).expect("each block was right")).concat();
            assert!(cut == records, "another cut, other records");
        }
    }
}

pub(super) fn read(file: &HeldFile, range: Range<u64>) -> Result<Records, ReadError> {
    let mut reader = SequenceReader::over(file.open(), &file.range(range))?;
    let mut records = Vec::new();
    while let Some((_, key, value)) = reader.next_record()? {
        records.push((key.to_vec(), value.to_vec()));
    }
    Ok(records)
}
