//! Prints `rows N checksum HEX` of a file of 100-byte records, in any order: the wrapping sum of the records'
//! XXH3-64 hashes, as `tera_validate` prints it for sorted files. args: FILE
use std::{env, fs};
use xxhash_rust::xxh3::xxh3_64;

fn main() {
    let path = env::args().nth(1).unwrap();
    let file = unsafe { memmap2::Mmap::map(&fs::File::open(path).unwrap()).unwrap() };
    let (records, rest) = file.as_chunks::<100>();
    assert!(rest.is_empty(), "the file ends in the middle of a record");
    let checksum = records.iter().fold(0u64, |sum, record| sum.wrapping_add(xxh3_64(record)));
    println!("rows {} checksum {checksum:016x}", records.len());
}
