//! Checks that files of 100-byte records are sorted by their first 10 bytes, within each file and from one file
//! to the next in the order of their paths.
//!
//! The job fails at the first record whose key is less than the one before it, naming file and offset; otherwise
//! it prints `rows N checksum HEX`, the same as `tera_gen` printed for these records.

use clap::Args;
use gristmill::{Dataset, Datum, Emit, Keyed, Plan, Records};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use xxhash_rust::xxh3::xxh3_64;

const RECORD_BYTES: usize = 100;
type RecordKey = [u8; 10];

/// Checks that records are sorted, and prints how many there are and their checksum.
#[derive(Args)]
struct TeraValidate {
    /// Files, directories or globs to check
    #[arg(long, required = true, value_name = "URI", num_args = 1..)]
    input: Vec<String>,
}

/// Records that one task found next to each other in one file.
#[derive(Serialize, Deserialize, Datum)]
struct Piece {
    /// Its path.
    file: Vec<u8>,
    offset: u64,
    first: RecordKey,
    last: RecordKey,
    /// Offset of the first record within the piece whose key is less than the one before it.
    disorder: Option<u64>,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &TeraValidate, plan: &mut Plan) {
    validate(plan.read(Records::at(&args.input, RECORD_BYTES))).discard();
    plan.afterwards(|report| {
        format!("rows {} checksum {:016x}", report.counter("rows"), report.counter("checksum"))
    });
}

fn validate(records: Dataset<Vec<u8>>) -> Keyed<(), ()> {
    let (rows, checksum) = (records.counter("rows"), records.counter("checksum"));
    let look = move |current: &mut Option<Piece>, record: &[u8], out: &mut Emit<(), Piece>| {
        out.count(rows, 1);
        out.count(checksum, xxh3_64(record));
        let key = *record.first_chunk().expect("a record is longer than its key");
        let (file, offset) = out.place().expect("records of files have a place");
        let file = file.as_os_str().as_encoded_bytes();
        match current {
            Some(piece) if piece.file == file => {
                if key < piece.last {
                    piece.disorder.get_or_insert(offset);
                }
                piece.last = key;
            }
            _ => {
                let piece = Piece { file: file.to_vec(), offset, first: key, last: key, disorder: None };
                emit(current.replace(piece), out);
            }
        }
    };
    records
        .map_finish(|| None, look, emit)
        .sort_values_by(|piece| (piece.file, piece.offset))
        .reducers(1)
        .try_reduce(|(), pieces, _| {
            let mut before = RecordKey::default();
            for piece in pieces {
                let disorder = if piece.first < before { Some(piece.offset) } else { piece.disorder };
                if let Some(offset) = disorder {
                    let file = String::from_utf8_lossy(&piece.file);
                    return Err(format!(
                        "{file} is not sorted: the key at offset {offset} is less than the one before it"
                    ));
                }
                before = piece.last;
            }
            Ok(())
        })
}

fn emit(piece: Option<Piece>, out: &mut Emit<(), Piece>) {
    if let Some(piece) = piece {
        out.emit((), piece);
    }
}

#[cfg(test)]
mod tests {
    use super::{RECORD_BYTES, validate};
    use gristmill::{JobError, Records, Report, testing};
    use std::fs;

    /// Writes each list of keys to a file `0`, `1`, ... and validates the directory.
    fn check(files: &[Vec<u64>]) -> Result<Report, JobError> {
        let dir = tempfile::tempdir().unwrap();
        for (number, keys) in files.iter().enumerate() {
            let records: String = keys.iter().map(|key| format!("{key:010}{:090}", 0)).collect();
            fs::write(dir.path().join(number.to_string()), records).unwrap();
        }
        let uri = dir.path().to_str().unwrap();
        let (_, report) = testing::try_run(|plan| validate(plan.read(Records::at(uri, RECORD_BYTES))))?;
        Ok(report)
    }

    #[track_caller]
    fn assert_disorder(files: &[Vec<u64>], expected: &str) {
        let error = check(files).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn sorted_files_pass_and_are_counted() {
        let sorted = check(&[vec![0, 1, 1], vec![], vec![1, 2, 2]]).unwrap();
        let other_order = check(&[vec![0, 1, 1, 1, 2, 2]]).unwrap();
        assert_eq!(sorted.counter("rows"), 6);
        assert_eq!(sorted.counter("checksum"), other_order.counter("checksum"));
        assert_ne!(sorted.counter("checksum"), check(&[vec![0, 1, 1]]).unwrap().counter("checksum"));
        assert_eq!(check(&[vec![]]).unwrap().counter("rows"), 0);
    }

    #[test]
    fn disorder_within_a_file_is_found() {
        assert_disorder(&[vec![1, 2], vec![3, 5, 4, 3]], "/1 is not sorted: the key at offset 200 is less");
        let mut long: Vec<u64> = (0..30_000).collect();
        long[29_998] = 7;
        assert_disorder(&[long], "/0 is not sorted: the key at offset 2999800 is less");
    }

    #[test]
    fn disorder_between_files_is_found() {
        assert_disorder(&[vec![1, 2], vec![], vec![1, 5]], "/2 is not sorted: the key at offset 0 is less");
    }
}
