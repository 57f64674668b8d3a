//! Sums of chunks, of data that came with them.

use super::Target;
use crate::input::Input;
use gristmill_proto::chunks::{CHUNK_BYTES, SUM_BYTES, append_sums, sums_bytes, verify};

pub(super) const TARGET: Target = Target {
    name: "chunks",
    input_bytes_max: 512,
    // Chunks are of 16 KiB, so the data is repeated until there are some.
    memory_bytes: 512 << 10,
    memory_bytes_per_byte: 1200,
    run,
};

/// Length of the data, its sums or what is taken for them, and what the data is made of.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (length, sums_length, mend, at) = (input.u32() % 70_000, input.byte(), input.byte(), input.u16());
    let sums = input.take(usize::from(sums_length));
    let pattern = input.rest();
    let times = (length as usize).checked_div(pattern.len()).map_or(0, |times| times + 1);
    let mut data = pattern.repeat(times);
    data.truncate(length as usize);
    let mut right = Vec::new();
    append_sums(&data, &mut right);
    assert_eq!(right.len() as u64, sums_bytes(data.len() as u64));
    assert_eq!(verify(&data, &right), Ok(()));
    check(&data, sums, &right);

    if !right.is_empty() {
        let at = usize::from(at);
        let mut wrong = right.clone();
        wrong[at % right.len()] ^= mend | 1;
        let index = (at % right.len()) as u64 / SUM_BYTES;
        assert_eq!(verify(&data, &wrong).expect_err("a sum is wrong").index, index);
        let at = at % data.len();
        data[at] ^= mend | 1;
        assert_eq!(verify(&data, &right).expect_err("a byte is wrong").index, at as u64 / CHUNK_BYTES);
    }
}

/// Sums are accepted if they are the right ones; else the first that is not is named.
fn check(data: &[u8], sums: &[u8], right: &[u8]) {
    match verify(data, sums) {
        Ok(()) => assert_eq!(sums, right),
        Err(bad) => {
            let good = (bad.index * SUM_BYTES) as usize;
            assert_eq!(sums.get(..good), right.get(..good), "those before chunk {} are right", bad.index);
            let next = good + SUM_BYTES as usize;
            let one = |sums: &[u8]| sums[good.min(sums.len())..next.min(sums.len())].to_vec();
            assert_ne!(one(sums), one(right), "chunk {} is wrong", bad.index);
        }
    }
}
