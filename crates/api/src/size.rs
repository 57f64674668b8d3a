//! Sizes in bytes as people write and read them.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A number of bytes; written as `4096`, `64MiB` or `1.5GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A size that cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a size: write a number of bytes, or a number and KiB, MiB, GiB or TiB, as in 64MiB")]
pub struct SizeError;

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..digits], text[digits..].trim().to_ascii_lowercase());
        if unit.is_empty() || unit == "b" {
            return number.parse().map(ByteSize).map_err(|_| SizeError);
        }
        let factor = UNITS.iter().find(|(name, _)| {
            let name = name.to_ascii_lowercase();
            unit == name || unit == name[..1] || unit == name.replace('i', "")
        });
        let number: f64 = number.parse().map_err(|_| SizeError)?;
        let bytes = number * factor.ok_or(SizeError)?.1 as f64;
        // The largest is shown as the next power of two, which is one more: that is read as the largest.
        if bytes <= u64::MAX as f64 { Ok(ByteSize(bytes as u64)) } else { Err(SizeError) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().rev().find(|(_, factor)| self.0 >= *factor) {
            Some((unit, factor)) => write!(f, "{:.1} {unit}", self.0 as f64 / *factor as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A count with separators between thousands.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64MiB", 64 << 20),
            ("64mb", 64 << 20),
            ("64 M", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("2k", 2048),
            ("16777216.0 TiB", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "1e3", "12 parsecs", "1.5", "99999999999TiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(SizeError), "{text}");
        }
    }

    #[test]
    fn sizes_and_counts_are_shown_short() {
        assert_eq!(ByteSize(1023).to_string(), "1023 B");
        assert_eq!(ByteSize(3 << 29).to_string(), "1.5 GiB");
        assert_eq!([thousands(7), thousands(1000), thousands(12_345_678)], ["7", "1,000", "12,345,678"]);
    }
}
