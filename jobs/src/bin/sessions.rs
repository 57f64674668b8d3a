//! Finds the sessions of a web server's clients in its access log (combined or common format): requests of one
//! client, each at most a given time after the one before.
//!
//! A line of output is client, TAB, time of the first request, TAB, time of the last, TAB, number of requests; the
//! times are UTC, `2015-05-17T10:05:03Z`. A client's sessions are in order, one after the other.

use clap::Args;
use gristmill::{Dataset, Emit, Keyed, Lines, Plan, TextOutput};
use jiff::Timestamp;
use std::process::ExitCode;
use thiserror::Error;

/// Finds the sessions of a web server's clients in its access log.
#[derive(Args)]
struct Sessions {
    /// Files, directories or globs to read
    #[arg(long, required = true, value_name = "URI", num_args = 1..)]
    input: Vec<String>,
    /// Directory for the sessions, a line each: client, TAB, start, TAB, end, TAB, requests
    #[arg(long, value_name = "URI")]
    output: String,
    /// A longer time without a request ends a session
    #[arg(long, default_value_t = 30, value_name = "N")]
    gap_minutes: u32,
    /// Skip up to N lines that are not log lines; one more fails the job
    #[arg(long, default_value_t = 0, value_name = "N")]
    skip_bad: u64,
}

/// Why a line is not one of an access log.
#[derive(Debug, Error)]
enum BadLine {
    #[error("not a line of an access log: CLIENT IDENT USER [TIME] \"REQUEST\" ...")]
    Form,
    #[error("not the time of a log line: {0}")]
    Time(#[from] jiff::Error),
}

/// Start, end, number of requests.
type Session = (String, String, u64);

fn main() -> ExitCode {
    gristmill::main(job)
}

fn job(args: &Sessions, plan: &mut Plan) {
    let gap_seconds = i64::from(args.gap_minutes) * 60;
    let requests = requests(plan.read(Lines::at(&args.input)), args.skip_bad);
    sessions(requests, gap_seconds).write(TextOutput::at(&args.output));
}

/// The client of each request, and its time in seconds since 1970.
fn requests(lines: Dataset<Vec<u8>>, skip_bad: u64) -> Keyed<Vec<u8>, i64> {
    let requests = lines.try_map(|line, out: &mut Emit<Vec<u8>, i64>| {
        let (client, time) = parse(line)?;
        out.emit(client, time.as_second());
        Ok::<(), BadLine>(())
    });
    requests.skip_bad(skip_bad)
}

fn parse(line: &[u8]) -> Result<(&[u8], Timestamp), BadLine> {
    let (client, rest) = split_once(line, b" ").ok_or(BadLine::Form)?;
    let (_, rest) = split_once(rest, b" [").ok_or(BadLine::Form)?;
    let (time, _) = split_once(rest, b"] \"").ok_or(BadLine::Form)?;
    Ok((client, Timestamp::strptime("%d/%b/%Y:%H:%M:%S %z", time)?))
}

fn split_once<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

fn sessions(requests: Keyed<Vec<u8>, i64>, gap_seconds: i64) -> Keyed<Vec<u8>, Session> {
    requests.sort_values_by(|time| time).reduce(move |client, mut times, out: &mut Emit<_, Session>| {
        let Some(mut start) = times.next() else { return };
        let (mut end, mut count) = (start, 1);
        for time in times {
            if time - end > gap_seconds {
                out.emit(client, (&iso(start), &iso(end), count));
                (start, count) = (time, 0);
            }
            (end, count) = (time, count + 1);
        }
        out.emit(client, (&iso(start), &iso(end), count));
    })
}

fn iso(seconds: i64) -> String {
    Timestamp::from_second(seconds).expect("it was a timestamp before").to_string()
}

#[cfg(test)]
mod tests {
    use super::{Session, parse, requests, sessions};
    use gristmill::{JobError, Report, testing};

    const LOG: [&str; 5] = [
        r#"83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 203023 "http://b/" "Mozilla/5.0 [en]""#,
        r#"10.0.0.1 - frank [17/May/2015:23:59:59 +0000] "GET / HTTP/1.0" 404 - "-" "-""#,
        r#"83.149.9.216 - - [17/May/2015:12:35:03 +0200] "GET /b HTTP/1.1" 200 1 "-" "-""#,
        r#"83.149.9.216 - - [17/May/2015:11:05:04 +0000] "GET /d HTTP/1.1" 200 1 "-" "-""#,
        r#"83.149.9.216 - - [17/May/2015:05:05:09 -0500] "GET /c HTTP/1.1" 200 1 "-" "-""#,
    ];

    type Found = (Vec<(Vec<u8>, Session)>, Report);

    fn find(lines: &[&str], skip_bad: u64) -> Result<Found, JobError> {
        let lines = lines.iter().map(|line| line.as_bytes());
        testing::try_run(|plan| sessions(requests(plan.read(testing::records(lines)), skip_bad), 30 * 60))
    }

    fn session(client: &str, start: &str, end: &str, count: u64) -> (Vec<u8>, Session) {
        (client.into(), (start.into(), end.into(), count))
    }

    #[test]
    fn a_session_ends_when_the_gap_is_longer() {
        let expected = [
            session("10.0.0.1", "2015-05-17T23:59:59Z", "2015-05-17T23:59:59Z", 1),
            session("83.149.9.216", "2015-05-17T10:05:03Z", "2015-05-17T10:35:03Z", 3),
            session("83.149.9.216", "2015-05-17T11:05:04Z", "2015-05-17T11:05:04Z", 1),
        ];
        assert_eq!(find(&LOG, 0).unwrap().0, expected);
    }

    #[test]
    fn bad_lines_fail_the_job_unless_they_are_skipped() {
        let lines = ["", "what is this?", LOG[0], LOG[1]];
        let error = find(&lines, 0).unwrap_err().to_string();
        assert!(error.contains("not a line of an access log"), "{error}");
        find(&lines, 1).unwrap_err();
        let (found, report) = find(&lines, 2).unwrap();
        assert_eq!((found.len(), report.bad_records), (2, 2));
    }

    #[test]
    fn times_must_exist_and_have_an_offset() {
        for time in ["31/Feb/2015:10:05:03 +0000", "17/Mai/2015:10:05:03 +0000", "17/May/2015:10:05:03", ""] {
            let line = format!(r#"client - - [{time}] "GET / HTTP/1.1" 200 1"#);
            assert!(parse(line.as_bytes()).is_err(), "{time}");
        }
    }
}
