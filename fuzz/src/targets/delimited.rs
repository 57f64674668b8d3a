//! Records of delimited text (`docs/formats.md`, section 15).

use super::Target;
use crate::held_file::{HeldFile, assert_names_the_place};
use crate::input::Input;
use gristmill_dataflow::memory::TaskMemory;
use gristmill_dataflow::read::{DelimitedReader, ReadError, is_quote_open};
use gristmill_dfs::ReadAt;

pub(super) const TARGET: Target = Target {
    name: "delimited",
    input_bytes_max: 1024,
    memory_bytes: 512 << 10,
    memory_bytes_per_byte: 400,
    run,
};

/// Length of reads and the delimiter; the rest is the text.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (read_bytes_max, delimiter) =
        (usize::from(input.byte()), [b',', b'\t'][usize::from(input.byte() & 1)]);
    let text = input.rest();
    let file = HeldFile::new(text, read_bytes_max.max(text.len() / 64));
    let range = file.range(0..file.bytes());
    let mut reader = DelimitedReader::over(file.open(), &range, delimiter, TaskMemory { bytes: 1 << 20 })
        .expect("it is there");
    let mut next = 0;
    loop {
        match reader.next_record() {
            Ok(Some((offset, record))) => {
                assert_eq!(offset, next, "records follow each other");
                assert!(text[offset as usize..].starts_with(record), "a record is what is in the file");
                assert!(!is_quote_open(record, delimiter), "{record:?} is whole");
                let behind = &text[offset as usize + record.len()..];
                let end = [&b"\r\n"[..], b"\n", b""]
                    .into_iter()
                    .find(|end| behind.starts_with(end))
                    .expect("or nothing");
                next = offset + (record.len() + end.len()) as u64;
            }
            Ok(None) => return assert_eq!(next, file.bytes(), "all of the file was read"),
            Err(error) => {
                assert_names_the_place(&error);
                let ReadError::OpenQuote { offset, .. } = error else { panic!("{error}") };
                assert!(
                    offset == next && is_quote_open(&text[offset as usize..], delimiter),
                    "a quote is open"
                );
                return;
            }
        }
    }
}
