//! Tables and compressed files through whole jobs: what is written reads back, and what is wrong is told.

use gristmill::arrow::array::{ArrayRef, RecordBatch, StringArray};
use gristmill::arrow::datatypes::{DataType, Field, Schema};
use gristmill::{
    Batch, Compression, Csv, CsvOutput, Dataset, Datum, Emit, JobError, JsonLines, JsonLinesOutput, Lines,
    LocalOptions, Parquet, ParquetBatchOutput, ParquetBatches, ParquetOutput, Plan, Report, Row, Rows, Text,
    TextOutput, run_local,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::GzipLevel;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize, Datum)]
struct Trip {
    id: u64,
    city: String,
    fare: Option<f64>,
}

fn trips(count: u64) -> Vec<Trip> {
    let trip = |id| Trip {
        id,
        city: ["Wien", "a \"b\", c\nd", "", "Zürich\r\n"][id as usize % 4].to_owned(),
        fare: (id % 3 > 0).then_some(id as f64 / 4.0),
    };
    (0..count).map(trip).collect()
}

fn made(plan: &mut Plan, count: u64) -> Dataset<Trip> {
    let rows = trips(count);
    plan.read(Rows::new(count))
        .map(move |row, out: &mut Emit<(), Trip>| out.emit((), rows[row as usize].clone()))
        .values()
}

fn run(job: impl FnOnce(&mut Plan)) -> Result<Report, JobError> {
    run_local(&LocalOptions { threads: 2, ..LocalOptions::default() }, job)
}

/// What a plan reads, in no order.
fn gather<T: Row + Clone + PartialOrd + Sync>(
    read: impl FnOnce(&mut Plan) -> Dataset<T>,
) -> Result<(Vec<T>, Report), JobError> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let keep = found.clone();
    let report = run(|plan| {
        read(plan)
            .map(move |record: T, _: &mut Emit<(), ()>| keep.lock().expect("no panic").push(record))
            .discard();
    })?;
    let mut found = found.lock().expect("no panic").clone();
    found.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    Ok((found, report))
}

fn uri(path: &Path) -> String {
    path.to_str().expect("utf-8").to_owned()
}

#[test]
fn tables_read_back_as_they_were_written() {
    let dir = tempfile::tempdir().expect("tempdir");
    for compression in [None, Some(Compression::Zstd), Some(Compression::Gzip)] {
        let at = |name: &str| uri(&dir.path().join(format!("{name}-{compression:?}")));
        let (csv, tsv, json) = (at("csv"), at("tsv"), at("json"));
        run(|plan| {
            let (mut c, mut t) = (CsvOutput::at(&csv), CsvOutput::at(&tsv).delimiter(b'\t').no_header());
            let mut j = JsonLinesOutput::at(&json);
            if let Some(compression) = compression {
                (c, t, j) = (c.compressed(compression), t.compressed(compression), j.compressed(compression));
            }
            made(plan, 1000).write(c);
            made(plan, 1000).write(t);
            made(plan, 1000).write(j);
        })
        .expect("the job");
        let suffix = compression.map_or(String::new(), |compression| format!(".{}", compression.suffix()));
        assert!(Path::new(&csv).join(format!("part-m-00000.csv{suffix}")).exists());
        let expected = trips(1000);
        assert_eq!(gather(|plan| plan.read(Csv::<Trip>::at(&csv))).expect("CSV").0, expected);
        let positions = |plan: &mut Plan| plan.read(Csv::<Trip>::at(&tsv).delimiter(b'\t').no_header());
        assert_eq!(gather(positions).expect("TSV").0, expected);
        assert_eq!(gather(|plan| plan.read(JsonLines::<Trip>::at(&json))).expect("JSON").0, expected);
    }
}

#[test]
fn lines_of_our_own_compressed_output_are_split_and_those_of_gzip_are_told_of() {
    let dir = tempfile::tempdir().expect("tempdir");
    let line = |row: u64| format!("{row} {}", "some text to fill a frame ".repeat(40));
    for (compression, splits) in [(Compression::Zstd, 3), (Compression::Gzip, 1)] {
        let output = uri(&dir.path().join(compression.name()));
        run(|plan| {
            let rows = plan.read(Rows::new(12_000)).map(|row, out: &mut Emit<u64, ()>| out.emit(row, ()));
            let one =
                rows.reducers(1).reduce(move |row, _, out: &mut Emit<String, ()>| out.emit(&line(row), ()));
            one.keys().write(TextOutput::at(&output).compressed(compression));
        })
        .expect("written");
        let read = |plan: &mut Plan| {
            let rows = plan.read(Text::at(&output)).map(|line, out: &mut Emit<u64, ()>| {
                out.emit(line.split(' ').next().expect("a number").parse().expect("a number"), ());
            });
            rows.reduce(|row, times, out: &mut Emit<u64, u64>| {
                out.emit(row, times.into_iter().count() as u64)
            })
        };
        let sums = uri(&dir.path().join(format!("{}-sums", compression.name())));
        let options = LocalOptions { threads: 2, split_bytes: Some(5_000), ..LocalOptions::default() };
        let report = run_local(&options, |plan| read(plan).write(TextOutput::at(&sums))).expect("read");
        assert_eq!(
            (report.stages[0].records_in, report.stages[1].groups),
            (12_000, 12_000),
            "each line once"
        );
        let tasks = report.stages[0].tasks;
        assert!(if splits == 1 { tasks == 1 } else { tasks >= splits }, "{compression}: {tasks} tasks");
        assert_eq!(report.notes.len(), usize::from(splits == 1), "{:?}", report.notes);
        assert!(
            report.notes.iter().all(|note| note.contains("part-r-00000.gz") && note.contains("KiB")),
            "{:?}",
            report.notes
        );
    }
}

