//! How fast tables and compressed files are read, beside the same work without Gristmill. By command: `bench/formats/run`.

use gristmill::arrow::array::AsArray;
use gristmill::arrow::datatypes::{Float64Type, UInt64Type};
use gristmill::{
    Batch, Compression, Datum, Emit, Lines, LocalOptions, Parquet, ParquetBatches, ParquetOutput, Plan,
    Report, Rows, TextOutput, run_local, words,
};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

const ROWS: u64 = 2_000_000;
/// The best of so many runs counts.
const RUNS: u32 = 3;
/// The median of so many ratios counts.
const ROUNDS: usize = 9;

/// Twenty columns of eight bytes.
#[derive(Clone, Debug, Serialize, Deserialize, Datum)]
struct Flat {
    id: u64,
    price: f64,
    c02: u64,
    c03: u64,
    c04: u64,
    c05: u64,
    c06: u64,
    c07: u64,
    c08: u64,
    c09: u64,
    c10: u64,
    c11: u64,
    c12: u64,
    c13: u64,
    c14: u64,
    c15: u64,
    c16: u64,
    c17: u64,
    c18: u64,
    c19: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, Datum)]
struct Narrow {
    id: u64,
    price: f64,
}

fn flat(id: u64) -> Flat {
    // Numbers that do not compress: every column has its eight bytes.
    let any = |n: u64| {
        (id * 20 + n).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    };
    let mut next = 1;
    let mut c = || {
        next += 1;
        any(next)
    };
    Flat {
        id: any(0),
        price: any(1) as f64,
        c02: c(),
        c03: c(),
        c04: c(),
        c05: c(),
        c06: c(),
        c07: c(),
        c08: c(),
        c09: c(),
        c10: c(),
        c11: c(),
        c12: c(),
        c13: c(),
        c14: c(),
        c15: c(),
        c16: c(),
        c17: c(),
        c18: c(),
        c19: c(),
    }
}

fn run_once(threads: usize, job: impl Fn(&mut Plan)) -> (Duration, Report) {
    let options =
        LocalOptions { threads, existing: gristmill::Existing::Overwrite, ..LocalOptions::default() };
    let began = Instant::now();
    let report = run_local(&options, job).expect("the job");
    (began.elapsed(), report)
}

fn run(threads: usize, job: impl Fn(&mut Plan)) -> (Duration, Report) {
    let runs = (0..RUNS).map(|_| run_once(threads, &job));
    runs.min_by_key(|(elapsed, _)| *elapsed).expect("several runs")
}

fn timed(work: impl Fn()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn best(work: impl Fn()) -> Duration {
    let runs = (0..RUNS).map(|_| timed(&work));
    runs.min().expect("several runs")
}

#[test]
#[ignore = "a measurement: bench/formats/run"]
fn a_scan_of_two_of_twenty_columns() {
    let dir = tempfile::tempdir().expect("tempdir");
    let output = dir.path().join("wide").display().to_string();
    run_local(&LocalOptions { threads: 1, ..LocalOptions::default() }, |plan| {
        let rows = plan.read(Rows::new(ROWS)).map(|id, out: &mut Emit<u64, ()>| out.emit(id, ()));
        let one = rows.reducers(1).reduce(|id, _, out: &mut Emit<(), Flat>| out.emit((), flat(id)));
        one.values().write(ParquetOutput::at(&output));
    })
    .expect("written");
    let path = Path::new(&output).join("part-r-00000.parquet");
    let bytes = fs::metadata(&path).expect("the file").len();
    let bare = best(|| {
        let builder =
            ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("open")).expect("a footer");
        let mask = ProjectionMask::roots(builder.parquet_schema(), [0, 1]);
        let (mut rows, mut ids, mut prices) = (0, 0_u64, 0.0);
        for batch in builder.with_projection(mask).with_batch_size(1024).build().expect("a reader") {
            let batch = batch.expect("a batch");
            let (id, price) =
                (batch.column(0).as_primitive::<UInt64Type>(), batch.column(1).as_primitive::<Float64Type>());
            for row in 0..batch.num_rows() {
                ids = ids.wrapping_add(id.value(row));
                prices += price.value(row);
            }
            rows += batch.num_rows() as u64;
        }
        assert!(rows == ROWS && ids > 0 && prices > 0.0);
    });
    let (typed, report) = run(1, |plan| {
        let ids = plan.counter("ids");
        let rows = plan.read(Parquet::<Narrow>::at(&output));
        rows.map(move |row: Narrow, out: &mut Emit<(), ()>| out.count(ids, row.id ^ row.price.to_bits()))
            .discard();
    });
    let (batches, _) = run(1, |plan| {
        let ids = plan.counter("ids");
        let rows = plan.read(ParquetBatches::at(&output).columns(["id", "price"]));
        let sums = rows.map(move |Batch(batch), out: &mut Emit<(), ()>| {
            let (id, price) =
                (batch.column(0).as_primitive::<UInt64Type>(), batch.column(1).as_primitive::<Float64Type>());
            let sum = (0..batch.num_rows())
                .fold(0, |sum: u64, row| sum.wrapping_add(id.value(row) ^ price.value(row).to_bits()));
            out.count(ids, sum);
        });
        sums.discard();
    });
    let rate = |elapsed: Duration| ROWS as f64 / elapsed.as_secs_f64() / 1e6;
    println!(
        "read {} of {bytes} bytes: {:.1} %",
        report.read_bytes,
        100.0 * report.read_bytes as f64 / bytes as f64
    );
    println!(
        "bare loop {:.1}, rows {:.1}, batches {:.1} million rows/s",
        rate(bare),
        rate(typed),
        rate(batches)
    );
}

