//! `uploads`: what dead jobs and broken connections have left open on S3.

use std::time::Duration;

use clap::Args;
use gristmill_dfs::s3::{Leftover, LeftoverKind, leftovers};
use gristmill_proto::wall_clock;
use serde_json::json;

use super::failure::Failure;
use super::format::time;
use super::session::Session;

/// A job that lives is not ended by a hurried sweep.
const OLDER_THAN: &str = "1d";

/// Lists uploads that are open on s3://, and outputs that a job has claimed; ends them
#[derive(Args)]
pub(crate) struct Uploads {
    /// Aborts those that are old enough. An output whose job had decided to commit is completed instead. A job that
    /// still runs fails
    #[arg(long)]
    abort: bool,
    /// Only those begun so long ago: 90s, 30m, 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    older_than: Option<Duration>,
    /// Buckets, or directories in them
    #[arg(required = true)]
    paths: Vec<String>,
}

impl Uploads {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let default =
            if self.abort { parse_age(OLDER_THAN).map_err(Failure::Usage)? } else { Duration::ZERO };
        let older_than = self.older_than.unwrap_or(default);
        // An age beyond any clock, and a clock before 1970, make nothing old.
        let age_ms = u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX);
        let begun_until_ms = wall_clock::now_ms().saturating_sub(age_ms);
        for path in &self.paths {
            let found = leftovers(&session.uri(path)?);
            for leftover in session.survive(found)?.unwrap_or_default() {
                if leftover.begun_ms > begun_until_ms {
                    continue;
                }
                if self.abort {
                    self.end(session, &leftover)?;
                } else {
                    show(session, &leftover, "open")?;
                }
            }
        }
        Ok(())
    }

    fn end(&self, session: &mut Session, leftover: &Leftover) -> Result<(), Failure> {
        let ended = leftover.end();
        match session.survive(ended)? {
            Some(true) => show(session, leftover, "completed"),
            Some(false) => show(session, leftover, "aborted"),
            None => Ok(()),
        }
    }
}

fn show(session: &mut Session, leftover: &Leftover, state: &str) -> Result<(), Failure> {
    let Leftover { uri, kind, begun_ms, .. } = leftover;
    let (what, id) = match kind {
        LeftoverKind::Staging { job } => ("job", job),
        LeftoverKind::Upload { id } => ("upload", id),
    };
    if session.json {
        let path = session.path(uri);
        return session
            .object(&json!({ "path": path, "kind": what, "id": id, "begun_ms": begun_ms, "state": state }));
    }
    let line = format!("{state:<9}  {what:<6}  {}  {}  {id}", time(*begun_ms, false), session.name(uri));
    let line = session.text(&line);
    session.line(line)
}

/// Reads a number with a unit.
fn parse_age(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let age = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(Duration::from_secs(number.checked_mul(*seconds)?))
    });
    age.ok_or_else(|| "a time is a number and a unit: 90s, 30m, 12h, 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_units() {
        assert_eq!(parse_age("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_age(OLDER_THAN), Ok(Duration::from_secs(86_400)));
        for bad in ["", "1", "d", "-1d", "1w", "99999999999999999999d"] {
            assert!(parse_age(bad).is_err(), "{bad}");
        }
    }
}
