//! The payload of one block: LZ4 and records, in a run file that is right but for them.

use super::Target;
use super::run_file::{Records, read};
use crate::held_file::{HeldFile, assert_names_the_place};
use crate::input::Input;
use crate::mending;
use gristmill_dfs::ReadAt;

pub(super) const TARGET: Target = Target {
    name: "block",
    input_bytes_max: 2048,
    memory_bytes: 64 << 10,
    // LZ4 makes 255 bytes of one; then the records are copied, and written again.
    memory_bytes_per_byte: 4000,
    run,
};

/// Codec, raw bytes (of LZ4), number of records; the rest is the payload.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (codec, raw_bytes, records) = (input.byte(), input.u32(), input.u16());
    let payload = input.rest();
    let raw_bytes = if codec == 0 { payload.len() as u32 } else { raw_bytes };
    let file = HeldFile::new(&run_file(codec.into(), payload, raw_bytes, records.into()), usize::MAX);
    match read(&file, 0..file.bytes()) {
        Err(error) => assert_names_the_place(&error),
        Ok(records) => check_records(&records),
    }
}

/// What was read is read again from its own encoding.
fn check_records(records: &Records) {
    let mut payload = Vec::new();
    for (key, value) in records {
        varint(key.len() as u64, &mut payload);
        varint(value.len() as u64, &mut payload);
        payload.extend_from_slice(key);
        payload.extend_from_slice(value);
    }
    let file = HeldFile::new(&run_file(0, &payload, payload.len() as u32, records.len() as u32), usize::MAX);
    let again = read(&file, 0..file.bytes()).expect("it is right");
    assert!(again == *records, "other records");
}

/// A run file of one segment and one block.
fn run_file(codec: u32, payload: &[u8], raw_bytes: u32, records: u32) -> Vec<u8> {
    let mut file = vec![0; 16];
    for field in [0, codec, payload.len() as u32, raw_bytes, records] {
        file.extend(field.to_le_bytes());
    }
    file.extend_from_slice(payload);
    let footer_at = file.len();
    for field in [1, 0, 1, records.into()] {
        varint(field, &mut file);
    }
    file.extend([0; 16]);
    for field in [1, payload.len() as u64, raw_bytes.into(), records.into(), 0] {
        varint(field, &mut file);
    }
    let footer_bytes = (file.len() - footer_at) as u32;
    file.extend([0; 8]);
    file.extend(footer_bytes.to_le_bytes());
    file.extend([0; 12]);
    mending::run_file(&mut file);
    file
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
