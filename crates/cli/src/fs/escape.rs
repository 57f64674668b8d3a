//! Names made harmless to a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with control characters, and those that turn the direction of writing, as Rust would escape them. All else,
/// backslashes too, stays as it is: a plain name is shown as it is.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for each in text.chars() {
        match each {
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            harmful if is_harmful(harmful) => {
                // Writing to a string cannot fail.
                let written = write!(escaped, "\\u{{{:x}}}", u32::from(harmful));
                debug_assert!(written.is_ok());
            }
            plain => escaped.push(plain),
        }
    }
    Cow::Owned(escaped)
}

fn is_harmful(each: char) -> bool {
    each.is_control()
        || matches!(each, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn terminals_see_no_orders_from_names() {
        assert_eq!(escape("a b\\ü"), "a b\\ü");
        assert_eq!(escape("a\nb\t\r"), "a\\nb\\t\\r");
        assert_eq!(escape("\u{1b}[2J\u{9b}x\u{202e}y"), "\\u{1b}[2J\\u{9b}x\\u{202e}y");
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left(text in any::<String>()) {
            prop_assert!(!escape(&text).contains(is_harmful));
        }
    }
}
