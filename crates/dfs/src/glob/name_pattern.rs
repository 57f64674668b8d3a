//! A name with wildcards: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a character that stands for itself.
//!
//! A wildcard takes characters, as Hadoop's `GlobPattern` does; globset takes bytes, of which `é` has two. A byte of a name that
//! is not UTF-8 counts as one character, which no pattern can spell.

use globset::GlobBuilder;

/// What a name has to be.
pub(super) struct NamePattern {
    tokens: Vec<Token>,
}

enum Token {
    /// `*`: any characters.
    Run,
    /// `?`: any one.
    Any,
    One(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl NamePattern {
    /// Reads a pattern without braces. globset says what is wrong with it, and takes the same for a pattern.
    pub(super) fn parse(text: &str) -> Result<NamePattern, globset::Error> {
        GlobBuilder::new(text).backslash_escape(true).build()?;
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            tokens.push(match char {
                '*' => Token::Run,
                '?' => Token::Any,
                '\\' => Token::One(chars.next().expect("globset refuses a `\\` that ends a pattern")),
                '[' => class(&mut chars),
                _ => Token::One(char),
            });
        }
        Ok(NamePattern { tokens })
    }

    /// Whether the pattern is all of the name. In the worst case this takes time as the product of their lengths.
    pub(super) fn is_match(&self, name: &[u8]) -> bool {
        let name = characters(name);
        let (mut at, mut next) = (0, 0);
        // After the last run: its follower, and where in the name the run ends so far.
        let mut run = None;
        while at < name.len() {
            match self.tokens.get(next) {
                Some(Token::Run) => {
                    next += 1;
                    run = Some((next, at));
                }
                Some(token) if token.takes(name[at]) => {
                    next += 1;
                    at += 1;
                }
                _ => {
                    // An earlier run need not be longer: what came between has matched as early as it can.
                    let Some((follower, end)) = run else { return false };
                    (next, at) = (follower, end + 1);
                    run = Some((next, at));
                }
            }
        }
        self.tokens[next..].iter().all(|token| matches!(token, Token::Run))
    }
}

impl Token {
    /// Whether it is this one character; `None` is a byte that is part of none.
    fn takes(&self, found: Option<char>) -> bool {
        match self {
            Token::Run | Token::Any => true,
            Token::One(char) => found == Some(*char),
            Token::Class { negated, ranges } => {
                let is_in = |char| ranges.iter().any(|&(first, last)| (first..=last).contains(&char));
                found.is_some_and(is_in) != *negated
            }
        }
    }
}

/// What follows `[` up to its `]`, which belongs to the class if it comes first in it. A `-` that comes first or last is one.
fn class(chars: &mut std::str::Chars<'_>) -> Token {
    let mut rest = chars.clone();
    let negated = matches!(rest.next(), Some('!' | '^'));
    if negated {
        chars.next();
    }
    let mut ranges: Vec<(char, char)> = Vec::new();
    let mut in_range = false;
    for char in chars {
        match (char, ranges.last_mut()) {
            (']', Some(_)) => break,
            ('-', Some(_)) if !in_range => {
                in_range = true;
                continue;
            }
            (_, Some(last)) if in_range => last.1 = char,
            _ => ranges.push((char, char)),
        }
        in_range = false;
    }
    if in_range {
        ranges.push(('-', '-'));
    }
    Token::Class { negated, ranges }
}

fn characters(name: &[u8]) -> Vec<Option<char>> {
    let mut characters = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        characters.extend(chunk.valid().chars().map(Some));
        characters.extend(chunk.invalid().iter().map(|_| None));
    }
    characters
}

#[cfg(test)]
mod tests {
    use globset::GlobMatcher;
    use proptest::prelude::*;

    use super::*;

    fn names(pattern: &str, name: &str) -> bool {
        NamePattern::parse(pattern).expect("a pattern").is_match(name.as_bytes())
    }

    #[test]
    fn a_wildcard_takes_characters_and_not_bytes() {
        assert!(names("a?c", "aéc") && names("?", "邂") && names("??", "äö"));
        assert!(!names("??", "é") && !names("?", "äö"));
        assert!(names("[äöü]", "ö") && names("[à-ü]", "é") && !names("[à-ü]", "a"));
        assert!(names("[!a]", "é") && !names("[!é]", "é"));
    }

    #[test]
    fn a_byte_that_is_no_character_counts_as_one() {
        let name = b"a\xffc";
        assert!(NamePattern::parse("a?c").expect("a pattern").is_match(name));
        assert!(NamePattern::parse("a*").expect("a pattern").is_match(name));
        assert!(NamePattern::parse("a[!b]c").expect("a pattern").is_match(name));
        assert!(!NamePattern::parse("a\u{ff}c").expect("a pattern").is_match(name));
    }

    fn globset(pattern: &str) -> Option<GlobMatcher> {
        let built = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
        built.ok().map(|glob| glob.compile_matcher())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        // One byte is one character there, and so both say the same.
        #[test]
        fn globset_agrees_about_ascii(pattern in r"[a-c*?\[\]!^\\-]{0,10}", name in r"[a-c*?\[\]!^\\-]{0,8}") {
            let ours = NamePattern::parse(&pattern);
            prop_assert_eq!(ours.is_ok(), globset(&pattern).is_some());
            // Alone, two stars are any number of directories: they do not come here.
            if let (Ok(ours), Some(theirs)) = (ours, globset(&pattern)) && pattern != "**" {
                prop_assert_eq!(ours.is_match(name.as_bytes()), theirs.is_match(&name), "{} {}", pattern, name);
            }
        }
    }
}
