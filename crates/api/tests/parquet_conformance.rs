//! Every file of Apache's conformance set gives its rows or a clear error. By command, as the set is not part of this repository:
//!
//! ```text
//! git clone https://github.com/apache/parquet-testing
//! PARQUET_TESTING=$PWD/parquet-testing cargo test -p gristmill --test parquet_conformance -- --ignored --nocapture
//! ```

use gristmill::{Batch, Emit, LocalOptions, ParquetBatches, run_local};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
}

/// The rows of a file, through a whole job.
fn rows(path: &Path) -> Result<u64, String> {
    let rows = Arc::new(AtomicU64::new(0));
    let seen = rows.clone();
    let options = LocalOptions { threads: 1, ..LocalOptions::default() };
    let read = run_local(&options, |plan| {
        let batches = plan.read(ParquetBatches::at(path.to_str().expect("utf-8")));
        let count = batches.map(move |Batch(batch), _: &mut Emit<(), ()>| {
            seen.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        });
        count.discard();
    });
    read.map(|_| rows.load(Ordering::Relaxed)).map_err(|error| error.to_string())
}

/// What the file's own footer says of its row groups, if it can be read; of the file as a whole one of the set says nothing.
fn said(path: &Path) -> Option<u64> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let file = fs::File::open(path).expect("it opens");
    let footer = std::panic::catch_unwind(|| SerializedFileReader::new(file)).ok()?.ok()?;
    let rows: i64 = footer.metadata().row_groups().iter().map(|group| group.num_rows()).sum();
    u64::try_from(rows).ok()
}

#[test]
#[ignore = "needs PARQUET_TESTING, a clone of apache/parquet-testing"]
fn every_file_gives_its_rows_or_a_clear_error() {
    let set = std::env::var("PARQUET_TESTING").expect("PARQUET_TESTING names the set");
    let mut paths = Vec::new();
    files(Path::new(&set), &mut paths);
    paths.sort();
    assert!(paths.len() > 50, "{} files only", paths.len());
    let (mut right, mut refused, mut panicked) = (0, 0, Vec::new());
    for path in &paths {
        match rows(path) {
            Ok(rows) => {
                assert_eq!(Some(rows), said(path), "{}", path.display());
                right += 1;
            }
            Err(error) => {
                println!("{error}");
                let name = path.file_name().expect("a name").to_str().expect("utf-8");
                assert!(error.contains(name), "{error}");
                if error.contains("panicked") {
                    panicked.push(name.to_owned());
                }
                refused += 1;
            }
        }
    }
    println!(
        "{} files: {right} right, {refused} refused, of these by a panic of the reader: {panicked:?}",
        paths.len()
    );
}
