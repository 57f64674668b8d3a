//! Sizes, times and modes as people read and write them.

use gristmill_dfs::file_system::{Kind, Status};

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A size in bytes, or, for people, in the unit that leaves less than 1024 of it.
pub(crate) fn size(bytes: u64, human: bool) -> String {
    if !human || bytes < 1024 {
        return bytes.to_string();
    }
    let (mut whole, mut unit, mut rest) = (bytes, 0, 0);
    while whole >= 1024 {
        (whole, unit, rest) = (whole / 1024, unit + 1, whole % 1024);
    }
    // Rounded down: 1.9 of a unit is never shown as 2.0 of it.
    format!("{whole}.{} {}", rest * 10 / 1024, UNITS[unit])
}

/// Reads a size: a number, and KiB, MiB, GiB or TiB (also K, M, G, T) if it is not in bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|each: char| each.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err("a size is a number of bytes, KiB, MiB, GiB or TiB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a size starts with a whole number".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "the size is too large".to_owned())
}

/// So many of a thing that has a plain plural: `1 file`, `2 files`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A time of UTC: date, hour and minute, and with `seconds` those too.
pub(crate) fn time(time_ms: u64, seconds: bool) -> String {
    let all_seconds = time_ms / 1000;
    let (days, of_day) = (all_seconds / 86_400, all_seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (of_day / 3600, of_day / 60 % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}");
    if seconds {
        text.push_str(&format!(":{:02}", of_day % 60));
    }
    text
}

/// How long something takes, in the two units that say most.
pub(crate) fn duration(duration_ms: u64) -> String {
    let seconds = duration_ms / 1000;
    match seconds {
        0 => format!("{duration_ms} ms"),
        1..60 => format!("{seconds}.{} s", duration_ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Reads a time of UTC as `YYYYMMDD:HHMMSS`, into milliseconds since 1970.
pub(crate) fn parse_time(text: &str) -> Result<u64, String> {
    let wrong = || "a time is YYYYMMDD:HHMMSS (UTC), since 1970".to_owned();
    let is_spelled = text.len() == 15
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if at == 8 { byte == b':' } else { byte.is_ascii_digit() });
    if !is_spelled {
        return Err(wrong());
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().map_err(|_| wrong());
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(9..11)?, number(11..13)?, number(13..15)?);
    let days = days_since_1970(year, month, day).ok_or_else(wrong)?;
    if hour > 23 || minute > 59 || second > 59 {
        return Err(wrong());
    }
    Ok((days * 86_400 + hour * 3600 + minute * 60 + second) * 1000)
}

/// Year, month and day of the Gregorian calendar, from days since 1970. Years are counted from March, so that the day
/// of a leap year is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    // From the 1st of March of the year 0: whole cycles of 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The inverse of `date`; `None` if there is no such day since 1970.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let from_march = (month + 9) % 12;
    let year_from_march = year - u64::from(month <= 2);
    let (era, of_era) = (year_from_march / 400, year_from_march % 400);
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let days = (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)?;
    (date(days) == (year, month, day)).then_some(days)
}

/// `drwxr-xr-x`, with `t` for a sticky directory.
pub(crate) fn mode(status: &Status) -> String {
    let kind = match status.kind {
        Kind::Directory => 'd',
        Kind::File => '-',
        Kind::Other => '?',
    };
    let bit = |shift: u32, shown: char| if status.mode >> shift & 1 == 1 { shown } else { '-' };
    // Set-id and sticky bits are shown where execution is.
    let run = |shift: u32, special: u32, both: char, alone: char| match (
        status.mode >> special & 1,
        status.mode >> shift & 1,
    ) {
        (1, 1) => both,
        (1, _) => alone,
        _ => bit(shift, 'x'),
    };
    let (user, group, others) = (run(6, 11, 's', 'S'), run(3, 10, 's', 'S'), run(0, 9, 't', 'T'));
    let of = |shift: u32, run: char| [bit(shift + 2, 'r'), bit(shift + 1, 'w'), run];
    std::iter::once(kind).chain(of(6, user)).chain(of(3, group)).chain(of(0, others)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_and_shown() {
        assert_eq!(size(1023, true), "1023");
        assert_eq!(size(1536, true), "1.5 KiB");
        assert_eq!(size(u64::MAX, true), "15.9 EiB");
        assert_eq!(size(1536, false), "1536");
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("64m"), Ok(64 << 20));
        assert_eq!(parse_size("10"), Ok(10));
        for wrong in ["", "x", "-1", "1.5k", "10 apples", "99999999999t"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_the_units_that_matter() {
        let shown = [0, 999, 1_234, 59_999, 60_000, 3_599_000, 3_660_000, 360_000_000].map(duration);
        assert_eq!(
            shown,
            ["0 ms", "999 ms", "1.2 s", "59.9 s", "1 min 0 s", "59 min 59 s", "1 h 1 min", "100 h 0 min"]
        );
    }

    #[test]
    fn times_are_of_utc() {
        assert_eq!(time(0, true), "1970-01-01 00:00:00");
        assert_eq!(time(951_782_400_000, false), "2000-02-29 00:00");
        assert_eq!(time(1_767_225_599_999, true), "2025-12-31 23:59:59");
        assert_eq!(parse_time("20000229:000000"), Ok(951_782_400_000));
        for wrong in [
            "",
            "20010229:000000",
            "19691231:235959",
            "20000101:240000",
            "2000-01-01:0000",
            "20000101 000000",
        ] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_time_that_was_shown_is_read_as_itself(seconds in 0..253_402_300_800_u64) {
            let shown: String = time(seconds * 1000, true).replace('-', "").replace(' ', "@").replace(':', "").replace('@', ":");
            prop_assert_eq!(parse_time(&shown), Ok(seconds * 1000));
        }
    }
}
