//! The two files of a replica, as a reader of a finished one takes them and as recovery takes an unfinished one.

use super::Target;
use crate::input::Input;
use crate::mending;
use gristmill_dfs::datanode::block_store::fuzzing::{good_bytes, mark};
use gristmill_dfs::datanode::block_store::{ReplicaError, ReplicaReader, SUMS_START};
use gristmill_proto::chunks::{CHUNK_BYTES, SUM_BYTES, append_sums, verify};
use gristmill_proto::ids::{BlockId, Generation};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::os::unix::fs::FileExt;

pub(super) const TARGET: Target = Target {
    name: "replica",
    input_bytes_max: 512,
    // The data is of three chunks at most.
    memory_bytes: 256 << 10,
    memory_bytes_per_byte: 40,
    run,
};

const BLOCK: BlockId = BlockId(12);
const GENERATION: Generation = Generation(7);
const DATA_BYTES_MAX: u32 = 3 * CHUNK_BYTES as u32;

/// What to mend and how to read, length of the data, length that is claimed, what the data is made of; the rest is the
/// checksum file.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (how, data_bytes, claimed) = (input.byte(), input.u32() % (DATA_BYTES_MAX + 1), input.u64());
    let claimed = if how & 1 == 0 { data_bytes.into() } else { claimed };
    let data = [input.byte(), 0, 1, 2, 3].repeat(data_bytes.div_ceil(5) as usize);
    let data = &data[..data_bytes as usize];
    let mut sums = input.rest().to_vec();
    if how & 2 != 0 {
        mend_sums(data, &mut sums);
    }
    for (bit, at) in [(16, 48), (32, 64)] {
        if how & bit != 0 {
            mend_mark(data, (how & 8 == 0).then_some(claimed), sums.get_mut(at..at + 12));
        }
    }
    if how & 4 != 0 {
        mending::sum_file(&mut sums, BLOCK.0, GENERATION.0);
    }
    FILES.with(|[data_file, sum_file]| {
        fill(data_file, data);
        fill(sum_file, &sums);
        if how & 8 == 0 {
            check_finished(data, claimed, again(data_file), again(sum_file));
        } else {
            check_unfinished(data, &sums, data_file, again(sum_file));
        }
    });
}

fn mend_sums(data: &[u8], sums: &mut Vec<u8>) {
    sums.resize(SUMS_START as usize, 0);
    append_sums(data, sums);
}

/// Makes a mark tell the truth: of `bytes` bytes, or of as many as it says.
fn mend_mark(data: &[u8], bytes: Option<u64>, mark: Option<&mut [u8]>) {
    let Some((length, sum)) = mark.and_then(|mark| mark.split_first_chunk_mut::<8>()) else { return };
    let bytes = bytes.unwrap_or(u64::from_le_bytes(*length)).min(data.len() as u64) as usize;
    *length = (bytes as u64).to_le_bytes();
    let last = data[..bytes].chunks(CHUNK_BYTES as usize).next_back().map_or(0, crc32c::crc32c);
    sum.copy_from_slice(&last.to_le_bytes());
}

/// What is opened can be read; whether it is right is up to whoever verifies what was read.
fn check_finished(data: &[u8], claimed: u64, data_file: File, sum_file: File) {
    let reader = match ReplicaReader::from_files(BLOCK, GENERATION, claimed, data_file, sum_file) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(matches!(error, ReplicaError::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains("block-12"), "{error}");
            return;
        }
    };
    assert_eq!((reader.block(), reader.generation(), reader.bytes()), (BLOCK, GENERATION, claimed));
    assert!(claimed <= data.len() as u64);
    let mut read = vec![0; claimed as usize];
    reader.read_data(0, &mut read).expect("so many bytes are there");
    assert_eq!(read, data[..claimed as usize]);
    let (chunks, mut sums) = (claimed.div_ceil(CHUNK_BYTES), Vec::new());
    reader.read_sums(0, chunks, &mut sums).expect("so many sums are there");
    assert_eq!(sums.len() as u64, chunks * SUM_BYTES);
    // Others may be wrong: whoever reads verifies them.
    assert!(verify(&read, &sums).map_or_else(|bad| bad.index < chunks, |()| true));
    reader.read_sums(chunks, 1, &mut sums).expect_err("no more sums are there");
}

/// Of what recovery keeps, every chunk has a sum or a mark that proves it.
fn check_unfinished(data: &[u8], sums: &[u8], data_file: &File, sum_file: File) {
    let Ok(good) = good_bytes(BLOCK, GENERATION, data_file, sum_file) else { return };
    assert!(good <= data.len() as u64);
    let head = sums.first_chunk().expect("its head was read");
    let marks: Vec<[u8; 16]> =
        sums[48..80].chunks(16).filter_map(|bytes| mark(head, bytes.try_into().ok()?).ok()?).collect();
    for (index, chunk) in data[..good as usize].chunks(CHUNK_BYTES as usize).enumerate() {
        let end = index as u64 * CHUNK_BYTES + chunk.len() as u64;
        let sum = crc32c::crc32c(chunk).to_le_bytes();
        let at = SUMS_START as usize + 4 * index;
        let of_file = sums.get(at..at + 4) == Some(&sum);
        // A sum in the file speaks of all bytes that were there, a mark of as many as it says.
        let whole = chunk.len() as u64 == CHUNK_BYTES || end == data.len() as u64;
        let of_mark = marks.iter().any(|mark| mark[..8] == end.to_le_bytes() && mark[8..12] == sum);
        assert!(of_file && whole || of_mark, "nothing proves the chunk that ends at {end}");
    }
}

thread_local! {
    /// Made once: data, checksums.
    static FILES: [File; 2] = ["data", "sums"].map(|name| {
        memfd_create(name, MemfdFlags::CLOEXEC).expect("a file in memory").into()
    });
}

fn fill(file: &File, bytes: &[u8]) {
    file.write_all_at(bytes, 0).expect("memory");
    file.set_len(bytes.len() as u64).expect("memory");
}

fn again(file: &File) -> File {
    file.try_clone().expect("another descriptor")
}
