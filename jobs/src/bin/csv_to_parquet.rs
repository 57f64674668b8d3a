//! Turns CSV or TSV files, compressed or not, into Parquet files with typed columns.

use clap::Args;
use gristmill::arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use gristmill::arrow::compute::cast;
use gristmill::arrow::compute::kernels::cast_utils::Parser;
use gristmill::arrow::datatypes::{
    DataType, Date32Type, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use gristmill::{Batch, Csv, Datum, Emit, ParquetBatchOutput, Plan};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use std::sync::Arc;
use thiserror::Error;

/// Rows of a batch.
const BATCH_ROWS: usize = 1024;

/// Turns CSV or TSV files, compressed or not, into Parquet files with typed columns.
#[derive(Args)]
struct CsvToParquet {
    /// Files, directories or globs to read; each begins with a header
    #[arg(long, required = true, value_name = "URI", num_args = 1..)]
    input: Vec<String>,
    /// Directory for the Parquet files
    #[arg(long, value_name = "URI")]
    output: String,
    /// Names and types of all columns, in their order; types are int, float, bool, date, timestamp and text
    #[arg(long, required = true, value_name = "NAME:TYPE", value_delimiter = ',', value_parser = column)]
    columns: Vec<Field>,
    /// What separates fields; "\t" for TSV
    #[arg(long, default_value = ",", value_name = "C", value_parser = delimiter)]
    delimiter: u8,
    /// No field holds a line end: files may be cut into splits
    #[arg(long)]
    split_at_lines: bool,
    /// Skip up to N records that are not as they should be; one more fails the job
    #[arg(long, default_value_t = 0, value_name = "N")]
    skip_bad: u64,
}

/// The fields of a record, whatever they are called.
#[derive(Serialize, Deserialize, Datum)]
struct Fields(Vec<String>);

/// Why a record does not go into the columns.
#[derive(Debug, Error)]
enum BadRow {
    #[error("the record has {found} fields, and --columns names {expected}")]
    Fields { found: usize, expected: usize },
    #[error("column {column}: {text:?} is no {data_type}")]
    Value { column: String, text: String, data_type: DataType },
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &CsvToParquet, plan: &mut Plan) {
    let schema = Arc::new(Schema::new(args.columns.clone()));
    let mut csv = Csv::<Fields>::at(&args.input).delimiter(args.delimiter).skip_bad(args.skip_bad);
    if args.split_at_lines {
        csv = csv.split_at_lines();
    }
    let (checked, made) = (schema.clone(), schema.clone());
    let rows = plan.read(csv).try_map(move |row: Fields, out: &mut Emit<(), Fields>| {
        check(&row, &checked)?;
        out.emit((), row);
        Ok::<(), BadRow>(())
    });
    let batches = rows.skip_bad(args.skip_bad).values().map_finish(
        move || Columns::new(made.clone()),
        |columns, row: Fields, out: &mut Emit<(), Batch>| {
            columns.push(&row);
            if columns.rows == BATCH_ROWS {
                out.emit((), columns.batch());
            }
        },
        |mut columns, out| out.emit((), columns.batch()),
    );
    batches.values().write(ParquetBatchOutput::at(&args.output, schema));
}

fn column(text: &str) -> Result<Field, String> {
    let (name, kind) = text.rsplit_once(':').unwrap_or((text, "text"));
    let data_type = match kind {
        "int" => DataType::Int64,
        "float" => DataType::Float64,
        "bool" => DataType::Boolean,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "text" => DataType::Utf8,
        other => return Err(format!("{other} is no type: int, float, bool, date, timestamp and text are")),
    };
    Ok(Field::new(name, data_type, true))
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [one] => Ok(*one),
        b"\\t" => Ok(b'\t'),
        _ => Err("a delimiter is one byte, or \\t".to_owned()),
    }
}

