//! Records of a fixed length, whatever the cuts, the reads and the memory.

use super::Target;
use crate::held_file::{HeldFile, assert_names_the_place};
use crate::input::Input;
use gristmill_dataflow::memory::TaskMemory;
use gristmill_dataflow::read::{FixedReader, ReadError};
use gristmill_dfs::ReadAt;

pub(super) const TARGET: Target =
    Target { name: "fixed", input_bytes_max: 2048, memory_bytes: 128 << 10, memory_bytes_per_byte: 100, run };

/// Length of a record, size of reads, memory, where to cut; the rest is the file.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (record_bytes, read_bytes_max) = (usize::from(input.u16()).max(1), input.byte());
    let memory = TaskMemory { bytes: 32 * usize::from(input.byte()) };
    let cut = u64::from(input.u16());
    let bytes = input.rest();
    let file = HeldFile::new(bytes, usize::from(read_bytes_max).max(bytes.len() / 256));
    let cut = cut % (file.bytes() + 1);

    let mut found = Vec::new();
    for piece in [0..cut, cut..file.bytes()] {
        let reader = FixedReader::over(file.open(), &file.range(piece), record_bytes, memory);
        if let Err(error) = reader.and_then(|reader| read(reader, &mut found)) {
            assert_names_the_place(&error);
            match error {
                ReadError::ShortRecord { offset, found_bytes, .. } => {
                    assert_eq!(offset as usize + found_bytes, bytes.len());
                    assert_eq!(found_bytes, bytes.len() % record_bytes);
                }
                ReadError::RecordTooLarge { limit_bytes, .. } => assert!(record_bytes > limit_bytes),
                other => panic!("{other}"),
            }
            return;
        }
    }
    assert_eq!(found, bytes);
}

fn read(mut reader: FixedReader, found: &mut Vec<u8>) -> Result<(), ReadError> {
    while let Some((offset, record)) = reader.next_record()? {
        assert_eq!(offset as usize, found.len());
        found.extend_from_slice(record);
    }
    Ok(())
}