#[test]
fn a_quoted_line_end_is_data_and_an_error_only_where_lines_were_promised() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("trips.csv");
    let body = "\u{feff}fare,city,unused,id\n,\"two\r\nlines \"\"q\"\"\",x,0\r\n\n2.5,Graz,\"y,z\",1\n";
    fs::write(&path, body).expect("write");
    let (found, _) = gather(|plan| plan.read(Csv::<Trip>::at(uri(&path)))).expect("columns by name");
    let city = |id: u64, city: &str, fare| Trip { id, city: city.to_owned(), fare };
    assert_eq!(found, [city(0, "two\r\nlines \"q\"", None), city(1, "Graz", Some(2.5))]);

    let lines = |plan: &mut Plan| plan.read(Csv::<Trip>::at(uri(&path)).split_at_lines());
    let error = gather(lines).expect_err("a line is no record").to_string();
    assert!(error.contains("split_at_lines") && error.contains("offset"), "{error}");
}

#[test]
fn bad_records_fail_the_job_or_are_counted() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("trips.csv");
    fs::write(&path, "id,city,fare\n1,a,\nx,b,1\n2,c\n3,d,4\n").expect("write");
    let error =
        gather(|plan| plan.read(Csv::<Trip>::at(uri(&path)))).expect_err("x is no number").to_string();
    assert!(error.contains("offset 18 of") && error.contains("trips.csv"), "{error}");
    gather(|plan| plan.read(Csv::<Trip>::at(uri(&path)).skip_bad(1))).expect_err("two are bad");
    let (found, report) =
        gather(|plan| plan.read(Csv::<Trip>::at(uri(&path)).skip_bad(2))).expect("two may be");
    assert_eq!((found.len(), report.bad_records), (2, 2));
}

#[test]
fn a_truncated_file_fails_the_job_or_is_counted() {
    let dir = tempfile::tempdir().expect("tempdir");
    let output = uri(&dir.path().join("out"));
    run(|plan| made(plan, 5000).write(JsonLinesOutput::at(&output).compressed(Compression::Gzip)))
        .expect("written");
    let part = Path::new(&output).join("part-m-00000.jsonl.gz");
    let bytes = fs::read(&part).expect("read");
    fs::write(&part, &bytes[..bytes.len() / 2]).expect("write");
    let error =
        gather(|plan| plan.read(JsonLines::<Trip>::at(&output))).expect_err("half a file").to_string();
    assert!(error.contains("truncated") && error.contains("part-m-00000.jsonl.gz"), "{error}");
    let (found, report) =
        gather(|plan| plan.read(JsonLines::<Trip>::at(&output).skip_bad(1))).expect("one may be");
    assert!(found.len() > 1000 && found.len() < 5000, "{}", found.len());
    assert_eq!(report.bad_records, 1);
    let lines = |plan: &mut Plan| {
        plan.read(Lines::at(&output).skip_damaged(1))
            .map(|_, out: &mut Emit<(), ()>| out.emit((), ()))
            .discard();
    };
    assert_eq!(run(lines).expect("one may be").bad_records, 1);
}

