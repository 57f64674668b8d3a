//! Lengths of time as people write them.

use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 3600 * 1000)];
/// No limit is shorter: workers speak once a second.
const LEAST: Duration = Duration::from_secs(1);
/// And none is longer: a month, which is for ever.
const MOST: Duration = Duration::from_secs(31 * 24 * 3600);

/// How long something may take at most; written as `90s`, `10m` or `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeLimit(Duration);

/// A limit that cannot be read, or makes no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum TimeLimitError {
    #[error("not a length of time: write a whole number and ms, s, m or h, as in 90s or 10m")]
    NotATime,
    #[error("a limit is at least 1s and at most 744h")]
    OutOfRange,
}

impl TimeLimit {
    /// In milliseconds.
    pub(crate) fn as_ms(self) -> u64 {
        self.0.as_millis() as u64
    }
}

impl FromStr for TimeLimit {
    type Err = TimeLimitError;

    fn from_str(text: &str) -> Result<TimeLimit, TimeLimitError> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(TimeLimitError::NotATime)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| TimeLimitError::NotATime)?;
        let (_, factor_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(TimeLimitError::NotATime)?;
        let length_ms = number.checked_mul(*factor_ms).ok_or(TimeLimitError::OutOfRange)?;
        let length = Duration::from_millis(length_ms);
        if (LEAST..=MOST).contains(&length) { Ok(TimeLimit(length)) } else { Err(TimeLimitError::OutOfRange) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_people_write_them() {
        for (text, ms) in [("90s", 90_000), ("10m", 600_000), ("1h", 3_600_000), ("1500ms", 1500)] {
            assert_eq!(text.parse::<TimeLimit>().map(TimeLimit::as_ms), Ok(ms), "{text}");
        }
        for text in ["", "90", "s", "1.5h", "-1s", "10 m", "3 days", "99999999999999999999s"] {
            assert_eq!(text.parse::<TimeLimit>(), Err(TimeLimitError::NotATime), "{text}");
        }
        for text in ["0s", "999ms", "745h", "18446744073709551615h"] {
            assert_eq!(text.parse::<TimeLimit>(), Err(TimeLimitError::OutOfRange), "{text}");
        }
    }
}
