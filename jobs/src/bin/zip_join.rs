//! Compares two lists of US zip codes: joins them by zip code, and says how far apart the two places are.
//!
//! Both lists are CSV files without a header: zip code, latitude, longitude, city, state, county, type; a record
//! is one line. A line of output is zip code, city and state of the left list, city and state of the right list,
//! and the distance in km between the two places along the earth's surface, with one decimal, separated by TABs.
//! The distance is empty where a place has no coordinates, and so are the last three fields where the right list
//! lacks the zip code (with `--outer`). A zip code that is in a list several times is joined as often.

use clap::Args;
use csv_core::{ReadRecordResult, Reader};
use gristmill::{Dataset, Datum, Emit, Keyed, Plan, Text, TextOutput};
use serde::{Deserialize, Serialize};
use std::array::from_fn;
use std::cell::RefCell;
use std::mem::replace;
use std::process::ExitCode;
use thiserror::Error;

const EARTH_RADIUS_KM: f64 = 6371.0;

/// Joins two lists of US zip codes and says how far apart the places are.
#[derive(Args)]
struct ZipJoin {
    /// Files, directories or globs of one list
    #[arg(long, required = true, value_name = "URI", num_args = 1..)]
    left: Vec<String>,
    /// Files, directories or globs of the other list
    #[arg(long, required = true, value_name = "URI", num_args = 1..)]
    right: Vec<String>,
    /// Directory for the pairs of places, a line each
    #[arg(long, value_name = "URI")]
    output: String,
    /// Write zip codes that only the left list has, too
    #[arg(long)]
    outer: bool,
    /// Skip up to N lines of each list that are not places; one more fails the job
    #[arg(long, default_value_t = 0, value_name = "N")]
    skip_bad: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Datum)]
struct Place {
    city: String,
    state: String,
    /// Latitude and longitude in degrees.
    coordinates: Option<(f64, f64)>,
}

/// Why a line is not a place.
#[derive(Debug, Error)]
enum BadLine {
    #[error("a place is a line of 7 fields")]
    Fields,
    #[error("not a latitude and a longitude in degrees: {0:?} and {1:?}")]
    Coordinates(String, String),
}

/// City and state, city and state, distance.
type Columns = (String, String, String, String, String);

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &ZipJoin, plan: &mut Plan) {
    let left = places(plan.read(Text::at(&args.left)), args.skip_bad);
    let right = places(plan.read(Text::at(&args.right)), args.skip_bad);
    join(left, right, args.outer).write(TextOutput::at(&args.output));
}

fn places(lines: Dataset<String>, skip_bad: u64) -> Keyed<String, Place> {
    let places = lines.try_map(|line, out: &mut Emit<String, Place>| {
        let [zip, latitude, longitude, city, state, _, _] = fields(line).ok_or(BadLine::Fields)?;
        let coordinates = match (latitude.parse(), longitude.parse()) {
            _ if latitude.is_empty() && longitude.is_empty() => None,
            (Ok(latitude), Ok(longitude)) => Some((latitude, longitude)),
            _ => return Err(BadLine::Coordinates(latitude, longitude)),
        };
        out.emit(&zip, Place { city, state, coordinates });
        Ok(())
    });
    places.skip_bad(skip_bad)
}

thread_local! {
    /// To make a reader takes far longer than to read a line with it.
    static CSV: RefCell<Reader> = RefCell::new(Reader::new());
}

/// The fields of a line, if it has `N`.
fn fields<const N: usize>(line: &str) -> Option<[String; N]> {
    let line = [line, "\n"].concat();
    let (mut text, mut ends) = (vec![0; line.len()], [0; 16]);
    let (result, _, _, found) = CSV.with_borrow_mut(|csv| {
        csv.reset();
        csv.read_record(line.as_bytes(), &mut text, &mut ends)
    });
    if result != ReadRecordResult::Record || found != N {
        return None;
    }
    let mut start = 0;
    let mut fields = ends.iter().map(|&end| String::from_utf8_lossy(&text[replace(&mut start, end)..end]));
    Some(from_fn(|_| fields.next().unwrap_or_default().into_owned()))
}

