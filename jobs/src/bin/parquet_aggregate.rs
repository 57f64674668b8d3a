//! Groups the rows of Parquet files by one column and sums another one: `SELECT g, count(v), sum(v), min(v), max(v) ... GROUP BY g`.
//! Of the files, those two columns are read.
//!
//! A line of output is group, TAB, number of values, TAB, sum, TAB, least, TAB, greatest. Rows whose value is null do not count. Sums are
//! those of `f64`: exact for integers up to 2^53, and for other numbers up to rounding, which depends on the splits.

use clap::Args;
use gristmill::arrow::array::{Array, AsArray};
use gristmill::arrow::compute::cast;
use gristmill::arrow::datatypes::{DataType, Float64Type};
use gristmill::arrow::error::ArrowError;
use gristmill::{Batch, Dataset, Emit, Keyed, ParquetBatches, Plan, TextOutput};
use std::process::ExitCode;

/// Groups the rows of Parquet files by one column and sums another one.
#[derive(Args)]
struct Aggregate {
    /// Files, directories or globs to read
    #[arg(long, required = true, value_name = "URI", num_args = 1..)]
    input: Vec<String>,
    /// Directory for the groups, a line each: group, TAB, count, TAB, sum, TAB, least, TAB, greatest
    #[arg(long, value_name = "URI")]
    output: String,
    /// The column whose values are the groups
    #[arg(long, value_name = "COLUMN")]
    group_by: String,
    /// The column whose values are summed
    #[arg(long, value_name = "COLUMN")]
    sum: String,
}

/// Number of values, sum, least, greatest.
type Totals = (u64, f64, f64, f64);

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &Aggregate, plan: &mut Plan) {
    let batches = plan.read(ParquetBatches::at(&args.input).columns([&args.group_by, &args.sum]));
    totals(batches, args.group_by.clone(), args.sum.clone()).write(TextOutput::at(&args.output));
}

fn totals(batches: Dataset<Batch>, group_by: String, sum: String) -> Keyed<String, Totals> {
    let values = batches.try_map(move |Batch(batch), out: &mut Emit<String, Totals>| {
        let column = |name: &str, data_type| {
            let missing = || ArrowError::SchemaError(format!("there is no column {name}"));
            cast(batch.column_by_name(name).ok_or_else(missing)?, &data_type)
        };
        let (groups, values) = (column(&group_by, DataType::Utf8)?, column(&sum, DataType::Float64)?);
        let (groups, values) = (groups.as_string::<i32>(), values.as_primitive::<Float64Type>());
        for row in (0..batch.num_rows()).filter(|row| values.is_valid(*row)) {
            let (group, value) =
                (if groups.is_null(row) { "" } else { groups.value(row) }, values.value(row));
            out.emit(group, (1, value, value, value));
        }
        Ok::<(), ArrowError>(())
    });
    let merge =
        |all: Totals, more: Totals| (all.0 + more.0, all.1 + more.1, all.2.min(more.2), all.3.max(more.3));
    values.combine(move |all, more| *all = merge(*all, more)).reduce(move |group, all, out| {
        if let Some(totals) = all.into_iter().reduce(merge) {
            out.emit(group, totals);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::totals;
    use gristmill::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use gristmill::{Batch, testing};
    use std::sync::Arc;

    #[test]
    fn groups_have_their_counts_sums_and_extremes_and_nulls_do_not_count() {
        let batch = |cities: Vec<Option<&str>>, fares: Vec<Option<i64>>| {
            let columns: [(&str, ArrayRef); 2] =
                [("city", Arc::new(StringArray::from(cities))), ("fare", Arc::new(Int64Array::from(fares)))];
            Batch(RecordBatch::try_from_iter(columns).expect("equally long"))
        };
        let batches = [
            batch(vec![Some("Wien"), Some("Graz"), None], vec![Some(3), Some(-1), Some(7)]),
            batch(vec![Some("Wien"), Some("Graz"), Some("Linz")], vec![Some(5), None, None]),
        ];
        let found = testing::run(batches, |batches| totals(batches, "city".into(), "fare".into()));
        let expected =
            [("", (1, 7.0, 7.0, 7.0)), ("Graz", (1, -1.0, -1.0, -1.0)), ("Wien", (2, 8.0, 3.0, 5.0))];
        assert_eq!(found, expected.map(|(city, totals)| (city.to_owned(), totals)));
    }
}