#[test]
fn files_go_to_directories_named_after_what_they_hold() {
    let dir = tempfile::tempdir().expect("tempdir");
    let output = uri(&dir.path().join("out"));
    run(|plan| {
        made(plan, 40)
            .partition_files_by(["even", "city"], |trip| {
                [(trip.id.is_multiple_of(2)).to_string(), trip.city.clone()]
            })
            .write(CsvOutput::at(&output));
    })
    .expect("the job");
    let mut directories = Vec::new();
    for even in fs::read_dir(&output).expect("directories").map(|entry| entry.expect("an entry").path()) {
        if even.is_dir() {
            let cities =
                fs::read_dir(&even).expect("directories").map(|entry| entry.expect("an entry").path());
            directories
                .extend(cities.map(|city| city.strip_prefix(&output).expect("below").display().to_string()));
        }
    }
    directories.sort();
    let expected = [
        "even=false/city=Zürich%0D%0A",
        "even=false/city=a %22b%22, c%0Ad",
        "even=true/city=Wien",
        "even=true/city=__HIVE_DEFAULT_PARTITION__",
    ];
    assert_eq!(directories, expected);
    assert_eq!(gather(|plan| plan.read(Csv::<Trip>::at(&output))).expect("all of them").0, trips(40));
    let one = format!("{output}/even=true/city=Wien");
    let (found, _) = gather(|plan| plan.read(Csv::<Trip>::at(&one))).expect("one of them");
    assert!(found.len() == 10 && found.iter().all(|trip| trip.city == "Wien"), "{found:?}");
}

#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize, Datum)]
enum Kind {
    Plain,
    Express,
}

#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize, Datum)]
struct Stop {
    name: String,
    at: Option<(f32, f32)>,
}

#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize, Datum)]
struct Ride {
    id: u32,
    kind: Kind,
    tags: Vec<Option<String>>,
    stops: Option<Vec<Stop>>,
    first: Stop,
    flag: bool,
    small: i8,
    price: Option<f64>,
    filler: String,
}

fn ride(id: u32) -> Ride {
    let stop =
        |n: u32| Stop { name: format!("stop {n}"), at: (n.is_multiple_of(2)).then_some((n as f32, -1.5)) };
    Ride {
        id,
        kind: if id.is_multiple_of(3) { Kind::Express } else { Kind::Plain },
        tags: (0..id % 4).map(|n| (n.is_multiple_of(2)).then(|| format!("tag {n}"))).collect(),
        stops: (!id.is_multiple_of(5)).then(|| (0..id % 3).map(stop).collect()),
        first: stop(id),
        flag: id.is_multiple_of(7),
        small: (id % 100) as i8 - 50,
        price: (!id.is_multiple_of(2)).then_some(f64::from(id) / 8.0),
        // Random enough that it does not vanish in compression.
        filler: format!("{:032x}", u128::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)),
    }
}

/// Rides in order, in one file, in small row groups.
fn write_rides(output: &str, count: u64) {
    let options = LocalOptions { threads: 1, memory_bytes: 24 << 20, ..LocalOptions::default() };
    run_local(&options, |plan| {
        let rides =
            plan.read(Rows::new(count)).map(|row, out: &mut Emit<u64, Ride>| out.emit(row, ride(row as u32)));
        let ordered = rides.reducers(1).reduce(|row, rides, out: &mut Emit<u64, Ride>| {
            rides.into_iter().for_each(|ride| out.emit(row, ride));
        });
        ordered.values().write(ParquetOutput::at(output));
    })
    .expect("written");
}

#[test]
fn rows_of_any_shape_come_back_from_parquet_whatever_the_splits() {
    let dir = tempfile::tempdir().expect("tempdir");
    let output = uri(&dir.path().join("rides"));
    write_rides(&output, 30_000);
    let expected: Vec<Ride> = (0..30_000).map(ride).collect();
    let (found, _) = gather(|plan| plan.read(Parquet::<Ride>::at(&output))).expect("read");
    assert!(found == expected, "{:?}", found.iter().zip(&expected).find(|(a, b)| a != b));
    for split_bytes in [1_000, 77_777, 400_000] {
        let options = LocalOptions { threads: 2, split_bytes: Some(split_bytes), ..LocalOptions::default() };
        let report = run_local(&options, |plan| {
            let rows = plan
                .read(Parquet::<Ride>::at(&output))
                .map(|ride: Ride, out: &mut Emit<u32, ()>| out.emit(ride.id, ()));
            rows.reduce(|_, times, out: &mut Emit<(), ()>| {
                assert_eq!(times.into_iter().map(|()| out.emit((), ())).count(), 1)
            })
            .discard();
        })
        .expect("read in splits");
        assert_eq!((report.stages[0].records_in, report.stages[1].groups), (30_000, 30_000), "{split_bytes}");
    }
}

#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize, Datum)]
struct Priced {
    price: Option<f64>,
    id: u64,
}

