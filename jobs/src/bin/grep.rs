//! Finds lines that match a regular expression.
//!
//! The output holds the matching lines as they are, but for their ends, which become LF. They are in input order
//! within each `part-m-*` file, of which every map task writes one. Lines may hold any bytes; to let `.` match a
//! byte that is not UTF-8, write `(?-u:.)`.

use clap::Args;
use gristmill::{Dataset, Keyed, Lines, Plan, TextOutput};
use regex::bytes::Regex;
use std::process::ExitCode;

/// Finds lines that match a regular expression.
#[derive(Args)]
struct Grep {
    /// Regular expression, matched anywhere in a line; begin it with (?i) to ignore case
    #[arg(long, value_name = "RE")]
    pattern: String,
    /// Files, directories or globs to read
    #[arg(long, required = true, value_name = "URI", num_args = 1..)]
    input: Vec<String>,
    /// Directory for the lines that match
    #[arg(long, value_name = "URI")]
    output: String,
}

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &Grep, plan: &mut Plan) -> Result<(), String> {
    let pattern = parse(&args.pattern)?;
    matching(plan.read(Lines::at(&args.input)), pattern).write(TextOutput::at(&args.output));
    Ok(())
}

/// Reads the pattern; an error is one sentence, where `regex` would draw a picture.
fn parse(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| {
        let message = error.to_string();
        let cause = message.lines().last().unwrap_or_default();
        format!("--pattern {pattern:?} is not a regular expression: {}", cause.trim_start_matches("error: "))
    })
}

fn matching(lines: Dataset<Vec<u8>>, pattern: Regex) -> Keyed<Vec<u8>, ()> {
    let matched = lines.counter("lines matched");
    // A copy for each task: a Regex that threads share makes them wait for each other.
    let copy = move || pattern.clone();
    lines.map_init(copy, move |pattern, line, out| {
        if pattern.is_match(line) {
            out.count(matched, 1);
            out.emit(line, ());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{matching, parse};
    use gristmill::testing;

    fn grep(pattern: &str, lines: &[&[u8]]) -> Vec<Vec<u8>> {
        let (lines, pattern) = (lines.to_vec(), parse(pattern).unwrap());
        let (found, report) =
            testing::run_plan_of(|plan| matching(plan.read(testing::records(lines)), pattern));
        assert_eq!(report.counter("lines matched"), found.len() as u64);
        found.into_iter().map(|(line, ())| line).collect()
    }

    #[test]
    fn lines_match_anywhere_and_come_out_whole() {
        assert_eq!(grep("o+", &[b"a\tfoo bar", b"bar", b"go"]), [&b"a\tfoo bar"[..], b"go"]);
        assert_eq!(grep("^$", &[b"", b" "]), [b""]);
    }

    #[test]
    fn lines_may_hold_any_bytes() {
        assert_eq!(grep("b$", &[b"\xff\x00b", b"b\xff"]), [b"\xff\x00b"]);
        assert_eq!(grep("^(?-u:.)$", &[b"\xff"]), [b"\xff"]);
    }

    #[test]
    fn a_bad_pattern_is_refused_in_one_sentence() {
        let error = parse("a(b").unwrap_err();
        assert_eq!(error, r#"--pattern "a(b" is not a regular expression: unclosed group"#);
        assert!(!parse("a{99999}{99999}").unwrap_err().contains('\n'));
    }
}
