//! Generates records to sort, in the form of Hadoop's TeraGen, and prints `rows N checksum HEX`.
//!
//! A record has 100 bytes: a random key (10), 00 11, the row's number as 32 hexadecimal digits, 88 99 AA BB, filler
//! (48), CC DD EE FF. It depends on the seed and the row alone, so the same seed gives the same records however
//! the rows are cut into tasks. The checksum is the sum of the records' XXH3 hashes, modulo 2^64: it does not
//! depend on the order of the records, and `tera_validate` prints the same for the same records.

use clap::Args;
use gristmill::{Dataset, Keyed, Plan, RawOutput, Rows};
use std::process::ExitCode;
use xxhash_rust::xxh3::xxh3_64;

/// Generates records of 100 bytes to sort.
#[derive(Args)]
struct TeraGen {
    /// Number of records
    #[arg(long, value_name = "N")]
    rows: u64,
    /// Directory for the records
    #[arg(long, value_name = "URI")]
    output: String,
    /// Another seed gives other records
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &TeraGen, plan: &mut Plan) {
    generate(plan.read(Rows::new(args.rows)), args.seed).write(RawOutput::at(&args.output));
    plan.afterwards(|report| {
        format!("rows {} checksum {:016x}", report.counter("rows"), report.counter("checksum"))
    });
}

fn generate(rows: Dataset<u64>, seed: u64) -> Keyed<[u8; 100], ()> {
    let (count, checksum) = (rows.counter("rows"), rows.counter("checksum"));
    rows.map(move |row, out| {
        let record = record(seed, row);
        out.count(count, 1);
        out.count(checksum, xxh3_64(&record));
        out.emit(&record, ());
    })
}

fn record(seed: u64, row: u64) -> [u8; 100] {
    let (random, more) = (random(seed, row.wrapping_mul(2)), random(seed, row.wrapping_mul(2) + 1));
    let mut record = [b'0'; 100];
    record[..8].copy_from_slice(&random.to_be_bytes());
    record[8..10].copy_from_slice(&more.to_be_bytes()[..2]);
    record[10..12].copy_from_slice(&[0x00, 0x11]);
    // A row's number has 16 digits; the 16 before them stay zero.
    (0..16).for_each(|place| record[43 - place] = hex_digit(row, place));
    record[44..48].copy_from_slice(&[0x88, 0x99, 0xAA, 0xBB]);
    (0..12).for_each(|place| record[48 + 4 * place..][..4].fill(hex_digit(more, place)));
    record[96..].copy_from_slice(&[0xCC, 0xDD, 0xEE, 0xFF]);
    record
}

/// Number `n` of the sequence that the SplitMix64 generator gives for `seed`.
fn random(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(n.wrapping_add(1)));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The digit at `place`, counted from the right.
fn hex_digit(number: u64, place: usize) -> u8 {
    b"0123456789ABCDEF"[(number >> (4 * place)) as usize & 0xF]
}

#[cfg(test)]
mod tests {
    use super::{generate, random, record};
    use gristmill::{Rows, testing};

    #[test]
    fn every_row_gives_its_record_and_is_counted() {
        let (records, report) = testing::run_plan_of(|plan| generate(plan.read(Rows::new(1000)), 7));
        let mut expected: Vec<_> = (0..1000).map(|row| (record(7, row), ())).collect();
        expected.sort();
        assert_eq!(records, expected);
        assert_eq!(report.counter("rows"), 1000);
        let sum = records.iter().fold(0, |sum: u64, (record, ())| sum.wrapping_add(super::xxh3_64(record)));
        assert_eq!(report.counter("checksum"), sum);
    }

    #[test]
    fn a_record_has_the_form_of_teragen() {
        let record = record(0, 0xBEEF);
        assert_eq!(record[10..12], [0x00, 0x11]);
        assert_eq!(record[12..44], *b"0000000000000000000000000000BEEF");
        assert_eq!((&record[44..48], &record[96..]), (&b"\x88\x99\xAA\xBB"[..], &b"\xCC\xDD\xEE\xFF"[..]));
        assert!(record[48..96].chunks(4).all(|four| four.iter().all(|digit| *digit == four[0])));
    }

    /// The first numbers of the published reference implementation for this seed.
    #[test]
    fn random_numbers_are_those_of_splitmix64() {
        let first = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        assert_eq!([0, 1, 2].map(|n| random(1234567, n)), first);
    }
}
