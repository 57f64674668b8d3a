//! Spans of time, as people write them.

/// Reads `90s`, `10m`, `2h` or `500ms`, into milliseconds. The error is a sentence.
pub(super) fn parse_span_ms(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|each: char| each.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number: Option<u64> = number.parse().ok();
    let span_ms = number.filter(|_| unit_ms > 0).and_then(|number| number.checked_mul(unit_ms));
    span_ms.ok_or_else(|| format!("a span of time is a number and ms, s, m or h, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_unit() {
        for (text, span_ms) in [("500ms", 500), ("90s", 90_000), ("10m", 600_000), ("2h", 7_200_000)] {
            assert_eq!(parse_span_ms(text), Ok(span_ms));
        }
        for wrong in ["", "10", "m", "1.5h", "-1s", "99999999999999999h"] {
            assert!(parse_span_ms(wrong).is_err(), "{wrong}");
        }
    }
}