#[test]
fn columns_that_are_not_wanted_and_groups_that_cannot_match_are_not_read() {
    let dir = tempfile::tempdir().expect("tempdir");
    let output = uri(&dir.path().join("rides"));
    write_rides(&output, 60_000);
    let bytes = fs::metadata(Path::new(&output).join("part-r-00000.parquet")).expect("the file").len();
    let (found, all) = gather(|plan| plan.read(Parquet::<Priced>::at(&output))).expect("two columns");
    let expected = |id: u64| Priced { id, price: ride(id as u32).price };
    let mut sorted: Vec<u64> = found.iter().map(|row| row.id).collect();
    sorted.sort_unstable();
    assert!(sorted == (0..60_000).collect::<Vec<u64>>() && found.iter().all(|row| *row == expected(row.id)));
    assert!(all.read_bytes * 4 < bytes, "{} of {bytes} bytes for two of nine columns", all.read_bytes);
    let some = |plan: &mut Plan| plan.read(Parquet::<Priced>::at(&output).skip_groups_outside("id", 10, 20));
    let (found, report) = gather(some).expect("one group");
    assert!(found.len() < 50_000 && (10..=20).all(|id| found.contains(&expected(id))), "{}", found.len());
    assert!(report.read_bytes < all.read_bytes, "{} of {}", report.read_bytes, all.read_bytes);
}

#[test]
fn batches_go_through_a_shuffle_and_into_files() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (rides, copy) = (uri(&dir.path().join("rides")), uri(&dir.path().join("copy")));
    write_rides(&rides, 5000);
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::UInt32, false),
        Field::new("price", DataType::Float64, true),
    ]));
    run(|plan| {
        let batches = plan.read(ParquetBatches::at(&rides).columns(["id", "price"]));
        let shuffled = batches
            .map(|batch: Batch, out: &mut Emit<u64, Batch>| out.emit(batch.0.num_rows() as u64, batch));
        let same = shuffled.reduce(|rows, batches, out: &mut Emit<u64, Batch>| {
            batches.into_iter().for_each(|batch| out.emit(rows, batch));
        });
        same.values().write(ParquetBatchOutput::at(&copy, schema));
    })
    .expect("copied");
    let (mut found, _) = gather(|plan| plan.read(Parquet::<Priced>::at(&copy))).expect("read");
    found.sort_by_key(|row| row.id);
    let expected: Vec<Priced> = (0..5000).map(|id| Priced { id, price: ride(id as u32).price }).collect();
    assert!(found == expected);
    let missing = run(|plan| {
        plan.read(ParquetBatches::at(&rides).columns(["nothing"])).map(|_, _: &mut Emit<(), ()>| ()).discard()
    });
    let error = missing.expect_err("no such column").to_string();
    assert!(error.contains("nothing") && error.contains("part-r-00000.parquet"), "{error}");
}

#[test]
fn damaged_parquet_is_an_error_that_names_the_file_or_harmless() {
    let dir = tempfile::tempdir().expect("tempdir");
    let output = uri(&dir.path().join("rides"));
    write_rides(&output, 300);
    let part = Path::new(&output).join("part-r-00000.parquet");
    let whole = fs::read(&part).expect("read");
    let expected: Vec<Ride> = (0..300).map(ride).collect();
    let mut refused = 0;
    let mut check = |bytes: &[u8]| {
        fs::write(&part, bytes).expect("write");
        match gather(|plan| plan.read(Parquet::<Ride>::at(&output))) {
            Ok((found, _)) => assert!(found.len() == expected.len(), "{} rows", found.len()),
            Err(error) => {
                assert!(error.to_string().contains("part-r-00000.parquet"), "{error}");
                refused += 1;
            }
        }
    };
    for bytes in (0..whole.len()).step_by(whole.len() / 60) {
        check(&whole[..bytes]);
    }
    for at in (whole.len() / 2..whole.len()).step_by(37) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        check(&damaged);
    }
    assert!(refused > 100, "{refused}");
}

/// A Parquet file of one text, in one page.
fn write_text(path: &Path, text: String, compression: parquet::basic::Compression) {
    let properties = WriterProperties::builder().set_compression(compression).set_dictionary_enabled(false);
    let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let batch = RecordBatch::try_from_iter([("text", column)]).expect("a batch");
    let file = fs::File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("written");
}

#[test]
fn a_parquet_page_that_is_too_large_for_a_task_is_refused_before_it_is_decompressed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("bomb.parquet");
    let read = |memory_bytes: u64| {
        let options = LocalOptions { threads: 1, memory_bytes, ..LocalOptions::default() };
        let batches = ParquetBatches::at(uri(&path));
        run_local(&options, |plan| plan.read(batches).map(|_, _: &mut Emit<(), ()>| ()).discard())
    };
    for compression in
        [parquet::basic::Compression::GZIP(GzipLevel::default()), parquet::basic::Compression::SNAPPY]
    {
        write_text(&path, "a".repeat(20 << 20), compression);
        assert!(fs::metadata(&path).expect("it is there").len() < 2 << 20, "it is small as a file");
        let error = read(24 << 20).expect_err("a task takes 12 MiB at most").to_string();
        assert!(error.contains("bomb.parquet") && error.contains("a page of 209715"), "{error}");
        read(1 << 30).expect("there is memory for it");
    }
}
