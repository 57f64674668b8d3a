//! Sorts records of 100 bytes, each beginning with a key of 10 bytes.
//!
//! The part files, one after the other, hold all the records in the order of their keys.

use clap::Args;
use gristmill::{Dataset, Keyed, Plan, RawOutput, Records};
use std::process::ExitCode;

const RECORD_BYTES: usize = 100;
const KEY_BYTES: usize = 10;

/// Sorts records of 100 bytes by their first 10 bytes.
#[derive(Args)]
struct TeraSort {
    /// Files, directories or globs to read
    #[arg(long, required = true, value_name = "URI", num_args = 1..)]
    input: Vec<String>,
    /// Directory for the sorted records
    #[arg(long, value_name = "URI")]
    output: String,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &TeraSort, plan: &mut Plan) {
    sort(plan.read(Records::at(&args.input, RECORD_BYTES))).write(RawOutput::at(&args.output));
}

fn sort(records: Dataset<Vec<u8>>) -> Keyed<Vec<u8>, Vec<u8>> {
    let keyed: Keyed<Vec<u8>, Vec<u8>> =
        records.map(|record, out| out.emit(&record[..KEY_BYTES], &record[KEY_BYTES..]));
    keyed.range_partition().reduce(|key, mut rests, out| {
        while let Some(rest) = rests.next() {
            out.emit(key, rest);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::sort;
    use gristmill::testing;

    /// Keys that occur twice, in no order.
    fn records() -> Vec<Vec<u8>> {
        (0..20_000_u32).map(|row| format!("{:010}{row:090}", row * 7919 % 10_007).into_bytes()).collect()
    }

    #[test]
    fn all_records_come_out_in_total_order() {
        let pairs = testing::run_in_order(records(), sort);
        assert!(pairs.is_sorted_by_key(|(key, _)| key));
        let mut sorted: Vec<Vec<u8>> = pairs.into_iter().map(|(key, rest)| [key, rest].concat()).collect();
        let mut expected = records();
        sorted.sort();
        expected.sort();
        assert!(sorted == expected, "records are missing, or there are others");
    }

    #[test]
    fn no_records_are_sorted_too() {
        assert_eq!(testing::run_in_order([[]; 0], sort), []);
    }
}