fn join(left: Keyed<String, Place>, right: Keyed<String, Place>, outer: bool) -> Keyed<String, Columns> {
    if outer {
        left.left_join(right, emit)
    } else {
        left.join(right, |zip, left, right, out| emit(zip, left, Some(right), out))
    }
}

fn emit(zip: &str, left: Place, right: Option<Place>, out: &mut Emit<String, Columns>) {
    let Some(right) = right else { return out.emit(zip, (&left.city, &left.state, "", "", "")) };
    let distance = left.coordinates.zip(right.coordinates).map(|(left, right)| distance_km(left, right));
    let distance = distance.map_or_else(String::new, |km| format!("{km:.1}"));
    out.emit(zip, (&left.city, &left.state, &right.city, &right.state, &distance));
}

/// The haversine formula.
fn distance_km(from: (f64, f64), to: (f64, f64)) -> f64 {
    let half_sin_squared = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin().powi(2);
    let latitudes = from.0.to_radians().cos() * to.0.to_radians().cos();
    let h = half_sin_squared(from.0, to.0) + latitudes * half_sin_squared(from.1, to.1);
    2.0 * EARTH_RADIUS_KM * h.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::{Columns, distance_km, join, places};
    use gristmill::testing;

    const LEFT: [&str; 4] = [
        r#""00501","+40.922326","-072.637078","HOLTSVILLE","NY","SUFFOLK","UNIQUE""#,
        r#""00601","+18.165273","-066.722583","ADJUNTAS","PR","ADJUNTAS","STANDARD""#,
        r#""02228","","","EAST BOSTON","MA","SUFFOLK","STANDARD""#,
        r#""10001","+40.750742","-073.996530","NEW YORK","NY","NEW YORK","STANDARD""#,
    ];
    const RIGHT: [&str; 4] = [
        r#"02228,,,"BOSTON, EAST",MA,SUFFOLK,STANDARD"#,
        r#""10001","+40.750742","-073.996530","MANHATTAN","NY","NEW YORK","STANDARD""#,
        r#""00501","+40.750742","-073.996530","HOLTSVILLE","NY","SUFFOLK","UNIQUE""#,
        r#""99999","+55.542007","-131.432682","KETCHIKAN","AK","KETCHIKAN GATEWAY","STANDARD""#,
    ];

    fn run(outer: bool) -> Vec<String> {
        let (rows, _) = testing::run_plan_of(|plan| {
            let left = places(plan.read(testing::records(LEFT)), 0);
            join(left, places(plan.read(testing::records(RIGHT)), 0), outer)
        });
        let line = |(zip, (a, b, c, d, e)): (String, Columns)| [zip, a, b, c, d, e].join("|");
        rows.into_iter().map(line).collect()
    }

    #[test]
    fn places_of_both_lists_are_paired() {
        let paired = [
            "00501|HOLTSVILLE|NY|HOLTSVILLE|NY|115.9",
            "02228|EAST BOSTON|MA|BOSTON, EAST|MA|",
            "10001|NEW YORK|NY|MANHATTAN|NY|0.0",
        ];
        assert_eq!(run(false), paired);
        let alone = "00601|ADJUNTAS|PR|||";
        assert_eq!(run(true), [paired[0], alone, paired[1], paired[2]]);
    }

    #[test]
    fn bad_lines_are_refused() {
        let open_quote = LEFT[0].trim_end_matches('"');
        let commas = &",".repeat(40);
        for bad in ["", "1,2,3,a,b,c", "1,2,3,a,b,c,d,e", commas, open_quote] {
            assert!(refusal(bad).contains("a place is a line of 7 fields"), "{bad}");
        }
        for bad in ["1,x,3,a,b,c,d", "1,2,,a,b,c,d"] {
            assert!(refusal(bad).contains("not a latitude and a longitude in degrees"), "{bad}");
        }
    }

    fn refusal(line: &str) -> String {
        let result = testing::try_run(|plan| places(plan.read(testing::records([LEFT[0], line])), 0));
        result.map(|(found, _)| found).unwrap_err().to_string()
    }

    #[test]
    fn distances() {
        assert_eq!(distance_km((1.0, 2.0), (1.0, 2.0)), 0.0);
        let halfway_round = distance_km((0.0, -90.0), (0.0, 90.0));
        assert!((halfway_round - std::f64::consts::PI * 6371.0).abs() < 1e-6);
    }
}