/// Empty fields are null; all others must be what their columns hold.
fn check(row: &Fields, schema: &Schema) -> Result<(), BadRow> {
    let (found, expected) = (row.0.len(), schema.fields().len());
    if found != expected {
        return Err(BadRow::Fields { found, expected });
    }
    for (text, field) in row.0.iter().zip(schema.fields()).filter(|(text, _)| !text.is_empty()) {
        let good = match field.data_type() {
            DataType::Int64 => Int64Type::parse(text).is_some(),
            DataType::Float64 => Float64Type::parse(text).is_some(),
            DataType::Boolean => text == "true" || text == "false",
            DataType::Date32 => Date32Type::parse(text).is_some(),
            DataType::Timestamp(..) => TimestampMicrosecondType::parse(text).is_some(),
            _ => true,
        };
        if !good {
            let (column, data_type) = (field.name().clone(), field.data_type().clone());
            return Err(BadRow::Value { column, text: text.clone(), data_type });
        }
    }
    Ok(())
}

/// Rows on their way into a batch, as text.
struct Columns {
    schema: SchemaRef,
    texts: Vec<StringBuilder>,
    rows: usize,
}

impl Columns {
    fn new(schema: SchemaRef) -> Self {
        let texts = schema.fields().iter().map(|_| StringBuilder::new()).collect();
        Self { schema, texts, rows: 0 }
    }

    fn push(&mut self, row: &Fields) {
        for (column, text) in self.texts.iter_mut().zip(&row.0) {
            column.append_option(Some(text).filter(|text| !text.is_empty()));
        }
        self.rows += 1;
    }

    fn batch(&mut self) -> Batch {
        self.rows = 0;
        let fields = self.schema.fields().iter();
        let columns = self.texts.iter_mut().zip(fields).map(|(text, field)| {
            let text: ArrayRef = Arc::new(text.finish());
            cast(&text, field.data_type()).expect("every value was checked")
        });
        let columns = columns.collect();
        Batch(
            RecordBatch::try_new(self.schema.clone(), columns).expect("the columns are those of the schema"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill::{LocalOptions, Parquet, Report, run_local, testing};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Datum)]
    struct Trip {
        day: Option<i32>,
        fare: Option<f64>,
        city: Option<String>,
    }

    fn convert(text: &str, skip_bad: u64) -> Result<(Vec<Trip>, Report), String> {
        let dir = tempfile::tempdir().expect("tempdir");
        let (input, output) = (dir.path().join("trips.csv"), dir.path().join("out").display().to_string());
        std::fs::write(&input, text).expect("write");
        let args = CsvToParquet {
            input: vec![input.display().to_string()],
            output: output.clone(),
            columns: ["day:date", "fare:float", "city"].map(|text| column(text).expect("a column")).into(),
            delimiter: b',',
            split_at_lines: false,
            skip_bad,
        };
        let report = run_local(&LocalOptions::default(), |plan| job(&args, plan))
            .map_err(|error| error.to_string())?;
        let (rows, _) = testing::run_plan_of(|plan| {
            plan.read(Parquet::<Trip>::at(&output))
                .map(|trip: Trip, out: &mut Emit<(), Trip>| out.emit((), trip))
        });
        Ok((rows.into_iter().map(|(_, trip)| trip).collect(), report))
    }

    #[test]
    fn text_becomes_typed_columns_and_nothing_becomes_null() {
        let (mut trips, _) =
            convert("day,fare,city\n1970-01-03,2.5,\"Graz,\nA\"\n,,\n", 0).expect("good rows");
        trips.sort_by_key(|trip| trip.day);
        let graz = Trip { day: Some(2), fare: Some(2.5), city: Some("Graz,\nA".to_owned()) };
        assert_eq!(trips, [Trip { day: None, fare: None, city: None }, graz]);
    }

    #[test]
    fn what_does_not_fit_fails_the_job_or_is_counted() {
        let error = convert("a,b,c\n1970-01-03,much,x\n", 0).expect_err("much is no number");
        assert!(error.contains("fare") && error.contains("much") && error.contains("offset 6"), "{error}");
        let (trips, report) =
            convert("a,b,c\n1970-01-03,much,x\n1970-01-04,1,y\n", 1).expect("one may be bad");
        assert_eq!((trips.len(), report.bad_records), (1, 1));
    }
}
