//! How two plans differ, for people.

use std::fmt::Write;

/// Lines shown of each side.
const LINES_MAX: usize = 10;
/// Of a line: names of types can be long.
const LINE_BYTES_MAX: usize = 180;

/// The lines in which the driver's plan and this attempt's differ.
pub(super) fn diff(driver: &str, attempt: &str) -> String {
    let (driver, attempt): (Vec<&str>, Vec<&str>) = (driver.lines().collect(), attempt.lines().collect());
    let same = driver.iter().zip(&attempt).take_while(|(ours, theirs)| ours == theirs).count();
    let (driver, attempt) = (&driver[same..], &attempt[same..]);
    let ends = driver.iter().rev().zip(attempt.iter().rev());
    let same = ends.take_while(|(ours, theirs)| ours == theirs).count();
    let (driver, attempt) = (&driver[..driver.len() - same], &attempt[..attempt.len() - same]);
    let mut text = String::new();
    let (mut shown, mut left) = (0, 0);
    for number in 0..driver.len().max(attempt.len()) {
        let sides = (driver.get(number), attempt.get(number));
        if sides.0 == sides.1 {
            continue;
        }
        if shown >= LINES_MAX {
            left += 1;
            continue;
        }
        shown += usize::from(sides.0.is_some()) + usize::from(sides.1.is_some());
        for (side, line) in [("driver: ", sides.0), ("attempt:", sides.1)] {
            if let Some(line) = line {
                write!(text, "\n  {side} {}", short(line)).expect("writing to a string does not fail");
            }
        }
    }
    if left > 0 {
        write!(text, "\n  and {left} more").expect("writing to a string does not fail");
    }
    text
}

fn short(line: &str) -> String {
    if line.len() <= LINE_BYTES_MAX {
        return line.to_owned();
    }
    format!("{}...", &line[..line.floor_char_boundary(LINE_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_is_shown_from_both_sides() {
        assert_eq!(diff("a\nb\nc\n", "a\nB\nc\n"), "\n  driver:  b\n  attempt: B");
    }

    #[test]
    fn a_line_more_does_not_shift_those_behind_it() {
        assert_eq!(diff("a\nb\nc\n", "a\nc\n"), "\n  driver:  b");
        assert_eq!(diff("a\n", "a\nb\n"), "\n  attempt: b");
    }

    #[test]
    fn ten_lines_are_enough_and_none_is_too_long() {
        let (driver, attempt) = ("é".repeat(500) + "\n", "y\n".repeat(100));
        let text = diff(&driver.repeat(100), &attempt);
        assert_eq!(text.lines().count(), 1 + LINES_MAX + 1, "{text}");
        assert!(text.ends_with("\n  and 95 more"), "{text}");
        assert!(text.len() < 4096, "{} bytes", text.len());
    }

    #[test]
    fn equal_plans_do_not_differ() {
        assert_eq!(diff("a\nb\n", "a\nb\n"), "");
    }
}