#[test]
#[ignore = "a measurement: bench/formats/run"]
fn decompression_beside_map_work() {
    let dir = tempfile::tempdir().expect("tempdir");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let text = at("text");
    let written = |output: &str, compression: Option<Compression>| {
        let output = output.to_owned();
        run_local(&LocalOptions { threads: 1, ..LocalOptions::default() }, move |plan| {
            let line = |row: u64| {
                format!(
                    "{:x} {} some words that repeat {}",
                    row.wrapping_mul(0x9E37_79B9),
                    row % 977,
                    row % 13
                )
            };
            let rows = plan.read(Rows::new(1_500_000)).map(|row, out: &mut Emit<u64, ()>| out.emit(row, ()));
            let lines =
                rows.reducers(2).reduce(move |row, _, out: &mut Emit<String, ()>| out.emit(&line(row), ()));
            let sink = TextOutput::at(output);
            lines.write(match compression {
                None => sink,
                Some(compression) => sink.compressed(compression),
            });
        })
        .expect("written");
    };
    written(&text, None);
    let count = |input: &str| {
        let output = at("out");
        let options = move |plan: &mut Plan| {
            let lines = plan.read(Lines::at(input));
            let words = lines
                .map(|line, out: &mut Emit<Vec<u8>, u64>| words(line).for_each(|word| out.emit(word, 1)));
            let counts = words.combine(|sum, n| *sum += n);
            counts
                .reduce(|word, counts, out: &mut Emit<Vec<u8>, u64>| out.emit(word, counts.sum()))
                .write(TextOutput::at(&output));
        };
        let (took, report) = run_once(1, options);
        assert_eq!(report.stages[0].tasks, 2, "a file is a split, compressed or not: the tables are equal");
        took
    };
    for compression in [Compression::Gzip, Compression::Zstd] {
        let packed = at(compression.name());
        written(&packed, Some(compression));
        let decompress = || {
            for part in 0..2 {
                let path = format!("{packed}/part-r-0000{part}.{}", compression.suffix());
                let file = File::open(&path).expect("open");
                let mut decoder: Box<dyn Read> = match compression {
                    Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
                    _ => Box::new(zstd::stream::read::Decoder::new(file).expect("a decoder")),
                };
                std::io::copy(&mut decoder, &mut std::io::sink()).expect("decompressed");
            }
        };
        // Of each round, because what new memory costs changes in a process' life.
        let mut ratios: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let (alone, map, both) = (timed(decompress), count(&text), count(&packed));
                both.as_secs_f64() / map.max(alone).as_secs_f64()
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let (least, median, most) = (ratios[0], ratios[ROUNDS / 2], ratios[ROUNDS - 1]);
        println!("{compression}: {median:.2} of the slower [{least:.2}..{most:.2}]");
    }
}
